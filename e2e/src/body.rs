//! A strict RFC 9112 decoder for bodies, fed with whatever arrives.

use crate::head::{Fields, Framing, Malformed, malformed};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The most bytes of a body that are kept; length and digest count all.
pub const KEPT_MAX: usize = 4 << 20;

/// The longest line of chunked coding.
const LINE_MAX: usize = 4096;

/// A body, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// Its first [`KEPT_MAX`] bytes.
    pub bytes: Vec<u8>,
    /// Its length.
    pub length: u64,
    /// Its XXH3 digest, comparable with [`digest`].
    pub digest: u64,
    /// How many chunks it came in, the last one not counted.
    pub chunks: u64,
    /// The fields after the last chunk.
    pub trailers: Fields,
}

/// Returns the digest a [`Body`] of these bytes has.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The state of one body's decoding.
pub struct Decoder {
    state: State,
    hasher: Xxh3,
}

enum State {
    Length(u64),
    UntilClose,
    SizeLine(Vec<u8>),
    Chunk(u64),
    ChunkEnd(Vec<u8>),
    Trailer(Vec<u8>),
    Done,
}

impl Decoder {
    /// Starts on a body with this framing.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::SizeLine(Vec::new()),
            Framing::Close => State::UntilClose,
        };
        Self {
            state,
            hasher: Xxh3::new(),
        }
    }

    /// Tells whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Tells whether the end of the connection is the end of the body.
    #[must_use]
    pub fn may_end_here(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// Decodes the start of `input` into `body` and returns how much of it belonged to the body.
    ///
    /// # Errors
    /// What breaks the chunked coding. Chunk extensions do: none may be passed on.
    pub fn feed(&mut self, input: &[u8], body: &mut Body) -> Result<usize, Malformed> {
        let mut rest = input;
        while !rest.is_empty() && !self.is_done() {
            let used = self.step(rest, body)?;
            rest = rest.get(used..).unwrap_or_default();
        }
        body.digest = self.hasher.digest();
        Ok(input.len() - rest.len())
    }

    fn step(&mut self, input: &[u8], body: &mut Body) -> Result<usize, Malformed> {
        match &mut self.state {
            State::Done => Ok(0),
            State::UntilClose => Ok(store(input, u64::MAX, body, &mut self.hasher)),
            State::Length(left) => {
                let used = store(input, *left, body, &mut self.hasher);
                *left -= used as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(used)
            }
            State::Chunk(left) => {
                let used = store(input, *left, body, &mut self.hasher);
                *left -= used as u64;
                if *left == 0 {
                    self.state = State::ChunkEnd(Vec::new());
                }
                Ok(used)
            }
            State::SizeLine(line) | State::ChunkEnd(line) | State::Trailer(line) => {
                let used = take_line(input, line)?;
                if line.ends_with(b"\r\n") {
                    self.end_line(body)?;
                }
                Ok(used)
            }
        }
    }

    fn end_line(&mut self, body: &mut Body) -> Result<(), Malformed> {
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::SizeLine(line) => match chunk_size(&line)? {
                0 => State::Trailer(Vec::new()),
                size => {
                    body.chunks += 1;
                    State::Chunk(size)
                }
            },
            State::ChunkEnd(line) if line == b"\r\n" => State::SizeLine(Vec::new()),
            State::ChunkEnd(_) => return malformed("bytes after a chunk"),
            State::Trailer(line) if line == b"\r\n" => State::Done,
            State::Trailer(line) => {
                let line = line.strip_suffix(b"\r\n").unwrap_or(&line);
                body.trailers
                    .0
                    .extend(Fields::parse(std::iter::once(line))?.0);
                State::Trailer(Vec::new())
            }
            other => other,
        };
        Ok(())
    }
}

fn store(input: &[u8], at_most: u64, body: &mut Body, hasher: &mut Xxh3) -> usize {
    let used = usize::try_from(at_most).map_or(input.len(), |most| most.min(input.len()));
    let part = input.get(..used).unwrap_or(input);
    let room = KEPT_MAX.saturating_sub(body.bytes.len());
    body.bytes
        .extend_from_slice(part.get(..room).unwrap_or(part));
    body.length += used as u64;
    hasher.update(part);
    used
}

/// Moves bytes up to and with the next LF to `line`.
fn take_line(input: &[u8], line: &mut Vec<u8>) -> Result<usize, Malformed> {
    let found = input.iter().position(|&byte| byte == b'\n');
    let used = found.map_or(input.len(), |at| at + 1);
    line.extend_from_slice(input.get(..used).unwrap_or(input));
    let before = line.strip_suffix(b"\n").unwrap_or(line);
    match (found, before.split_last()) {
        _ if line.len() > LINE_MAX => malformed("a line of chunked coding is too long"),
        (Some(_), Some((b'\r', text))) if !text.contains(&b'\r') => Ok(used),
        (Some(_), _) => malformed("bare LF or CR in chunked coding"),
        (None, _) => Ok(used),
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.strip_suffix(b"\r\n").unwrap_or(line);
    let text = String::from_utf8_lossy(digits);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return malformed(format!("chunk size {text:?}"));
    }
    u64::from_str_radix(&text, 16).or_else(|_| malformed(format!("chunk size {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(framing: Framing, parts: &[&[u8]]) -> Result<(Body, bool, usize), Malformed> {
        let (mut decoder, mut body, mut used) = (Decoder::new(framing), Body::default(), 0);
        for part in parts {
            used += decoder.feed(part, &mut body)?;
        }
        Ok((body, decoder.is_done(), used))
    }

    const CHUNKED: &[u8] =
        b"5\r\nhello\r\n1A\r\n, this is twenty-six bytes\r\n0\r\nX-T: v\r\n\r\nnext";

    #[test]
    fn decodes_chunks_however_they_are_split() {
        let expected = b"hello, this is twenty-six bytes";
        for split in 0..CHUNKED.len() {
            let (one, two) = CHUNKED.split_at(split);
            let (body, done, used) = decode(Framing::Chunked, &[one, two]).unwrap();
            assert_eq!(body.bytes, expected);
            assert_eq!((body.length, body.digest), (31, digest(expected)));
            assert_eq!((body.chunks, body.trailers.first("x-t")), (2, Some("v")));
            assert!(done);
            // A second part that holds only what follows is not touched.
            assert!(used == CHUNKED.len() - 4, "{split}: {used}");
        }
    }

    #[test]
    fn a_body_without_its_last_chunk_is_not_complete() {
        for cut in 0..CHUNKED.len() - 4 {
            assert!(
                !decode(Framing::Chunked, &[&CHUNKED[..cut]]).unwrap().1,
                "{cut}"
            );
        }
    }

    #[test]
    fn refuses_bad_chunks() {
        for raw in [
            &b"5;a=b\r\nhello\r\n"[..],
            b"0x5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"\r\n",
            b"5\nhello\r\n",
            b"5\r\nhello!\r\n",
            b"5\r\nhello\n",
            b"-1\r\n",
            b"10000000000000000\r\n",
            b"0\r\nbad trailer\r\n\r\n",
        ] {
            let text = String::from_utf8_lossy(raw);
            assert!(decode(Framing::Chunked, &[raw]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn stops_at_the_declared_length() {
        let (body, done, used) = decode(Framing::Length(5), &[b"hel", b"lo, next"]).unwrap();
        assert_eq!((&*body.bytes, done, used), (&b"hello"[..], true, 5));
        assert!(decode(Framing::Length(0), &[b"next"]).unwrap().1);
        assert!(!decode(Framing::Length(5), &[b"hell"]).unwrap().1);
    }
}
