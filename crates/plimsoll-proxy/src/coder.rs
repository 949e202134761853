//! Bytes into a content coding, piece by piece.

use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::{Compress, Compression, FlushCompress, Status};
use plimsoll_http::coding::Coding;
use zstd::stream::raw::{Encoder, InBuffer, Operation, OutBuffer};

/// How far back brotli looks, as a power of two: 512 KiB.
const BROTLI_WINDOW: i32 = 19;

/// Room that brotli writes into.
const BROTLI_BUFFER: usize = 16 * 1024;

/// How far back gzip looks, as a power of two: 32 KiB, as far as it can.
const GZIP_WINDOW: u8 = 15;

/// Room for what comes out, at least.
const ROOM_BYTES: usize = 4 * 1024;

/// How many coders a worker has at hand that nobody uses: each takes some hundred KiB.
const IDLE_MAX: usize = 4;

/// A body on its way into a coding.
pub(crate) enum Coder {
    Gzip(Compress),
    /// Nothing when it has ended.
    Brotli(Option<Box<CompressorWriter<Vec<u8>>>>),
    Zstd(Encoder<'static>),
}

/// What becomes of what was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It comes out when that is best.
    GoOn,
    /// All of it comes out now.
    Flush,
    /// All of it comes out now, and nothing follows.
    End,
}

impl std::fmt::Debug for Coder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Gzip(_) => "Gzip",
            Self::Brotli(_) => "Brotli",
            Self::Zstd(_) => "Zstd",
        })
    }
}

impl Coder {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn new(coding: Coding, level: u8) -> io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Compress::new_gzip(
                Compression::new(level.into()),
                GZIP_WINDOW,
            )),
            Coding::Zstd => Self::Zstd(Encoder::new(level.into())?),
            Coding::Brotli => {
                let settings = BrotliEncoderParams {
                    quality: level.into(),
                    lgwin: BROTLI_WINDOW,
                    ..BrotliEncoderParams::default()
                };
                let writer = CompressorWriter::with_params(Vec::new(), BROTLI_BUFFER, &settings);
                Self::Brotli(Some(Box::new(writer)))
            }
        })
    }

    /// Takes a piece in, perhaps the last one; returns what is ready.
    ///
    /// # Errors
    /// The coder has failed.
    pub(crate) fn encode(&mut self, data: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
        self.run(data, if is_last { Then::End } else { Then::GoOn })
    }

    /// Returns all that was taken in and not given out.
    ///
    /// # Errors
    /// The coder has failed.
    pub(crate) fn flush(&mut self) -> io::Result<Vec<u8>> {
        self.run(&[], Then::Flush)
    }

    fn run(&mut self, data: &[u8], then: Then) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        match self {
            Self::Gzip(coder) => gzip(coder, data, then, &mut out)?,
            Self::Zstd(coder) => zstd(coder, data, then, &mut out)?,
            Self::Brotli(writer) => brotli(writer, data, then, &mut out)?,
        }
        Ok(out)
    }

    /// Forgets what it has seen; tells whether it can begin anew.
    fn reset(&mut self) -> bool {
        match self {
            Self::Gzip(coder) => {
                coder.reset();
                true
            }
            Self::Zstd(coder) => coder.reinit().is_ok(),
            Self::Brotli(_) => false,
        }
    }
}

fn gzip(coder: &mut Compress, mut data: &[u8], then: Then, out: &mut Vec<u8>) -> io::Result<()> {
    let how = match then {
        Then::GoOn => FlushCompress::None,
        Then::Flush => FlushCompress::Sync,
        Then::End => FlushCompress::Finish,
    };
    loop {
        out.reserve(ROOM_BYTES);
        let before = coder.total_in();
        let status = coder.compress_vec(data, out, how)?;
        let taken = usize::try_from(coder.total_in() - before).unwrap_or(usize::MAX);
        data = data.get(taken..).unwrap_or_default();
        let is_done = match then {
            Then::End => status == Status::StreamEnd,
            // What has left room has given all it had.
            Then::GoOn | Then::Flush => data.is_empty() && out.len() < out.capacity(),
        };
        if is_done {
            return Ok(());
        }
    }
}

fn zstd(
    coder: &mut Encoder<'static>,
    data: &[u8],
    then: Then,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let mut input = InBuffer::around(data);
    while input.pos() < data.len() {
        coder.run(&mut input, &mut room(out))?;
    }
    loop {
        let left = match then {
            Then::GoOn => 0,
            Then::Flush => coder.flush(&mut room(out))?,
            Then::End => coder.finish(&mut room(out), false)?,
        };
        if left == 0 {
            return Ok(());
        }
    }
}

/// What follows what is there.
fn room(out: &mut Vec<u8>) -> OutBuffer<'_, Vec<u8>> {
    out.reserve(ROOM_BYTES);
    let written = out.len();
    OutBuffer::around_pos(out, written)
}

fn brotli(
    place: &mut Option<Box<CompressorWriter<Vec<u8>>>>,
    data: &[u8],
    then: Then,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    let writer = place.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
    writer.write_all(data)?;
    if then == Then::Flush {
        writer.flush()?;
    }
    *out = std::mem::take(writer.get_mut());
    if then == Then::End
        && let Some(writer) = place.take()
    {
        out.extend(writer.into_inner());
    }
    Ok(())
}

/// Coders that a worker has at hand: making one costs more than a small answer does.
#[derive(Debug, Default)]
pub(crate) struct Coders(RefCell<Vec<Idle>>);

/// One that nobody uses, and what it was made for.
type Idle = ((Coding, u8), Coder);

impl Coders {
    /// One that has seen nothing.
    ///
    /// # Errors
    /// There is no memory for it.
    pub(crate) fn lend(self: &Rc<Self>, coding: Coding, level: u8) -> io::Result<Lent> {
        let kind = (coding, level);
        let mut idle = self.0.borrow_mut();
        let place = idle.iter().position(|(own, _)| *own == kind);
        let coder = match place {
            Some(place) => idle.swap_remove(place).1,
            None => Coder::new(coding, level)?,
        };
        Ok(Lent {
            coder,
            kind,
            of: Rc::clone(self),
        })
    }
}

/// A coder that goes back when nobody uses it any more.
#[derive(Debug)]
pub(crate) struct Lent {
    coder: Coder,
    kind: (Coding, u8),
    of: Rc<Coders>,
}

impl Deref for Lent {
    type Target = Coder;

    fn deref(&self) -> &Coder {
        &self.coder
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Coder {
        &mut self.coder
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut coder = std::mem::replace(&mut self.coder, Coder::Brotli(None));
        let mut idle = self.of.0.borrow_mut();
        if coder.reset() && idle.len() < IDLE_MAX {
            idle.push((self.kind, coder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// All of what a decoder makes of bytes that may go on.
    fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut decoder: Box<dyn Read> = match coding {
            Coding::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            Coding::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes).unwrap()),
            Coding::Brotli => Box::new(brotli::Decompressor::new(bytes, 4096)),
        };
        let (mut out, mut room) = (Vec::new(), [0; 999]);
        while let Ok(read @ 1..) = decoder.read(&mut room) {
            out.extend_from_slice(&room[..read]);
        }
        out
    }

    #[test]
    fn what_was_flushed_can_be_read_before_the_end() {
        for coding in Coding::ALL {
            let mut coder = Coder::new(coding, 4).unwrap();
            let text = b"a text that repeats itself, ".repeat(2000);
            let mut sent = coder.encode(&text, false).unwrap();
            sent.extend(coder.flush().unwrap());
            assert_eq!(decoded(coding, &sent), text, "{coding:?}");
            sent.extend(coder.encode(b"more", false).unwrap());
            sent.extend(coder.encode(&[], true).unwrap());
            assert_eq!(decoded(coding, &sent), [&text[..], b"more"].concat());
            assert!(sent.len() < text.len() / 20, "{coding:?}: {}", sent.len());
        }
    }

    #[test]
    fn nothing_is_something_in_a_coding() {
        for coding in Coding::ALL {
            let mut coder = Coder::new(coding, 1).unwrap();
            let sent = coder.encode(&[], true).unwrap();
            assert!(!sent.is_empty() && decoded(coding, &sent).is_empty());
        }
    }

    /// What is lent again has seen nothing of what was before, whether that came to its end or not.
    #[test]
    fn coders_begin_anew() {
        let coders = Rc::<Coders>::default();
        let text = b"a text that repeats itself, ".repeat(2000);
        for coding in Coding::ALL {
            let first = coders.lend(coding, 4).unwrap().encode(&text, true).unwrap();
            for given_up in [false, true] {
                let mut coder = coders.lend(coding, 4).unwrap();
                let sent = coder.encode(&text, !given_up).unwrap();
                assert!(given_up || sent == first, "{coding:?}");
            }
            let again = coders.lend(coding, 4).unwrap().encode(&text, true).unwrap();
            assert_eq!(again, first, "{coding:?}");
        }
        assert_eq!(coders.0.borrow().len(), 2);
        let held: Vec<_> = (0..9)
            .map(|_| coders.lend(Coding::Gzip, 4).unwrap())
            .collect();
        drop(held);
        assert_eq!(coders.0.borrow().len(), IDLE_MAX);
    }

    /// However much comes at once, and in whatever pieces: all of it comes out.
    #[test]
    fn pieces_of_any_length_arrive() {
        let noise: Vec<u8> = (0..300_000_u32)
            .map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[1])
            .collect();
        for coding in Coding::ALL {
            for piece in [1, 100, 4096, 300_000] {
                let count = (noise.len() / piece).min(500);
                let data = &noise[..count * piece];
                let mut coder = Coder::new(coding, 1).unwrap();
                let mut sent = Vec::new();
                for (number, part) in data.chunks(piece).enumerate() {
                    sent.extend(coder.encode(part, false).unwrap());
                    if number % 7 == 0 {
                        sent.extend(coder.flush().unwrap());
                        sent.extend(coder.flush().unwrap());
                    }
                }
                sent.extend(coder.encode(&[], true).unwrap());
                assert!(decoded(coding, &sent) == data, "{coding:?} {piece}");
            }
        }
    }
}
