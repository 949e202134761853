//! One worker's part of a limit that follows the times of answers.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use plimsoll_balance::gradient::Limit;
use plimsoll_config::model::Adaptive;

/// How many requests a pool may have from this worker.
#[derive(Debug)]
pub(crate) struct Throttle {
    limit: RefCell<Limit>,
    in_flight: Cell<u32>,
}

/// A request that counts, until it is dropped.
#[derive(Debug)]
pub(crate) struct Pass<'a>(&'a Throttle);

impl Throttle {
    pub(crate) fn new(range: Adaptive, workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        let part = |whole: u32| whole.div_ceil(workers);
        Self {
            limit: RefCell::new(Limit::new(part(range.min), part(range.max))),
            in_flight: Cell::new(0),
        }
    }

    /// Lets a request pass, if there are fewer than the limit.
    pub(crate) fn enter(&self) -> Option<Pass<'_>> {
        let in_flight = self.in_flight.get();
        (in_flight < self.limit()).then(|| {
            self.in_flight.set(in_flight + 1);
            Pass(self)
        })
    }

    pub(crate) fn has_room(&self) -> bool {
        self.in_flight.get() < self.limit()
    }

    pub(crate) fn limit(&self) -> u32 {
        self.limit.borrow().limit()
    }
}

impl Pass<'_> {
    /// Learns how long the answer took.
    pub(crate) fn learn(&self, took: Duration, now: Duration) {
        self.0
            .limit
            .borrow_mut()
            .sample(took, self.0.in_flight.get(), now);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}
