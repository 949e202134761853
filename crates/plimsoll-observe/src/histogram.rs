//! Durations by size.

use std::time::Duration;

use crate::counter::Counter;

/// Upper bounds of the buckets in microseconds; one more bucket takes what is longer.
pub const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 10_000_000, 60_000_000,
];

/// How often durations of which size were seen.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BOUNDS_US.len() + 1],
    sum_us: Counter,
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|&bound| bound < us);
        if let Some(counter) = self.buckets.get(bucket) {
            counter.add(1);
        }
        self.sum_us.add(us);
    }

    /// The counts, one a bucket, not summed up.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().map(Counter::value)
    }

    /// All durations together.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.value()
    }
}

/// How many durations of each size there were, of one histogram or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; BOUNDS_US.len() + 1]);

impl Counts {
    /// Adds what a histogram has counted.
    pub fn add(&mut self, histogram: &Histogram) {
        for (total, count) in self.0.iter_mut().zip(histogram.counts()) {
            *total += count;
        }
    }

    /// Adds others.
    pub fn merge(&mut self, others: &Self) {
        for (total, count) in self.0.iter_mut().zip(others.0) {
            *total += count;
        }
    }

    /// What has come since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut counts = *self;
        for (count, before) in counts.0.iter_mut().zip(before.0) {
            *count = count.saturating_sub(before);
        }
        counts
    }

    /// One count for each of [`BOUNDS_US`], and one for what is longer.
    pub fn all(&self) -> &[u64] {
        &self.0
    }

    /// The duration in seconds that a part of them, 0 to 1, does not exceed; nothing when there are none. Within
    /// a bucket they are taken as evenly spread, and what is longer than the last bound as just that long.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let total: u64 = self.0.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = part.clamp(0.0, 1.0) * to_f64(total);
        let (mut below, mut low) = (0.0, 0.0);
        for (count, bound) in self.0.iter().zip(BOUNDS_US) {
            let (count, high) = (to_f64(*count), to_f64(bound) / 1e6);
            if count > 0.0 && below + count >= wanted {
                return Some(low + (high - low) * (wanted - below) / count);
            }
            (below, low) = (below + count, high);
        }
        Some(low)
    }
}

/// Counts are exact up to 2^53, which takes a while.
fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_in_the_bucket_that_holds_it() {
        let (histogram, mut counts) = (Histogram::default(), Counts::default());
        assert_eq!(counts.quantile(0.5), None);
        for us in [150, 150, 900, 900] {
            histogram.record(Duration::from_micros(us));
        }
        counts.add(&histogram);
        let micros = |part| (counts.quantile(part).unwrap() * 1e6).round();
        // Two of four end with the bucket from 100 to 250 us, all with that from 500 to 1,000.
        assert_eq!([micros(0.25), micros(0.5)], [175.0, 250.0]);
        assert_eq!([micros(0.75), micros(1.0)], [750.0, 1000.0]);
        histogram.record(Duration::from_secs(100));
        let mut later = Counts::default();
        later.add(&histogram);
        assert_eq!(later.since(&counts).quantile(0.5), Some(60.0));
    }

    #[test]
    fn a_duration_falls_into_the_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for us in [0, 100, 101, 60_000_000, 60_000_001] {
            histogram.record(Duration::from_micros(us));
        }
        let counts: Vec<u64> = histogram.counts().collect();
        assert_eq!((counts[0], counts[1], counts[15], counts[16]), (2, 1, 1, 1));
        assert_eq!(histogram.sum_us(), 120_000_202);
    }
}
