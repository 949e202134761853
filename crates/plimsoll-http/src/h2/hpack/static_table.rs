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

/// The number of the first field with each name, by a place that is made of its length and three of its letters. The
/// factors are such that no two names have the same, which is checked at compile time.
static PLACES: [u8; PLACES_LEN] = places();
const PLACES_LEN: usize = 128;

const fn place(name: &[u8]) -> usize {
    let length = name.len();
    let first = letter(name, 0).wrapping_mul(673);
    let middle = letter(name, length / 2).wrapping_mul(397);
    let last = letter(name, length.saturating_sub(2)).wrapping_mul(699);
    (length.wrapping_mul(463) ^ first ^ middle ^ last) % PLACES_LEN
}

#[expect(clippy::indexing_slicing, reason = "the length is looked at")]
const fn letter(name: &[u8], at: usize) -> usize {
    if at < name.len() {
        name[at] as usize
    } else {
        0
    }
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "it is evaluated at compile time"
)]
const fn places() -> [u8; PLACES_LEN] {
    let mut places = [0; PLACES_LEN];
    let mut at = FIELDS.len();
    while at > 0 {
        at -= 1;
        let place = place(FIELDS[at].0);
        let taken = places[place] as usize;
        let is_free = taken == 0 || is_same(FIELDS[taken - 1].0, FIELDS[at].0);
        assert!(is_free, "two names have one place");
        places[place] = at as u8 + 1;
    }
    places
}

#[expect(clippy::indexing_slicing, reason = "the lengths are looked at")]
const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    one.len() == other.len()
}

/// The number of the first field with this name.
pub(super) fn number(name: &[u8]) -> Option<usize> {
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
