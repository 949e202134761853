//! Requests.

use http::header::{CONTENT_LENGTH, COOKIE, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, uri};

use super::text::{Full, Text};
use crate::field::Name;
use crate::head::RequestHead;

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

/// Writes the head of a request into `room`; tells how long it is. Its body, where more than the head
/// comes, is in the chunked coding unless it says its length.
///
/// # Errors
/// It is malformed or too large.
pub fn write(request: &Parts, has_body: bool, room: &mut [u8]) -> Result<usize, BadRequest> {
    let uri = &request.uri;
    let mut text = Text::new(room);
    text.push(request.method.as_str().as_bytes())?;
    text.push(b" ")?;
    text.push(target(&request.method, uri)?)?;
    text.push(b" HTTP/1.1\r\n")?;
    if let Some(host) = host(uri, &request.headers)? {
        text.line(b"Host", host)?;
    }
    fields(&request.headers, &mut text)?;
    if has_body && !request.headers.contains_key(CONTENT_LENGTH) {
        text.line(b"Transfer-Encoding", b"chunked")?;
    }
    text.push(b"\r\n")?;
    Ok(text.len())
}

/// Checks the pseudo fields (RFC 9113 §8.3.1); returns what the request is for.
fn target<'a>(method: &Method, uri: &'a Uri) -> Result<&'a [u8], BadRequest> {
    if method == Method::CONNECT {
        let authority = uri.authority().map(|authority| authority.as_str());
        let authority = authority.ok_or(BadRequest::Malformed("CONNECT to no authority"))?;
        return Ok(authority.as_bytes());
    }
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
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

/// The request whose head was written as text, for a server that speaks HTTP/2.
///
/// # Errors
/// What HTTP/2 has no place for; [`crate::h1::encode`] writes no such thing.
pub fn read(head: &RequestHead, bytes: &[u8], scheme: &str) -> Result<Request<()>, http::Error> {
    let host = head.fields.first(Name::Host);
    let host = host.map_or(&b""[..], |host| host.value.of(bytes));
    let uri = Uri::builder()
        .scheme(scheme)
        .authority(host)
        .path_and_query(head.target.of(bytes))
        .build()?;
    let mut request = Request::builder()
        .method(head.method_span.of(bytes))
        .uri(uri)
        .version(http::Version::HTTP_2)
        .body(())?;
    let fields = request.headers_mut();
    fields.reserve(head.fields.iter().count() + 1);
    for line in head.fields.iter() {
        if line.name == Name::Host || super::response::is_of_connection(line.name) {
            continue;
        }
        let name = http::HeaderName::from_bytes(line.name_span.of(bytes))?;
        fields.append(name, HeaderValue::from_bytes(line.value.of(bytes))?);
    }
    // Whatever the client can take: trailers are passed on to those that can.
    fields.insert(http::header::TE, HeaderValue::from_static("trailers"));
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(request: http::request::Builder, has_body: bool) -> Result<String, BadRequest> {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let mut room = vec![0; 512];
        let len = write(&parts, has_body, &mut room)?;
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
            (Request::get("/"), "neither http nor https"),
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
