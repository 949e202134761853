//! What is refused when the process itself runs out of memory or time.
//!
//! Strain is a number of per cent: 50 refuses half of the requests of low priority, 100 all of
//! them, 150 also half of the normal ones, 300 everything. A share that grows step by step finds
//! the load that can be carried; to refuse all or nothing would swing between idle and too late.

use std::time::Duration;

/// At which everything is refused.
pub const MOST: u16 = 300;

/// At which nothing new begins that can wait outside.
pub const NOTHING_NEW: u16 = 200;

/// Shares of the memory, in thousandths, between which requests of low, normal and high priority
/// are refused.
const MEMORY: [u16; 4] = [850, 900, 950, 980];

/// By how much strain grows with each late turn, and shrinks with each one in time.
const STEP_UP: u16 = 10;
const STEP_DOWN: u16 = 5;

/// Tells whether a request is refused; `rank` is 0 for those that are refused first.
pub fn refuses(strain: u16, rank: u8, random: u64) -> bool {
    let share = strain.saturating_sub(u16::from(rank) * 100);
    random % 100 < u64::from(share)
}

/// The strain when `used` of `limit` bytes of memory are in use.
pub fn of_memory(used: u64, limit: u64) -> u16 {
    let per_mille = used.saturating_mul(1000) / limit.max(1);
    let per_mille = u16::try_from(per_mille).unwrap_or(u16::MAX);
    let steps = MEMORY.windows(2).map(|step| match *step {
        [from, to] => (per_mille.clamp(from, to) - from) * 100 / (to - from),
        _ => 0,
    });
    steps.sum()
}

/// The strain of one who comes too late to what it has to do.
#[derive(Clone, Debug)]
pub struct Lateness {
    /// How late is too late.
    bearable: Duration,
    strain: u16,
    was_late: bool,
}

impl Lateness {
    /// No strain yet; being late up to `bearable` is none.
    pub fn new(bearable: Duration) -> Self {
        Self {
            bearable,
            strain: 0,
            was_late: false,
        }
    }

    /// Takes note of how late a turn came, and returns the strain.
    ///
    /// One late turn is a pause of the machine; two in a row are a queue. Strain stays while turns
    /// are late by more than half of what is bearable.
    pub fn note(&mut self, late: Duration) -> u16 {
        let is_late = late > self.bearable;
        if is_late && self.was_late {
            self.strain = (self.strain + STEP_UP).min(MOST);
        } else if late <= self.bearable / 2 {
            self.strain = self.strain.saturating_sub(STEP_DOWN);
        }
        self.was_late = is_late;
        self.strain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn share(strain: u16, rank: u8) -> usize {
        (0..100)
            .filter(|random| refuses(strain, rank, *random))
            .count()
    }

    #[test]
    fn the_lower_the_priority_the_sooner_a_request_is_refused() {
        let refused = |strain| [0, 1, 2].map(|rank| share(strain, rank));
        assert_eq!(refused(0), [0, 0, 0]);
        assert_eq!(refused(50), [50, 0, 0]);
        assert_eq!(refused(130), [100, 30, 0]);
        assert_eq!(refused(MOST), [100, 100, 100]);
    }

    #[test]
    fn strain_grows_with_the_memory_in_use_and_never_shrinks_with_it() {
        let strain = |used| of_memory(used, 1000);
        assert_eq!([0, 850, 875].map(strain), [0, 0, 50]);
        assert_eq!([900, 950, 980, 7000].map(strain), [100, 200, MOST, MOST]);
        assert_eq!(of_memory(u64::MAX, u64::MAX), 0, "no limit");
        let all: Vec<u16> = (0..1000).map(strain).collect();
        assert!(all.is_sorted());
    }

    #[test]
    fn one_pause_is_forgiven() {
        let mut lateness = Lateness::new(MS(100));
        for _ in 0..10 {
            assert_eq!(lateness.note(MS(5000)), 0);
            assert_eq!(lateness.note(MS(0)), 0);
        }
    }

    #[test]
    fn lasting_lateness_refuses_more_and_more_until_turns_come_in_time() {
        let mut lateness = Lateness::new(MS(100));
        let late = (0..100).map(|_| lateness.note(MS(150))).max();
        assert_eq!(late, Some(MOST));
        assert_eq!(lateness.note(MS(80)), MOST, "not better enough");
        let rest = (0..100).map(|_| lateness.note(MS(10))).last();
        assert_eq!(rest, Some(0));
    }

    /// A worker that can do 1,000 requests a turn, offered 3,000: what it is late by is what it
    /// could not do yet.
    #[test]
    fn the_share_that_is_refused_settles_where_the_rest_can_be_done() {
        let mut lateness = Lateness::new(MS(100));
        let (mut backlog, mut strain) = (0.0_f64, 0);
        let mut done = Vec::new();
        for turn in 0..1000 {
            let refused = f64::from(strain.min(200)).max(100.0) - 100.0;
            backlog += 3000.0 * (1.0 - refused / 100.0);
            let now = backlog.min(1000.0);
            backlog -= now;
            strain = lateness.note(Duration::from_secs_f64(backlog / 10_000.0));
            if turn >= 500 {
                done.push(now);
            }
        }
        let mean = done.iter().sum::<f64>() / done.len() as f64;
        assert!(mean > 850.0, "{mean}");
    }
}
