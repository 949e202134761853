//! Answers.

use super::fields::{self, BadMessage, Lines};
use super::hpack::encode::{Encoder, status};
use super::request::Sent;
use super::text::{BadText, lines, number, split};
use crate::field::{self, Name};
use crate::framing::Length;
use crate::method::Method;
use crate::upgrade;

/// Writes a head that [`crate::h1::encode`] has written, in answer to a request with `method`, as fields.
///
/// # Errors
/// It has not.
pub(super) fn encode(
    text: &[u8],
    method: Method,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) -> Result<Told, BadText> {
    let mut lines = lines(text);
    let code = lines
        .next()
        .and_then(|line| line.get(9..12))
        .ok_or(BadText)?;
    let status_of = number(code).and_then(|code| u16::try_from(code).ok());
    let mut told = Told {
        status: status_of.filter(|code| *code >= 100).ok_or(BadText)?,
        length: None,
    };
    let is_tunnel = told.status == 101;
    encoder.begin(out);
    // HTTP/2 has no interim answer for it (RFC 8441 §5).
    status(if is_tunnel { b"200" } else { code }, out);
    let mut length = Length::Empty;
    let mut lower = [0; NAME_BYTES];
    let mut long = Vec::new();
    for (name, value) in lines.filter_map(split) {
        let lower = lower_case(name, &mut lower, &mut long);
        match Name::from_bytes(lower) {
            Name::TransferEncoding => length = Length::Chunked,
            known if fields::is_of_connection(known) => {}
            Name::Other if is_tunnel && lower == b"sec-websocket-accept" => {}
            known => {
                if known == Name::ContentLength {
                    length = Length::Exactly(number(value).ok_or(BadText)?);
                }
                encoder.field(lower, value, out);
            }
        }
    }
    let has_none = method == Method::Head || matches!(told.status, 100..=199 | 204 | 304);
    told.length = match (is_tunnel, has_none) {
        (true, _) => None,
        (false, true) => Some(Length::Empty),
        (false, false) => Some(length),
    };
    Ok(told)
}

/// Names that are longer cost memory.
const NAME_BYTES: usize = 64;

fn lower_case<'a>(name: &[u8], short: &'a mut [u8; NAME_BYTES], long: &'a mut Vec<u8>) -> &'a [u8] {
    match short.get_mut(..name.len()) {
        Some(room) => {
            room.copy_from_slice(name);
            room.make_ascii_lowercase();
            room
        }
        None => {
            long.clear();
            long.extend(name.iter().map(u8::to_ascii_lowercase));
            long
        }
    }
}

/// Writes the fields that follow a body.
pub(super) fn encode_trailers<'a>(
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    encoder: &mut Encoder,
    out: &mut Vec<u8>,
) {
    encoder.begin(out);
    for (name, value) in fields {
        encoder.field(&name.to_ascii_lowercase(), value, out);
    }
}

/// An answer that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Its status, as HTTP/1.1 has it.
    pub status: u16,
    /// How the text of its body ends; nothing where the connection leaves HTTP.
    pub length: Option<Length>,
}

/// Writes the fields of an answer as the text that HTTP/1.1 would have for it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    status: Option<u16>,
    lines: Lines,
    has_field: bool,
    length: Option<u64>,
    kind: Vec<u8>,
    bad: Option<BadMessage>,
}

/// An answer that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    /// Whether another one follows.
    pub is_interim: bool,
    /// Whether its body is in the chunked coding.
    pub is_coded: bool,
    /// Whether it is one of gRPC, for a client that sees no trailers.
    pub is_web: bool,
    /// How long its body is said to be.
    pub length: Option<u64>,
}

impl Reader {
    /// Takes the next field.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.bad.is_none() {
            self.bad = self.take(name, value).err();
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        if name.first() == Some(&b':') {
            return self.take_status(name, value);
        }
        self.has_field = true;
        self.lines.count()?;
        match fields::check(name, value)? {
            // It is written last, if at all.
            Name::ContentLength => {
                let length =
                    number(value).ok_or(BadMessage::Malformed("a length that is no number"))?;
                match self.length.replace(length) {
                    Some(_) => Err(BadMessage::Malformed("more than one length")),
                    None => Ok(()),
                }
            }
            Name::Other if name == b"content-type" && self.kind.is_empty() => {
                self.kind = value.to_vec();
                Ok(())
            }
            _ => self.lines.add(name, value),
        }
    }

    fn take_status(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        use BadMessage::Malformed;
        if name != b":status" || self.has_field || self.status.is_some() {
            return Err(Malformed("a pseudo field that has no place"));
        }
        let status = number(value).filter(|_| value.len() == 3);
        let status = status.and_then(|status| u16::try_from(status).ok());
        self.status = Some(
            status
                .filter(|status| *status >= 100)
                .ok_or(Malformed("no status"))?,
        );
        Ok(())
    }

    /// Appends the head to `text`; `has_body` tells whether anything follows the fields.
    ///
    /// # Errors
    /// It is malformed or too large.
    pub(super) fn end(
        self,
        sent: &Sent,
        has_body: bool,
        text: &mut Vec<u8>,
    ) -> Result<Heard, BadMessage> {
        use BadMessage::Malformed;
        if let Some(bad) = self.bad {
            return Err(bad);
        }
        let status = self.status.ok_or(Malformed("no status"))?;
        let is_interim = status < 200;
        if status == 101 || is_interim && !has_body {
            return Err(Malformed("an interim answer that ends, or has no place"));
        }
        if let (Some(key), 200..300) = (&sent.websocket_key, status) {
            self.switch(key, text);
            return Ok(Heard {
                is_interim,
                is_coded: false,
                is_web: false,
                length: None,
            });
        }
        let has_none = sent.is_head || matches!(status, 204 | 304);
        if !has_body && !has_none && self.length.is_some_and(|length| length > 0) {
            return Err(Malformed("a length, and no body"));
        }
        let web = sent
            .web
            .filter(|_| self.kind.starts_with(b"application/grpc"));
        let is_coded = has_body && !is_interim && (self.length.is_none() || web.is_some());
        text.extend_from_slice(b"HTTP/1.1 ");
        text.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
        text.extend_from_slice(b" \r\n");
        text.extend_from_slice(&self.lines.text);
        match web {
            Some(web) => field::write_line(b"content-type", &web.content_type(&self.kind), text),
            None if self.kind.is_empty() => {}
            None => field::write_line(b"content-type", &self.kind, text),
        }
        let length = self.length.filter(|_| web.is_none());
        match length {
            Some(length) => field::write_line(
                b"content-length",
                itoa::Buffer::new().format(length).as_bytes(),
                text,
            ),
            None if is_coded => field::write_line(b"Transfer-Encoding", b"chunked", text),
            None if !has_body && !has_none => field::write_line(b"Content-Length", b"0", text),
            None => {}
        }
        text.extend_from_slice(b"\r\n");
        Ok(Heard {
            is_interim,
            is_coded,
            is_web: web.is_some(),
            length: if has_none { None } else { self.length },
        })
    }

    /// Writes the head of an answer that takes a WebSocket (RFC 8441 §5) as HTTP/1.1 has it; `key` is that of the
    /// request.
    fn switch(&self, key: &[u8], text: &mut Vec<u8>) {
        text.extend_from_slice(b"HTTP/1.1 101 Switching Protocols\r\n");
        text.extend_from_slice(&self.lines.text);
        field::write_line(b"Connection", b"Upgrade", text);
        field::write_line(b"Upgrade", b"websocket", text);
        field::write_line(
            b"Sec-WebSocket-Accept",
            &upgrade::websocket_accept(key),
            text,
        );
        text.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::super::hpack::decode::Decoder;
    use super::*;

    fn encoded(text: &str, method: Method) -> (Vec<String>, Told) {
        let (mut block, mut fields) = (Vec::new(), Vec::new());
        let told = encode(text.as_bytes(), method, &mut Encoder::default(), &mut block).unwrap();
        let tell = |name: &[u8], value: &[u8]| {
            fields.push(format!("{}: {}", name.escape_ascii(), value.escape_ascii()));
        };
        Decoder::default().decode(&block, tell).unwrap();
        (fields, told)
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
            let (_, told) = encoded(&format!("HTTP/1.1 {text}\r\n\r\n"), method);
            assert_eq!(told.length, length, "{text:?}");
        }
        let bad = encode(
            b"HTTP/1.1 2",
            Method::Get,
            &mut Encoder::default(),
            &mut Vec::new(),
        );
        assert!(bad.is_err());
    }

    #[test]
    fn fields_of_the_connection_stay_behind() {
        let long = "X-".repeat(50);
        let text = format!(
            "HTTP/1.1 203 Fine\r\nServer: s\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a\r\n\
             Keep-Alive: timeout=5\r\nset-cookie: b\r\nX-Empty:\r\n{long}: y\r\n\r\n"
        );
        let (fields, told) = encoded(&text, Method::Get);
        assert_eq!(told.status, 203);
        let long = format!("{}: y", "x-".repeat(50));
        let expected = [
            ":status: 203",
            "server: s",
            "set-cookie: a",
            "set-cookie: b",
            "x-empty: ",
            &long,
        ];
        assert_eq!(fields, expected);
    }

    fn text(
        fields: &[(&str, &str)],
        sent: &Sent,
        has_body: bool,
    ) -> Result<(String, Heard), BadMessage> {
        let (mut reader, mut text) = (Reader::default(), Vec::new());
        for (name, value) in fields {
            reader.field(name.as_bytes(), value.as_bytes());
        }
        let heard = reader.end(sent, has_body, &mut text)?;
        Ok((String::from_utf8(text).unwrap(), heard))
    }

    #[test]
    fn fields_become_text() {
        let fields = [(":status", "200"), ("a", "b")];
        let head = Sent {
            is_head: true,
            ..Sent::default()
        };
        for (sent, has_body, line) in [
            (&Sent::default(), true, "Transfer-Encoding: chunked\r\n"),
            (&Sent::default(), false, "Content-Length: 0\r\n"),
            (&head, false, ""),
        ] {
            let (text, heard) = text(&fields, sent, has_body).unwrap();
            assert_eq!(text, format!("HTTP/1.1 200 \r\na: b\r\n{line}\r\n"));
            assert_eq!((heard.is_coded, heard.is_interim), (has_body, false));
        }
        let long = [(":status", "200"), ("content-length", "5")];
        let (said, heard) = text(&long, &Sent::default(), true).unwrap();
        assert_eq!(said, "HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\n");
        assert_eq!((heard.is_coded, heard.length), (false, Some(5)));
    }

    #[test]
    fn what_breaks_the_rules_is_malformed() {
        let ok = (":status", "200");
        for fields in [
            &[][..],
            &[("a", "b")],
            &[("a", "b"), ok],
            &[ok, ok],
            &[(":status", "20")],
            &[(":status", "0200")],
            &[(":status", "099")],
            &[(":status", "+20")],
            &[ok, (":path", "/")],
            &[ok, ("a", " b")],
            &[ok, ("content-length", "x")],
            &[ok, ("content-length", "5"), ("content-length", "5")],
            &[(":status", "101")],
        ] {
            let bad = text(fields, &Sent::default(), true);
            assert!(matches!(bad, Err(BadMessage::Malformed(_))), "{fields:?}");
        }
        for fields in [&[(":status", "103")][..], &[ok, ("content-length", "5")]] {
            assert!(
                text(fields, &Sent::default(), false).is_err(),
                "{fields:?} and no more"
            );
        }
        assert!(
            text(&[(":status", "103")], &Sent::default(), true)
                .unwrap()
                .1
                .is_interim
        );
    }

    #[test]
    fn a_websocket_is_taken_as_http_1_does() {
        let sent = Sent {
            websocket_key: Some(b"dGhlIHNhbXBsZSBub25jZQ==".to_vec()),
            ..Sent::default()
        };
        let (said, heard) = text(&[(":status", "200")], &sent, true).unwrap();
        assert!(said.starts_with("HTTP/1.1 101 "), "{said}");
        assert!(
            said.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
            "{said}"
        );
        assert!(!heard.is_coded);
    }
}
