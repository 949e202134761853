//! What this process refuses because it has too little memory or time itself.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use plimsoll_balance::strain::{self, Lateness};
use plimsoll_config::model::Overload;
use plimsoll_net::buffer::BUFFER_BYTES;

/// How much memory is in use. The control thread looks now and then; what workers take in between
/// is reckoned, so that a crowd that comes at once does not come in before the next look.
#[derive(Debug)]
pub struct Memory {
    limit: AtomicU64,
    used: AtomicU64,
}

impl Default for Memory {
    /// Without a limit.
    fn default() -> Self {
        Self {
            limit: AtomicU64::new(u64::MAX),
            used: AtomicU64::new(0),
        }
    }
}

impl Memory {
    /// Takes note of what is in use and of what may be, in bytes.
    pub fn note(&self, used: u64, limit: u64) {
        self.limit.store(limit, Relaxed);
        self.used.store(used, Relaxed);
    }

    /// Takes note of `count` buffers that were made.
    pub(crate) fn note_buffers(&self, count: usize) {
        self.used.fetch_add((count * BUFFER_BYTES) as u64, Relaxed);
    }

    /// The strain of it.
    pub fn strain(&self) -> u16 {
        let (used, limit) = (self.used.load(Relaxed), self.limit.load(Relaxed));
        match used < limit / 2 {
            true => 0, // spares a division
            false => strain::of_memory(used, limit),
        }
    }

    /// Tells whether there is so little left that nothing new may begin.
    pub(crate) fn is_out(&self) -> bool {
        self.strain() >= strain::NOTHING_NEW
    }
}

/// How late a worker comes to what it has to do.
#[derive(Debug)]
pub(crate) struct Lag {
    lateness: Option<RefCell<Lateness>>,
    strain: Cell<u16>,
}

impl Lag {
    pub(crate) fn new(overload: Option<Overload>) -> Self {
        let lateness = overload.map(|overload| RefCell::new(Lateness::new(overload.lag)));
        Self {
            lateness,
            strain: Cell::new(0),
        }
    }

    /// Takes note of how late a turn came.
    pub(crate) fn note(&self, late: Duration) {
        if let Some(lateness) = &self.lateness {
            self.strain.set(lateness.borrow_mut().note(late));
        }
    }

    /// The strain of it.
    pub(crate) fn strain(&self) -> u16 {
        self.strain.get()
    }
}
