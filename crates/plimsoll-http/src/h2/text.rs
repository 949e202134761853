//! Text that is written into a piece of memory, as far as that goes, and the lines of such text.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

/// The memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

pub(super) struct Text<'a> {
    room: &'a mut [u8],
    // invariant: len <= room.len()
    len: usize,
}

impl<'a> Text<'a> {
    pub(super) fn new(room: &'a mut [u8]) -> Self {
        Self { room, len: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.len + bytes.len();
        self.room
            .get_mut(self.len..end)
            .ok_or(Full)?
            .copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }

    /// Writes a field line.
    pub(super) fn line(&mut self, name: &[u8], value: &[u8]) -> Result<(), Full> {
        for part in [name, b": ", value, b"\r\n"] {
            self.push(part)?;
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

/// Text that [`crate::h1::encode`] would not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a head")]
pub struct BadText;

/// Tells whether a body is in the chunked coding: one that does not say its length.
pub fn is_coded(has_body: bool, fields: &HeaderMap) -> bool {
    has_body && !fields.contains_key(CONTENT_LENGTH)
}

/// How long the head is that `text` begins with, if all of it is there.
pub fn length(text: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, b"\r\n\r\n").map(|end| end + 4)
}

/// The lines of a head.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', text).map(move |end| {
        let line = text.get(start..end).unwrap_or_default();
        start = end + 1;
        line
    })
}

/// The name and the value of a field line.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let value = line.get(colon + 1..)?;
    Some((line.get(..colon)?, value.trim_ascii()))
}

/// A number in decimal.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    str::from_utf8(text).ok()?.parse().ok()
}
