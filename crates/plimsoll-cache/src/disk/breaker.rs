//! Keeping off a disk that fails: for a while, and then for a longer one, until it works.

use std::time::Duration;

/// Failures in a row after which a disk is left alone.
const FAILURES_MAX: u32 = 5;

/// How long it is left alone at first, and at most.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// How a disk has fared with one kind of work.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Failures in a row.
    failures: u32,
    /// Until when it is left alone, and for how long that is.
    off: Option<(Duration, Duration)>,
}

/// What is worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It is left alone from now on.
    Off,
    /// It works again.
    On,
}

impl Breaker {
    /// Tells whether something may be tried. When a while is over, one thing may, and the others wait for what comes of it.
    pub(super) fn allows(&mut self, now: Duration) -> bool {
        let Some((until, wait)) = self.off else {
            return true;
        };
        let is_over = now >= until;
        if is_over {
            self.off = Some((now + wait, wait));
        }
        is_over
    }

    /// Tells whether all may be tried.
    pub(super) fn is_on(&self) -> bool {
        self.off.is_none()
    }

    /// Takes note that something worked.
    pub(super) fn succeed(&mut self) -> Option<Turn> {
        self.failures = 0;
        self.off.take().map(|_| Turn::On)
    }

    /// Takes note that something failed.
    pub(super) fn fail(&mut self, now: Duration) -> Option<Turn> {
        self.failures = self.failures.saturating_add(1);
        let wait = match self.off {
            Some((_, wait)) => (wait * 2).min(LONGEST),
            None if self.failures >= FAILURES_MAX => FIRST,
            None => return None,
        };
        let was_on = self.is_on();
        self.off = Some((now + wait, wait));
        was_on.then_some(Turn::Off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_fails_is_left_alone_and_tried_now_and_then() {
        let second = Duration::from_secs;
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.fail(second(0)), None);
        }
        assert_eq!(breaker.succeed(), None);
        for _ in 1..FAILURES_MAX {
            assert_eq!(breaker.fail(second(0)), None);
        }
        assert!(breaker.allows(second(0)));
        assert_eq!(breaker.fail(second(0)), Some(Turn::Off));
        assert!(!breaker.allows(Duration::from_millis(999)));
        // One is let through.
        assert!(breaker.allows(second(1)) && !breaker.allows(second(1)));
        assert_eq!(breaker.fail(second(1)), None);
        assert!(!breaker.allows(second(2)) && breaker.allows(second(3)));
        assert_eq!(breaker.succeed(), Some(Turn::On));
        assert!(breaker.allows(second(3)) && breaker.is_on());
    }

    #[test]
    fn it_is_tried_again_however_often_it_failed() {
        let mut breaker = Breaker::default();
        for _ in 0..100 {
            let _ = breaker.fail(Duration::ZERO);
        }
        assert!(!breaker.allows(LONGEST - Duration::from_secs(1)) && breaker.allows(LONGEST));
    }
}
