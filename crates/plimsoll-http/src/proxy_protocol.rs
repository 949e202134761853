//! The PROXY protocol: before its first byte, whoever passes a connection on says who opened it
//! (HAProxy, `doc/proxy-protocol.txt`, versions 1 and 2).
//!
//! It is never guessed whether a header is there: who expects one calls [`parse`], and nothing else
//! does.

mod write;

pub use write::{TooLong, write_v1, write_v2};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// How long a header of version 1 may be, with the end of its line.
const V1_BYTES_MAX: usize = 107;

/// How long a header may be here. A sender of version 2 could announce 64 KiB; certificates of clients,
/// the longest of what is in use, fit into this.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, and the length of what follows.
const V2_FIXED_BYTES: usize = 16;

/// How long a unique id may be.
const UNIQUE_ID_BYTES_MAX: usize = 128;

/// Types of values, and of those within `SSL`.
mod kind {
    pub(super) const ALPN: u8 = 0x01;
    pub(super) const AUTHORITY: u8 = 0x02;
    pub(super) const CRC32C: u8 = 0x03;
    pub(super) const UNIQUE_ID: u8 = 0x05;
    pub(super) const SSL: u8 = 0x20;
    pub(super) const SSL_VERSION: u8 = 0x21;
    pub(super) const SSL_CN: u8 = 0x22;
    pub(super) const SSL_CIPHER: u8 = 0x23;
    pub(super) const SSL_SIG_ALG: u8 = 0x24;
    pub(super) const SSL_KEY_ALG: u8 = 0x25;
}

/// Bits of what the first byte of `SSL` says: that there is TLS, and that a certificate was shown on this
/// connection, or in the session, which may be older.
mod client {
    pub(super) const SSL: u8 = 1;
    pub(super) const CERT_CONN: u8 = 2;
    pub(super) const CERT_SESS: u8 = 4;
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Who opened it.
    pub source: SocketAddr,
    /// Who was meant.
    pub destination: SocketAddr,
}

/// A header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// How many bytes it has; the next one is the first of the connection.
    pub len: usize,
    /// Whom the connection is from and for; nothing when it is one of the sender's own, or is not said:
    /// then the real ends count.
    pub addresses: Option<Addresses>,
    /// What else is said of it.
    pub told: Told<'a>,
}

/// What a header of version 2 may say beside the addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told<'a> {
    /// What is spoken, as agreed on with TLS.
    pub alpn: Option<&'a [u8]>,
    /// The host that the client asked for.
    pub authority: Option<&'a [u8]>,
    /// What tells the connection from others.
    pub unique_id: Option<&'a [u8]>,
    /// How the client came, if that was with TLS.
    pub ssl: Option<Ssl<'a>>,
}

/// How a client came with TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ssl<'a> {
    /// Whether it has shown a certificate, and that was verified.
    pub is_verified: bool,
    /// Whether that was on an earlier connection, whose session goes on.
    pub is_from_before: bool,
    /// The version, as `TLSv1.3`.
    pub version: Option<&'a [u8]>,
    /// The common name in the client's certificate.
    pub common_name: Option<&'a [u8]>,
    /// What is enciphered with, as OpenSSL calls it.
    pub cipher: Option<&'a [u8]>,
    /// With what the certificate was signed that the client was shown.
    pub signature: Option<&'a [u8]>,
    /// What kind of key that certificate has.
    pub key: Option<&'a [u8]>,
}

/// How far a header has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart as soon as it is there"
)]
pub enum Parsed<'a> {
    /// It is here.
    Complete(Header<'a>),
    /// More has to come.
    Partial,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They begin in another way.
    #[error("there is no header")]
    Missing,
    /// It is longer than it may be.
    #[error("the header is too long")]
    TooLong,
    /// The line of version 1 is not one.
    #[error("the line is malformed")]
    Line,
    /// There is no such version or command.
    #[error("the version or the command is unknown")]
    Command,
    /// The addresses are of a kind that no client here has.
    #[error("the family of addresses is unknown")]
    Family,
    /// The addresses do not fit into the header.
    #[error("the header is too short for its addresses")]
    Short,
    /// A value goes over the end of what it is in, or cannot be what it says it is.
    #[error("a value is malformed")]
    Value,
    /// The header is not as it was sent.
    #[error("the checksum is wrong")]
    Checksum,
}

/// What bytes come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A connection, which a header stands before.
    Stream,
    /// Datagrams, of which each has a header.
    Datagram,
}

impl Transport {
    /// How version 2 writes addresses of four bytes, and of sixteen.
    const fn families(self) -> (u8, u8) {
        match self {
            Self::Stream => (0x11, 0x21),
            Self::Datagram => (0x12, 0x22),
        }
    }
}

/// Reads the header, of version 2, that a datagram begins with.
///
/// # Errors
/// It begins with none, or with a part of one.
pub fn parse_datagram(bytes: &[u8]) -> Result<Header<'_>, Malformed> {
    if !bytes.starts_with(V2_SIGNATURE) {
        return Err(Malformed::Missing);
    }
    match parse_v2(bytes, Transport::Datagram)? {
        Parsed::Complete(header) => Ok(header),
        Parsed::Partial => Err(Malformed::Short),
    }
}

/// Reads a header at the beginning of `bytes`, those of a connection.
///
/// # Errors
/// There is none, whatever follows.
pub fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let is_begun = |whole: &[u8]| bytes.iter().zip(whole).all(|(is, due)| is == due);
    if bytes.is_empty() {
        return Ok(Parsed::Partial);
    }
    if is_begun(V2_SIGNATURE) {
        return parse_v2(bytes, Transport::Stream);
    }
    match is_begun(b"PROXY ") {
        true => parse_v1(bytes),
        false => Err(Malformed::Missing),
    }
}

/// One line, as `PROXY TCP4 192.0.2.1 198.51.100.7 56324 443`.
fn parse_v1(bytes: &[u8]) -> Result<Parsed<'_>, Malformed> {
    let most = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let end = most.iter().position(|b| matches!(b, b'\r' | b'\n'));
    let line = match end.map(|end| most.split_at(end)) {
        Some((line, [b'\r', b'\n', ..])) => line,
        Some((_, [b'\r'])) if most.len() < V1_BYTES_MAX => return Ok(Parsed::Partial),
        None if most.len() < V1_BYTES_MAX => return Ok(Parsed::Partial),
        None | Some((_, [b'\r'])) => return Err(Malformed::TooLong),
        Some(_) => return Err(Malformed::Line),
    };
    let text = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
    let words: Vec<&str> = text.split(' ').collect();
    let addresses = match *words {
        ["PROXY", "UNKNOWN", ..] => None,
        ["PROXY", family, source, destination, from, to] => {
            let address = |ip: &str, port: &str| -> Option<SocketAddr> {
                let ip: IpAddr = match family {
                    "TCP4" => ip.parse::<Ipv4Addr>().ok()?.into(),
                    "TCP6" => ip.parse::<Ipv6Addr>().ok()?.into(),
                    _ => return None,
                };
                Some(SocketAddr::new(ip, number(port)?))
            };
            let ends = address(source, from).zip(address(destination, to));
            let (source, destination) = ends.ok_or(Malformed::Line)?;
            Some(Addresses {
                source,
                destination,
            })
        }
        _ => return Err(Malformed::Line),
    };
    Ok(Parsed::Complete(Header {
        len: line.len() + 2,
        addresses,
        told: Told::default(),
    }))
}

/// A port, without zeros before it or anything else.
fn number(text: &str) -> Option<u16> {
    let is_plain =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

fn parse_v2(bytes: &[u8], transport: Transport) -> Result<Parsed<'_>, Malformed> {
    let (four, six) = transport.families();
    let is_local = match bytes.get(12) {
        None => return Ok(Parsed::Partial),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return Err(Malformed::Command),
    };
    let family = match bytes.get(13) {
        None => return Ok(Parsed::Partial),
        // What comes with a connection of the sender's own is not looked at.
        Some(_) if is_local => Family::Unspecified,
        Some(0x00) => Family::Unspecified,
        Some(family) if *family == four => Family::V4,
        Some(family) if *family == six => Family::V6,
        Some(_) => return Err(Malformed::Family),
    };
    let Some(&[high, low]) = bytes.get(14..V2_FIXED_BYTES) else {
        return Ok(Parsed::Partial);
    };
    let len = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > HEADER_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let (Some(whole), Some(rest)) = (bytes.get(..len), bytes.get(V2_FIXED_BYTES..len)) else {
        return Ok(Parsed::Partial);
    };
    let (addresses, told) = match family {
        Family::Unspecified => (None, Told::default()),
        Family::V4 => of_family::<4>(whole, rest)?,
        Family::V6 => of_family::<16>(whole, rest)?,
    };
    Ok(Parsed::Complete(Header {
        len,
        addresses,
        told,
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Unspecified,
    V4,
    V6,
}

/// Two addresses of `N` bytes each, their ports, and what is said beside them.
fn of_family<'a, const N: usize>(
    whole: &'a [u8],
    rest: &'a [u8],
) -> Result<(Option<Addresses>, Told<'a>), Malformed>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
    let (destination, rest) = rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
    let (from, rest) = rest.split_first_chunk::<2>().ok_or(Malformed::Short)?;
    let (to, rest) = rest.split_first_chunk::<2>().ok_or(Malformed::Short)?;
    let end = |ip: &[u8; N], port: &[u8; 2]| {
        SocketAddr::new(IpAddr::from(*ip), u16::from_be_bytes(*port))
    };
    let addresses = Addresses {
        source: end(source, from),
        destination: end(destination, to),
    };
    Ok((Some(addresses), told(whole, rest)?))
}

/// Reads the values in `rest`, the end of the header `whole`.
fn told<'a>(whole: &'a [u8], rest: &'a [u8]) -> Result<Told<'a>, Malformed> {
    let mut told = Told::default();
    let mut values = Values(rest);
    let mut is_checked = false;
    while let Some((kind, value)) = values.next()? {
        match kind {
            kind::ALPN => told.alpn = Some(value),
            kind::AUTHORITY => told.authority = Some(value),
            kind::UNIQUE_ID if value.len() > UNIQUE_ID_BYTES_MAX => return Err(Malformed::Value),
            kind::UNIQUE_ID => told.unique_id = Some(value),
            kind::SSL => told.ssl = ssl(value)?,
            kind::CRC32C if std::mem::replace(&mut is_checked, true) => {
                return Err(Malformed::Value);
            }
            kind::CRC32C => {
                let sum = value.first_chunk::<4>().filter(|_| value.len() == 4);
                let sum = u32::from_be_bytes(*sum.ok_or(Malformed::Value)?);
                let at = whole.len() - values.0.len() - 4;
                if crc32c(whole, at..at + 4) != sum {
                    return Err(Malformed::Checksum);
                }
            }
            // Padding, and what others may have to say.
            _ => {}
        }
    }
    Ok(told)
}

/// How a client came, of which `value` tells; nothing when that was without TLS.
fn ssl(value: &[u8]) -> Result<Option<Ssl<'_>>, Malformed> {
    let (&[bits], rest) = value.split_first_chunk::<1>().ok_or(Malformed::Value)?;
    let (verify, rest) = rest.split_first_chunk::<4>().ok_or(Malformed::Value)?;
    let shown = bits & (client::CERT_CONN | client::CERT_SESS);
    let is_verified = shown != 0 && *verify == [0; 4];
    let mut ssl = Ssl {
        is_verified,
        is_from_before: is_verified && shown == client::CERT_SESS,
        ..Ssl::default()
    };
    let mut values = Values(rest);
    while let Some((kind, value)) = values.next()? {
        match kind {
            kind::SSL_VERSION => ssl.version = Some(value),
            kind::SSL_CN => ssl.common_name = Some(value),
            kind::SSL_CIPHER => ssl.cipher = Some(value),
            kind::SSL_SIG_ALG => ssl.signature = Some(value),
            kind::SSL_KEY_ALG => ssl.key = Some(value),
            _ => {}
        }
    }
    Ok((bits & client::SSL != 0).then_some(ssl))
}

/// Values that are still to be read.
struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The type and the bytes of the next one.
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let head = self.0.split_first_chunk::<3>().ok_or(Malformed::Value)?;
        let (&[kind, high, low], rest) = head;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(len).ok_or(Malformed::Value)?;
        self.0 = rest;
        Ok(Some((kind, value)))
    }
}

/// The checksum of `bytes` (RFC 9260 appendix A), with zeros where it stands itself.
fn crc32c(bytes: &[u8], own: std::ops::Range<usize>) -> u32 {
    let mut sum = u32::MAX;
    for (at, &byte) in bytes.iter().enumerate() {
        sum ^= u32::from(if own.contains(&at) { 0 } else { byte });
        for _ in 0..8 {
            let carry = sum & 1;
            sum = (sum >> 1) ^ (0x82f6_3b78 & carry.wrapping_neg());
        }
    }
    !sum
}

#[cfg(test)]
mod tests;
