//! gRPC for clients that see no trailers: browsers (gRPC, "PROTOCOL-WEB"). A call says that it is one by
//! its content type, the status follows the messages as one more of them, and bodies may be in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const WEB: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"-text";
const PLAIN: &[u8] = b"application/grpc";

/// The mark of a message that holds the trailers.
const TRAILERS: u8 = 0x80;

/// A call by such a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Web {
    /// Whether bodies are in base64.
    is_text: bool,
}

/// A body that is not in base64, though it is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not base64")]
pub struct NotBase64;

impl Web {
    /// The call that a request with this content type is, and the content type that it has for servers.
    pub fn asked(content_type: &[u8]) -> Option<(Self, Vec<u8>)> {
        let rest = content_type.strip_prefix(WEB)?;
        let (is_text, rest) = match rest.strip_prefix(TEXT) {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let web = matches!(rest, [] | [b'+' | b';' | b' ', ..]).then_some(Self { is_text })?;
        Some((web, [PLAIN, rest].concat()))
    }

    /// What takes base64 off the request, if it has some.
    pub fn decoder(self) -> Option<Decoder> {
        self.is_text.then(Decoder::default)
    }

    /// The content type of an answer, of which servers have this one.
    pub fn content_type(self, plain: &[u8]) -> Vec<u8> {
        let kind = plain.strip_prefix(PLAIN).unwrap_or_default();
        let text = if self.is_text { TEXT } else { b"" };
        [WEB, text, kind].concat()
    }

    /// A piece of an answer, as the client gets it.
    pub fn piece(self, data: Vec<u8>) -> Vec<u8> {
        match self.is_text {
            true => STANDARD.encode(data).into_bytes(),
            false => data,
        }
    }

    /// What follows the messages, of which these are the lines.
    pub fn trailers(self, lines: &[u8]) -> Vec<u8> {
        let length = u32::try_from(lines.len()).unwrap_or(u32::MAX);
        let head = [&[TRAILERS][..], &length.to_be_bytes()].concat();
        self.piece([&head, lines].concat())
    }
}

/// Takes base64 off a body that comes in pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Letters that have no full group yet.
    left: Vec<u8>,
}

impl Decoder {
    /// The bytes that `letters` stand for, with what was left before. Padding may stand in the middle.
    ///
    /// # Errors
    /// They stand for nothing.
    pub fn decode(&mut self, letters: &[u8]) -> Result<Vec<u8>, NotBase64> {
        self.left.extend_from_slice(letters);
        let whole = self.left.len() / 4 * 4;
        let mut bytes = Vec::with_capacity(whole / 4 * 3);
        for group in self.left.get(..whole).unwrap_or_default().chunks(4) {
            let decoded = STANDARD.decode_vec(group, &mut bytes);
            decoded.map_err(|_| NotBase64)?;
        }
        self.left.drain(..whole);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_are_translated_both_ways() {
        for (web, is_text, plain) in [
            ("application/grpc-web", false, "application/grpc"),
            (
                "application/grpc-web+proto",
                false,
                "application/grpc+proto",
            ),
            ("application/grpc-web-text", true, "application/grpc"),
            (
                "application/grpc-web-text+json",
                true,
                "application/grpc+json",
            ),
        ] {
            let (asked, told) = Web::asked(web.as_bytes()).unwrap();
            assert_eq!((asked, &*told), (Web { is_text }, plain.as_bytes()));
            assert_eq!(asked.content_type(plain.as_bytes()), web.as_bytes());
        }
        for other in ["application/grpc", "application/grpc-website", "text/html"] {
            assert_eq!(Web::asked(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn trailers_are_one_more_message() {
        let trailers = b"grpc-status: 0\r\n";
        let web = Web { is_text: false };
        assert_eq!(web.trailers(trailers), b"\x80\0\0\0\x10grpc-status: 0\r\n");
        let text = Web { is_text: true };
        let decoded = Decoder::default().decode(&text.trailers(trailers));
        assert_eq!(decoded.unwrap(), web.trailers(trailers));
    }

    #[test]
    fn base64_is_taken_off_however_it_is_cut() {
        // Two pieces, each padded.
        let letters = b"aGVsbG8=d29ybGQ=";
        for cut in 1..letters.len() {
            let mut decoder = Decoder::default();
            let bytes: Vec<u8> = letters
                .chunks(cut)
                .flat_map(|piece| decoder.decode(piece).unwrap())
                .collect();
            assert_eq!(bytes, b"helloworld");
        }
        assert_eq!(Decoder::default().decode(b"a*b="), Err(NotBase64));
    }
}
