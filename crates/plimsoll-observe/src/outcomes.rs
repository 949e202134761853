//! What came of what one configuration has served, whoever asked for it: to compare two that are served at once.

use std::time::Duration;

use crate::counter::Counter;
use crate::histogram::{Counts, Histogram};

/// What one worker counts for one configuration. It does not go on with the next one.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// Connections that came.
    pub connections: Counter,
    failed: Counter,
    durations: Histogram,
}

impl Outcomes {
    /// Counts an exchange. `has_failed` says that a server failed it, or that there was none for it.
    pub fn note(&self, took: Duration, has_failed: bool) {
        if has_failed {
            self.failed.add(1);
        }
        self.durations.record(took);
    }
}

/// The outcomes of all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections that came.
    pub connections: u64,
    /// Exchanges that failed.
    pub failed: u64,
    /// All exchanges, by how long they took.
    pub durations: Counts,
}

impl Tally {
    /// Adds what a worker has counted.
    pub fn add(&mut self, of: &Outcomes) {
        self.connections += of.connections.value();
        self.failed += of.failed.value();
        self.durations.add(&of.durations);
    }

    /// What has come since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            connections: self.connections.saturating_sub(before.connections),
            failed: self.failed.saturating_sub(before.failed),
            durations: self.durations.since(&before.durations),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_counted_together_and_what_was_before_is_not() {
        let (one, other) = (Outcomes::default(), Outcomes::default());
        one.connections.add(2);
        one.note(Duration::from_millis(1), false);
        let tally = || {
            let mut tally = Tally::default();
            [&one, &other].into_iter().for_each(|of| tally.add(of));
            tally
        };
        let before = tally();
        other.connections.add(1);
        other.note(Duration::from_millis(3), true);
        let since = tally().since(&before);
        assert_eq!((since.connections, since.failed), (1, 1));
        assert_eq!(since.durations.all().iter().sum::<u64>(), 1);
        assert_eq!(tally().durations.all().iter().sum::<u64>(), 2);
    }
}
