//! How many requests may be sent again: a share of those that came, plus a small reserve.
//!
//! A fixed number of retries per request multiplies the load of servers that already fail. A
//! budget bounds the multiplication instead, as Finagle's `RetryBudget` and linkerd do: with a
//! share of 200 per mille, retries add a fifth to the load at most, however much fails. The
//! reserve lets a service retry that has next to no traffic.
//!
//! What is not spent is forgotten after [`WINDOW`], so that a quiet day saves up no storm.

use std::time::Duration;

/// The time over which requests and retries are counted.
pub const WINDOW: Duration = Duration::from_secs(SLOTS as u64);

/// A slot is one second.
const SLOTS: usize = 10;

/// What one retry costs, and one request earns a share of.
const ONE: u64 = 1_000;

/// A retry budget. One per worker and pool, so it needs no atomics.
///
/// # The bound
/// Count seconds as the clock of `now` does. In any ten of them, and in any longer run of `n`,
/// the retries are at most `share` of the requests of that run and the nine seconds before, plus
/// `reserve` for each second of the run, rounded up to tens.
#[derive(Clone, Debug)]
pub struct Budget {
    share: u64,
    /// What the reserve gives to a whole window, in thousandths of a retry.
    reserve: u64,
    slots: [Counts; SLOTS],
    /// The sum of `slots`.
    total: Counts,
    /// The second that is counted now.
    current: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    retries: u64,
}

impl Budget {
    /// Creates a budget of `share` thousandths of the requests, plus `reserve` retries a second.
    /// A share above 1000 allows more than one retry per request.
    #[must_use]
    pub fn new(share: u32, reserve: u32) -> Self {
        Self {
            share: share.into(),
            reserve: u64::from(reserve) * ONE * WINDOW.as_secs(),
            slots: [Counts::default(); SLOTS],
            total: Counts::default(),
            current: 0,
        }
    }

    /// Counts a request that came from a client; its retries do not count again.
    #[inline]
    pub fn note_request(&mut self, now: Duration) {
        self.advance(now);
        self.add(|counts| &mut counts.requests);
    }

    /// Spends one retry, if the budget has it.
    #[must_use = "a retry that was spent and not made is lost"]
    pub fn try_retry(&mut self, now: Duration) -> bool {
        self.advance(now);
        let earned = self.total.requests.saturating_mul(self.share);
        let earned = earned.saturating_add(self.reserve);
        let spent = (self.total.retries + 1).saturating_mul(ONE);
        let allowed = spent <= earned;
        if allowed {
            self.add(|counts| &mut counts.retries);
        }
        allowed
    }

    fn add(&mut self, field: impl Fn(&mut Counts) -> &mut u64) {
        *field(&mut self.total) += 1;
        if let Some(slot) = self.slots.get_mut(position(self.current)) {
            *field(slot) += 1;
        }
    }

    /// Forgets the slots that `now` has left behind. A clock that steps back counts as one that
    /// stands still.
    #[inline]
    fn advance(&mut self, now: Duration) {
        let second = now.as_secs();
        if second > self.current {
            self.forget(second);
        }
    }

    fn forget(&mut self, second: u64) {
        let steps = (second - self.current).min(SLOTS as u64);
        for step in 1..=steps {
            // invariant: the slots from the oldest on, each at most once
            if let Some(slot) = self.slots.get_mut(position(self.current + step)) {
                self.total.requests -= slot.requests;
                self.total.retries -= slot.retries;
                *slot = Counts::default();
            }
        }
        self.current = second;
    }
}

fn position(second: u64) -> usize {
    usize::try_from(second % SLOTS as u64).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &mut Budget, now: Duration) -> usize {
        (0..10_000).take_while(|_| budget.try_retry(now)).count()
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_fifth_of_the_requests_may_be_repeated() {
        let mut budget = Budget::new(200, 0);
        (0..14).for_each(|_| budget.note_request(s(0)));
        assert_eq!(spend(&mut budget, s(0)), 2);
        budget.note_request(s(1));
        assert_eq!(spend(&mut budget, s(1)), 1);
    }

    #[test]
    fn the_reserve_is_there_without_requests() {
        let mut budget = Budget::new(0, 3);
        assert_eq!(spend(&mut budget, s(5)), 30);
        assert_eq!(spend(&mut budget, s(14)), 0);
        assert_eq!(spend(&mut budget, s(15)), 30);
    }

    #[test]
    fn what_is_not_spent_is_forgotten() {
        let mut budget = Budget::new(1_000, 0);
        (0..50).for_each(|_| budget.note_request(s(3)));
        let (mut nearly, mut past) = (budget.clone(), budget);
        assert_eq!(spend(&mut nearly, s(12)), 50);
        assert_eq!(spend(&mut past, s(13)), 0);
    }

    #[test]
    fn a_long_silence_empties_every_slot() {
        let mut budget = Budget::new(1_000, 0);
        (0..30).for_each(|second| budget.note_request(s(second)));
        assert_eq!(spend(&mut budget, s(1_000_000)), 0);
    }

    #[test]
    fn a_clock_that_steps_back_earns_nothing() {
        let mut budget = Budget::new(1_000, 1);
        budget.note_request(s(100));
        assert_eq!(spend(&mut budget, s(100)), 11);
        assert_eq!(spend(&mut budget, s(3)), 0);
        assert_eq!(spend(&mut budget, s(100)), 0);
    }
}
