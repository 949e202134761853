//! Windows: how much may be sent before the reader says that it has room again (RFC 9113 §5.2).

/// The largest window.
const MAX: i64 = 0x7fff_ffff;

/// What every window is at first (RFC 9113 §6.9.2).
pub(super) const INITIAL: u32 = 65_535;

/// More than a window can hold, or has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overflow;

/// How much we may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window(i64);

impl Window {
    /// One of this size.
    pub(super) fn new(size: u32) -> Self {
        Self(size.into())
    }

    /// How much may be sent now.
    pub(super) fn room(self) -> usize {
        usize::try_from(self.0).unwrap_or(0) // it can be less than nothing
    }

    /// Counts what was sent.
    pub(super) fn take(&mut self, bytes: usize) {
        self.0 -= i64::try_from(bytes).unwrap_or(MAX);
    }

    /// Changes it by what the reader says.
    ///
    /// # Errors
    /// It is larger than a window can be.
    pub(super) fn add(&mut self, bytes: i64) -> Result<(), Overflow> {
        self.0 += bytes;
        if self.0 > MAX { Err(Overflow) } else { Ok(()) }
    }
}

/// How much a peer may send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    left: u32,
    /// What was read, and the peer has not heard of.
    read: u32,
    /// What is read before the peer hears of it.
    step: u32,
}

impl Allowance {
    /// One of which the peer knows.
    pub(super) fn new(size: u32) -> Self {
        Self {
            left: size,
            read: 0,
            step: size / 2,
        }
    }

    /// Counts what came.
    ///
    /// # Errors
    /// There was no window for it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Overflow> {
        let bytes = u32::try_from(bytes).map_err(|_| Overflow)?;
        self.left = self.left.checked_sub(bytes).ok_or(Overflow)?;
        Ok(())
    }

    /// Counts what was read; returns by how much the peer is to hear that its window has grown, once that is worth a
    /// frame.
    pub(super) fn give_back(&mut self, bytes: usize) -> Option<u32> {
        self.read = self
            .read
            .saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        let is_worth_it = self.read > self.step;
        is_worth_it.then(|| {
            self.left = self.left.saturating_add(self.read);
            std::mem::take(&mut self.read)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_may_be_less_than_nothing() {
        let mut window = Window::new(100);
        window.take(60);
        assert_eq!(window.room(), 40);
        window.add(-50).unwrap();
        assert_eq!(window.room(), 0);
        window.add(20).unwrap();
        assert_eq!(window.room(), 10);
        assert_eq!(window.add(MAX - 10), Ok(()));
        assert_eq!(window.add(1), Err(Overflow));
    }

    #[test]
    fn what_was_read_is_given_back_in_large_pieces() {
        let mut allowance = Allowance::new(100);
        allowance.take(60).unwrap();
        assert_eq!(allowance.give_back(50), None);
        assert_eq!(allowance.take(41), Err(Overflow));
        assert_eq!(allowance.give_back(10), Some(60));
        assert_eq!(allowance.take(100), Ok(()));
    }
}
