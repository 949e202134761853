//! Headers as servers get them.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::{
    Addresses, HEADER_BYTES_MAX, Ssl, Told, Transport, UNIQUE_ID_BYTES_MAX, V2_SIGNATURE, client,
    kind,
};

/// More is to be said than a header may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the header would be too long")]
pub struct TooLong;

/// Writes the line of version 1 behind `out`; without addresses the connection is our own.
pub fn write_v1(addresses: Option<&Addresses>, out: &mut Vec<u8>) {
    let Some(addresses) = addresses else {
        return out.extend_from_slice(b"PROXY UNKNOWN\r\n");
    };
    let (source, destination) = alike(addresses);
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    let (source, destination) = (source.ip(), destination.ip());
    let written = write!(out, "PROXY {family} {source} {destination} {from} {to}\r\n");
    debug_assert!(written.is_ok(), "memory takes all");
}

/// Writes a header of version 2 behind `out`, for a connection or a datagram; without addresses the connection is our own, and nothing
/// is told of it.
///
/// # Errors
/// It would be too long; `out` is as it was.
pub fn write_v2(
    addresses: Option<&Addresses>,
    transport: Transport,
    told: &Told<'_>,
    out: &mut Vec<u8>,
) -> Result<(), TooLong> {
    let mut body = Vec::new();
    let (command, family) = match addresses.map(alike) {
        None => (0x20, 0x00),
        Some((source, destination)) => {
            for end in [source, destination] {
                match end.ip() {
                    IpAddr::V4(ip) => body.extend_from_slice(&ip.octets()),
                    IpAddr::V6(ip) => body.extend_from_slice(&ip.octets()),
                }
            }
            body.extend_from_slice(&source.port().to_be_bytes());
            body.extend_from_slice(&destination.port().to_be_bytes());
            values(told, &mut body)?;
            let (four, six) = transport.families();
            (0x21, if source.is_ipv4() { four } else { six })
        }
    };
    let len = u16::try_from(body.len()).map_err(|_| TooLong)?;
    if V2_SIGNATURE.len() + 4 + body.len() > HEADER_BYTES_MAX {
        return Err(TooLong);
    }
    out.extend_from_slice(V2_SIGNATURE);
    out.extend_from_slice(&[command, family]);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Both ends in one family: where they differ, in the one that holds either.
fn alike(addresses: &Addresses) -> (SocketAddr, SocketAddr) {
    let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
    let ends = (
        canonical(addresses.source),
        canonical(addresses.destination),
    );
    let wide = |end: SocketAddr| match end.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    match ends.0.is_ipv4() == ends.1.is_ipv4() {
        true => ends,
        false => (wide(ends.0), wide(ends.1)),
    }
}

fn values(told: &Told<'_>, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let plain = [(kind::ALPN, told.alpn), (kind::AUTHORITY, told.authority)];
    for (kind, bytes) in plain {
        if let Some(bytes) = bytes {
            value(kind, bytes, out)?;
        }
    }
    if let Some(id) = told.unique_id {
        if id.len() > UNIQUE_ID_BYTES_MAX {
            return Err(TooLong);
        }
        value(kind::UNIQUE_ID, id, out)?;
    }
    match &told.ssl {
        Some(ssl) => value(kind::SSL, &of_ssl(ssl)?, out),
        None => Ok(()),
    }
}

fn of_ssl(ssl: &Ssl<'_>) -> Result<Vec<u8>, TooLong> {
    let shown = match (ssl.is_verified, ssl.is_from_before) {
        (false, _) => 0,
        (true, false) => client::CERT_CONN | client::CERT_SESS,
        (true, true) => client::CERT_SESS,
    };
    let mut out = vec![client::SSL | shown];
    // Zero stands for a certificate that was verified.
    out.extend_from_slice(&u32::from(!ssl.is_verified).to_be_bytes());
    let inner = [
        (kind::SSL_VERSION, ssl.version),
        (kind::SSL_CN, ssl.common_name),
        (kind::SSL_CIPHER, ssl.cipher),
        (kind::SSL_SIG_ALG, ssl.signature),
        (kind::SSL_KEY_ALG, ssl.key),
    ];
    for (kind, bytes) in inner {
        if let Some(bytes) = bytes {
            value(kind, bytes, &mut out)?;
        }
    }
    Ok(out)
}

fn value(kind: u8, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), TooLong> {
    let len = u16::try_from(bytes.len()).map_err(|_| TooLong)?;
    out.push(kind);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}
