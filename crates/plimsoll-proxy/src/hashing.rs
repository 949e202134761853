//! Hashing passwords beside a worker: one at a time, so that guessing takes no more than one core.

use std::cell::{Cell, RefCell};

use plimsoll_access::verified::Verified;
use tokio::sync::Semaphore;

/// Who waits for a password to be hashed, and what was found good.
#[derive(Debug)]
pub(crate) struct Hashing {
    pub(crate) verified: RefCell<Verified>,
    pub(crate) turn: Semaphore,
    pub(crate) waiting: Cell<usize>,
}

impl Hashing {
    /// Nobody waits; `random` is a source of secrets.
    pub(crate) fn new(mut random: impl FnMut() -> u64) -> Self {
        let mut seed = [0; 32];
        for part in seed.chunks_exact_mut(8) {
            part.copy_from_slice(&random().to_le_bytes());
        }
        Self {
            verified: RefCell::new(Verified::new(seed)),
            turn: Semaphore::new(1),
            waiting: Cell::new(0),
        }
    }

    /// Counts one who waits, until it is dropped.
    pub(crate) fn wait(&self) -> Waits<'_> {
        self.waiting.set(self.waiting.get() + 1);
        Waits(self)
    }
}

/// One who waits.
pub(crate) struct Waits<'a>(&'a Hashing);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}
