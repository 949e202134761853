//! Leaving HTTP for another protocol on a connection (RFC 9110 §7.8, RFC 6455 §4).
//!
//! A connection becomes a tunnel only when the server agreed to what the client asked for: whatever
//! else a server says, the bytes that follow are still messages, and are looked at as such.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use crate::field::{self, Name};
use crate::framing::{Framing, Length};
use crate::head::{Fields, RequestHead, ResponseHead, Span, Version};
use crate::method::Method;
use crate::request;

const WEBSOCKET: &[u8] = b"websocket";

/// What servers put behind the key to show that they speak WebSocket (RFC 6455 §1.3).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Another protocol that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    protocol: Span,
    /// The key of a client that asks for WebSocket.
    key: Option<Span>,
}

impl Upgrade {
    /// The protocol that a request asks for, if a server may hear of it: none that would hide later
    /// requests from us, and none that comes with a body.
    pub fn asked(head: &RequestHead, bytes: &[u8], framing: &Framing) -> Option<Self> {
        let mut lines = head.fields.all(Name::Upgrade);
        let line = lines.next()?;
        let has_body = !matches!(framing.length(), Length::Empty | Length::Exactly(0));
        let is_told = request::lists(head, bytes, Name::Connection, b"upgrade");
        if head.version == Version::Http10 || has_body || !is_told || lines.next().is_some() {
            return None;
        }
        let mut protocols = field::list(line.value.of(bytes)).filter(|name| !is_http(name));
        let protocol = protocols.next()?;
        let key = match protocol.eq_ignore_ascii_case(WEBSOCKET) {
            true => Some(websocket_key(head, bytes)?),
            false => None,
        };
        Some(Self {
            protocol: Span::locate(bytes, protocol),
            key,
        })
    }

    /// The protocol, as the client wrote it.
    pub fn protocol<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        self.protocol.of(bytes)
    }

    /// Checks that a server that switches protocols (101) switches to this one; `request` is the buffer
    /// that held the request's head, `bytes` that of the answer.
    ///
    /// # Errors
    /// What is wrong with its answer.
    pub fn check(
        &self,
        request: &[u8],
        answer: &ResponseHead,
        bytes: &[u8],
    ) -> Result<(), &'static str> {
        let protocol = self.protocol(request);
        let mut told = list(&answer.fields, bytes, Name::Connection);
        if !told.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
            return Err("the server switched protocols and does not say so");
        }
        let mut switched = list(&answer.fields, bytes, Name::Upgrade);
        let is_same = switched
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(protocol));
        if !is_same || switched.next().is_some() {
            return Err("the server switched to another protocol");
        }
        let Some(key) = self.key else { return Ok(()) };
        let mut accepts = answer.fields.all_by_text(bytes, b"sec-websocket-accept");
        let accept = accepts.next().map(|line| line.value.of(bytes));
        if accept != Some(&websocket_accept(key.of(request))) || accepts.next().is_some() {
            return Err("the server's Sec-WebSocket-Accept is not for this key");
        }
        Ok(())
    }
}

/// What a server answers to a WebSocket key (RFC 6455 §4.2.2).
pub fn websocket_accept(key: &[u8]) -> [u8; 28] {
    let mut digest = Sha1::new();
    digest.update(key);
    digest.update(WEBSOCKET_GUID);
    let mut accept = [0; 28];
    // 20 bytes are 28 letters.
    let _ = STANDARD.encode_slice(digest.finalize(), &mut accept);
    accept
}

/// The key of a client that speaks WebSocket as it is (RFC 6455 §4.1).
fn websocket_key(head: &RequestHead, bytes: &[u8]) -> Option<Span> {
    let only = |name: &[u8]| {
        let mut lines = head.fields.all_by_text(bytes, name);
        let line = lines.next()?;
        lines.next().is_none().then_some(line.value)
    };
    let key = only(b"sec-websocket-key")?;
    let is_sound = head.method == Method::Get
        && only(b"sec-websocket-version")?.of(bytes) == b"13"
        && STANDARD.decode(key.of(bytes)).ok()?.len() == 16;
    is_sound.then_some(key)
}

/// Tells whether a protocol is HTTP in another form, or below it.
fn is_http(protocol: &[u8]) -> bool {
    let starts = |with: &[u8]| {
        let start = protocol.get(..with.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    starts(b"h2") || starts(b"h3") || starts(b"http") || starts(b"tls")
}

fn list<'a>(fields: &Fields, bytes: &'a [u8], name: Name) -> impl Iterator<Item = &'a [u8]> {
    let lines = fields.all(name).map(|line| line.value);
    lines.flat_map(|value| field::list(value.of(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};

    const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

    fn asked(text: &str) -> Option<(Upgrade, String)> {
        let mut head = RequestHead::default();
        parse::request(text.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
        let framing = Framing::of_request(&head, text.as_bytes()).unwrap();
        let upgrade = Upgrade::asked(&head, text.as_bytes(), &framing)?;
        let protocol = upgrade.protocol(text.as_bytes()).to_vec();
        Some((upgrade, String::from_utf8(protocol).unwrap()))
    }

    fn get(fields: &str) -> String {
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    #[test]
    fn a_server_hears_of_what_is_asked_for_properly() {
        let version = "Sec-WebSocket-Version: 13\r\n";
        for (fields, protocol) in [
            ("Connection: upgrade\r\nUpgrade: foo/1\r\n", Some("foo/1")),
            (
                "Connection: close, Upgrade\r\nUpgrade: h2c, x\r\n",
                Some("x"),
            ),
            ("Connection: Upgrade\r\nUpgrade: h2c\r\n", None),
            (
                "Connection: Upgrade\r\nUpgrade: HTTP/2.0, TLS/1.0\r\n",
                None,
            ),
            ("Connection: Upgrade\r\n", None),
            ("Upgrade: foo\r\n", None),
            ("Connection: Upgrade\r\nUpgrade: a\r\nUpgrade: b\r\n", None),
            ("Connection: Upgrade\r\nUpgrade: websocket\r\n", None),
        ] {
            let asked = asked(&get(fields)).map(|(_, protocol)| protocol);
            assert_eq!(asked.as_deref(), protocol, "{fields}");
        }
        let fields = format!("Connection: Upgrade\r\nUpgrade: WebSocket\r\n{KEY}{version}");
        assert_eq!(asked(&get(&fields)).unwrap().1, "WebSocket");
        for (what, instead) in [
            ("13", "8"),
            ("dGhl", "dGhlIHNh"),
            ("Sec-WebSocket-Version", "X"),
            (KEY, &format!("{KEY}{KEY}")),
        ] {
            assert_eq!(asked(&get(&fields.replace(what, instead))), None, "{what}");
        }
        let old = get(&fields).replace("HTTP/1.1", "HTTP/1.0");
        assert_eq!(asked(&old), None);
        let post = get(&format!("{fields}Content-Length: 3\r\n"));
        assert_eq!(asked(&post), None);
    }

    #[test]
    fn a_server_may_only_switch_to_what_was_asked_for() {
        let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        let request = get(&format!("{fields}{KEY}"));
        let (upgrade, _) = asked(&request).unwrap();
        let check = |fields: &str| {
            let text = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
            let mut head = ResponseHead::default();
            parse::response(text.as_bytes(), &mut head).unwrap();
            upgrade.check(request.as_bytes(), &head, text.as_bytes())
        };
        let good = "Connection: upgrade\r\nUpgrade: WebSocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert_eq!(check(good), Ok(()));
        for (what, instead) in [
            ("Connection: upgrade\r\n", ""),
            ("WebSocket", "foo"),
            ("WebSocket", "websocket, foo"),
            ("s3pP", "S3pP"),
            ("Sec-WebSocket-Accept", "X"),
        ] {
            assert!(check(&good.replacen(what, instead, 1)).is_err(), "{what}");
        }
    }
}
