//! One measurement: a load, and what it cost the proxy.

use super::case::Case;
use super::contender::Running;
use super::{load, metrics};
use anyhow::Result;
use std::fmt;

/// What one run gave.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) requests: u32,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) allocations: Option<f64>,
    /// Bytes of an answer, where they are counted.
    pub(crate) bytes: Option<f64>,
    pub(crate) errors: u64,
}

impl Sample {
    pub(crate) fn cpu_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user_us,
            system_us,
            per_second,
            errors,
            ..
        } = self;
        let cpu = self.cpu_us();
        write!(
            f,
            "{cpu:.1} us ({user_us:.1} + {system_us:.1}), {per_second:.0}/s, {errors} errors"
        )
    }
}

/// All that was measured of one proxy in one case.
pub(crate) struct Row {
    pub(crate) case: &'static Case,
    pub(crate) proxy: &'static str,
    pub(crate) samples: Vec<Sample>,
    pub(crate) syscalls: Option<f64>,
}

impl Row {
    pub(crate) fn new(case: &'static Case, proxy: &Running) -> Self {
        Self {
            case,
            proxy: proxy.name(),
            samples: Vec::new(),
            syscalls: None,
        }
    }

    /// Returns the median of one figure over the rounds.
    pub(crate) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// Returns the median of one figure, if each round has it.
    pub(crate) fn median_of(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let all: Option<Vec<f64>> = self.samples.iter().map(figure).collect();
        all.map(median)
    }

    pub(crate) fn errors(&self) -> u64 {
        self.samples.iter().map(|sample| sample.errors).sum()
    }
}

/// Loads `proxy` and takes what it used meanwhile.
pub(crate) fn sample(case: &Case, proxy: &Running, seconds: u32) -> Result<Sample> {
    let allocations = metrics::allocations(proxy);
    let before = proxy.cpu()?;
    let load = load::run(case, proxy, seconds)?;
    let used = proxy.cpu()? - before;
    let requests = f64::from(load.requests);
    let allocations = match (allocations, metrics::allocations(proxy)) {
        (Some(before), Some(after)) => Some((after - before) / requests),
        _ => None,
    };
    Ok(Sample {
        requests: load.requests,
        user_us: used.user * 1e6 / requests,
        system_us: used.system * 1e6 / requests,
        per_second: load.per_second,
        p50_us: load.p50_us,
        p99_us: load.p99_us,
        allocations,
        bytes: load.bytes.map(|bytes| bytes / requests),
        errors: load.errors,
    })
}

/// Returns the middle value, or the mean of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied();
    let lower = values.get(values.len().saturating_sub(1) / 2).copied();
    lower
        .zip(upper)
        .map_or(f64::NAN, |(lower, upper)| f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![4.0]), 4.0);
        assert!(median(Vec::new()).is_nan());
    }
}
