//! What must hold for every pool, whatever its size, weights and algorithm.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed test is a panic"
)]

mod budget;
mod concurrency;
mod eligibility;
mod fairness;
mod gradient;
mod keys;
mod outliers;
mod queue;
mod rate;
mod shares;
mod slots;

use plimsoll_balance::{Algorithm, Ask, Picker, Pool, ServerSpec, Slot, Tried};
use std::time::Duration;

pub(crate) const ALL: [Algorithm; 8] = [
    Algorithm::RoundRobin,
    Algorithm::Random,
    Algorithm::TwoChoices,
    Algorithm::LeastConnections,
    Algorithm::LeastTime,
    Algorithm::First,
    Algorithm::Ring,
    Algorithm::Maglev,
];

pub(crate) fn spec(name: &str, weight: u32) -> ServerSpec {
    ServerSpec {
        name: name.into(),
        weight,
        max_connections: None,
        tier: 0,
    }
}

/// Servers `a`, `b`, `c` … of these weights.
pub(crate) fn specs(weights: &[u32]) -> Vec<ServerSpec> {
    ('a'..)
        .zip(weights)
        .map(|(name, &weight)| spec(&name.to_string(), weight))
        .collect()
}

/// `count` servers of weight 1 named as addresses.
pub(crate) fn addresses(count: u32) -> Vec<ServerSpec> {
    (0..count)
        .map(|n| spec(&format!("10.0.{}.{}:8080", n / 250, n % 250 + 1), 1))
        .collect()
}

/// A seeded generator (SplitMix64): the same numbers in every run.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }
}

pub(crate) static NONE: Tried = Tried::new();

/// A request with this number as key and as random number, at the start of time.
pub(crate) fn ask(number: u64) -> Ask<'static> {
    Ask {
        key: number,
        random: number,
        now: Duration::ZERO,
        tried: &NONE,
    }
}

pub(crate) fn name(slot: &Slot<'_>) -> String {
    slot.server().name().to_string()
}

/// Picks `count` times, giving each slot back at once, and returns the names.
pub(crate) fn names(pool: &Pool, worker: usize, count: usize) -> Vec<String> {
    let (mut picker, mut numbers) = (Picker::new(pool, worker), Numbers(7));
    (0..count)
        .map(|_| name(&picker.pick(pool, &ask(numbers.next())).unwrap()))
        .collect()
}
