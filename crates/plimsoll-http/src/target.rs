//! Request targets. There is one canonical path: rules match it, caches key it, servers receive it.
//!
//! A path is rewritten where RFC 3986 §6 says that two spellings are one (`%41` is `A`, `/./` is
//! `/`), runs of slashes become one because servers merge them, and a spelling that servers read
//! in more than one way (an encoded slash, a backslash, `..;`) is refused.

use crate::head::{RequestHead, Span};
use crate::host::Authority;
use crate::method::Method;

/// Why a target is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    /// It is neither a path, an `http` URI, nor the `*` of OPTIONS.
    #[error("malformed request target")]
    Form,
    /// The URI's scheme is not that of the connection.
    #[error("request target has a foreign scheme")]
    Scheme,
    /// The URI's authority is malformed or holds user information.
    #[error("request target has a malformed authority")]
    Authority,
    /// It holds a byte that no URI may hold.
    #[error("request target has a forbidden byte")]
    Byte,
    /// A percent sign is not followed by two hexadecimal digits.
    #[error("request target has a malformed percent-encoding")]
    Percent,
    /// It holds an encoded slash, backslash or NUL, which servers read in different ways.
    #[error("request path has an encoded separator")]
    EncodedSeparator,
    /// A dot segment leads above the root or carries parameters.
    #[error("request path has an ambiguous dot segment")]
    DotSegment,
}

/// A target in canonical form. Reading into the same value again reuses its memory.
#[derive(Debug, Default)]
pub struct Target {
    /// The authority of an absolute-form target; it wins over `Host`.
    pub authority: Option<Span>,
    /// The query as it came, without its question mark.
    pub query: Option<Span>,
    /// Whether the connection is one with TLS, so that an absolute-form target must say `https`. Kept
    /// from one target to the next.
    pub is_secure: bool,
    plain: Span,
    rewritten: Vec<u8>,
}

impl Target {
    /// Reads the target of `head`; `bytes` is the buffer that was parsed.
    ///
    /// # Errors
    /// The target is malformed or ambiguous.
    pub fn read(&mut self, head: &RequestHead, bytes: &[u8]) -> Result<(), BadTarget> {
        self.clear();
        let span = head.target;
        let text = span.of(bytes);
        if text.iter().any(|&b| b <= b' ' || b >= 0x7f || b == b'#') {
            return Err(BadTarget::Byte);
        }
        let path_at = match text {
            [b'/', ..] => 0,
            b"*" if head.method == Method::Options => {
                self.plain = span;
                return Ok(());
            }
            _ => self.absolute_form(span, text)?,
        };
        let path = text.get(path_at..).unwrap_or_default();
        let query_at = memchr::memchr(b'?', path).map_or(text.len(), |at| path_at + at);
        if query_at < text.len() {
            self.query = Some(span.part(query_at + 1, text.len()));
        }
        self.plain = span.part(path_at, query_at);
        self.canonicalise(bytes, head.method)
    }

    /// Forgets what was read.
    pub fn clear(&mut self) {
        self.authority = None;
        self.query = None;
        self.plain = Span::default();
        self.rewritten.clear();
    }

    /// The canonical path.
    pub fn path<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        if self.rewritten.is_empty() {
            self.plain.of(bytes)
        } else {
            &self.rewritten
        }
    }

    /// The path as it came.
    pub fn raw_path<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.plain.of(bytes)
    }

    /// Takes scheme and authority of `http://host:port/path`; returns where the path begins.
    fn absolute_form(&mut self, span: Span, text: &[u8]) -> Result<usize, BadTarget> {
        let colon = memchr::memmem::find(text, b"://").ok_or(BadTarget::Form)?;
        let scheme = text.get(..colon).unwrap_or_default();
        let own: &[u8] = if self.is_secure { b"https" } else { b"http" };
        if !scheme.eq_ignore_ascii_case(own) {
            let well_formed = !scheme.is_empty() && scheme.iter().all(u8::is_ascii_alphanumeric);
            return Err(if well_formed {
                BadTarget::Scheme
            } else {
                BadTarget::Form
            });
        }
        let start = colon + 3;
        let rest = text.get(start..).unwrap_or_default();
        let end = start + memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        let authority = text.get(start..end).unwrap_or_default();
        Authority::parse(authority).ok_or(BadTarget::Authority)?;
        self.authority = Some(span.part(start, end));
        Ok(end)
    }

    fn canonicalise(&mut self, bytes: &[u8], method: Method) -> Result<(), BadTarget> {
        let raw = self.plain.of(bytes);
        if raw.is_empty() {
            // RFC 9112 §3.2.4: OPTIONS for a URI without a path speaks of the whole server.
            let whole = method == Method::Options && self.query.is_none();
            self.rewritten
                .extend_from_slice(if whole { b"*" } else { b"/" });
            return Ok(());
        }
        if is_canonical(raw) {
            return Ok(());
        }
        decode(raw, &mut self.rewritten)?;
        remove_dot_segments(&mut self.rewritten)
    }
}

/// Writes the canonical form of `path` into `out`, whose contents go.
///
/// # Errors
/// It has none.
pub(crate) fn canonical(path: &[u8], out: &mut Vec<u8>) -> Result<(), BadTarget> {
    out.clear();
    match path.first() {
        None => out.push(b'/'),
        Some(b'/') => {
            decode(path, out)?;
            remove_dot_segments(out)?;
        }
        Some(_) => return Err(BadTarget::Form),
    }
    Ok(())
}

/// Bytes that stand in a path as they are: RFC 3986's `pchar` and the slash.
const fn is_plain(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'
                ..=b',' | b'/' | b':' | b';' | b'=' | b'@'
        )
}

/// Per byte: 0 needs a closer look, 1 is plain, 2 is a slash (what follows it matters).
const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::indexing_slicing,
            reason = "b is below 256"
        )]
        {
            table[b] = if b as u8 == b'/' {
                2
            } else {
                is_plain(b as u8) as u8
            };
        }
        b += 1;
    }
    table
};

/// Tells, cheaply and for most paths, that there is nothing to rewrite.
fn is_canonical(path: &[u8]) -> bool {
    let mut after_slash = false;
    for &b in path {
        let class = CLASS.get(usize::from(b)).copied().unwrap_or_default();
        if class == 0 || (after_slash && (b == b'/' || b == b'.')) {
            return false;
        }
        after_slash = class == 2;
    }
    true
}

/// Decodes what needs no encoding, encodes what needs it, writes hexadecimal digits in upper case.
fn decode(raw: &[u8], out: &mut Vec<u8>) -> Result<(), BadTarget> {
    let mut bytes = raw.iter().copied();
    while let Some(b) = bytes.next() {
        match b {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Err(BadTarget::Percent);
                };
                match u8::try_from(high * 16 + low).unwrap_or_default() {
                    b'/' | b'\\' | 0 => return Err(BadTarget::EncodedSeparator),
                    b if b.is_ascii_alphanumeric() || b"-._~".contains(&b) => out.push(b),
                    b => encode(b, out),
                }
            }
            b'\\' => return Err(BadTarget::Byte),
            b if is_plain(b) => out.push(b),
            b => encode(b, out),
        }
    }
    Ok(())
}

/// Appends a byte in its percent-encoding.
pub(crate) fn encode(b: u8, out: &mut Vec<u8>) {
    let digit = |n: u8| if n < 10 { b'0' + n } else { b'A' + n - 10 };
    out.extend_from_slice(&[b'%', digit(b >> 4), digit(b & 15)]);
}

enum Segment {
    Empty,
    Here,
    Up,
    /// A dot segment with parameters (`..;x`), which some servers take for a dot segment.
    Dotted,
    Name,
}

impl Segment {
    fn of(text: &[u8]) -> Self {
        match text {
            b"" => Self::Empty,
            b"." => Self::Here,
            b".." => Self::Up,
            [b'.', b';', ..] | [b'.', b'.', b';', ..] => Self::Dotted,
            _ => Self::Name,
        }
    }
}

/// Removes dot segments and empty segments in place (RFC 3986 §5.2.4, and merged slashes).
fn remove_dot_segments(path: &mut Vec<u8>) -> Result<(), BadTarget> {
    let mut out = 0;
    let mut at = 0;
    while at < path.len() {
        let start = at + 1;
        let rest = path.get(start..).unwrap_or_default();
        let end = start + memchr::memchr(b'/', rest).unwrap_or(rest.len());
        let last = end == path.len();
        let segment = Segment::of(path.get(start..end).unwrap_or_default());
        match segment {
            Segment::Dotted => return Err(BadTarget::DotSegment),
            Segment::Up if out == 0 => return Err(BadTarget::DotSegment),
            Segment::Up => {
                out = path
                    .get(..out)
                    .and_then(|kept| memchr::memrchr(b'/', kept))
                    .unwrap_or(0)
            }
            Segment::Here => {}
            Segment::Empty if !last => {}
            Segment::Empty | Segment::Name => {
                path.copy_within(at..end, out);
                out += end - at;
            }
        }
        // `/a/.` and `/a/..` end in a slash: they name what is inside.
        if last && matches!(segment, Segment::Up | Segment::Here) {
            if let Some(slash) = path.get_mut(out) {
                *slash = b'/';
            }
            out += 1;
        }
        at = end;
    }
    path.truncate(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};
    use proptest::prelude::*;

    fn read(
        method: &str,
        target: &str,
    ) -> Result<(String, Option<String>, Option<String>), BadTarget> {
        let bytes = format!("{method} {target} HTTP/1.1\r\n\r\n").into_bytes();
        let mut head = RequestHead::default();
        parse::request(&bytes, &HeadLimits::default(), &mut head)
            .unwrap_or_else(|e| panic!("{target}: {e}"));
        let mut out = Target::default();
        out.read(&head, &bytes)?;
        let text = |b: &[u8]| String::from_utf8(b.to_vec()).unwrap();
        Ok((
            text(out.path(&bytes)),
            out.query.map(|q| text(q.of(&bytes))),
            out.authority.map(|a| text(a.of(&bytes))),
        ))
    }

    fn path(target: &str) -> Result<String, BadTarget> {
        read("GET", target).map(|(path, ..)| path)
    }

    #[test]
    fn one_spelling_for_one_path() {
        for (target, canonical) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/", "/a/"),
            ("/a/../admin", "/admin"),
            ("/a/%2e%2e/admin", "/admin"),
            ("/a/.%2E/admin", "/admin"),
            ("/a//admin", "/a/admin"),
            ("//evil.com/x", "/evil.com/x"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a/..", "/"),
            ("/.", "/"),
            ("/a//", "/a/"),
            ("///", "/"),
            ("/%41%7e%2d", "/A~-"),
            ("/%c3%a9", "/%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a|b\"[]", "/a%7Cb%22%5B%5D"),
            ("/%252e%252e/", "/%252e%252e/"),
            ("/.hidden", "/.hidden"),
            ("/...", "/..."),
            ("/a;b=1/c", "/a;b=1/c"),
            ("/a/;x/b", "/a/;x/b"),
            ("/a%0Ab", "/a%0Ab"),
        ] {
            assert_eq!(path(target).as_deref(), Ok(canonical), "{target}");
        }
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        use BadTarget as B;
        for (target, fault) in [
            ("/..", B::DotSegment),
            ("/a/../..", B::DotSegment),
            ("/a/..;/admin", B::DotSegment),
            ("/.;/a", B::DotSegment),
            ("/a/%2e%2e;x/b", B::DotSegment),
            ("/a%2fb", B::EncodedSeparator),
            ("/%2Fadmin", B::EncodedSeparator),
            ("/%5c..", B::EncodedSeparator),
            ("/%00", B::EncodedSeparator),
            ("/a\\b", B::Byte),
            ("/a#b", B::Byte),
            ("/%zz", B::Percent),
            ("/%4", B::Percent),
            ("/a%", B::Percent),
            ("admin", B::Form),
            ("*", B::Form),
            ("http:/x", B::Form),
            ("https://a/", B::Scheme),
            ("ftp://a/", B::Scheme),
            ("http://u@a/", B::Authority),
            ("http:///x", B::Authority),
            ("http://a:0/", B::Authority),
            ("://a/", B::Form),
        ] {
            assert_eq!(path(target), Err(fault), "{target}");
        }
    }

    #[test]
    fn absolute_form_and_asterisk() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(
            read("GET", "HTTP://a:1/x?y"),
            Ok(("/x".into(), some("y"), some("a:1")))
        );
        assert_eq!(read("GET", "http://a"), Ok(("/".into(), None, some("a"))));
        assert_eq!(
            read("GET", "http://a?q"),
            Ok(("/".into(), some("q"), some("a")))
        );
        assert_eq!(
            read("OPTIONS", "http://a"),
            Ok(("*".into(), None, some("a")))
        );
        assert_eq!(read("OPTIONS", "*"), Ok(("*".into(), None, None)));
        assert_eq!(read("GET", "/a?b?c"), Ok(("/a".into(), some("b?c"), None)));
        assert_eq!(read("GET", "/a?"), Ok(("/a".into(), some(""), None)));
    }

    proptest! {
        /// The canonical form of a canonical path is the path.
        #[test]
        fn canonical_is_a_fixed_point(parts in proptest::collection::vec(prop_oneof![
            Just("/"), Just("."), Just(".."), Just("a"), Just("%2e"), Just("%41"), Just(";"), Just("|"), Just("%c3"), Just("//"),
        ], 0..10)) {
            if let Ok(once) = path(&format!("/{}", parts.concat())) {
                prop_assert_eq!(path(&once), Ok(once.clone()));
                prop_assert!(once.starts_with('/'));
                prop_assert!(!once.contains("//"));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
