//! How much each key may ask for in a time: the generic cell rate algorithm (ITU-T I.371)
//! on a table of fixed size that all workers share without a lock.
//!
//! A key's whole state is one number, its theoretical arrival time: when the key would have asked
//! for what it did, had it kept to the rate. It may run ahead of the clock by the burst.
//!
//! # Memory
//! The table never grows. A key has eight places where it can be; when others hold all of them,
//! the one whose arrival time is oldest is evicted, and a key that was evicted starts afresh. An
//! arrival time in the past says nothing, so evicting such an entry loses nothing; with twice as
//! many entries as keys active within `burst / rate`, hardly any other is evicted.
//!
//! # What a flood of keys does
//! A client that invents keys faster than that pushes others out. It cannot push out a key with
//! a later arrival time than its own: a key at its limit stays as long as the invented keys stay
//! further from theirs, as they do when each is used once and the burst is 2 or more. Where the
//! burst is 1, or every invented key is used up to its limit too, a key is evicted about once
//! for every `entries` of them, and gets a burst more each time.

use crate::hash::{mix, scale};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::Duration;

/// How many entries one key can be in.
const WAYS: usize = 8;

/// How often an entry is looked for again when another worker took it: past this, a check is
/// allowed without being counted. Each turn means that another worker made progress.
const TURNS: usize = 16;

/// An amount in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many requests or bytes. 0 counts as 1.
    pub count: u32,
    /// In what time. Zero limits nothing.
    pub per: Duration,
}

/// What the limit says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is within the limit, and counted.
    Allowed {
        /// How much the key may ask for now without waiting.
        remaining: u32,
        /// The time until it may ask for a whole burst.
        reset: Duration,
    },
    /// It is above the limit, and not counted.
    Limited {
        /// The time until the same request is allowed, [`Duration::MAX`] if it never is.
        retry_after: Duration,
    },
}

/// A rate limit for each of many keys, shared by all workers.
///
/// A key is within its limit over any time: in `t` it gets at most `burst + rate * t`, and one
/// more where rounding to nanoseconds adds up to that (only if the burst is as high as the
/// nanoseconds between two requests). Workers whose clocks differ, or step back, get no more.
///
/// Keys should come from a hash with a secret seed, such as [`key_of_ip`](crate::key_of_ip): a
/// client that can choose eight keys of one set can have entries of that set evicted.
#[derive(Debug)]
pub struct RateTable {
    rate: Rate,
    burst: u32,
    /// The burst as a time: how far an arrival time may be ahead of the clock, in nanoseconds.
    ahead: u64,
    sets: Box<[Set]>,
}

/// The entries of the keys that share them. The tags fill one cache line, the times the next.
///
/// Once a tag is set it stays while its set has free places, so that one key is in one place and
/// exactly limited. When the set is full, a key may change hands between two steps of another
/// worker: either key may then be charged for the other's request or start afresh.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set {
    /// Whose entry it is; [`FREE`] if no one's.
    tags: [AtomicU64; WAYS],
    /// The theoretical arrival times in nanoseconds.
    arrivals: [AtomicU64; WAYS],
}

const FREE: u64 = 0;

/// Whose it is and the arrival time.
type Entry<'set> = (&'set AtomicU64, &'set AtomicU64);

impl RateTable {
    /// Creates a table of at least `entries` places of 16 bytes, in which each key may ask for
    /// `burst` at once (0 counts as 1) and for `rate` in the long run.
    #[must_use]
    pub fn new(rate: Rate, burst: u32, entries: usize) -> Self {
        let rate = Rate {
            count: rate.count.max(1),
            ..rate
        };
        let burst = burst.max(1);
        let sets = entries.div_ceil(WAYS).max(1);
        // Takes are rounded up: without a nanosecond more for each, the last would not fit.
        let exact = rate.per.as_nanos().is_multiple_of(rate.count.into());
        let rounding = if exact { 0 } else { time_of(1, rate) };
        Self {
            rate,
            burst,
            ahead: time_of(burst.into(), rate).saturating_add(rounding.min(burst.into())),
            sets: (0..sets).map(|_| Set::default()).collect(),
        }
    }

    /// Returns how much a key may ask for in the long run.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// Returns how much a key may ask for at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.burst
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// Takes one request of `key`, if its limit has it.
    #[inline]
    pub fn check(&self, key: u64, now: Duration) -> Verdict {
        self.take(key, 1, now)
    }

    /// Takes `cost` from what `key` may ask for, all of it or nothing.
    ///
    /// A cost above the burst is never allowed: a caller with more to send splits it.
    pub fn take(&self, key: u64, cost: u64, now: Duration) -> Verdict {
        if cost > self.burst.into() {
            let retry_after = Duration::MAX;
            return Verdict::Limited { retry_after };
        }
        let now = nanoseconds(now);
        let cost = time_of(cost, self.rate);
        let tag = mix(key).max(FREE + 1);
        let Some(set) = self.set_of(tag) else {
            return self.allowed(now, now);
        };
        for _ in 0..TURNS {
            let Some((owner, arrival)) = set.entry(tag, now) else {
                continue;
            };
            let charged = self.charge(arrival, cost, now);
            if owner.load(Acquire) != tag {
                continue; // the entry went to another key in between, and that one pays
            }
            return match charged {
                Ok(charged) => self.allowed(charged, now),
                Err(retry_after) => Verdict::Limited { retry_after },
            };
        }
        self.allowed(now, now)
    }

    fn set_of(&self, tag: u64) -> Option<&Set> {
        let set = scale(tag, self.sets.len() as u64);
        self.sets.get(usize::try_from(set).ok()?)
    }

    /// Moves `arrival` by `cost` and returns where to, or the time to wait until it can be moved.
    #[inline]
    fn charge(&self, arrival: &AtomicU64, cost: u64, now: u64) -> Result<u64, Duration> {
        let latest = now.saturating_add(self.ahead);
        let mut charged = now;
        let update = |before: u64| {
            charged = before.max(now).saturating_add(cost);
            (charged <= latest).then_some(charged)
        };
        match arrival.fetch_update(Relaxed, Relaxed, update) {
            Ok(_) => Ok(charged),
            Err(_) => Err(Duration::from_nanos(charged - latest)),
        }
    }

    fn allowed(&self, arrival: u64, now: u64) -> Verdict {
        let ahead = arrival.saturating_sub(now);
        Verdict::Allowed {
            remaining: self.amount_of(self.ahead.saturating_sub(ahead)),
            reset: Duration::from_nanos(ahead),
        }
    }

    /// Returns how much the rate gives in `time` nanoseconds, a burst at most.
    fn amount_of(&self, time: u64) -> u32 {
        let per = self.rate.per.as_nanos();
        let amount = (u128::from(time) * u128::from(self.rate.count)).checked_div(per);
        let amount = amount.and_then(|amount| u32::try_from(amount).ok());
        amount.unwrap_or(self.burst).min(self.burst)
    }
}

impl Set {
    /// Returns the entry of `tag`, which may have been someone else's until now, or nothing if
    /// another worker was faster.
    #[inline]
    fn entry(&self, tag: u64, now: u64) -> Option<Entry<'_>> {
        for (owner, arrival) in self.tags.iter().zip(&self.arrivals) {
            let holder = match owner.load(Acquire) {
                // Places are taken in order and never freed: behind the first free one is none.
                FREE => owner
                    .compare_exchange(FREE, tag, Release, Acquire)
                    .err()
                    .unwrap_or(tag),
                holder => holder,
            };
            if holder == tag {
                return Some((owner, arrival));
            }
        }
        self.evict(tag, now)
    }

    /// Gives the entry with the oldest arrival time to `tag`, or nothing if it moved meanwhile.
    #[cold]
    fn evict(&self, tag: u64, now: u64) -> Option<Entry<'_>> {
        let known = |entry: Entry<'_>| (entry.0.load(Acquire), entry.1.load(Relaxed));
        let (entry, (holder, oldest)) = (self.tags.iter().zip(&self.arrivals))
            .map(|entry| (entry, known(entry)))
            .min_by_key(|&(_, (_, arrival))| arrival)?;
        let (owner, arrival) = entry;
        arrival
            .compare_exchange(oldest, oldest.min(now), Relaxed, Relaxed)
            .ok()?;
        owner.compare_exchange(holder, tag, Release, Relaxed).ok()?;
        Some(entry)
    }
}

/// Returns the nanoseconds in which `rate` gives `amount`, rounded up.
fn time_of(amount: u64, rate: Rate) -> u64 {
    let time = u128::from(amount).saturating_mul(rate.per.as_nanos());
    u64::try_from(time.div_ceil(u128::from(rate.count.max(1)))).unwrap_or(u64::MAX)
}

fn nanoseconds(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    fn allowed(remaining: u32, reset: Duration) -> Verdict {
        Verdict::Allowed { remaining, reset }
    }

    fn limited(retry_after: Duration) -> Verdict {
        Verdict::Limited { retry_after }
    }

    /// Ten a second, three at once.
    fn table() -> RateTable {
        let rate = Rate {
            count: 10,
            per: ms(1_000),
        };
        RateTable::new(rate, 3, 64)
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_the_rate() {
        let table = table();
        assert_eq!(table.check(1, ms(0)), allowed(2, ms(100)));
        assert_eq!(table.check(1, ms(0)), allowed(1, ms(200)));
        assert_eq!(table.check(1, ms(0)), allowed(0, ms(300)));
        assert_eq!(table.check(1, ms(30)), limited(ms(70)));
        assert_eq!(table.check(1, ms(100)), allowed(0, ms(300)));
        assert_eq!(table.check(2, ms(100)), allowed(2, ms(100)));
    }

    #[test]
    fn a_refused_request_costs_nothing() {
        let table = table();
        assert_eq!(table.take(1, 2, ms(0)), allowed(1, ms(200)));
        for _ in 0..100 {
            assert_eq!(table.take(1, 2, ms(0)), limited(ms(100)));
        }
        assert_eq!(table.check(1, ms(0)), allowed(0, ms(300)));
    }

    #[test]
    fn the_wait_that_is_told_is_enough() {
        let table = RateTable::new(
            Rate {
                count: 7,
                per: ms(1_000),
            },
            5,
            8,
        );
        while let Verdict::Allowed { .. } = table.check(1, ms(13)) {}
        let Verdict::Limited { retry_after } = table.check(1, ms(13)) else {
            panic!("the burst is spent");
        };
        let then = ms(13) + retry_after;
        assert!(matches!(
            table.check(1, then - Duration::from_nanos(1)),
            Verdict::Limited { .. }
        ));
        assert!(matches!(table.check(1, then), Verdict::Allowed { .. }));
    }

    #[test]
    fn what_never_fits_is_told_so() {
        assert_eq!(table().take(1, 4, ms(0)), limited(Duration::MAX));
    }

    #[test]
    fn the_whole_burst_is_there_even_if_the_rate_is_no_whole_time() {
        let table = RateTable::new(
            Rate {
                count: 3,
                per: ms(1_000),
            },
            1_000,
            8,
        );
        assert!(matches!(
            table.take(1, 1_000, ms(0)),
            Verdict::Allowed { .. }
        ));
    }

    #[test]
    fn extreme_settings_do_not_overflow() {
        let huge = RateTable::new(
            Rate {
                count: 0,
                per: Duration::MAX,
            },
            u32::MAX,
            0,
        );
        let first = huge.check(u64::MAX, Duration::MAX);
        assert!(matches!(
            first,
            Verdict::Allowed { .. } | Verdict::Limited { .. }
        ));
        assert_eq!(huge.entries(), 8);
        let free = RateTable::new(
            Rate {
                count: 5,
                per: Duration::ZERO,
            },
            0,
            8,
        );
        (0..100).for_each(|_| assert_eq!(free.check(7, ms(1)), allowed(1, ms(0))));
    }

    #[test]
    fn a_full_set_evicts_the_oldest_arrival() {
        let table = RateTable::new(
            Rate {
                count: 10,
                per: ms(1_000),
            },
            2,
            8,
        );
        for (key, at) in (0..8).zip([3, 5, 1, 4, 6, 7, 8, 9]) {
            table.take(key, 2, ms(at));
        }
        assert!(matches!(table.check(2, ms(9)), Verdict::Limited { .. }));
        assert_eq!(
            table.check(99, ms(9)),
            allowed(1, ms(100)),
            "the newcomer starts afresh"
        );
        for key in [0, 1, 3, 4, 5, 6, 7] {
            assert!(
                matches!(table.check(key, ms(9)), Verdict::Limited { .. }),
                "{key}"
            );
        }
        assert_eq!(
            table.check(2, ms(9)),
            allowed(1, ms(100)),
            "and so does the evicted one"
        );
    }
}
