//! One JSON object a line. A key without a value is left out.

use std::time::Duration;

use super::{cut, number, padded};
use crate::access_log::{Dates, Record};

pub(super) fn write(record: &Record<'_>, fingerprint: &str, dates: &mut Dates, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"ts\":\"");
    out.extend_from_slice(dates.iso(record.at));
    out.push(b'.');
    padded(record.at.subsec_millis(), 3, out);
    out.extend_from_slice(b"Z\",\"id\":\"");
    out.extend_from_slice(record.id);
    out.extend_from_slice(b"\",\"client\":\"");
    out.extend_from_slice(record.client);
    out.extend_from_slice(b"\",\"client_port\":");
    number(u64::from(record.client_port), out);
    text(b",\"user\":\"", record.user.as_bytes(), out);
    text(b",\"site\":\"", record.site.as_bytes(), out);
    text(b",\"route\":\"", record.route.as_bytes(), out);
    out.extend_from_slice(b",\"generation\":");
    number(record.generation, out);
    text(b",\"method\":\"", record.method, out);
    text(b",\"scheme\":\"", record.scheme.as_bytes(), out);
    text(b",\"host\":\"", record.host, out);
    text(b",\"path\":\"", record.path, out);
    if let Some(query) = record.query {
        out.extend_from_slice(b",\"query\":\"");
        crate::redact::query(cut(query), record.secrets, |part| escape(part, out));
        out.push(b'"');
    }
    text(b",\"proto\":\"", record.proto.as_bytes(), out);
    if let Some(status) = record.status {
        out.extend_from_slice(b",\"status\":");
        number(u64::from(status), out);
    }
    out.extend_from_slice(b",\"req_bytes\":");
    number(record.req_bytes, out);
    out.extend_from_slice(b",\"res_bytes\":");
    number(record.res_bytes, out);
    text(
        b",\"pool\":\"",
        record.pool.unwrap_or_default().as_bytes(),
        out,
    );
    text(
        b",\"server\":\"",
        record.server.unwrap_or_default().as_bytes(),
        out,
    );
    out.extend_from_slice(b",\"attempts\":");
    number(u64::from(record.attempts), out);
    if let Some((server, reason)) = record.failed {
        text(b",\"failed_server\":\"", server.as_bytes(), out);
        text(b",\"failed_reason\":\"", reason.as_bytes(), out);
    }
    text(b",\"cache\":\"", record.cache.as_bytes(), out);
    text(
        b",\"reason\":\"",
        record.reason.unwrap_or_default().as_bytes(),
        out,
    );
    text(
        b",\"detail\":\"",
        record.detail.unwrap_or_default().as_bytes(),
        out,
    );
    times(record, out);
    text(b",\"tls\":\"", record.tls.version.as_bytes(), out);
    text(b",\"alpn\":\"", record.tls.alpn, out);
    text(b",\"sni\":\"", record.tls.sni.as_bytes(), out);
    text(b",\"cert\":\"", record.tls.subject.as_bytes(), out);
    text(b",\"ja4\":\"", fingerprint.as_bytes(), out);
    text(b",\"ua\":\"", record.user_agent, out);
    referer(record, out);
    text(b",\"trace_id\":\"", record.trace_id, out);
    out.extend_from_slice(b"}\n");
}

fn times(record: &Record<'_>, out: &mut Vec<u8>) {
    seconds(b",\"t_queue\":", record.queue, out);
    seconds(b",\"t_connect\":", record.connect, out);
    seconds(b",\"t_first_byte\":", record.first_byte, out);
    seconds(b",\"t_total\":", Some(record.total), out);
}

fn referer(record: &Record<'_>, out: &mut Vec<u8>) {
    if record.referer.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"referer\":\"");
    let referer = cut(record.referer);
    crate::redact::uri(referer, record.secrets, |part| escape(part, out));
    out.push(b'"');
}

fn text(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    if value.is_empty() {
        return;
    }
    out.extend_from_slice(key);
    escape(cut(value), out);
    out.push(b'"');
}

/// Seconds with six digits behind the point.
fn seconds(key: &[u8], duration: Option<Duration>, out: &mut Vec<u8>) {
    let Some(duration) = duration else { return };
    out.extend_from_slice(key);
    number(duration.as_secs(), out);
    out.push(b'.');
    padded(duration.subsec_micros(), 6, out);
}

/// Escapes what would break a line, a terminal or a reader: quotes, controls, invalid UTF-8, and
/// the characters that reverse or hide text.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    if is_plain(text) {
        out.extend_from_slice(text);
        return;
    }
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if c.is_control() || is_deceptive(c) => unicode(c, out),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        for &b in chunk.invalid() {
            // Not text: shown as `\xNN`, which in JSON is a backslash, an x and two digits.
            out.extend_from_slice(b"\\\\x");
            hex(u32::from(b), 2, out);
        }
    }
}

/// Tells whether it has nothing to escape. Eight bytes at once are looked at: fields are short, and there are many.
fn is_plain(text: &[u8]) -> bool {
    let Some(last) = text.last_chunk::<8>() else {
        return text
            .iter()
            .all(|b| matches!(b, b' '..=b'~') && *b != b'"' && *b != b'\\');
    };
    let (words, _) = text.as_chunks::<8>();
    let mut words = words.iter().chain([last]);
    words.all(|word| has_no_special(u64::from_ne_bytes(*word)))
}

/// Tells whether all bytes of a word are printable ASCII, and neither a quote nor a backslash.
fn has_no_special(word: u64) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // The high bit of a byte is set where it is below `less`, for bytes below 128.
    let below = |word: u64, less: u64| word.wrapping_sub(ONES * less) & !word & HIGH;
    let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    let delete = is(0x7f);
    (word & HIGH) | below(word, 0x20) | is(b'"') | is(b'\\') | delete == 0
}

fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn unicode(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\\u");
    // invariant: controls and the deceptive characters are below U+10000
    hex(u32::from(c), 4, out);
}

fn hex(n: u32, digits: u32, out: &mut Vec<u8>) {
    for place in (0..digits).rev() {
        let digit = char::from_digit(n >> (4 * place) & 15, 16).unwrap_or('0');
        out.extend_from_slice(digit.encode_utf8(&mut [0; 4]).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain;

    /// Each byte, at each place, in texts of each length.
    #[test]
    fn what_is_to_be_escaped_is_found_wherever_it_is() {
        for length in 1..=17 {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'a'; length];
                    if let Some(at) = text.get_mut(place) {
                        *at = byte;
                    }
                    let plain = matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
                    assert_eq!(is_plain(&text), plain, "{byte} at {place} of {length}");
                }
            }
        }
        assert!(is_plain(b""));
    }
}
