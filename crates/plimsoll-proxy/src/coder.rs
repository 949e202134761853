//! Bytes into a content coding, piece by piece.

use std::io::{self, Write};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use flate2::Compression;
use flate2::write::GzEncoder;
use plimsoll_http::coding::Coding;

/// How far back brotli looks, as a power of two: 512 KiB.
const BROTLI_WINDOW: i32 = 19;

/// Room that brotli writes into.
const BROTLI_BUFFER: usize = 16 * 1024;

/// A body on its way into a coding.
pub(crate) enum Coder {
    Gzip(GzEncoder<Vec<u8>>),
    /// Nothing when it has ended.
    Brotli(Option<Box<CompressorWriter<Vec<u8>>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
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
        let out = Vec::new();
        Ok(match coding {
            Coding::Gzip => Self::Gzip(GzEncoder::new(out, Compression::new(level.into()))),
            Coding::Zstd => Self::Zstd(zstd::stream::write::Encoder::new(out, level.into())?),
            Coding::Brotli => {
                let settings = BrotliEncoderParams {
                    quality: level.into(),
                    lgwin: BROTLI_WINDOW,
                    ..BrotliEncoderParams::default()
                };
                let writer = CompressorWriter::with_params(out, BROTLI_BUFFER, &settings);
                Self::Brotli(Some(Box::new(writer)))
            }
        })
    }

    /// Takes a piece in, perhaps the last one; returns what is ready.
    ///
    /// # Errors
    /// The coder has failed.
    pub(crate) fn encode(&mut self, data: &[u8], is_last: bool) -> io::Result<Vec<u8>> {
        let mut out = self.write(data)?;
        if is_last {
            out.extend(self.finish()?);
        }
        Ok(out)
    }

    /// Takes a piece in; returns what is ready.
    fn write(&mut self, data: &[u8]) -> io::Result<Vec<u8>> {
        self.writer()?.write_all(data)?;
        self.ready()
    }

    /// Returns all that was taken in and not given out.
    ///
    /// # Errors
    /// The coder has failed.
    pub(crate) fn flush(&mut self) -> io::Result<Vec<u8>> {
        self.writer()?.flush()?;
        self.ready()
    }

    /// Returns the end.
    ///
    /// # Errors
    /// The coder has failed.
    fn finish(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip(writer) => writer.try_finish()?,
            Self::Zstd(writer) => writer.do_finish()?,
            Self::Brotli(writer) => {
                let writer = writer.take();
                return Ok(writer.map(|writer| writer.into_inner()).unwrap_or_default());
            }
        }
        self.ready()
    }

    fn writer(&mut self) -> io::Result<&mut dyn Write> {
        Ok(match self {
            Self::Gzip(writer) => writer,
            Self::Zstd(writer) => writer,
            Self::Brotli(writer) => &mut **writer.as_mut().ok_or(io::ErrorKind::BrokenPipe)?,
        })
    }

    fn ready(&mut self) -> io::Result<Vec<u8>> {
        let out = match self {
            Self::Gzip(writer) => writer.get_mut(),
            Self::Zstd(writer) => writer.get_mut(),
            Self::Brotli(writer) => writer.as_mut().ok_or(io::ErrorKind::BrokenPipe)?.get_mut(),
        };
        Ok(std::mem::take(out))
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
            let mut sent = coder.write(&text).unwrap();
            sent.extend(coder.flush().unwrap());
            assert_eq!(decoded(coding, &sent), text, "{coding:?}");
            sent.extend(coder.write(b"more").unwrap());
            sent.extend(coder.finish().unwrap());
            assert_eq!(decoded(coding, &sent), [&text[..], b"more"].concat());
            assert!(sent.len() < text.len() / 20, "{coding:?}: {}", sent.len());
        }
    }

    #[test]
    fn nothing_is_something_in_a_coding() {
        for coding in Coding::ALL {
            let mut coder = Coder::new(coding, 1).unwrap();
            let sent = coder.finish().unwrap();
            assert!(!sent.is_empty() && decoded(coding, &sent).is_empty());
        }
    }
}
