//! What a request must be before anything is done with it.

use crate::field::{self, Name};
use crate::framing::{BadFraming, Framing, Length};
use crate::h1::parse::BadHead;
use crate::head::{RequestHead, Span, Version};
use crate::host::Authority;
use crate::method::Method;
use crate::reason::Reason;
use crate::target::{BadTarget, Target};
use crate::upgrade::Upgrade;

/// A request that is refused, and how. The connection is closed after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The status of the answer.
    pub status: u16,
    /// The word for logs and metrics.
    pub reason: Reason,
    /// What was wrong, for people; it never holds bytes of the request.
    pub detail: &'static str,
}

impl Rejection {
    const fn new(status: u16, detail: &'static str) -> Self {
        Self {
            status,
            reason: Reason::HttpRequestError,
            detail,
        }
    }
}

/// A request whose head is sound.
#[derive(Debug)]
pub struct Sound {
    /// The framing of its body.
    pub framing: Framing,
    /// The authority that rules: of the target if it has one, else of `Host`. Empty for an
    /// HTTP/1.0 request without either.
    pub authority: Span,
    /// Whether the client waits for `100 (Continue)` before it sends the body.
    pub expects_continue: bool,
    /// The protocol that the client asks for instead of HTTP.
    pub upgrade: Option<Upgrade>,
}

/// Longest method that is passed on: the registered ones have at most 17 letters.
const METHOD_BYTES_MAX: usize = 24;

/// Checks `head` and reads its target into `target`; `bytes` is the buffer that was parsed.
///
/// # Errors
/// The answer that the request gets instead.
pub fn check(head: &RequestHead, bytes: &[u8], target: &mut Target) -> Result<Sound, Rejection> {
    check_method(head, bytes)?;
    let framing = Framing::of_request(head, bytes)?;
    if head.version == Version::Http10
        && matches!(head.method, Method::Get | Method::Head)
        && !matches!(framing.length(), Length::Empty | Length::Exactly(0))
    {
        // An HTTP/1.0 GET with a body is nothing but an attempt to hide a second request.
        return Err(Rejection::new(413, "HTTP/1.0 GET or HEAD with a body"));
    }
    target.read(head, bytes)?;
    let authority = authority(head, bytes, target)?;
    let expects_continue = expectation(head, bytes)?;
    let upgrade = Upgrade::asked(head, bytes, &framing);
    Ok(Sound {
        framing,
        authority,
        expects_continue,
        upgrade,
    })
}

fn check_method(head: &RequestHead, bytes: &[u8]) -> Result<(), Rejection> {
    match head.method {
        Method::Connect => Err(Rejection::new(405, "CONNECT is not offered")),
        Method::Trace => Err(Rejection::new(405, "TRACE is not offered")),
        Method::Other => {
            let method = head.method_span.of(bytes);
            let known_shape = method
                .iter()
                .all(|b| b.is_ascii_uppercase() || b"-_".contains(b));
            match method {
                b"PRI" => Err(Rejection::new(
                    400,
                    "HTTP/2 preface on an HTTP/1 connection",
                )),
                _ if known_shape && method.len() <= METHOD_BYTES_MAX => Ok(()),
                _ => Err(Rejection::new(501, "unknown method")),
            }
        }
        _ => Ok(()),
    }
}

fn authority(head: &RequestHead, bytes: &[u8], target: &Target) -> Result<Span, Rejection> {
    let mut hosts = head.fields.all(Name::Host);
    let host = match (hosts.next(), head.version) {
        (Some(host), _) => host.value,
        (None, Version::Http10) => return Ok(target.authority.unwrap_or_default()),
        (None, _) => return Err(Rejection::new(400, "missing Host")),
    };
    if hosts.next().is_some() {
        return Err(Rejection::new(400, "more than one Host"));
    }
    if Authority::parse(host.of(bytes)).is_none() {
        return Err(Rejection::new(400, "malformed Host"));
    }
    // RFC 9112 §3.2.2: the target's authority replaces what Host says.
    Ok(target.authority.unwrap_or(host))
}

fn expectation(head: &RequestHead, bytes: &[u8]) -> Result<bool, Rejection> {
    let mut lines = head.fields.all(Name::Expect);
    let Some(line) = lines.next() else {
        return Ok(false);
    };
    let known =
        line.value.of(bytes).eq_ignore_ascii_case(b"100-continue") && lines.next().is_none();
    match head.version {
        _ if !known => Err(Rejection::new(417, "unknown expectation")),
        // RFC 9110 §10.1.1: an HTTP/1.0 client does not know what it says.
        Version::Http10 => Ok(false),
        Version::Http11 | Version::Http2 => Ok(true),
    }
}

/// Tells whether a field asks for less than the whole of an answer: for a part of it, or for nothing when the client has
/// it already.
pub fn narrows(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"range",
    ];
    matches!(name.first(), Some(b'i' | b'I' | b'r' | b'R'))
        && NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Tells whether a field name holds an underscore. Programs that see fields as variables take
/// `X_Forwarded_For` for `X-Forwarded-For`, so such fields are dropped.
pub fn is_alias(name: &[u8]) -> bool {
    memchr::memchr(b'_', name).is_some()
}

/// The value of `Max-Forwards` on an OPTIONS request, the only method here that heeds it.
pub fn max_forwards(head: &RequestHead, bytes: &[u8]) -> Option<u32> {
    if head.method != Method::Options {
        return None;
    }
    let value = head.fields.first(Name::MaxForwards)?.value.of(bytes);
    if !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

impl From<BadHead> for Rejection {
    fn from(fault: BadHead) -> Self {
        match fault {
            BadHead::StartLine | BadHead::Status => Self::new(400, "malformed request line"),
            BadHead::Version => Self::new(505, "unsupported HTTP version"),
            BadHead::Field => Self::new(400, "malformed field line"),
            BadHead::LineEnd => Self::new(400, "line ends without CR LF"),
            BadHead::UriTooLong => Self::new(414, "request target too long"),
            BadHead::TooLarge => Self::new(431, "request head too large"),
            BadHead::TooManyFields => Self::new(431, "too many request fields"),
        }
    }
}

impl From<BadFraming> for Rejection {
    fn from(fault: BadFraming) -> Self {
        match fault {
            BadFraming::LengthAndCoding => {
                Self::new(400, "both Content-Length and Transfer-Encoding")
            }
            BadFraming::TwoLengths => Self::new(400, "more than one Content-Length"),
            BadFraming::Length => Self::new(400, "malformed Content-Length"),
            BadFraming::Coding => Self::new(400, "malformed Transfer-Encoding"),
            BadFraming::UnknownCoding => Self::new(501, "unknown transfer coding"),
            BadFraming::CodingInHttp10 => Self::new(400, "Transfer-Encoding in HTTP/1.0"),
            BadFraming::Nominated => Self::new(400, "Connection names a framing field"),
            BadFraming::ConnectionOptions => Self::new(400, "too many connection options"),
        }
    }
}

impl From<BadTarget> for Rejection {
    fn from(fault: BadTarget) -> Self {
        Self::new(
            400,
            match fault {
                BadTarget::Form => "malformed request target",
                BadTarget::Scheme => "request target has a foreign scheme",
                BadTarget::Authority => "request target has a malformed authority",
                BadTarget::Byte => "request target has a forbidden byte",
                BadTarget::Percent => "request target has a malformed percent-encoding",
                BadTarget::EncodedSeparator => {
                    "request path has an encoded slash, backslash or NUL"
                }
                BadTarget::DotSegment => "request path has an ambiguous dot segment",
            },
        )
    }
}

/// Finds the first cookie called `name`; cookies may stand on several lines.
pub fn cookie<'a>(head: &RequestHead, bytes: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    cookies(head, bytes, name).next()
}

/// Finds all cookies called `name`.
pub fn cookies<'a>(
    head: &RequestHead,
    bytes: &'a [u8],
    name: &[u8],
) -> impl Iterator<Item = &'a [u8]> {
    head.fields
        .all(Name::Cookie)
        .flat_map(|line| line.value.of(bytes).split(|&b| b == b';'))
        .filter_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))
}

/// Finds the first query parameter called `name`.
pub fn query_parameter<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query_parameters(query, name).next()
}

/// Finds all query parameters called `name`, also where escapes hide it.
pub fn query_parameters<'a>(query: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    query.split(|&b| b == b'&').filter_map(|pair| {
        let mut parts = pair.splitn(2, |&b| b == b'=');
        let is_it = unescaped(parts.next()?).eq(name.iter().copied());
        is_it.then(|| parts.next().unwrap_or_default())
    })
}

/// The bytes that a value of the query stands for: `%41` is an A, and `+` a blank, as forms write
/// it. What is no escape stands for itself.
pub fn unescaped(value: &[u8]) -> impl Iterator<Item = u8> {
    decoded(value, b' ')
}

/// The bytes that a path stands for, in which a `+` is one.
pub fn unescaped_path(path: &[u8]) -> impl Iterator<Item = u8> {
    decoded(path, b'+')
}

fn decoded(value: &[u8], plus: u8) -> impl Iterator<Item = u8> {
    let mut rest = value;
    std::iter::from_fn(move || {
        let (&first, after) = rest.split_first()?;
        let digit = |at: usize| char::from(*after.get(at)?).to_digit(16);
        if first == b'%'
            && let (Some(high), Some(low)) = (digit(0), digit(1))
        {
            rest = after.get(2..)?;
            return u8::try_from(high * 16 + low).ok();
        }
        rest = after;
        Some(if first == b'+' { plus } else { first })
    })
}

/// Tells whether a list field of the request names `token`.
pub fn lists(head: &RequestHead, bytes: &[u8], name: Name, token: &[u8]) -> bool {
    head.fields
        .all(name)
        .flat_map(|line| field::list(line.value.of(bytes)))
        .any(|member| member.eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};

    fn status(text: &str) -> u16 {
        let mut head = RequestHead::default();
        let bytes = text.as_bytes();
        match parse::request(bytes, &HeadLimits::default(), &mut head) {
            Err(fault) => Rejection::from(fault).status,
            Ok(_) => check(&head, bytes, &mut Target::default()).map_or_else(|r| r.status, |_| 200),
        }
    }

    #[test]
    fn requests_get_the_status_they_deserve() {
        for (text, expected) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\n\r\n", 200),
            ("GET / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405),
            ("TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
            ("PRI * HTTP/2.0\r\n\r\n", 505),
            ("PRI / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("get / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
            ("M-SEARCH / HTTP/1.1\r\nHost: x\r\n\r\n", 200),
            ("GET / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc", 413),
            (
                "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
                200,
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n",
                200,
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue, x\r\n\r\n",
                417,
            ),
            (
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
                501,
            ),
        ] {
            assert_eq!(status(text), expected, "{text:?}");
        }
    }

    #[test]
    fn parameters_of_a_query_are_found_however_they_are_escaped() {
        let found = |query: &'static str| {
            let values = query_parameters(query.as_bytes(), b"v");
            let text = |value: &[u8]| String::from_utf8(unescaped(value).collect()).unwrap();
            values.map(text).collect::<Vec<_>>()
        };
        assert_eq!(found("v=1&w=2&v=%41+b"), ["1", "A b"]);
        assert_eq!(found("%76=x&v&v="), ["x", "", ""]);
        assert_eq!(found("v=%4&v=%zz&v=%"), ["%4", "%zz", "%"]);
        assert_eq!(found("vv=1&V=2&=v"), [""; 0]);
    }

    #[test]
    fn cookies_and_parameters_are_found() {
        let text = b"GET / HTTP/1.1\r\nCookie: a=1; b=2\r\nCookie: c=3\r\n\r\n";
        let mut head = RequestHead::default();
        parse::request(text, &HeadLimits::default(), &mut head).unwrap();
        assert_eq!(cookie(&head, text, b"b"), Some(&b"2"[..]));
        assert_eq!(cookie(&head, text, b"c"), Some(&b"3"[..]));
        assert_eq!(cookie(&head, text, b""), None);
        assert_eq!(query_parameter(b"ab=1&a=2&c", b"a"), Some(&b"2"[..]));
        assert_eq!(query_parameter(b"ab=1&a=2&c", b"c"), Some(&b""[..]));
        assert_eq!(query_parameter(b"ab=1", b"x"), None);
    }
}
