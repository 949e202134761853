//! How long a server takes to answer, as one atomic number that all workers update.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The time after which an old observation has lost 63 % of its weight.
const DECAY_SECONDS: f32 = 10.0;

/// Keeps an estimate above zero, so that it stays comparable and is never taken for "no sample".
const FLOOR_SECONDS: f32 = 1e-6;

/// A peak-sensitive moving average: it jumps up to a slower answer at once and comes down over
/// about ten seconds, so that one bad second is avoided and not averaged away.
///
/// Value and time live in one word (an `f32` of seconds above 32 bits of milliseconds), because
/// a value paired with another update's time would decay by a wrong amount. The clock wraps
/// after 49 days; the pair only needs differences. Zero is "no sample yet".
#[derive(Debug, Default)]
pub(crate) struct PeakEwma(AtomicU64);

impl PeakEwma {
    /// Adds the observation `sample`, made at `now`.
    pub(crate) fn record(&self, sample: Duration, now: Duration) {
        let sample = sample.as_secs_f32().max(FLOOR_SECONDS);
        let now = milliseconds(now);
        let update = |packed| {
            let Some((value, stamp)) = unpack(packed) else {
                return Some(pack(sample, now));
            };
            let elapsed = since(stamp, now);
            if sample >= value {
                return Some(pack(sample, now));
            }
            if elapsed == 0 {
                // Moving the stamp by less than its resolution would stop the decay on a busy
                // server: one lower sample a millisecond is enough.
                return None;
            }
            let kept = decay(elapsed);
            Some(pack(
                (value * kept + sample * (1.0 - kept)).max(FLOOR_SECONDS),
                now,
            ))
        };
        let _ = self.0.fetch_update(Relaxed, Relaxed, update); // Err means nothing to change
    }

    /// Returns the estimate in seconds, or nothing before the first sample.
    ///
    /// It falls while no sample arrives, so that a server that was slow once is asked again.
    #[inline]
    pub(crate) fn estimate(&self, now: Duration) -> Option<f32> {
        let (value, stamp) = unpack(self.0.load(Relaxed))?;
        let elapsed = since(stamp, milliseconds(now));
        if elapsed == 0 {
            return Some(value);
        }
        Some((value * decay(elapsed)).max(FLOOR_SECONDS))
    }
}

fn pack(seconds: f32, stamp: u32) -> u64 {
    (u64::from(seconds.to_bits()) << 32) | u64::from(stamp)
}

fn unpack(packed: u64) -> Option<(f32, u32)> {
    let value = (packed >> 32) as u32;
    (value != 0).then(|| (f32::from_bits(value), (packed & 0xffff_ffff) as u32))
}

fn milliseconds(now: Duration) -> u32 {
    (now.as_millis() & 0xffff_ffff) as u32
}

/// Returns the milliseconds from `stamp` to `now`, zero when another worker's clock is ahead.
fn since(stamp: u32, now: u32) -> u32 {
    let elapsed = now.wrapping_sub(stamp);
    if elapsed > u32::MAX / 2 { 0 } else { elapsed }
}

fn decay(elapsed_ms: u32) -> f32 {
    (-Duration::from_millis(u64::from(elapsed_ms)).as_secs_f32() / DECAY_SECONDS).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    #[test]
    fn has_no_estimate_before_the_first_sample() {
        assert_eq!(PeakEwma::default().estimate(ms(5)), None);
    }

    #[test]
    fn jumps_up_and_comes_down_slowly() {
        let ewma = PeakEwma::default();
        ewma.record(ms(10), ms(0));
        ewma.record(ms(500), ms(1));
        assert_eq!(ewma.estimate(ms(1)), Some(0.5));
        ewma.record(ms(10), ms(1_001));
        let after_a_second = ewma.estimate(ms(1_001)).unwrap();
        assert!((0.44..0.46).contains(&after_a_second), "{after_a_second}");
    }

    #[test]
    fn fades_while_nothing_is_sent() {
        let ewma = PeakEwma::default();
        ewma.record(ms(1_000), ms(0));
        let faded = ewma.estimate(ms(10_000)).unwrap();
        assert!((0.36..0.38).contains(&faded), "{faded}");
        assert_eq!(ewma.estimate(ms(10_000_000)), Some(FLOOR_SECONDS));
    }

    #[test]
    fn keeps_decaying_under_more_than_one_sample_a_millisecond() {
        let ewma = PeakEwma::default();
        ewma.record(ms(1_000), Duration::ZERO);
        for tick in 0..400_000_u64 {
            ewma.record(ms(1), Duration::from_micros(tick * 100));
        }
        let settled = ewma.estimate(ms(40_000)).unwrap();
        assert!(settled < 0.03, "{settled}");
    }

    #[test]
    fn a_clock_that_wraps_or_steps_back_a_little_is_harmless() {
        let ewma = PeakEwma::default();
        ewma.record(ms(100), ms(0xffff_ffff));
        assert!(ewma.estimate(ms(0x1_0000_0003)).unwrap() > 0.099);
        assert_eq!(ewma.estimate(ms(0xffff_fff0)), Some(0.1));
    }
}
