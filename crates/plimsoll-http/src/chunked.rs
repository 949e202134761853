//! The chunked coding (RFC 9112 §7.1), strict: what two parsers could read two ways is refused.

use crate::field;

/// Longest extension of one chunk line, in bytes.
const EXTENSION_BYTES_MAX: u32 = 256;
/// All extensions of one body together.
const EXTENSIONS_BYTES_MAX: u32 = 16 * 1024;
/// Longest trailer section.
const TRAILER_BYTES_MAX: usize = 8 * 1024;
/// A 64-bit number has no more hexadecimal digits.
const SIZE_DIGITS_MAX: u8 = 16;
/// Largest chunk: what fits a signed 64-bit number, as every other parser can hold.
const CHUNK_BYTES_MAX: u64 = i64::MAX as u64;

/// Why bytes are not the chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// The size is empty, too long, or not hexadecimal.
    #[error("malformed chunk size")]
    Size,
    /// An extension is malformed or too long.
    #[error("malformed chunk extension")]
    Extension,
    /// CR LF is not where it must be.
    #[error("chunk line ends without CR LF")]
    LineEnd,
    /// The trailer section is malformed or too long.
    #[error("malformed trailer section")]
    Trailer,
}

/// What [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of data, now at the start of the buffer.
    pub data: usize,
    /// Bytes of the buffer that were used up.
    pub consumed: usize,
}

/// Where an extension is. White space around its parts, which RFC 9112 calls "bad", is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extension {
    NameStart,
    Name,
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    AfterQuoted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size {
        size: u64,
        digits: u8,
    },
    Extension {
        size: u64,
        at: Extension,
        bytes: u32,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailer,
    /// The CR of an empty trailer section has been read, as of nearly all.
    LastLf,
    Ended,
}

/// Takes the chunked coding off a body that arrives in any pieces.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    extensions: u32,
    trailer: Vec<u8>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            state: State::Size { size: 0, digits: 0 },
            extensions: 0,
            trailer: Vec::new(),
        }
    }
}

impl Decoder {
    /// Decodes `buffer` in place until it is used up or the body has ended.
    ///
    /// # Errors
    /// The first fault; nothing may be read from the connection after it.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<Decoded, BadChunk> {
        let mut done = Decoded::default();
        while self.state != State::Ended {
            if let State::Data { left } = &mut self.state {
                let here = buffer.len() - done.consumed;
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(here);
                buffer.copy_within(done.consumed..done.consumed + take, done.data);
                done.data += take;
                done.consumed += take;
                *left -= take as u64;
                if *left > 0 {
                    return Ok(done);
                }
                self.state = State::DataCr;
            }
            let Some(&byte) = buffer.get(done.consumed) else {
                return Ok(done);
            };
            self.state = self.step(byte)?;
            done.consumed += 1;
        }
        Ok(done)
    }

    /// Tells whether the last chunk and the trailer section have been read.
    pub fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// The trailer fields that may be passed on, as `name: value` lines with their ends.
    pub fn trailer(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // The lines were checked when the section ended.
        self.trailer.split(|&b| b == b'\n').filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = memchr::memchr(b':', line)?;
            let (name, value) = (line.get(..colon)?, line.get(colon + 1..)?.trim_ascii());
            field::may_trail(name).then_some((name, value))
        })
    }

    fn step(&mut self, byte: u8) -> Result<State, BadChunk> {
        match (self.state, byte) {
            (State::Size { digits: 1.., size }, b'\r') => Ok(State::SizeLf { size }),
            (State::Size { digits: 1.., size }, b';') => Ok(State::Extension {
                size,
                at: Extension::NameStart,
                bytes: 0,
            }),
            (State::Size { size, digits }, byte) => size_digit(size, digits, byte),
            (State::Extension { size, at, bytes }, byte) => self.extension(size, at, bytes, byte),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::Trailer),
            (State::SizeLf { size }, b'\n') => Ok(State::Data { left: size }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { size: 0, digits: 0 }),
            (State::Trailer, b'\r') if self.trailer.is_empty() => Ok(State::LastLf),
            (State::Trailer, byte) => self.trailer_byte(byte),
            (State::LastLf, b'\n') => Ok(State::Ended),
            (State::LastLf, _) => Err(BadChunk::Trailer),
            (State::SizeLf { .. } | State::DataCr | State::DataLf, _) => Err(BadChunk::LineEnd),
            (state @ (State::Data { .. } | State::Ended), _) => Ok(state),
        }
    }

    fn extension(
        &mut self,
        size: u64,
        at: Extension,
        bytes: u32,
        byte: u8,
    ) -> Result<State, BadChunk> {
        use Extension as E;
        self.extensions += 1;
        if bytes >= EXTENSION_BYTES_MAX || self.extensions > EXTENSIONS_BYTES_MAX {
            return Err(BadChunk::Extension);
        }
        let at = match (at, byte) {
            (E::Name | E::Value | E::AfterQuoted, b'\r') => return Ok(State::SizeLf { size }),
            (E::Name | E::Value | E::AfterQuoted, b';') => E::NameStart,
            (E::Name, b'=') => E::ValueStart,
            (E::NameStart | E::Name, b) if field::is_tchar(b) => E::Name,
            (E::ValueStart, b'"') => E::Quoted,
            (E::ValueStart | E::Value, b) if field::is_tchar(b) => E::Value,
            (E::Quoted, b'"') => E::AfterQuoted,
            (E::Quoted, b'\\') => E::QuotedPair,
            (E::Quoted | E::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => E::Quoted,
            _ => return Err(BadChunk::Extension),
        };
        Ok(State::Extension {
            size,
            at,
            bytes: bytes + 1,
        })
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, BadChunk> {
        if self.trailer.len() >= TRAILER_BYTES_MAX {
            return Err(BadChunk::Trailer);
        }
        self.trailer.push(byte);
        if byte != b'\n' {
            return Ok(State::Trailer);
        }
        let Some(before) = self.trailer.strip_suffix(b"\r\n") else {
            return Err(BadChunk::Trailer);
        };
        if !(before.is_empty() || before.ends_with(b"\n")) {
            return Ok(State::Trailer);
        }
        let mut lines = [httparse::EMPTY_HEADER; crate::head::FIELDS_MAX];
        match httparse::parse_headers(&self.trailer, &mut lines) {
            Ok(httparse::Status::Complete(_)) if !has_bare_line_feed(&self.trailer) => {
                Ok(State::Ended)
            }
            _ => Err(BadChunk::Trailer),
        }
    }
}

fn size_digit(size: u64, digits: u8, byte: u8) -> Result<State, BadChunk> {
    let digit = char::from(byte).to_digit(16).ok_or(BadChunk::Size)?;
    if digits >= SIZE_DIGITS_MAX {
        return Err(BadChunk::Size);
    }
    let size = size.checked_mul(16).ok_or(BadChunk::Size)? | u64::from(digit);
    if size > CHUNK_BYTES_MAX {
        return Err(BadChunk::Size);
    }
    Ok(State::Size {
        size,
        digits: digits + 1,
    })
}

fn has_bare_line_feed(lines: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', lines).any(|at| at == 0 || lines.get(at - 1) != Some(&b'\r'))
}

/// Writes the line that opens a chunk of `size` bytes; returns the part of `line` that holds it.
pub fn size_line(size: usize, line: &mut [u8; 18]) -> &[u8] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut left = size;
    let mut start = line.len() - 2;
    let [.., cr, lf] = line;
    (*cr, *lf) = (b'\r', b'\n');
    loop {
        start -= 1;
        if let (Some(to), Some(digit)) = (line.get_mut(start), DIGITS.get(left & 15)) {
            *to = *digit;
        }
        left >>= 4;
        if left == 0 {
            return line.get(start..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let mut decoder = Decoder::default();
        let mut buffer = bytes.to_vec();
        let done = decoder.decode(&mut buffer)?;
        Ok((buffer[..done.data].to_vec(), done.consumed, decoder.ended()))
    }

    fn decode_bytewise(bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let mut decoder = Decoder::default();
        let (mut data, mut consumed) = (Vec::new(), 0);
        for &byte in bytes {
            let mut one = [byte];
            let done = decoder.decode(&mut one)?;
            data.extend_from_slice(&one[..done.data]);
            consumed += done.consumed;
        }
        Ok((data, consumed, decoder.ended()))
    }

    #[test]
    fn data_is_joined_and_surplus_is_left() {
        let bytes =
            b"5\r\nhello\r\n6;a=\"b\\\"\";c\r\n world\r\n0\r\nX-A: 1\r\nHost: no\r\n\r\nGET /";
        let (data, consumed, ended) = decode(bytes).unwrap();
        assert_eq!(data, b"hello world");
        assert_eq!(&bytes[consumed..], b"GET /");
        assert!(ended);
        let mut decoder = Decoder::default();
        decoder.decode(&mut bytes.to_vec()).unwrap();
        let trailer: Vec<_> = decoder.trailer().collect();
        assert_eq!(trailer, [(&b"X-A"[..], &b"1"[..])]);
    }

    #[test]
    fn a_chunk_may_be_longer_than_32_bits_count() {
        let mut decoder = Decoder::default();
        let mut block = vec![0; 1 << 20];
        let blocks = 5_u64 << 10;
        let line = format!("{:x}\r\n", blocks << 20);
        let read = decoder.decode(&mut line.into_bytes()).unwrap();
        assert_eq!((read.data, read.consumed), (0, 11));
        for _ in 0..blocks {
            let read = decoder.decode(&mut block).unwrap();
            assert_eq!((read.data, read.consumed), (1 << 20, 1 << 20));
        }
        let end = &mut b"\r\n0\r\n\r\nGET".to_owned();
        let read = decoder.decode(end).unwrap();
        assert_eq!((read.data, read.consumed), (0, 7));
        assert!(decoder.ended());
    }

    #[test]
    fn what_two_parsers_could_read_two_ways_is_refused() {
        for bad in [
            "\r\n",
            "0x5\r\n",
            "+5\r\n",
            "-5\r\n",
            " 5\r\n",
            "5 \r\n",
            "5_0\r\n",
            "5g\r\n",
            "5\n",
            "5\r\r\n",
            "00000000000000005\r\n",
            "8000000000000000\r\n",
            "ffffffffffffffff\r\n",
            "10000000000000000\r\n",
            "5;\r\n",
            "5; a\r\n",
            "5;a \r\n",
            "5;a\n",
            "5;a\r;\n",
            "5;\0\r\n",
            "5;a=\r\n",
            "5;a=\"\r\n\"\r\n",
            "5;a=\"b\"c\r\n",
            "1\r\naXX",
            "1\r\na\n",
            "1\r\nab\r\n",
            "1\r\na\r\n0\n",
            "0\r\nA\r\n\r\n",
            "0\r\n A: b\r\n\r\n",
            "0\r\nA: b\n\r\n",
            "0\r\n\n",
            "0\r\n: b\r\n\r\n",
        ] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad:?}");
            assert!(decode_bytewise(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let long = format!("5;{}\r\n", "a".repeat(300));
        assert_eq!(decode(long.as_bytes()), Err(BadChunk::Extension));
        let long = format!("0\r\nA: {}\r\n\r\n", "a".repeat(9000));
        assert_eq!(decode(long.as_bytes()), Err(BadChunk::Trailer));
    }

    #[test]
    fn size_lines_are_minimal() {
        let mut line = [0; 18];
        for (size, text) in [
            (0, "0\r\n"),
            (15, "f\r\n"),
            (16, "10\r\n"),
            (0x1234_5678_9abc, "123456789abc\r\n"),
        ] {
            assert_eq!(size_line(size, &mut line), text.as_bytes());
        }
        assert_eq!(size_line(usize::MAX, &mut line), b"ffffffffffffffff\r\n");
    }

    const PIECES: &[&[u8]] = &[
        b"1\r\n",
        b"a\r\n",
        b"0\r\n",
        b"\r\n",
        b"x",
        b"0123456789",
        b"3;a=b\r\nabc\r\n",
        b"A: b\r\n",
        b"\n",
        b";",
        b"\"",
    ];

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_the_cut(
            parts in proptest::collection::vec(proptest::sample::select(PIECES), 0..12)
        ) {
            let bytes = parts.concat();
            prop_assert_eq!(decode(&bytes), decode_bytewise(&bytes));
        }

        #[test]
        fn what_is_encoded_is_decoded(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8)) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                let mut line = [0; 18];
                wire.extend_from_slice(size_line(chunk.len(), &mut line));
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            prop_assert_eq!(decode(&wire), Ok((chunks.concat(), wire.len(), true)));
        }
    }
}
