//! What gRPC clients understand of an error: a status of gRPC, in an answer that HTTP calls good.

use crate::head::RequestHead;
use crate::reason::Reason;

/// Tells whether a request is a call of gRPC.
pub fn is_call(head: &RequestHead, bytes: &[u8]) -> bool {
    let kind = head.fields.by_text(bytes, b"content-type");
    let kind = kind.map(|line| line.value.of(bytes)).unwrap_or_default();
    matches!(
        kind.strip_prefix(b"application/grpc"),
        Some([] | [b'+' | b';' | b' ', ..])
    )
}

/// The status of gRPC for an answer that HTTP has `status` for (gRPC, "HTTP to gRPC Status Code
/// Mapping"), and what came too late is told apart.
pub fn status(status: u16, reason: Reason) -> u8 {
    match (status, reason) {
        (_, Reason::HttpResponseTimeout | Reason::ConnectionReadTimeout) => 4, // DEADLINE_EXCEEDED
        (400, _) => 13,                                                        // INTERNAL
        (401, _) => 16,                                                        // UNAUTHENTICATED
        (403, _) => 7,                                                         // PERMISSION_DENIED
        (404, _) => 12,                                                        // UNIMPLEMENTED
        (413, _) => 8,                                                         // RESOURCE_EXHAUSTED
        (429 | 502..=504, _) => 14,                                            // UNAVAILABLE
        _ => 2,                                                                // UNKNOWN
    }
}

/// Writes a message as the field `grpc-message` has it: percent-encoded where it is not plain text.
pub fn write_message(message: &str, out: &mut Vec<u8>) {
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte),
            _ => {
                const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
                let digit = |at: u8| DIGITS.get(usize::from(at & 15)).copied();
                out.push(b'%');
                out.extend(digit(byte >> 4));
                out.extend(digit(byte));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};

    #[test]
    fn calls_are_told_by_their_content_type() {
        for (kind, call) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; x=y", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {kind}\r\n\r\n");
            let mut head = RequestHead::default();
            parse::request(text.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
            assert_eq!(is_call(&head, text.as_bytes()), call, "{kind}");
        }
    }

    #[test]
    fn what_is_not_plain_in_a_message_is_escaped() {
        let mut out = Vec::new();
        write_message("100% é\n", &mut out);
        assert_eq!(out, b"100%25 %C3%A9%0A");
    }
}
