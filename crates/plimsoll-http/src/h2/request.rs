//! Requests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, TE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, uri};

use super::text::{BadText, Full, Text, lines, number, split};
use crate::field::Name;
use crate::framing::Length;
use crate::grpc::web::Web;

/// Why a request is not written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// It breaks a rule of RFC 9113 §8; its stream is reset.
    #[error("{0}")]
    Malformed(&'static str),
    /// It is larger than a head may be.
    #[error("too large")]
    TooLarge,
}

impl From<Full> for BadRequest {
    fn from(Full: Full) -> Self {
        Self::TooLarge
    }
}

/// Writes the head of a request into `room`; tells how long it is. `is_coded` tells whether its body comes
/// in the chunked coding.
///
/// # Errors
/// It is malformed or too large.
pub fn write(request: &Parts, is_coded: bool, room: &mut [u8]) -> Result<usize, BadRequest> {
    let mut text = Text::new(room);
    begin(request, &request.method, &mut text)?;
    if is_coded {
        text.line(b"Transfer-Encoding", b"chunked")?;
    }
    text.push(b"\r\n")?;
    Ok(text.len())
}

/// Writes an extended CONNECT for WebSocket (RFC 8441 §5) as what HTTP/1.1 has for it; `key` is one of
/// our own, since HTTP/2 has none.
///
/// # Errors
/// It is malformed or too large.
pub fn write_websocket(
    request: &Parts,
    key: &[u8; 16],
    room: &mut [u8],
) -> Result<usize, BadRequest> {
    let version = request.headers.get(SEC_WEBSOCKET_VERSION);
    if version.is_none_or(|version| version != "13") {
        return Err(BadRequest::Malformed("a WebSocket of another version"));
    }
    let mut text = Text::new(room);
    begin(request, &Method::GET, &mut text)?;
    let mut letters = [0; 24];
    // 16 bytes are 24 letters.
    let _ = STANDARD.encode_slice(key, &mut letters);
    text.line(b"Connection", b"Upgrade")?;
    text.line(b"Upgrade", b"websocket")?;
    text.line(b"Sec-WebSocket-Key", &letters)?;
    text.push(b"\r\n")?;
    Ok(text.len())
}

/// Writes the first line, and the lines that the request brings.
fn begin(request: &Parts, method: &Method, text: &mut Text<'_>) -> Result<(), BadRequest> {
    text.push(method.as_str().as_bytes())?;
    text.push(b" ")?;
    text.push(target(method, &request.uri)?)?;
    text.push(b" HTTP/1.1\r\n")?;
    if let Some(host) = host(&request.uri, &request.headers)? {
        text.line(b"Host", host)?;
    }
    fields(&request.headers, text)
}

/// Checks the pseudo fields (RFC 9113 §8.3.1); returns what the request is for.
fn target<'a>(method: &Method, uri: &'a Uri) -> Result<&'a [u8], BadRequest> {
    if method == Method::CONNECT {
        let authority = uri.authority().map(|authority| authority.as_str());
        let authority = authority.ok_or(BadRequest::Malformed("CONNECT to no authority"))?;
        return Ok(authority.as_bytes());
    }
    // The library keeps a scheme only beside an authority, for which `Host` may stand alone.
    let is_ours = match uri.scheme_str() {
        Some(scheme) => matches!(scheme, "http" | "https"),
        None => uri.authority().is_none(),
    };
    if !is_ours {
        return Err(BadRequest::Malformed("neither http nor https"));
    }
    let path = uri.path_and_query().map_or("", uri::PathAndQuery::as_str);
    let is_whole_server = path == "*" && method == Method::OPTIONS;
    if !path.starts_with('/') && !is_whole_server {
        return Err(BadRequest::Malformed("no path"));
    }
    if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(BadRequest::Malformed("a blank in the path"));
    }
    Ok(path.as_bytes())
}

/// The authority; `Host` must say the same where it stands too (RFC 9113 §8.3.1).
fn host<'a>(uri: &'a Uri, fields: &'a HeaderMap) -> Result<Option<&'a [u8]>, BadRequest> {
    let mut hosts = fields.get_all(HOST).iter();
    let (host, second) = (hosts.next().map(HeaderValue::as_bytes), hosts.next());
    if second.is_some() {
        return Err(BadRequest::Malformed("more than one Host"));
    }
    let authority = uri.authority().map(|authority| authority.as_str());
    match (authority.map(str::as_bytes), host) {
        (Some(authority), _) if authority.contains(&b'@') => {
            Err(BadRequest::Malformed("user information"))
        }
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(BadRequest::Malformed(":authority and Host differ"))
        }
        (authority, host) => Ok(authority.or(host)),
    }
}

/// Writes the field lines. A cookie may come in crumbs (RFC 9113 §8.2.3).
fn fields(fields: &HeaderMap, text: &mut Text<'_>) -> Result<(), BadRequest> {
    if fields.len() > crate::head::FIELDS_MAX {
        return Err(BadRequest::TooLarge);
    }
    let mut has_cookie = false;
    for (name, value) in fields {
        let value = value.as_bytes();
        if let ([b' ' | b'\t', ..], _) | (_, [.., b' ' | b'\t']) = (value, value) {
            return Err(BadRequest::Malformed("blanks around a value"));
        }
        match *name {
            HOST => {}
            COOKIE if std::mem::replace(&mut has_cookie, true) => {}
            COOKIE => {
                text.push(b"Cookie: ")?;
                for (at, crumb) in fields.get_all(COOKIE).iter().enumerate() {
                    text.push(if at > 0 { b"; " } else { b"" })?;
                    text.push(crumb.as_bytes())?;
                }
                text.push(b"\r\n")?;
            }
            _ => text.line(name.as_str().as_bytes(), value)?,
        }
    }
    Ok(())
}

/// A request whose head was written as text, for a server that speaks HTTP/2.
#[derive(Debug)]
pub struct Asked {
    /// It.
    pub request: Request<()>,
    /// How the text of its body ends.
    pub length: Length,
    /// Its key, if it asks for WebSocket.
    pub websocket_key: Option<Bytes>,
}

/// Reads a head that [`crate::h1::encode`] has written.
///
/// # Errors
/// It has not.
pub fn read(text: &Bytes, scheme: &str) -> Result<Asked, BadText> {
    let mut lines = lines(text);
    let first = lines.next().ok_or(BadText)?;
    let mut words = first.split(|byte| *byte == b' ');
    let method = words.next().and_then(|word| Method::from_bytes(word).ok());
    let target = words.next().ok_or(BadText)?;
    let mut asked = Asked {
        request: Request::new(()),
        length: Length::Empty,
        websocket_key: None,
    };
    let (mut host, mut is_upgrade) = (&b""[..], false);
    let fields = asked.request.headers_mut();
    for line in lines {
        let Some((name, value)) = split(line) else {
            continue;
        };
        match Name::from_bytes(name) {
            Name::Host => host = value,
            Name::TransferEncoding => asked.length = Length::Chunked,
            Name::Upgrade => is_upgrade = value.eq_ignore_ascii_case(b"websocket"),
            known if super::response::is_of_connection(known) => {}
            known => {
                let value = super::response::value(value, text).map_err(|_| BadText)?;
                if known == Name::ContentLength {
                    let length = number(value.as_bytes());
                    asked.length = Length::Exactly(length.ok_or(BadText)?);
                }
                fields.append(HeaderName::from_bytes(name).map_err(|_| BadText)?, value);
            }
        }
    }
    // Trailers are passed on to whoever can take them (RFC 9110 §10.1.4).
    fields.insert(TE, HeaderValue::from_static("trailers"));
    if is_upgrade {
        let key = fields.get(SEC_WEBSOCKET_KEY);
        asked.websocket_key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    }
    *asked.request.method_mut() = method.ok_or(BadText)?;
    *asked.request.uri_mut() = Uri::builder()
        .scheme(scheme)
        .authority(host)
        .path_and_query(target)
        .build()
        .map_err(|_| BadText)?;
    Ok(asked)
}

/// Makes a call of gRPC of one by a client that sees no trailers, if it is that.
pub fn take_web(request: &mut Request<()>) -> Option<Web> {
    let fields = request.headers_mut();
    let (web, plain) = Web::asked(fields.get(CONTENT_TYPE)?.as_bytes())?;
    let plain = HeaderValue::from_bytes(&plain).ok()?;
    fields.insert(CONTENT_TYPE, plain);
    // Without base64 it is shorter, and calls say no length anyway.
    fields.remove(CONTENT_LENGTH);
    Some(web)
}

/// Makes an extended CONNECT of a request for WebSocket (RFC 8441 §5).
pub fn make_websocket(request: &mut Request<()>) {
    *request.method_mut() = Method::CONNECT;
    let fields = request.headers_mut();
    fields.remove(SEC_WEBSOCKET_KEY);
    fields.remove(TE);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: http::request::Builder, has_body: bool) -> Result<String, BadRequest> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut room = vec![0; 512];
        let is_coded = crate::h2::text::is_coded(has_body, &parts.headers);
        let len = write(&parts, is_coded, &mut room)?;
        room.truncate(len);
        Ok(String::from_utf8(room).unwrap())
    }

    fn get() -> http::request::Builder {
        Request::get("https://a.example/x?y")
    }

    #[test]
    fn a_request_reads_as_http_1_would_have_it() {
        let request = get().header("accept", "*/*");
        let head = "GET /x?y HTTP/1.1\r\nHost: a.example\r\naccept: */*\r\n";
        assert_eq!(text(request, false).unwrap(), format!("{head}\r\n"));
        let request = get().header("accept", "*/*");
        let coded = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(text(request, true).unwrap(), coded);
        let request = get().header("content-length", "5");
        assert!(!text(request, true).unwrap().contains("chunked"));
    }

    #[test]
    fn a_host_may_stand_alone() {
        let request = Request::get("/x").header("host", "a.example");
        let head = "GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n";
        assert_eq!(text(request, false).unwrap(), head);
    }

    #[test]
    fn crumbs_of_a_cookie_are_put_together() {
        let request = get().header("cookie", "a=1").header("cookie", "b=2");
        let text = text(request, false).unwrap();
        assert!(text.contains("\r\nCookie: a=1; b=2\r\n"), "{text}");
        assert_eq!(text.matches("ookie").count(), 1);
    }

    #[test]
    fn what_breaks_the_rules_is_malformed() {
        for (request, why) in [
            (
                get().header("host", "b.example"),
                ":authority and Host differ",
            ),
            (get().header("x", " a"), "blanks around a value"),
            (get().header("x", "a\t"), "blanks around a value"),
            (Request::get("https://u@a.example/"), "user information"),
            (Request::get("ftp://a.example/"), "neither http nor https"),
            (Request::get("a.example"), "neither http nor https"),
        ] {
            assert_eq!(text(request, false), Err(BadRequest::Malformed(why)));
        }
    }

    #[test]
    fn what_is_too_large_is_not_written() {
        let long = "a".repeat(600);
        let request = get().header("x", long);
        assert_eq!(text(request, false), Err(BadRequest::TooLarge));
        let crumbs = (0..101).fold(get(), |request, _| request.header("cookie", "a"));
        assert_eq!(text(crumbs, false), Err(BadRequest::TooLarge));
    }
}
