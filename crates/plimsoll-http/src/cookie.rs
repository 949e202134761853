//! Cookies that say which server a client belongs to: taken out of requests, put into answers.

use std::io::Write;

/// Between the token of a server and the value that the application set.
pub const SEPARATOR: u8 = b'~';

/// What is done to the cookies of a request on its way to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hide<'a> {
    /// The cookie of this name is taken out.
    Whole(&'a [u8]),
    /// What stands before the separator in its value is taken out.
    Prefix(&'a [u8]),
}

/// What is done to the cookies of an answer on its way to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// This cookie is added; the answer is for this client alone.
    Add(OwnCookie<'a>),
    /// The value of the cookie of this name becomes this token.
    Replace(&'a [u8], &'a [u8]),
    /// The value of the cookie of this name gets this token as a prefix.
    Prefix(&'a [u8], &'a [u8]),
}

/// A cookie that the application knows nothing of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnCookie<'a> {
    /// `NAME=TOKEN`.
    pub pair: &'a [u8],
    /// Stands behind the token.
    pub stamp: Option<Stamp>,
    /// `; Path=/` and the like.
    pub attributes: &'a [u8],
}

impl OwnCookie<'_> {
    /// Appends the `Set-Cookie` field.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Set-Cookie: ");
        out.extend_from_slice(self.pair);
        if let Some(Stamp { seen, first }) = self.stamp {
            // Writing to a vector cannot fail.
            let _ = write!(out, ".{seen:x}.{first:x}");
        }
        out.extend_from_slice(self.attributes);
        out.extend_from_slice(b"\r\n");
    }
}

/// When the client of a cookie was there, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// For the last time, about.
    pub seen: u64,
    /// For the first time.
    pub first: u64,
}

/// The token and the stamp in the value of a cookie of ours.
pub fn split_stamp(value: &[u8]) -> (&[u8], Option<Stamp>) {
    let mut parts = value.split(|b| *b == b'.');
    let token = parts.next().unwrap_or_default();
    let mut number = || u64::from_str_radix(std::str::from_utf8(parts.next()?).ok()?, 16).ok();
    let stamp = number().zip(number());
    (token, stamp.map(|(seen, first)| Stamp { seen, first }))
}

/// Appends a `Cookie` field without what is hidden; nothing when nothing is left of it.
pub fn request_field(value: &[u8], hide: Hide<'_>, out: &mut Vec<u8>) {
    let mut is_first = true;
    for pair in value.split(|b| *b == b';') {
        let pair = pair.trim_ascii();
        let (kept, rest): (&[u8], &[u8]) = match hide {
            Hide::Whole(name) if value_of(pair, name).is_some() => continue,
            Hide::Prefix(name) => match value_of(pair, name).and_then(split_token) {
                Some((_, rest)) => (pair.get(..=name.len()).unwrap_or_default(), rest),
                None => (pair, b""),
            },
            Hide::Whole(_) => (pair, b""),
        };
        if pair.is_empty() {
            continue;
        }
        out.extend_from_slice(if is_first { b"Cookie: " } else { b"; " });
        is_first = false;
        out.extend_from_slice(kept);
        out.extend_from_slice(rest);
    }
    if !is_first {
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a `Set-Cookie` field with what marks the server; false when it is about another cookie,
/// and nothing was appended.
pub fn response_field(value: &[u8], mark: Mark<'_>, out: &mut Vec<u8>) -> bool {
    let (Mark::Replace(name, token) | Mark::Prefix(name, token)) = mark else {
        return false;
    };
    let Some(rest) = value_of(value, name) else {
        return false;
    };
    out.extend_from_slice(b"Set-Cookie: ");
    out.extend_from_slice(name);
    out.push(b'=');
    let attributes = rest.iter().position(|b| *b == b';').unwrap_or(rest.len());
    match mark {
        // An empty value takes the cookie away.
        _ if attributes == 0 => out.extend_from_slice(rest),
        Mark::Prefix(..) => {
            out.extend_from_slice(token);
            out.push(SEPARATOR);
            out.extend_from_slice(rest);
        }
        _ => {
            out.extend_from_slice(token);
            out.extend_from_slice(rest.get(attributes..).unwrap_or_default());
        }
    }
    out.extend_from_slice(b"\r\n");
    true
}

/// The value of a `Set-Cookie` field for `name`, without attributes.
pub fn set_value<'a>(field: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = value_of(field, name)?;
    value.split(|b| *b == b';').next().map(<[u8]>::trim_ascii)
}

/// The token and the application's value in a prefixed one.
pub fn split_token(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = value.iter().position(|b| *b == SEPARATOR)?;
    let (token, rest) = value.split_at_checked(at)?;
    Some((token, rest.get(1..)?))
}

fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    pair.trim_ascii_start()
        .strip_prefix(name)?
        .strip_prefix(b"=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    fn requested(value: &str, hide: Hide<'_>) -> String {
        let mut out = Vec::new();
        request_field(value.as_bytes(), hide, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_ours_does_not_reach_servers() {
        let whole = Hide::Whole(b"srv");
        assert_eq!(requested("a=1; srv=x;b=2", whole), "Cookie: a=1; b=2\r\n");
        assert_eq!(requested("srv=x", whole), "");
        assert_eq!(
            requested("srv=x; srv=y; srvx=z; xsrv=1", whole),
            "Cookie: srvx=z; xsrv=1\r\n"
        );
        let prefix = Hide::Prefix(b"J");
        assert_eq!(
            requested("a=1; J=tok~en~1; b", prefix),
            "Cookie: a=1; J=en~1; b\r\n"
        );
        assert_eq!(requested("J=plain", prefix), "Cookie: J=plain\r\n");
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_breaks_it_or_grows(text in vec(select(b"srv=~; ,.a\"\t\xff"), 0..200)) {
            let (name, token) = (&b"srv"[..], &b"0a1b"[..]);
            for hide in [Hide::Whole(name), Hide::Prefix(name)] {
                let mut out = Vec::new();
                request_field(&text, hide, &mut out);
                prop_assert!(out.len() <= 2 * text.len() + b"Cookie: \r\n".len());
                let pairs = out.strip_prefix(b"Cookie: ").unwrap_or_default();
                let mut pairs = pairs.split(|b| *b == b';');
                let shows = |pair| value_of(pair, name).is_some();
                prop_assert!(hide != Hide::Whole(name) || !pairs.any(shows));
            }
            for mark in [Mark::Replace(name, token), Mark::Prefix(name, token)] {
                let mut out = Vec::new();
                let is_ours = response_field(&text, mark, &mut out);
                prop_assert_eq!(is_ours, set_value(&text, name).is_some());
                prop_assert_eq!(is_ours, out.starts_with(b"Set-Cookie: srv=") && out.ends_with(b"\r\n"));
            }
            let (before, _) = split_stamp(&text);
            prop_assert!(text.starts_with(before));
        }
    }

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let stamp = Stamp {
            seen: 0x6920_0000,
            first: 0x691f_ffff,
        };
        let mut out = Vec::new();
        let cookie = OwnCookie {
            pair: b"srv=abc",
            stamp: Some(stamp),
            attributes: b"; Path=/",
        };
        cookie.write(&mut out);
        assert_eq!(out, b"Set-Cookie: srv=abc.69200000.691fffff; Path=/\r\n");
        assert_eq!(
            split_stamp(b"abc.69200000.691fffff"),
            (&b"abc"[..], Some(stamp))
        );
        for bare in ["abc", "abc.", "abc.1", "abc.1.", "abc.x.1", "abc.-1.1"] {
            assert_eq!(split_stamp(bare.as_bytes()), (&b"abc"[..], None), "{bare}");
        }
    }

    fn answered(value: &str, mark: Mark<'_>) -> Option<String> {
        let mut out = Vec::new();
        response_field(value.as_bytes(), mark, &mut out).then(|| String::from_utf8(out).unwrap())
    }

    #[test]
    fn what_the_application_sets_says_where_it_was_set() {
        let prefix = Mark::Prefix(b"J", b"tok");
        assert_eq!(
            answered("J=1; Path=/", prefix).unwrap(),
            "Set-Cookie: J=tok~1; Path=/\r\n"
        );
        assert_eq!(
            answered("J=; Max-Age=0", prefix).unwrap(),
            "Set-Cookie: J=; Max-Age=0\r\n"
        );
        assert_eq!(answered("K=1", prefix), None);
        let replace = Mark::Replace(b"J", b"tok");
        assert_eq!(
            answered("J=1; Path=/", replace).unwrap(),
            "Set-Cookie: J=tok; Path=/\r\n"
        );
        assert_eq!(answered("J=1", replace).unwrap(), "Set-Cookie: J=tok\r\n");
        assert_eq!(set_value(b"J=1 ; Path=/", b"J"), Some(&b"1"[..]));
    }
}
