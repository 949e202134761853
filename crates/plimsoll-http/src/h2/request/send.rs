//! Requests that we send: their text becomes fields.

use crate::field::Name;
use crate::framing::Length;
use crate::grpc::web::Web;
use crate::h2::fields;
use crate::h2::hpack::encode::Encoder;
use crate::h2::text::{BadText, lines, number, split};

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
    use super::*;
    use crate::h2::hpack::decode::Decoder;

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
