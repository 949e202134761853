//! Answers.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::text::{BadText, Full, Text, lines, number, split};
use crate::field::{self, Name};
use crate::framing::Length;
use crate::grpc::web::Web;
use crate::method::Method;
use crate::upgrade;

/// Fields that most answers have no more of.
const FIELDS_EXPECTED: usize = 12;

/// Tells whether a field is about one connection of HTTP/1, and has no place in HTTP/2 (RFC 9113 §8.2.2).
pub(super) fn is_of_connection(name: Name) -> bool {
    matches!(
        name,
        Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade
    )
}

/// An answer whose head was written as text, for a client that speaks HTTP/2.
#[derive(Debug)]
pub struct Told {
    /// It.
    pub response: Response<()>,
    /// How the text of its body ends; nothing where the connection leaves HTTP.
    pub length: Option<Length>,
}

/// Reads a head that [`crate::h1::encode`] has written in answer to a request with `method`.
///
/// # Errors
/// It has not.
pub fn read(text: &Bytes, method: Method) -> Result<Told, BadText> {
    let mut lines = lines(text);
    let status = lines
        .next()
        .and_then(|line| line.get(9..12))
        .ok_or(BadText)?;
    let status = StatusCode::from_bytes(status).map_err(|_| BadText)?;
    let mut response = Response::new(());
    *response.version_mut() = http::Version::HTTP_2;
    let fields = response.headers_mut();
    fields.reserve(FIELDS_EXPECTED);
    let mut length = Length::Empty;
    for line in lines {
        let Some((name, value)) = split(line) else {
            continue;
        };
        match Name::from_bytes(name) {
            Name::TransferEncoding => length = Length::Chunked,
            known if is_of_connection(known) => {}
            known => {
                if known == Name::ContentLength {
                    length = Length::Exactly(number(value).ok_or(BadText)?);
                }
                let name = HeaderName::from_bytes(name).map_err(|_| BadText)?;
                fields.append(name, self::value(value, text).map_err(|_| BadText)?);
            }
        }
    }
    let has_none = method == Method::Head || matches!(status.as_u16(), 100..=199 | 204 | 304);
    let mut told = Told {
        response,
        length: Some(if has_none { Length::Empty } else { length }),
    };
    *told.response.status_mut() = status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        // HTTP/2 has no interim answer for it (RFC 8441 §5).
        *told.response.status_mut() = StatusCode::OK;
        let fields = told.response.headers_mut();
        fields.remove(header::SEC_WEBSOCKET_ACCEPT);
        told.length = None;
    }
    Ok(told)
}

/// A value, without copying it.
pub(super) fn value(
    value: &[u8],
    bytes: &Bytes,
) -> Result<HeaderValue, header::InvalidHeaderValue> {
    if value.is_empty() {
        return Ok(HeaderValue::from_static(""));
    }
    HeaderValue::from_maybe_shared(bytes.slice_ref(value))
}

/// Why an answer is not written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResponse {
    /// It is larger than a head may be.
    #[error("too large")]
    TooLarge,
    /// It has blanks around a value (RFC 9113 §8.2.1).
    #[error("blanks around a value")]
    Malformed,
}

impl From<Full> for BadResponse {
    fn from(Full: Full) -> Self {
        Self::TooLarge
    }
}

/// What follows the head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing may: it is interim, or the answer to a HEAD.
    Nothing,
    /// Nothing does.
    NoBody,
    /// A body, in the chunked coding unless the head says its length.
    Body,
}

/// Writes the head of an answer into `room`; tells how long it is.
///
/// # Errors
/// It is malformed or too large.
pub fn write(
    response: &http::response::Parts,
    follows: Follows,
    room: &mut [u8],
) -> Result<usize, BadResponse> {
    let mut text = Text::new(room);
    text.push(b"HTTP/1.1 ")?;
    text.push(response.status.as_str().as_bytes())?;
    text.push(b" \r\n")?;
    for (name, value) in &response.headers {
        let value = value.as_bytes();
        if value != value.trim_ascii() {
            return Err(BadResponse::Malformed);
        }
        text.line(name.as_str().as_bytes(), value)?;
    }
    let says_length = response.headers.contains_key(header::CONTENT_LENGTH);
    match follows {
        Follows::Body if !says_length => text.line(b"Transfer-Encoding", b"chunked")?,
        Follows::NoBody if !says_length && !matches!(response.status.as_u16(), 204 | 304) => {
            text.line(b"Content-Length", b"0")?;
        }
        Follows::Nothing | Follows::NoBody | Follows::Body => {}
    }
    text.push(b"\r\n")?;
    Ok(text.len())
}

/// Makes an answer of gRPC what a client gets that sees no trailers; tells whether it is one.
pub fn put_web(web: Web, head: &mut http::response::Parts) -> bool {
    let kind = head.headers.get(header::CONTENT_TYPE);
    let kind = kind.map(HeaderValue::as_bytes).unwrap_or_default();
    if !kind.starts_with(b"application/grpc") {
        return false;
    }
    if let Ok(kind) = HeaderValue::from_bytes(&web.content_type(kind)) {
        head.headers.insert(header::CONTENT_TYPE, kind);
    }
    head.headers.remove(header::CONTENT_LENGTH);
    true
}

/// Writes the head of an answer that takes a WebSocket (RFC 8441 §5) as HTTP/1.1 has it; `key` is that
/// of the request.
pub fn write_switch(response: &http::response::Parts, key: &[u8], text: &mut Vec<u8>) {
    text.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
    for (name, value) in &response.headers {
        field::write_line(name.as_str().as_bytes(), value.as_bytes(), text);
    }
    field::write_line(b"Connection", b"Upgrade", text);
    field::write_line(b"Upgrade", b"websocket", text);
    field::write_line(
        b"Sec-WebSocket-Accept",
        &upgrade::websocket_accept(key),
        text,
    );
    text.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &'static str) -> Response<()> {
        let told = read(&Bytes::from_static(text.as_bytes()), Method::Get);
        told.unwrap().response
    }

    #[test]
    fn the_head_says_how_the_body_ends() {
        for (text, method, length) in [
            (
                "200 OK\r\nContent-Length: 5",
                Method::Get,
                Some(Length::Exactly(5)),
            ),
            (
                "200 OK\r\nContent-Length: 5",
                Method::Head,
                Some(Length::Empty),
            ),
            (
                "304 Not Modified\r\nContent-Length: 5",
                Method::Get,
                Some(Length::Empty),
            ),
            (
                "200 OK\r\nTransfer-Encoding: chunked",
                Method::Get,
                Some(Length::Chunked),
            ),
            ("204 No Content\r\nX: y", Method::Get, Some(Length::Empty)),
            ("101 Switching Protocols\r\nX: y", Method::Get, None),
        ] {
            let text = Bytes::from(format!("HTTP/1.1 {text}\r\n\r\n"));
            assert_eq!(read(&text, method).unwrap().length, length, "{text:?}");
        }
        assert!(read(&Bytes::from_static(b"HTTP/1.1 2"), Method::Get).is_err());
    }

    #[test]
    fn fields_of_the_connection_stay_behind() {
        let response = parsed(
            "HTTP/1.1 203 Fine\r\nServer: s\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
             Set-Cookie: a\r\nKeep-Alive: timeout=5\r\nset-cookie: b\r\nX-Empty:\r\n\r\n",
        );
        assert_eq!(response.status(), 203);
        let fields: Vec<_> = response
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        assert_eq!(
            fields,
            ["server: s", "set-cookie: a", "set-cookie: b", "x-empty: "]
        );
    }

    #[test]
    fn what_was_read_is_written_again() {
        let (parts, ()) = parsed("HTTP/1.1 200 OK\r\nA: b\r\n\r\n").into_parts();
        let mut room = [0; 100];
        for (follows, line) in [
            (Follows::Body, "Transfer-Encoding: chunked\r\n"),
            (Follows::NoBody, "Content-Length: 0\r\n"),
            (Follows::Nothing, ""),
        ] {
            let len = write(&parts, follows, &mut room).unwrap();
            let text = str::from_utf8(&room[..len]).unwrap();
            assert_eq!(text, format!("HTTP/1.1 200 \r\na: b\r\n{line}\r\n"));
        }
        let full = write(&parts, Follows::Body, &mut [0; 20]);
        assert_eq!(full, Err(BadResponse::TooLarge));
    }

    #[test]
    fn blanks_around_a_value_are_not_written() {
        for value in [" a", "a ", "\ta", " "] {
            let response = Response::builder().header("x", value).body(()).unwrap();
            let (parts, ()) = response.into_parts();
            let written = write(&parts, Follows::Nothing, &mut [0; 100]);
            assert_eq!(written, Err(BadResponse::Malformed), "{value:?}");
        }
    }
}
