//! Outlier detection: a server that fails its requests rests for a while, then is tried with one.
//!
//! Streaks are judged by whoever ends a request; shares of failures once an interval. The time a
//! server rests grows with each ejection and shrinks with each good interval, so that a flapping
//! server is asked less and less. At most a part of the pool rests at once: when everything fails,
//! the fault is elsewhere, and taking servers away makes it worse.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::server::Outcome;

/// When a server is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierRule {
    /// Answers with 5xx, or failures, in a row.
    pub consecutive_5xx: Option<NonZeroU32>,
    /// Answers with 502, 503 or 504, or failures, in a row.
    pub consecutive_gateway: Option<NonZeroU32>,
    /// Failures in a row: no connection, no answer, a broken one.
    pub consecutive_failures: Option<NonZeroU32>,
    /// The failed share of an interval, in percent.
    pub failure_percent: Option<u8>,
    /// How many standard deviations below the pool's mean success rate is too far, in thousandths.
    pub success_rate: Option<u32>,
    /// How often shares are looked at.
    pub interval: Duration,
    /// Requests in an interval below which a share means nothing.
    pub volume: u32,
    /// How long a server rests the first time; the nth time n times as long.
    pub eject: Duration,
    /// The longest rest.
    pub eject_max: Duration,
    /// The part of the pool that may rest at once, in percent; one server of several always may.
    pub max_ejected: u8,
}

/// Servers with enough requests below which their success rates are not compared.
const COMPARED_MIN: usize = 5;

impl OutlierRule {
    /// How many of `servers` may rest at once.
    pub(crate) fn ejected_max(&self, servers: usize) -> u32 {
        let part = servers.saturating_mul(usize::from(self.max_ejected)) / 100;
        let most = if servers > 1 { part.max(1) } else { 0 };
        u32::try_from(most).unwrap_or(u32::MAX)
    }
}

/// What is remembered of a server's requests.
#[derive(Debug, Default)]
pub(crate) struct Record {
    streak_5xx: AtomicU32,
    streak_gateway: AtomicU32,
    streak_failures: AtomicU32,
    requests: AtomicU32,
    failed: AtomicU32,
    /// How often it was ejected, less the good intervals since.
    ejections: AtomicU32,
    /// When its rest ends, in milliseconds.
    until: AtomicU64,
}

/// Why a server is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Too many 5xx in a row.
    Consecutive5xx,
    /// Too many gateway errors in a row.
    ConsecutiveGateway,
    /// Too many failures in a row.
    ConsecutiveFailures,
    /// Too large a share of its requests failed.
    FailurePercent,
    /// It succeeds clearly less often than its peers.
    SuccessRate,
    /// The request that was to show whether it works again failed.
    Trial,
}

impl Fault {
    /// The word for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive-5xx",
            Self::ConsecutiveGateway => "consecutive-gateway",
            Self::ConsecutiveFailures => "consecutive-failures",
            Self::FailurePercent => "failure-percent",
            Self::SuccessRate => "success-rate",
            Self::Trial => "trial",
        }
    }
}

impl Record {
    /// Counts a request; tells whether a streak is now too long.
    #[inline]
    pub(crate) fn note(&self, outcome: Outcome, rule: &OutlierRule) -> Option<Fault> {
        let (is_5xx, is_gateway, is_failure) = match outcome {
            Outcome::Served => (false, false, false),
            Outcome::ServerError => (true, false, false),
            Outcome::GatewayError => (true, true, false),
            Outcome::Failed => (true, true, true),
            Outcome::Cancelled => return None,
        };
        if rule.failure_percent.is_some() || rule.success_rate.is_some() {
            self.requests.fetch_add(1, Relaxed);
            self.failed.fetch_add(u32::from(is_5xx), Relaxed);
        }
        let failures = streak(&self.streak_failures, is_failure);
        let gateway = streak(&self.streak_gateway, is_gateway);
        let all = streak(&self.streak_5xx, is_5xx);
        let reached = |length: u32, limit: Option<NonZeroU32>| {
            limit.is_some_and(|limit| length >= limit.get())
        };
        if reached(failures, rule.consecutive_failures) {
            Some(Fault::ConsecutiveFailures)
        } else if reached(gateway, rule.consecutive_gateway) {
            Some(Fault::ConsecutiveGateway)
        } else if reached(all, rule.consecutive_5xx) {
            Some(Fault::Consecutive5xx)
        } else {
            None
        }
    }

    /// Begins a rest; returns how long it is.
    pub(crate) fn begin_rest(&self, rule: &OutlierRule, now: Duration) -> Duration {
        let ejections = self.ejections.fetch_add(1, Relaxed).saturating_add(1);
        let rest = rule
            .eject
            .saturating_mul(ejections)
            .min(rule.eject_max.max(rule.eject));
        self.until.store(millis(now + rest), Relaxed);
        for streak in [
            &self.streak_5xx,
            &self.streak_gateway,
            &self.streak_failures,
        ] {
            streak.store(0, Relaxed);
        }
        rest
    }

    pub(crate) fn is_rested(&self, now: Duration) -> bool {
        millis(now) >= self.until.load(Relaxed)
    }

    /// Ends an interval: the requests in it and how many of them failed.
    pub(crate) fn end_interval(&self, is_resting: bool) -> Interval {
        if !is_resting && self.ejections.load(Relaxed) > 0 {
            self.ejections.fetch_sub(1, Relaxed);
        }
        Interval {
            requests: self.requests.swap(0, Relaxed),
            failed: self.failed.swap(0, Relaxed),
        }
    }
}

/// Makes a streak longer, or ends it. Most requests succeed and write nothing.
#[inline]
fn streak(count: &AtomicU32, goes_on: bool) -> u32 {
    if goes_on {
        return count.fetch_add(1, Relaxed).saturating_add(1);
    }
    if count.load(Relaxed) != 0 {
        count.store(0, Relaxed);
    }
    0
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A server's requests in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) requests: u32,
    pub(crate) failed: u32,
}

impl Interval {
    fn success_rate(self) -> f64 {
        1.0 - f64::from(self.failed) / f64::from(self.requests.max(1))
    }
}

/// Finds the servers whose interval was too bad, the worst first.
pub(crate) fn judge(rule: &OutlierRule, intervals: &[Interval]) -> Vec<(usize, Fault)> {
    let counted: Vec<(usize, Interval)> = intervals
        .iter()
        .copied()
        .enumerate()
        .filter(|(_, interval)| interval.requests >= rule.volume.max(1))
        .collect();
    let floor = success_floor(rule, &counted);
    let mut bad: Vec<(usize, Interval, Fault)> = counted
        .into_iter()
        .filter_map(|(at, interval)| {
            let percent = u64::from(interval.failed) * 100;
            let is_failing = rule
                .failure_percent
                .is_some_and(|limit| percent >= u64::from(limit) * u64::from(interval.requests));
            if is_failing {
                Some((at, interval, Fault::FailurePercent))
            } else {
                floor
                    .is_some_and(|floor| interval.success_rate() < floor)
                    .then_some((at, interval, Fault::SuccessRate))
            }
        })
        .collect();
    bad.sort_by(|(_, a, _), (_, b, _)| a.success_rate().total_cmp(&b.success_rate()));
    bad.into_iter().map(|(at, _, fault)| (at, fault)).collect()
}

/// The success rate below which a server stands out: the mean less some standard deviations.
fn success_floor(rule: &OutlierRule, counted: &[(usize, Interval)]) -> Option<f64> {
    let factor = f64::from(rule.success_rate?) / 1000.0;
    if counted.len() < COMPARED_MIN {
        return None;
    }
    let count = f64::from(u32::try_from(counted.len()).ok()?);
    let rates = || counted.iter().map(|(_, interval)| interval.success_rate());
    let mean = rates().sum::<f64>() / count;
    let variance = rates().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    Some(mean - factor * variance.sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> OutlierRule {
        OutlierRule {
            consecutive_5xx: NonZeroU32::new(5),
            consecutive_gateway: NonZeroU32::new(3),
            consecutive_failures: NonZeroU32::new(2),
            failure_percent: Some(50),
            success_rate: Some(1900),
            interval: Duration::from_secs(10),
            volume: 10,
            eject: Duration::from_secs(30),
            eject_max: Duration::from_secs(100),
            max_ejected: 50,
        }
    }

    #[test]
    fn streaks_are_counted_by_kind_and_ended_by_success() {
        let (rule, record) = (rule(), Record::default());
        let notes = |outcomes: &[Outcome]| -> Vec<_> {
            outcomes
                .iter()
                .map(|&outcome| record.note(outcome, &rule))
                .collect()
        };
        use Outcome::{Cancelled, Failed, GatewayError, Served, ServerError};
        assert_eq!(
            notes(&[Failed, Cancelled, Failed]),
            [None, None, Some(Fault::ConsecutiveFailures)]
        );
        assert_eq!(notes(&[Served, Failed, GatewayError]), [None, None, None]);
        assert_eq!(notes(&[GatewayError]), [Some(Fault::ConsecutiveGateway)]);
        assert_eq!(
            notes(&[
                Served,
                ServerError,
                ServerError,
                ServerError,
                ServerError,
                ServerError
            ]),
            [None, None, None, None, None, Some(Fault::Consecutive5xx)]
        );
    }

    #[test]
    fn rests_grow_up_to_a_limit_and_shrink_with_good_intervals() {
        let (rule, record) = (rule(), Record::default());
        let rests: Vec<u64> = (0..5)
            .map(|_| record.begin_rest(&rule, Duration::ZERO).as_secs())
            .collect();
        assert_eq!(rests, [30, 60, 90, 100, 100]);
        assert!(
            !record.is_rested(Duration::from_millis(99_999))
                && record.is_rested(Duration::from_secs(100))
        );
        for _ in 0..4 {
            record.end_interval(false);
        }
        assert_eq!(record.begin_rest(&rule, Duration::ZERO).as_secs(), 60);
    }

    #[test]
    fn a_part_of_the_pool_may_rest() {
        let most = |servers| rule().ejected_max(servers);
        assert_eq!([0, 1, 2, 3, 4, 10].map(most), [0, 0, 1, 1, 2, 5]);
    }

    #[test]
    fn shares_need_volume_and_rates_need_peers() {
        let interval = |requests, failed| Interval { requests, failed };
        let good = interval(100, 1);
        assert_eq!(
            judge(&rule(), &[good, interval(9, 9), interval(10, 5)]),
            [(2, Fault::FailurePercent)]
        );
        // Without the limit on the share, the one far below its peers stands out.
        let rates = OutlierRule {
            failure_percent: None,
            ..rule()
        };
        let pool = [good, good, good, good, good, good, interval(100, 30)];
        assert_eq!(judge(&rates, &pool), [(6, Fault::SuccessRate)]);
        assert_eq!(judge(&rates, &pool[4..]), []);
        assert_eq!(judge(&rates, &[good; 8]), []);
    }
}
