//! Requests.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fields::{self, BadMessage, Lines};
use super::hpack::encode::Encoder;
use super::text::{BadText, lines, number, split};
use crate::field::{self, Name};
use crate::framing::Length;
use crate::grpc::web::Web;
use crate::head::HEAD_BYTES_MAX;
use crate::method::Method;

/// Memory that is kept for the next request.
const KEPT_BYTES: usize = 1024;

/// What [`write_end`] adds at most.
const END_BYTES_MAX: usize = 128;

/// Writes the fields of a request as the text that HTTP/1.1 would have for it.
#[derive(Debug, Default)]
pub struct Reader {
    /// What the pseudo fields and `Host` say, one after the other.
    said: Vec<u8>,
    parts: [Option<Range<usize>>; PARTS],
    /// A cookie may come in crumbs (RFC 9113 §8.2.3).
    cookie: Vec<u8>,
    lines: Lines,
    /// Whether a field has come before which pseudo fields have to stand.
    has_field: bool,
    length: Option<u64>,
    is_version_13: bool,
    bad: Option<BadMessage>,
}

/// What stands before the fields in the text.
#[derive(Clone, Copy)]
enum Part {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Host,
}
const PARTS: usize = 6;

/// What the text of a request does not say yet, or not so that it is easily seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What ends its head.
    pub follows: Follows,
    /// The method.
    pub method: Method,
    /// How long its body is said to be.
    pub length: Option<u64>,
}

/// What follows the head of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// Nothing, or a body whose length it says.
    Said,
    /// A body in the chunked coding.
    Coded,
    /// A WebSocket, if the answer says so (RFC 8441 §5).
    WebSocket,
}

impl Reader {
    /// Begins with another request.
    pub fn begin(&mut self) {
        self.lines.clear();
        for text in [&mut self.said, &mut self.cookie, &mut self.lines.text] {
            text.clear();
            text.shrink_to(KEPT_BYTES); // one large head is not paid for for ever
        }
        self.parts = [const { None }; PARTS];
        (self.has_field, self.is_version_13) = (false, false);
        (self.length, self.bad) = (None, None);
    }

    /// Takes the next field.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.bad.is_none() {
            self.bad = self.take(name, value).err();
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        if name.first() == Some(&b':') {
            return self.take_pseudo(name, value);
        }
        self.has_field = true;
        self.lines.count()?;
        match fields::check(name, value)? {
            Name::Host => self.take_part(Part::Host, value, "more than one Host"),
            Name::Cookie => self.take_crumb(value),
            known => {
                if known == Name::ContentLength {
                    self.length = number(value);
                }
                self.is_version_13 |= name == b"sec-websocket-version" && value == b"13";
                self.lines.add(name, value)
            }
        }
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        let part = match name {
            b":method" => Part::Method,
            b":scheme" => Part::Scheme,
            b":authority" => Part::Authority,
            b":path" => Part::Path,
            b":protocol" => Part::Protocol,
            _ => return Err(BadMessage::Malformed("an unknown pseudo field")),
        };
        match self.has_field {
            true => Err(BadMessage::Malformed("a pseudo field behind a field")),
            false => self.take_part(part, value, "a pseudo field stands twice"),
        }
    }

    fn take_part(
        &mut self,
        part: Part,
        value: &[u8],
        twice: &'static str,
    ) -> Result<(), BadMessage> {
        let start = self.said.len();
        let end = start + value.len();
        if end > HEAD_BYTES_MAX {
            return Err(BadMessage::TooLarge);
        }
        let place = self.parts.get_mut(part as usize);
        if place.is_some_and(|place| place.replace(start..end).is_some()) {
            return Err(BadMessage::Malformed(twice));
        }
        self.said.extend_from_slice(value);
        Ok(())
    }

    fn part(&self, part: Part) -> Option<&[u8]> {
        let range = self.parts.get(part as usize)?.clone()?;
        self.said.get(range)
    }

    fn take_crumb(&mut self, value: &[u8]) -> Result<(), BadMessage> {
        if self.cookie.len() + value.len() > HEAD_BYTES_MAX {
            return Err(BadMessage::TooLarge);
        }
        let between: &[u8] = if self.cookie.is_empty() { b"" } else { b"; " };
        self.cookie.extend_from_slice(between);
        self.cookie.extend_from_slice(value);
        Ok(())
    }

    /// Writes the head without its end; `has_body` tells whether anything follows the fields.
    ///
    /// # Errors
    /// It is malformed or too large.
    pub fn end(&self, has_body: bool, text: &mut Vec<u8>) -> Result<Asked, BadMessage> {
        if let Some(bad) = self.bad {
            return Err(bad);
        }
        let name = self.part(Part::Method).unwrap_or_default();
        let is_websocket = self.is_websocket()?;
        let method = Method::from_token(name);
        let target = match method == Method::Connect && !is_websocket {
            true => self.connect_target()?,
            false => self.target(method)?,
        };
        text.clear();
        text.extend_from_slice(if is_websocket { b"GET" } else { name });
        text.push(b' ');
        text.extend_from_slice(target);
        text.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(host) = self.host()? {
            field::write_line(b"Host", host, text);
        }
        text.extend_from_slice(&self.lines.text);
        if !self.cookie.is_empty() {
            field::write_line(b"Cookie", &self.cookie, text);
        }
        if text.len() + END_BYTES_MAX > HEAD_BYTES_MAX {
            return Err(BadMessage::TooLarge);
        }
        if !has_body && self.length.is_some_and(|length| length > 0) {
            return Err(BadMessage::Malformed("a length, and no body"));
        }
        Ok(Asked {
            follows: match (is_websocket, has_body && self.length.is_none()) {
                (true, _) => Follows::WebSocket,
                (false, true) => Follows::Coded,
                (false, false) => Follows::Said,
            },
            method: if is_websocket {
                Method::Connect
            } else {
                method
            },
            length: self.length.filter(|_| !is_websocket),
        })
    }

    /// Tells whether a WebSocket is asked for (RFC 8441 §5).
    fn is_websocket(&self) -> Result<bool, BadMessage> {
        use BadMessage::Malformed;
        let method = self.part(Part::Method).unwrap_or_default();
        if method.is_empty() || !method.iter().all(|byte| field::is_tchar(*byte)) {
            return Err(Malformed("no method"));
        }
        match self.part(Part::Protocol) {
            None => Ok(false),
            Some(_) if method != b"CONNECT" => Err(Malformed("a protocol without CONNECT")),
            Some(_) if self.part(Part::Authority).is_none() => {
                Err(Malformed("CONNECT to no authority"))
            }
            Some(b"websocket") if self.is_version_13 => Ok(true),
            Some(b"websocket") => Err(Malformed("a WebSocket of another version")),
            Some(_) => Err(Malformed("a protocol that is not known")),
        }
    }

    /// What a CONNECT is for (RFC 9113 §8.5).
    fn connect_target(&self) -> Result<&[u8], BadMessage> {
        if self.part(Part::Scheme).is_some() || self.part(Part::Path).is_some() {
            return Err(BadMessage::Malformed("CONNECT to more than an authority"));
        }
        let authority = self.part(Part::Authority);
        authority.ok_or(BadMessage::Malformed("CONNECT to no authority"))
    }

    /// What any other request is for (RFC 9113 §8.3.1).
    fn target(&self, method: Method) -> Result<&[u8], BadMessage> {
        if !matches!(self.part(Part::Scheme), Some(b"http" | b"https")) {
            return Err(BadMessage::Malformed("neither http nor https"));
        }
        let path = self.part(Part::Path).unwrap_or_default();
        let is_whole_server = path == b"*" && method == Method::Options;
        if path.first() != Some(&b'/') && !is_whole_server {
            return Err(BadMessage::Malformed("no path"));
        }
        if path.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(BadMessage::Malformed("a blank in the path"));
        }
        Ok(path)
    }

    /// The authority; `Host` must say the same where it stands too (RFC 9113 §8.3.1).
    fn host(&self) -> Result<Option<&[u8]>, BadMessage> {
        use BadMessage::Malformed;
        let (authority, host) = (self.part(Part::Authority), self.part(Part::Host));
        let Some(authority) = authority else {
            return Ok(host);
        };
        if authority.is_empty() || authority.contains(&b'@') {
            return Err(Malformed("no authority, or user information"));
        }
        if !authority.iter().all(|byte| byte.is_ascii_graphic()) {
            return Err(Malformed("a byte that no authority may have"));
        }
        match host.is_none_or(|host| authority.eq_ignore_ascii_case(host)) {
            true => Ok(Some(authority)),
            false => Err(Malformed(":authority and Host differ")),
        }
    }
}

/// Writes the end of a head; `key` is one of our own for a WebSocket, since HTTP/2 has none.
pub fn write_end(follows: Follows, key: [u8; 16], text: &mut Vec<u8>) {
    match follows {
        Follows::Said => {}
        Follows::Coded => field::write_line(b"Transfer-Encoding", b"chunked", text),
        Follows::WebSocket => {
            let mut letters = [0; 24];
            // 16 bytes are 24 letters.
            let _ = STANDARD.encode_slice(key, &mut letters);
            field::write_line(b"Connection", b"Upgrade", text);
            field::write_line(b"Upgrade", b"websocket", text);
            field::write_line(b"Sec-WebSocket-Key", &letters, text);
        }
    }
    text.extend_from_slice(b"\r\n");
}

/// A request whose head was written as text, for a server that speaks HTTP/2.
#[derive(Debug, Default)]
pub struct Sent {
    /// Whether the answer has no body.
    pub is_head: bool,
    /// Its key, if it asks for a WebSocket, and the server takes one.
    pub websocket_key: Option<Vec<u8>>,
    /// The client, if it is one of gRPC that sees no trailers.
    pub web: Option<Web>,
}

/// What of a head has to be known before its fields are written.
#[derive(Default)]
struct Foreknown<'a> {
    host: &'a [u8],
    is_websocket: bool,
    key: Option<&'a [u8]>,
    web: Option<(Web, Vec<u8>)>,
}

impl<'a> Foreknown<'a> {
    fn of(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut this = Self::default();
        for (name, value) in lines.filter_map(split) {
            match Name::from_bytes(name) {
                Name::Host => this.host = value,
                Name::Upgrade => this.is_websocket = value.eq_ignore_ascii_case(b"websocket"),
                Name::Other if name.eq_ignore_ascii_case(b"sec-websocket-key") => {
                    this.key = Some(value);
                }
                Name::Other if name.eq_ignore_ascii_case(b"content-type") => {
                    this.web = Web::asked(value);
                }
                _ => {}
            }
        }
        this
    }
}

/// Writes a head that [`crate::h1::encode`] has written as fields; tells how the text of its body ends, and nothing
/// where it asks for a tunnel.
///
/// # Errors
/// It has not.
pub fn encode(
    text: &[u8],
    scheme: &[u8],
    takes_websocket: bool,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) -> Result<(Sent, Option<Length>), BadText> {
    let mut lines = lines(text);
    let mut words = lines.next().ok_or(BadText)?.split(|byte| *byte == b' ');
    let (method, target) = words.next().zip(words.next()).ok_or(BadText)?;
    let known = Foreknown::of(self::lines(text).skip(1));
    let key = known.key.filter(|_| known.is_websocket && takes_websocket);
    encoder.begin(out);
    encoder.field(
        b":method",
        if key.is_some() { b"CONNECT" } else { method },
        out,
    );
    if key.is_some() {
        encoder.field(b":protocol", b"websocket", out);
    }
    encoder.field(b":scheme", scheme, out);
    encoder.field(b":authority", known.host, out);
    encoder.field(b":path", target, out);
    let mut length = Length::Empty;
    let mut lower = Vec::new();
    for (name, value) in lines.filter_map(split) {
        lower.clear();
        lower.extend(name.iter().map(u8::to_ascii_lowercase));
        match (Name::from_bytes(name), &known.web) {
            (Name::Host, _) => {}
            (Name::TransferEncoding, _) => length = Length::Chunked,
            (name, _) if fields::is_of_connection(name) => {}
            (Name::ContentLength, web) => {
                length = Length::Exactly(number(value).ok_or(BadText)?);
                // Without base64 it is shorter, and calls say no length anyway.
                if web.is_none() {
                    encoder.field(&lower, value, out);
                }
            }
            (Name::Other, Some((_, plain))) if lower == b"content-type" => {
                encoder.field(&lower, plain, out);
            }
            (Name::Other, _) if key.is_some() && lower == b"sec-websocket-key" => {}
            _ => encoder.field(&lower, value, out),
        }
    }
    if key.is_none() {
        // Trailers are passed on to whoever can take them (RFC 9110 §10.1.4).
        encoder.field(b"te", b"trailers", out);
    }
    let sent = Sent {
        is_head: method == b"HEAD",
        websocket_key: key.map(<[u8]>::to_vec),
        web: known.web.map(|(web, _)| web),
    };
    let is_tunnel = sent.websocket_key.is_some();
    Ok((sent, (!is_tunnel).then_some(length)))
}

#[cfg(test)]
mod tests {
    use super::super::hpack::decode::Decoder;
    use super::*;

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", "/x?y"),
    ];

    fn text_of(fields: &[(&str, &str)], has_body: bool) -> Result<String, BadMessage> {
        let (mut reader, mut text) = (Reader::default(), Vec::new());
        for (name, value) in fields {
            reader.field(name.as_bytes(), value.as_bytes());
        }
        let asked = reader.end(has_body, &mut text)?;
        write_end(asked.follows, [7; 16], &mut text);
        Ok(String::from_utf8(text).unwrap())
    }

    fn text(more: &[(&str, &str)], has_body: bool) -> Result<String, BadMessage> {
        text_of(&[&GET, more].concat(), has_body)
    }

    #[test]
    fn a_request_reads_as_http_1_would_have_it() {
        let head = "GET /x?y HTTP/1.1\r\nHost: a.example\r\naccept: */*\r\n";
        let accept = ("accept", "*/*");
        assert_eq!(text(&[accept], false).unwrap(), format!("{head}\r\n"));
        let coded = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        assert_eq!(text(&[accept], true).unwrap(), coded);
        let long = text(&[("content-length", "5")], true).unwrap();
        assert!(!long.contains("chunked"), "{long}");
    }

    #[test]
    fn a_host_may_stand_alone() {
        let fields = [GET[0], GET[1], GET[3], ("host", "a.example")];
        let head = "GET /x?y HTTP/1.1\r\nHost: a.example\r\n\r\n";
        assert_eq!(text_of(&fields, false).unwrap(), head);
    }

    #[test]
    fn crumbs_of_a_cookie_are_put_together() {
        let text = text(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")], false).unwrap();
        assert!(text.contains("\r\nCookie: a=1; b=2\r\n"), "{text}");
        assert_eq!(text.matches("ookie").count(), 1);
    }

    #[test]
    fn a_websocket_is_asked_for_as_http_1_does() {
        let fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https"),
            (":authority", "a.example"),
            (":path", "/chat"),
            ("sec-websocket-version", "13"),
        ];
        let text = text_of(&fields, true).unwrap();
        assert_eq!(
            text,
            "GET /chat HTTP/1.1\r\nHost: a.example\r\nsec-websocket-version: 13\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Key: BwcHBwcHBwcHBwcHBwcHBw==\r\n\r\n"
        );
        assert!(text_of(&fields[..5], true).is_err(), "of no version");
    }

    #[test]
    fn what_breaks_the_rules_is_malformed() {
        let with = |at: usize, field: (&'static str, &'static str)| {
            let mut fields = GET.to_vec();
            fields[at] = field;
            fields
        };
        for (fields, why) in [
            (
                [&GET[..], &[("host", "b.example")]].concat(),
                ":authority and Host differ",
            ),
            ([&GET[..], &[("x", " a")]].concat(), "blanks around a value"),
            (
                [&GET[..], &[("host", "a.example"), ("host", "a.example")]].concat(),
                "more than one Host",
            ),
            (
                [&[("x", "y")], &GET[..]].concat(),
                "a pseudo field behind a field",
            ),
            (
                [&GET[..1], &GET[..]].concat(),
                "a pseudo field stands twice",
            ),
            (
                [&GET[..], &[(":status", "200")]].concat(),
                "an unknown pseudo field",
            ),
            (with(0, (":method", "")), "no method"),
            (
                with(0, (":method", "CONNECT")),
                "CONNECT to more than an authority",
            ),
            (with(1, (":scheme", "ftp")), "neither http nor https"),
            (
                with(2, (":authority", "u@a.example")),
                "no authority, or user information",
            ),
            (
                with(2, (":authority", "")),
                "no authority, or user information",
            ),
            (with(3, (":path", "")), "no path"),
            (with(3, (":path", "*")), "no path"),
            (with(3, (":path", "/a b")), "a blank in the path"),
            (
                [&GET[..], &[(":protocol", "websocket")]].concat(),
                "a protocol without CONNECT",
            ),
            (GET[1..].to_vec(), "no method"),
        ] {
            assert_eq!(
                text_of(&fields, false),
                Err(BadMessage::Malformed(why)),
                "{fields:?}"
            );
        }
        let length = text(&[("content-length", "5")], false);
        assert_eq!(length, Err(BadMessage::Malformed("a length, and no body")));
    }

    #[test]
    fn what_is_too_large_is_not_written() {
        let long = "a".repeat(20_000);
        let twice = [("x", &*long), ("y", &*long)];
        assert_eq!(text(&twice, false), Err(BadMessage::TooLarge));
        let crumbs = [("cookie", "a")].repeat(101);
        assert_eq!(text(&crumbs, false), Err(BadMessage::TooLarge));
    }

    fn encoded(text: &str, takes_websocket: bool) -> (Vec<String>, Sent, Option<Length>) {
        let (mut block, mut fields) = (Vec::new(), Vec::new());
        let encoder = &mut Encoder::default();
        let (sent, length) = encode(
            text.as_bytes(),
            b"https",
            takes_websocket,
            encoder,
            &mut block,
        )
        .unwrap();
        let tell = |name: &[u8], value: &[u8]| {
            fields.push(format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        };
        Decoder::default().decode(&block, tell).unwrap();
        (fields, sent, length)
    }

    #[test]
    fn text_becomes_fields() {
        let text = "POST /a HTTP/1.1\r\nHost: h\r\nX-Up: 1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        let (fields, sent, length) = encoded(text, true);
        assert_eq!(
            fields,
            [
                ":method: POST",
                ":scheme: https",
                ":authority: h",
                ":path: /a",
                "x-up: 1",
                "te: trailers"
            ]
        );
        assert_eq!((sent.is_head, length), (false, Some(Length::Chunked)));
    }

    #[test]
    fn a_websocket_becomes_a_connect_where_the_server_takes_one() {
        let text = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n";
        let (fields, sent, length) = encoded(text, true);
        assert_eq!(fields[..2], [":method: CONNECT", ":protocol: websocket"]);
        assert_eq!(fields.last().unwrap(), "sec-websocket-version: 13");
        assert_eq!(
            (sent.websocket_key.as_deref(), length),
            (Some(&b"k"[..]), None)
        );
        let (fields, sent, _) = encoded(text, false);
        assert_eq!((&*fields[0], sent.websocket_key), (":method: GET", None));
    }

    #[test]
    fn calls_of_grpc_web_become_plain() {
        let text = "POST /a HTTP/1.1\r\nHost: h\r\nContent-Type: application/grpc-web-text+proto\r\nContent-Length: 8\r\n\r\n";
        let (fields, sent, length) = encoded(text, true);
        assert_eq!(
            fields[4..],
            ["content-type: application/grpc+proto", "te: trailers"]
        );
        assert!(sent.web.is_some());
        assert_eq!(length, Some(Length::Exactly(8)));
    }
}
