//! Slow start: a server that comes back cold takes a growing share of its requests, and at most as
//! large a part of those it may have at once: where others are full, or there is no other, everyone
//! would come at once.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The share of a server that takes all that comes to it.
pub(crate) const FULL_SHARE: u8 = u8::MAX;

/// The share at the beginning: one in ten.
const FIRST_SHARE: u8 = FULL_SHARE / 10;

/// How much of its share a server takes.
#[derive(Debug)]
pub(crate) struct Ramp {
    /// How far up it is, times what the server says it can take, times what the operator lets it have.
    share: AtomicU8,
    climbed: AtomicU8,
    /// When the ramp began, in milliseconds.
    began: AtomicU64,
    /// What the server says it can take, in percent.
    advised: AtomicU8,
    /// What the operator lets it have, in percent.
    portion: AtomicU8,
}

impl Default for Ramp {
    fn default() -> Self {
        Self {
            share: AtomicU8::new(FULL_SHARE),
            climbed: AtomicU8::new(FULL_SHARE),
            began: AtomicU64::new(NEVER),
            advised: AtomicU8::new(100),
            portion: AtomicU8::new(100),
        }
    }
}

/// Not on a ramp.
const NEVER: u64 = u64::MAX;

impl Ramp {
    #[inline]
    pub(crate) fn share(&self) -> u8 {
        self.share.load(Relaxed)
    }

    /// Returns how many of `max` requests at once it takes on its way up, one at least.
    #[inline]
    pub(crate) fn part(&self, max: NonZeroU32) -> NonZeroU32 {
        let climbed = self.climbed.load(Relaxed);
        if climbed == FULL_SHARE {
            return max;
        }
        let part = (u64::from(max.get()) * u64::from(climbed)).div_ceil(u64::from(FULL_SHARE));
        let part = u32::try_from(part).ok().and_then(NonZeroU32::new);
        part.unwrap_or(NonZeroU32::MIN)
    }

    /// Begins at the foot, if there is a ramp at all.
    pub(crate) fn begin(&self, length: Option<Duration>, now: Duration) {
        if length.is_some() {
            self.began
                .store(u64::try_from(now.as_millis()).unwrap_or(NEVER - 1), Relaxed);
            self.advance(length, now);
        }
    }

    /// Sets what the server says it can take.
    pub(crate) fn advise(&self, percent: u8, length: Option<Duration>, now: Duration) {
        self.advised.store(percent.min(100), Relaxed);
        self.advance(length, now);
    }

    /// Returns what the operator lets it have, in percent.
    pub(crate) fn portion(&self) -> u8 {
        self.portion.load(Relaxed)
    }

    /// Sets what the operator lets it have.
    pub(crate) fn apportion(&self, percent: u8, length: Option<Duration>, now: Duration) {
        self.portion.store(percent.min(100), Relaxed);
        self.advance(length, now);
    }

    /// Goes up as time passes.
    pub(crate) fn advance(&self, length: Option<Duration>, now: Duration) {
        let began = self.began.load(Relaxed);
        let climbed = match length {
            Some(length) if began != NEVER => {
                climb(now.saturating_sub(Duration::from_millis(began)), length)
            }
            _ => FULL_SHARE,
        };
        if climbed == FULL_SHARE {
            self.began.store(NEVER, Relaxed);
        }
        self.climbed.store(climbed, Relaxed);
        let percent = |of: &AtomicU8| u32::from(of.load(Relaxed));
        let share = u32::from(climbed) * percent(&self.advised) * percent(&self.portion) / 10_000;
        self.share
            .store(u8::try_from(share).unwrap_or(FULL_SHARE), Relaxed);
    }
}

fn climb(elapsed: Duration, length: Duration) -> u8 {
    if elapsed >= length {
        return FULL_SHARE;
    }
    let (elapsed, length) = (elapsed.as_millis(), length.as_millis().max(1));
    let share = u128::from(FULL_SHARE) * elapsed / length;
    u8::try_from(share).unwrap_or(FULL_SHARE).max(FIRST_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_to_the_full_one_and_stays() {
        let (ramp, length) = (Ramp::default(), Some(Duration::from_secs(30)));
        let at = |seconds| {
            ramp.advance(length, Duration::from_secs(seconds));
            ramp.share()
        };
        assert_eq!(at(0), FULL_SHARE);
        ramp.begin(length, Duration::from_secs(100));
        assert_eq!(
            [at(100), at(115), at(129), at(130), at(500)],
            [25, 127, 246, 255, 255]
        );
        ramp.advise(50, length, Duration::from_secs(500));
        assert_eq!(ramp.share(), 127);
        ramp.apportion(50, length, Duration::from_secs(500));
        assert_eq!(ramp.share(), 63);
        ramp.begin(None, Duration::from_secs(500));
        assert_eq!(at(501), 63);
    }

    #[test]
    fn on_the_way_up_a_part_may_come_at_once_whatever_the_server_says() {
        let (ramp, length) = (Ramp::default(), Some(Duration::from_secs(30)));
        let parts = |seconds| {
            ramp.advance(length, Duration::from_secs(seconds));
            [1, 20, u32::MAX].map(|max| ramp.part(NonZeroU32::new(max).unwrap()).get())
        };
        assert_eq!(parts(0), [1, 20, u32::MAX]);
        ramp.begin(length, Duration::from_secs(100));
        ramp.advise(50, length, Duration::from_secs(100));
        assert_eq!(parts(100), [1, 2, 421_075_225]);
        assert_eq!(parts(115)[..2], [1, 10]);
        assert_eq!(parts(130), [1, 20, u32::MAX]);
    }
}
