//! How an access log line looks.

mod combined;
mod haproxy;
mod json;

use std::time::Duration;

use crate::access_log::{Dates, Record};

/// How an access log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// The same, with the fingerprint of how the client begins TLS.
    JsonFingerprint,
    /// NGINX's `combined`.
    Combined,
    /// HAProxy's: `httplog`, and `tcplog` for connections.
    Haproxy,
}

impl Format {
    /// Appends the line for `record`.
    pub fn write(self, record: &Record<'_>, dates: &mut Dates, out: &mut Vec<u8>) {
        match self {
            Self::Json => json::write(record, "", dates, out),
            Self::JsonFingerprint => json::write(record, record.tls.fingerprint, dates, out),
            Self::Combined => combined::write(record, dates, out),
            Self::Haproxy => haproxy::write(record, dates, out),
        }
    }
}

/// Longest text of a client in a line; the rest is cut off.
const TEXT_BYTES_MAX: usize = 2048;

fn cut(text: &[u8]) -> &[u8] {
    text.get(..TEXT_BYTES_MAX).unwrap_or(text)
}

fn number(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

/// The last `digits` digits of `n`, at most nine.
fn padded(n: u32, digits: usize, out: &mut Vec<u8>) {
    let (mut text, mut rest) = ([b'0'; 9], n);
    for place in text.iter_mut().rev().take(digits) {
        *place += u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    out.extend_from_slice(text.get(text.len() - digits.min(9)..).unwrap_or_default());
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Text as NGINX escapes it: quotes, backslashes and everything that is not printable ASCII.
fn escape_hex(text: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &b in cut(text) {
        match b {
            b'"' | b'\\' | 0..=0x1f | 0x7f.. => {
                let digit = |n: u8| DIGITS.get(usize::from(n)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'x', digit(b >> 4), digit(b & 15)]);
            }
            b => out.push(b),
        }
    }
}

/// The request line as it came, without its secrets.
fn request_line(record: &Record<'_>, out: &mut Vec<u8>) {
    escape_hex(record.method, out);
    out.push(b' ');
    escape_hex(record.raw_path, out);
    if let Some(query) = record.query {
        out.push(b'?');
        crate::redact::query(cut(query), record.secrets, |part| escape_hex(part, out));
    }
    out.push(b' ');
    out.extend_from_slice(record.proto.as_bytes());
}

#[cfg(test)]
mod tests;
