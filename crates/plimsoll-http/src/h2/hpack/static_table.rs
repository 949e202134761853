//! The fields that everybody knows (RFC 7541, Appendix A).

/// Each with its value; the first has the number 1.
#[rustfmt::skip]
pub(super) static FIELDS: [(&[u8], &[u8]); 61] = [
    (b":authority", b""), (b":method", b"GET"), (b":method", b"POST"), (b":path", b"/"), (b":path", b"/index.html"),
    (b":scheme", b"http"), (b":scheme", b"https"), (b":status", b"200"), (b":status", b"204"), (b":status", b"206"),
    (b":status", b"304"), (b":status", b"400"), (b":status", b"404"), (b":status", b"500"), (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"), (b"accept-language", b""), (b"accept-ranges", b""), (b"accept", b""),
    (b"access-control-allow-origin", b""), (b"age", b""), (b"allow", b""), (b"authorization", b""),
    (b"cache-control", b""), (b"content-disposition", b""), (b"content-encoding", b""), (b"content-language", b""),
    (b"content-length", b""), (b"content-location", b""), (b"content-range", b""), (b"content-type", b""),
    (b"cookie", b""), (b"date", b""), (b"etag", b""), (b"expect", b""), (b"expires", b""), (b"from", b""),
    (b"host", b""), (b"if-match", b""), (b"if-modified-since", b""), (b"if-none-match", b""), (b"if-range", b""),
    (b"if-unmodified-since", b""), (b"last-modified", b""), (b"link", b""), (b"location", b""),
    (b"max-forwards", b""), (b"proxy-authenticate", b""), (b"proxy-authorization", b""), (b"range", b""),
    (b"referer", b""), (b"refresh", b""), (b"retry-after", b""), (b"server", b""), (b"set-cookie", b""),
    (b"strict-transport-security", b""), (b"transfer-encoding", b""), (b"user-agent", b""), (b"vary", b""),
    (b"via", b""), (b"www-authenticate", b""),
];

/// The longest name, and a number for each length and letter: enough to tell these names from each other.
const NAME_BYTES_MAX: usize = 27;

/// The first number of each name, by [`place`].
static PLACES: [u8; PLACES_LEN] = places();
const PLACES_LEN: usize = 128;

/// Where a name is looked up. No two of the names have the same place, which is checked at compile time.
const fn place(name: &[u8]) -> usize {
    let (length, first, last) = match name {
        [first, .., last] => (name.len(), *first, *last),
        _ => return 0,
    };
    let middle = match name.split_at_checked(length / 2) {
        Some((_, [middle, ..])) => *middle,
        _ => 0,
    };
    (length.wrapping_mul(141)
        ^ (first as usize).wrapping_mul(55)
        ^ (last as usize).wrapping_mul(125)
        ^ (middle as usize).wrapping_mul(625))
        % PLACES_LEN
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "it is evaluated at compile time"
)]
const fn places() -> [u8; PLACES_LEN] {
    let mut places = [0; PLACES_LEN];
    let mut at = FIELDS_LEN;
    while at > 0 {
        at -= 1;
        let here = place(FIELDS[at].0);
        let other = places[here] as usize;
        assert!(
            other == 0 || is_same(FIELDS[other - 1].0, FIELDS[at].0),
            "two names have one place"
        );
        places[here] = at as u8 + 1;
    }
    places
}
const FIELDS_LEN: usize = 61;

#[expect(clippy::indexing_slicing, reason = "it is evaluated at compile time")]
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The number of the first field with this name.
pub(super) fn number(name: &[u8]) -> Option<usize> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let number = usize::from(*PLACES.get(place(name))?);
    let (found, _) = FIELDS.get(number.checked_sub(1)?)?;
    (*found == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found() {
        for (at, (name, _)) in FIELDS.iter().enumerate() {
            let first = FIELDS.iter().position(|(other, _)| other == name).unwrap();
            assert_eq!(number(name), Some(first + 1), "{at}");
        }
        for name in [
            "",
            "x",
            "hos",
            "hosts",
            "content-typf",
            "access-control-allow-origins",
        ] {
            assert_eq!(number(name.as_bytes()), None);
        }
    }
}
