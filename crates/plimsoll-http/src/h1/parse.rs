//! Bytes to heads. httparse finds the parts; the rules it leaves open are closed here.
//!
//! The verdict on a head depends on its bytes alone. Every check looks at the bytes in order and
//! stops at the first fault, so a prefix never gets another verdict than the whole.

use std::mem::MaybeUninit;

use crate::field::Name;
use crate::head::{
    FIELDS_MAX, Field, Fields, HEAD_BYTES_MAX, RequestHead, ResponseHead, Span, Version,
};
use crate::method::Method;

/// What a head may measure.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the whole head, at most [`HEAD_BYTES_MAX`].
    pub head: usize,
    /// Field lines, at most [`FIELDS_MAX`].
    pub fields: usize,
    /// Bytes of the request target.
    pub uri: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            head: HEAD_BYTES_MAX,
            fields: FIELDS_MAX,
            uri: 8 * 1024,
        }
    }
}

/// How far a head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Partial,
    /// The head is there.
    Complete,
}

/// Why bytes are not a head. After any of these nothing more is read from the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// The first line is not a request or status line.
    #[error("malformed start line")]
    StartLine,
    /// The version is well formed and not 1.0 or 1.1.
    #[error("unsupported protocol version")]
    Version,
    /// A field line is malformed.
    #[error("malformed field line")]
    Field,
    /// A line ends without CR LF.
    #[error("line ends without CR LF")]
    LineEnd,
    /// The request target is over the limit.
    #[error("request target too long")]
    UriTooLong,
    /// The head is over the limit.
    #[error("head too large")]
    TooLarge,
    /// The head has too many fields.
    #[error("too many fields")]
    TooManyFields,
    /// The status code is outside 100 to 599.
    #[error("status code out of range")]
    Status,
}

/// Decides when bytes that arrive in small pieces are worth another look, so that a head in n
/// pieces costs a bounded multiple of its length and not n times it.
#[derive(Debug, Default)]
pub struct Attempts {
    parsed: usize,
}

impl Attempts {
    /// Small heads are parsed whenever they grow.
    const ALWAYS_BELOW: usize = 2 * 1024;

    /// Tells whether to parse `head` now.
    pub fn worthwhile(&mut self, head: &[u8]) -> bool {
        let fresh = head.get(self.parsed..).unwrap_or_default();
        let worth = head.len() < Self::ALWAYS_BELOW
            || head.len() >= 2 * self.parsed
            || head.len() >= HEAD_BYTES_MAX
            || memchr::memchr(b'\n', fresh).is_some();
        if worth {
            self.parsed = head.len();
        }
        worth
    }
}

/// Parses the request head at the start of `bytes` into `head`.
///
/// # Errors
/// The first fault in the order of the bytes.
pub fn request(
    bytes: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Parsed, BadHead> {
    let window = Window::of(bytes, limits.head);
    if let Some(line) = window.long_target(limits.uri) {
        // A fault before the limit comes first, whatever follows.
        parse_request(line, limits, head)?;
        return Err(BadHead::UriTooLong);
    }
    let parsed = parse_request(window.sound, limits, head)?;
    let parsed = window.judge(parsed)?;
    if parsed == Parsed::Complete && head.target.len() > limits.uri {
        return Err(BadHead::UriTooLong);
    }
    Ok(parsed)
}

/// Parses the response head at the start of `bytes` into `head`.
///
/// # Errors
/// The first fault in the order of the bytes.
pub fn response(bytes: &[u8], head: &mut ResponseHead) -> Result<Parsed, BadHead> {
    let window = Window::of(bytes, HEAD_BYTES_MAX);
    let parsed = parse_response(window.sound, head)?;
    let parsed = window.judge(parsed)?;
    if parsed == Parsed::Complete && !(100..=599).contains(&head.status) {
        return Err(BadHead::Status);
    }
    Ok(parsed)
}

/// The bytes that may be looked at: as many as a head may have, up to the first bare LF.
struct Window<'a> {
    sound: &'a [u8],
    bare_line_feed: bool,
    full: bool,
}

impl<'a> Window<'a> {
    fn of(bytes: &'a [u8], limit: usize) -> Self {
        let limit = limit.min(HEAD_BYTES_MAX);
        let full = bytes.len() >= limit;
        let bytes = bytes.get(..limit).unwrap_or(bytes);
        // httparse takes LF for CR LF (RFC 9112 §2.2 allows it); where two parsers may differ on
        // where a line ends, requests are smuggled, so here only CR LF ends a line.
        let mut line = 0;
        for at in memchr::memchr_iter(b'\n', bytes) {
            match bytes.get(line..at) {
                Some([.., b'\r']) => {}
                _ => {
                    return Self {
                        sound: bytes.get(..=at).unwrap_or(bytes),
                        bare_line_feed: true,
                        full,
                    };
                }
            }
            // The empty line ends the head; what follows is the body's business. Empty lines
            // before the request line are let pass (RFC 9112 §2.2).
            if at == line + 1
                && bytes
                    .get(..line)
                    .is_some_and(|before| before.iter().any(|b| !b"\r\n".contains(b)))
            {
                let sound = bytes.get(..=at).unwrap_or(bytes);
                return Self {
                    sound,
                    bare_line_feed: false,
                    full,
                };
            }
            line = at + 1;
        }
        Self {
            sound: bytes,
            bare_line_feed: false,
            full,
        }
    }

    /// The first line, cut at the limit, when its target is surely over it.
    fn long_target(&self, limit: usize) -> Option<&'a [u8]> {
        // Room for the method and the version beside the target.
        const AROUND: usize = 64;
        if self.sound.len() <= limit + AROUND {
            return None;
        }
        let start = self.sound.iter().position(|b| !b"\r\n".contains(b))?;
        let end = start + limit + AROUND;
        memchr::memchr(b'\r', self.sound.get(start..end)?)
            .is_none()
            .then_some(self.sound.get(..end)?)
    }

    fn judge(&self, parsed: Parsed) -> Result<Parsed, BadHead> {
        match parsed {
            _ if self.bare_line_feed => Err(BadHead::LineEnd),
            Parsed::Partial if self.full => Err(BadHead::TooLarge),
            parsed => Ok(parsed),
        }
    }
}

fn parse_request(
    bytes: &[u8],
    limits: &HeadLimits,
    head: &mut RequestHead,
) -> Result<Parsed, BadHead> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let lines = lines
        .get_mut(..limits.fields.min(FIELDS_MAX))
        .unwrap_or_default();
    let mut parser = httparse::Request::new(&mut []);
    let status = match parser.parse_with_uninit_headers(bytes, lines) {
        Ok(status) => status,
        Err(httparse::Error::Version) => return version_fault(bytes),
        Err(error) => return Err(fault(error)),
    };
    let httparse::Status::Complete(len) = status else {
        return Ok(Parsed::Partial);
    };
    let (Some(method), Some(target)) = (parser.method, parser.path) else {
        return Err(BadHead::StartLine);
    };
    head.method = Method::from_token(method.as_bytes());
    head.method_span = Span::locate(bytes, method.as_bytes());
    head.target = Span::locate(bytes, target.as_bytes());
    head.version = version(parser.version);
    head.len = len;
    collect(bytes, parser.headers, &mut head.fields);
    Ok(Parsed::Complete)
}

fn parse_response(bytes: &[u8], head: &mut ResponseHead) -> Result<Parsed, BadHead> {
    let mut lines = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parser = httparse::Response::new(&mut []);
    let status = match httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parser,
        bytes,
        &mut lines,
    ) {
        Ok(status) => status,
        Err(httparse::Error::Version) => return Err(BadHead::Version),
        Err(error) => return Err(fault(error)),
    };
    let httparse::Status::Complete(len) = status else {
        return Ok(Parsed::Partial);
    };
    head.status = parser.code.unwrap_or_default();
    head.phrase = Span::locate(bytes, parser.reason.unwrap_or_default().as_bytes());
    head.version = version(parser.version);
    head.len = len;
    collect(bytes, parser.headers, &mut head.fields);
    Ok(Parsed::Complete)
}

/// The parser takes no other version than these.
fn version(minor: Option<u8>) -> Version {
    match minor {
        Some(0) => Version::Http10,
        _ => Version::Http11,
    }
}

fn collect(bytes: &[u8], lines: &[httparse::Header<'_>], fields: &mut Fields) {
    fields.clear();
    for line in lines {
        fields.push(Field {
            name: Name::from_bytes(line.name.as_bytes()),
            name_span: Span::locate(bytes, line.name.as_bytes()),
            value: Span::locate(bytes, line.value),
        });
    }
}

fn fault(error: httparse::Error) -> BadHead {
    match error {
        httparse::Error::HeaderName | httparse::Error::HeaderValue => BadHead::Field,
        httparse::Error::TooManyHeaders => BadHead::TooManyFields,
        httparse::Error::NewLine
        | httparse::Error::Token
        | httparse::Error::Version
        | httparse::Error::Status => BadHead::StartLine,
    }
}

/// Tells a version that is well formed and not ours from one that is malformed, once all eight
/// bytes of it are there.
fn version_fault(bytes: &[u8]) -> Result<Parsed, BadHead> {
    const SHAPE: &[u8; 8] = b"HTTP/0.0";
    let mut words = bytes.splitn(3, |&b| b == b' ');
    let version = words.nth(2).unwrap_or_default();
    let fits = version.iter().zip(SHAPE).all(|(b, shape)| match shape {
        b'0' => b.is_ascii_digit(),
        shape => b == shape,
    });
    match (fits, version.len() >= SHAPE.len()) {
        (true, true) => Err(BadHead::Version),
        (true, false) => Ok(Parsed::Partial),
        (false, _) => Err(BadHead::StartLine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(bytes: &[u8]) -> Result<Parsed, BadHead> {
        request(
            bytes,
            &HeadLimits {
                head: 1024,
                fields: 5,
                uri: 100,
            },
            &mut RequestHead::default(),
        )
    }

    #[test]
    fn a_plain_request_is_found_with_its_parts() {
        let bytes = b"\r\nGET /a?b HTTP/1.1\r\nHost: x\r\nX-Y:  z \r\n\r\nrest";
        let mut head = RequestHead::default();
        assert_eq!(
            request(bytes, &HeadLimits::default(), &mut head),
            Ok(Parsed::Complete)
        );
        assert_eq!(head.target.of(bytes), b"/a?b");
        assert_eq!(head.len, bytes.len() - 4);
        let values: Vec<&[u8]> = head.fields.iter().map(|f| f.value.of(bytes)).collect();
        assert_eq!(values, [b"x", b"z"]);
    }

    #[test]
    fn faults_are_named() {
        for (bytes, fault) in [
            (&b"GET / HTTP/1.1\nHost: x\r\n\r\n"[..], BadHead::LineEnd),
            (b"GET / HTTP/1.1\r\nHost: x\n\r\n", BadHead::LineEnd),
            (b"GET / HTTP/1.1\r\nHost: x\r\n\n", BadHead::LineEnd),
            (b"GET / HTTP/1.2\r\n\r\n", BadHead::Version),
            (b"GET / HTTP/2.0\r\n\r\n", BadHead::Version),
            (b"GET / HTTP/1.10\r\n\r\n", BadHead::StartLine),
            (b"GET / http/1.1\r\n\r\n", BadHead::StartLine),
            (b"GET /\r\n\r\n", BadHead::StartLine),
            (b"GET  / HTTP/1.1\r\n\r\n", BadHead::StartLine),
            (b"G=\": / HTTP/1.1\r\n\r\n", BadHead::StartLine),
            (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", BadHead::Field),
            (b"GET / HTTP/1.1\r\n A: b\r\n\r\n", BadHead::Field),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", BadHead::Field),
            (b"GET / HTTP/1.1\r\n: b\r\n\r\n", BadHead::Field),
            (b"GET / HTTP/1.1\r\nA\r\n\r\n", BadHead::Field),
            (b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n", BadHead::Field),
            (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", BadHead::Field),
            (
                b"GET / HTTP/1.1\r\na: 1\r\na: 1\r\na: 1\r\na: 1\r\na: 1\r\na: 1\r\n\r\n",
                BadHead::TooManyFields,
            ),
        ] {
            assert_eq!(verdict(bytes), Err(fault), "{}", bytes.escape_ascii());
        }
        let long = [b"GET /".as_slice(), &[b'a'; 200], b" HTTP/1.1\r\n\r\n"].concat();
        assert_eq!(verdict(&long), Err(BadHead::UriTooLong));
        let large = [b"GET / HTTP/1.1\r\nA: ".as_slice(), &[b'a'; 2000]].concat();
        assert_eq!(verdict(&large), Err(BadHead::TooLarge));
    }

    #[test]
    fn a_response_is_found_with_its_parts() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let mut head = ResponseHead::default();
        assert_eq!(response(bytes, &mut head), Ok(Parsed::Complete));
        assert_eq!((head.status, head.phrase.of(bytes)), (200, &b"OK"[..]));
        for (bytes, fault) in [
            (&b"HTTP/1.1 099 x\r\n\r\n"[..], BadHead::Status),
            (b"HTTP/1.1 999 x\r\n\r\n", BadHead::Status),
            (b"HTTP/1.1 200 x\n\r\n", BadHead::LineEnd),
            (b"HTTP/1.1 200 x\r\nA: b\r\n c\r\n\r\n", BadHead::Field),
        ] {
            assert_eq!(
                response(bytes, &mut head),
                Err(fault),
                "{}",
                bytes.escape_ascii()
            );
        }
        assert!(response(b"SSH-2.0-x\r\n", &mut head).is_err());
    }

    const PIECES: &[&[u8]] = &[
        b"GET ",
        b"POST ",
        b"/",
        b"/abc",
        b" HTTP/1.1\r\n",
        b" HTTP/1.2\r\n",
        b" HTTP/2",
        b"Host: x\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"A: b\r\n",
        b" ",
        b"\0",
        b"\xff",
        b":",
        &[b'a'; 90],
        &[b'a'; 500],
    ];

    proptest! {
        /// The first verdict over growing prefixes is the verdict on the whole.
        #[test]
        fn the_verdict_does_not_depend_on_the_cut(
            parts in proptest::collection::vec(proptest::sample::select(PIECES), 0..14)
        ) {
            let bytes = parts.concat();
            let whole = verdict(&bytes);
            let cut = (1..=bytes.len())
                .map(|len| verdict(&bytes[..len]))
                .find(|v| *v != Ok(Parsed::Partial))
                .unwrap_or(Ok(Parsed::Partial));
            prop_assert_eq!(cut, whole);
        }
    }
}
