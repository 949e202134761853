//! Numbers that one worker writes and a scrape reads.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A count with one writer, so that adding needs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the worker that owns the counter may call this.
    pub fn add(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).wrapping_add(n),
            Ordering::Relaxed,
        );
    }

    /// Subtracts `n`, for gauges. Only the worker that owns the counter may call this.
    pub fn subtract(&self, n: u64) {
        self.0.store(
            self.0.load(Ordering::Relaxed).saturating_sub(n),
            Ordering::Relaxed,
        );
    }

    /// Sets the value of a gauge. Only the worker that owns it may call this.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The first status code that is counted.
pub const CODE_MIN: u16 = 100;
const CODES: usize = 500;

/// Counts by status code. The table is made when the first code is counted: most methods of most
/// sites never are.
#[derive(Debug, Default)]
pub struct CodeCounters(OnceLock<Box<[Counter]>>);

impl CodeCounters {
    /// Counts one `code`, 100 to 599.
    pub fn count(&self, code: u16) {
        let table = self
            .0
            .get_or_init(|| (0..CODES).map(|_| Counter::default()).collect());
        if let Some(counter) = table.get(usize::from(code.saturating_sub(CODE_MIN))) {
            counter.add(1);
        }
    }

    /// How often `code` was counted.
    pub fn value(&self, code: u16) -> u64 {
        let at = usize::from(code.saturating_sub(CODE_MIN));
        self.0
            .get()
            .and_then(|table| table.get(at))
            .map_or(0, Counter::value)
    }

    /// How often codes of each class were counted, 1xx to 5xx.
    pub fn classes(&self) -> [u64; 5] {
        let mut classes = [0; 5];
        if let Some(table) = self.0.get() {
            for (class, counters) in classes.iter_mut().zip(table.chunks(CODES / 5)) {
                *class = counters.iter().map(Counter::value).sum();
            }
        }
        classes
    }

    /// Tells whether any code was ever counted.
    pub fn is_used(&self) -> bool {
        self.0.get().is_some()
    }
}
