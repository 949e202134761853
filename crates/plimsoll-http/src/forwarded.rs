//! What a server is told about the client: `X-Forwarded-*`, `Forwarded` (RFC 7239), request ids.

use std::net::IpAddr;

use crate::field::Name;
use crate::head::RequestHead;
use crate::trust::REQUEST_ID_BYTES_MAX;

/// Room for any address as text.
pub const ADDRESS_BYTES_MAX: usize = 45;

/// An address as text, without allocating.
#[derive(Clone, Copy, Debug)]
pub struct AddressText {
    bytes: [u8; ADDRESS_BYTES_MAX],
    len: u8,
}

impl AddressText {
    /// Writes `address`; an IPv4 address mapped into IPv6 is written as IPv4.
    pub fn new(address: IpAddr) -> Self {
        let mut this = Self {
            bytes: [0; ADDRESS_BYTES_MAX],
            len: 0,
        };
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                for (at, octet) in v4.octets().into_iter().enumerate() {
                    if at > 0 {
                        this.push(b'.');
                    }
                    this.number(octet);
                }
            }
            IpAddr::V6(v6) => {
                // RFC 5952's shortest form is not worth our own code; this path is rare.
                let _ = std::fmt::Write::write_fmt(&mut this, format_args!("{v6}"));
            }
        }
        this
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn push(&mut self, b: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = b;
            self.len += 1;
        }
    }

    fn number(&mut self, n: u8) {
        if n >= 100 {
            self.push(b'0' + n / 100);
        }
        if n >= 10 {
            self.push(b'0' + n / 10 % 10);
        }
        self.push(b'0' + n % 10);
    }
}

impl std::fmt::Write for AddressText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        text.bytes().for_each(|b| self.push(b));
        Ok(())
    }
}

/// What a server is told about who sent a request, and how.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The other end of the connection that it came on.
    pub peer: &'a AddressText,
    /// What it was sent for.
    pub host: &'a [u8],
    /// How it came here: `http` or `https`.
    pub scheme: &'a str,
    /// What the peer says, where it is trusted.
    pub trusted: Option<Trusted<'a>>,
}

/// What a trusted peer says, to be passed on.
#[derive(Clone, Copy, Debug)]
pub struct Trusted<'a> {
    /// How the client came.
    pub scheme: &'a str,
    /// What the client asked for.
    pub host: &'a [u8],
}

/// Appends the forwarding fields of a request with this head. What a trusted peer says is continued;
/// what any other says is not there.
pub fn write(head: &RequestHead, bytes: &[u8], told: &Told<'_>, out: &mut Vec<u8>) {
    let address = told.peer.as_bytes();
    let is_v6 = address.contains(&b':');
    let (scheme, host) = match told.trusted {
        Some(trusted) => (trusted.scheme, trusted.host),
        None => (told.scheme, told.host),
    };
    out.extend_from_slice(b"X-Forwarded-For: ");
    if told.trusted.is_some() {
        continue_list(head, bytes, Name::XForwardedFor, out);
    }
    out.extend_from_slice(address);
    out.extend_from_slice(b"\r\nX-Forwarded-Proto: ");
    out.extend_from_slice(scheme.as_bytes());
    if !host.is_empty() {
        out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
        out.extend_from_slice(host);
    }
    out.extend_from_slice(b"\r\nForwarded: ");
    if told.trusted.is_some() {
        continue_list(head, bytes, Name::Forwarded, out);
    }
    // RFC 7239 §6: an IPv6 address is bracketed, and therefore quoted.
    out.extend_from_slice(if is_v6 { b"for=\"[" } else { b"for=" });
    out.extend_from_slice(address);
    out.extend_from_slice(if is_v6 { b"]\";proto=" } else { b";proto=" });
    out.extend_from_slice(told.scheme.as_bytes());
    if !told.host.is_empty() {
        // The host was checked: it holds nothing that needs escaping. A colon needs the quotes.
        out.extend_from_slice(b";host=\"");
        out.extend_from_slice(told.host);
        out.extend_from_slice(b"\"");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends what earlier proxies said, to be continued.
fn continue_list(head: &RequestHead, bytes: &[u8], name: Name, out: &mut Vec<u8>) {
    for line in head.fields.all(name) {
        let value = line.value.of(bytes);
        if !value.is_empty() {
            out.extend_from_slice(value);
            out.extend_from_slice(b", ");
        }
    }
}

/// The id of a request: one of ours, or one that it had already.
#[derive(Clone, Copy, Debug)]
pub struct RequestId {
    bytes: [u8; REQUEST_ID_BYTES_MAX],
    len: u8,
}

impl RequestId {
    /// A new one.
    pub fn new(unix_ms: u64, random: u128) -> Self {
        Self::from_bytes(&request_id(unix_ms, random))
    }

    /// One that came with the request; what is too long is cut.
    pub fn from_bytes(id: &[u8]) -> Self {
        let len = id.len().min(REQUEST_ID_BYTES_MAX);
        let mut bytes = [0; REQUEST_ID_BYTES_MAX];
        if let (Some(place), Some(id)) = (bytes.get_mut(..len), id.get(..len)) {
            place.copy_from_slice(id);
        }
        // invariant: the longest has 64 bytes
        let len = u8::try_from(len).unwrap_or_default();
        Self { bytes, len }
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// Length of a request id.
pub const REQUEST_ID_BYTES: usize = 36;

/// A request id: a version 7 UUID (RFC 9562 §5.7), so that ids sort by time.
pub fn request_id(unix_ms: u64, random: u128) -> [u8; REQUEST_ID_BYTES] {
    let random = random & ((1 << 80) - 1);
    let mut bits = u128::from(unix_ms) << 80 | random;
    bits = bits & !(0xf << 76) | 0x7 << 76;
    bits = bits & !(0x3 << 62) | 0x2 << 62;
    let digit = |n: u8| n + if n < 10 { b'0' } else { b'a' - 10 };
    let mut hex = [0; 32];
    for (pair, byte) in hex.as_chunks_mut().0.iter_mut().zip(bits.to_be_bytes()) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    let mut out = [b'-'; REQUEST_ID_BYTES];
    out[..8].copy_from_slice(&hex[..8]);
    out[9..13].copy_from_slice(&hex[8..12]);
    out[14..18].copy_from_slice(&hex[12..16]);
    out[19..23].copy_from_slice(&hex[16..20]);
    out[24..].copy_from_slice(&hex[20..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};

    fn fields(client: &str, host: &str) -> String {
        let told = Told {
            peer: &AddressText::new(client.parse().unwrap()),
            host: host.as_bytes(),
            scheme: "http",
            trusted: None,
        };
        let mut out = Vec::new();
        write(&RequestHead::default(), b"", &told, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_a_trusted_peer_says_is_continued() {
        let text =
            b"GET / HTTP/1.1\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nx-forwarded-for: 3.3.3.3\r\n\
                     Forwarded: for=1.1.1.1\r\nX-Forwarded-Proto: https\r\n\r\n";
        let mut head = RequestHead::default();
        parse::request(text, &HeadLimits::default(), &mut head).unwrap();
        let told = Told {
            peer: &AddressText::new("10.0.0.1".parse().unwrap()),
            host: b"internal",
            scheme: "http",
            trusted: Some(Trusted {
                scheme: "https",
                host: b"example.com",
            }),
        };
        let mut out = Vec::new();
        write(&head, text, &told, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\
             X-Forwarded-Host: example.com\r\nForwarded: for=1.1.1.1, for=10.0.0.1;proto=http;host=\"internal\"\r\n"
        );
    }

    #[test]
    fn forwarding_fields() {
        assert_eq!(
            fields("192.0.2.7", "a:80"),
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a:80\r\n\
             Forwarded: for=192.0.2.7;proto=http;host=\"a:80\"\r\n"
        );
        assert_eq!(
            fields("2001:db8::1", ""),
            "X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: http\r\n\
             Forwarded: for=\"[2001:db8::1]\";proto=http\r\n"
        );
        assert!(fields("::ffff:10.0.0.1", "a").contains("X-Forwarded-For: 10.0.0.1\r\n"));
    }

    #[test]
    fn request_ids_are_version_7_uuids() {
        let id = request_id(0x0123_4567_89ab, u128::MAX);
        assert_eq!(
            std::str::from_utf8(&id),
            Ok("01234567-89ab-7fff-bfff-ffffffffffff")
        );
        let id = request_id(0x0123_4567_89ab, 0);
        assert_eq!(
            std::str::from_utf8(&id),
            Ok("01234567-89ab-7000-8000-000000000000")
        );
    }
}
