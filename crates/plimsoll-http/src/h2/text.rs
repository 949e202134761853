//! Text that is written into a piece of memory, as far as that goes.

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
