//! A percentile of recent times, known within a fifth.
//!
//! Times are counted in classes that grow by a quarter of an octave each, from one microsecond to
//! a minute. After every [`MEMORY`] of them all counts are halved, so that what is long ago fades.

use std::time::Duration;

/// After how many times the counts are halved.
const MEMORY: u32 = 1_024;

/// Fewer times than this tell nothing of a percentile.
const ENOUGH: u32 = 100;

/// Classes for each doubling of the time.
const STEPS: usize = 4;

/// Up to 2^26 microseconds, 67 seconds; what is above counts as that.
const OCTAVES: usize = 26;

const CLASSES: usize = OCTAVES * STEPS;

/// Estimates a percentile of the times it is told.
#[derive(Clone, Debug)]
pub struct Percentile {
    /// In thousandths.
    share: u32,
    counts: [u32; CLASSES],
    /// The sum of `counts`.
    total: u32,
    /// How many came since the counts were halved.
    fresh: u32,
}

impl Percentile {
    /// Creates an estimate of the time that `share` thousandths of all times do not exceed.
    #[must_use]
    pub fn new(share: u32) -> Self {
        Self {
            share: share.min(1_000),
            counts: [0; CLASSES],
            total: 0,
            fresh: 0,
        }
    }

    /// Learns one more time.
    pub fn note(&mut self, took: Duration) {
        if let Some(count) = self.counts.get_mut(class(took)) {
            *count += 1;
            self.total += 1;
            self.fresh += 1;
        }
        if self.fresh >= MEMORY {
            self.fresh = 0;
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().sum();
        }
    }

    /// Returns the estimate, which is never too low; nothing before enough times are known.
    #[must_use]
    pub fn value(&self) -> Option<Duration> {
        if self.total < ENOUGH {
            return None;
        }
        let mut above = u64::from(self.total) * u64::from(1_000 - self.share) / 1_000;
        for (class, &count) in self.counts.iter().enumerate().rev() {
            match above.checked_sub(count.into()) {
                Some(left) => above = left,
                None => return Some(end(class)),
            }
        }
        None
    }
}

/// The class of a time: its highest bit and the two below it.
fn class(took: Duration) -> usize {
    let micros = usize::try_from(took.as_micros()).unwrap_or(usize::MAX);
    let micros = micros.clamp(1, (1 << OCTAVES) - 1);
    let octave = micros.ilog2() as usize;
    octave * STEPS + ((micros * STEPS) >> octave) % STEPS
}

/// The first time above a class.
fn end(class: usize) -> Duration {
    let (octave, step) = (class / STEPS, class % STEPS);
    Duration::from_micros((((STEPS + step + 1) as u64) << octave).div_ceil(STEPS as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_below_the_end_of_its_class_and_near_it() {
        for micros in (1..2_000).chain([4_095, 4_096, 1_000_000, 60_000_000]) {
            let time = Duration::from_micros(micros);
            let end = end(class(time));
            assert!(time < end, "{time:?} {end:?}");
            assert!(
                end <= time * 5 / 4 + Duration::from_micros(2),
                "{time:?} {end:?}"
            );
        }
        assert_eq!(class(Duration::MAX), CLASSES - 1);
    }

    #[test]
    fn estimates_within_a_fifth() {
        let mut estimate = Percentile::new(950);
        assert_eq!(estimate.value(), None);
        for millis in 0..1_000 {
            estimate.note(Duration::from_millis(millis % 100 + 1));
        }
        let p95 = estimate.value().unwrap();
        let expected = Duration::from_millis(95)..=Duration::from_millis(115);
        assert!(expected.contains(&p95), "{p95:?}");
    }

    #[test]
    fn what_is_long_ago_fades() {
        let mut estimate = Percentile::new(950);
        for _ in 0..100_000 {
            estimate.note(Duration::from_secs(1));
        }
        for _ in 0..6 * MEMORY {
            estimate.note(Duration::from_millis(1));
        }
        assert!(estimate.value() < Some(Duration::from_millis(2)));
    }
}
