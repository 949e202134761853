//! How many connections clients may have: all of them, and each of them.

use std::net::IpAddr;
use std::sync::Arc;

use plimsoll_balance::concurrency::{ConcurrencyTable, Hold, WhenFull};
use plimsoll_balance::key_of_ip;
use plimsoll_balance::rate::{Rate, RateTable, Verdict};
use plimsoll_config::model::ConnectionLimits;
use plimsoll_net::clock;

use crate::plane::Plane;

/// Clients that are remembered: 2 MiB a table.
const ENTRIES: usize = 128 * 1024;

/// Who may connect.
#[derive(Debug)]
pub struct Gate {
    max: usize,
    per_client: Option<Arc<ConcurrencyTable>>,
    new_per_client: Option<Arc<RateTable>>,
    seed: u64,
}

impl Gate {
    /// `max` is what holds when none is configured. What clients have had counts on from the gate `before`, where
    /// the limit is the same.
    pub(crate) fn new(
        limits: &ConnectionLimits,
        max: usize,
        seed: u64,
        before: Option<(&ConnectionLimits, &Self)>,
    ) -> Self {
        let known = before.filter(|(old, _)| old.new_per_client == limits.new_per_client);
        let known = known.and_then(|(_, gate)| gate.new_per_client.clone());
        let rate = |(count, per)| Arc::new(RateTable::new(Rate { count, per }, count, ENTRIES));
        let new_per_client = known.or_else(|| limits.new_per_client.map(rate));
        let known = before.filter(|(old, _)| old.per_client == limits.per_client);
        let known = known.and_then(|(_, gate)| gate.per_client.clone());
        let number = |most: u32| ConcurrencyTable::new(most, ENTRIES, WhenFull::Admit);
        Self {
            max: limits.max.map_or(max, |max| max.get() as usize),
            per_client: known.or_else(|| limits.per_client.map(|most| number(most.get()))),
            new_per_client,
            seed,
        }
    }

    /// Tells whether places are so few that no connection is kept after its answer.
    pub(crate) fn is_crowded(&self, connections: usize) -> bool {
        connections >= self.max - self.max / 10
    }

    /// Tells whether no further connection is accepted now.
    pub(crate) fn is_full(&self, connections: usize) -> bool {
        connections >= self.max
    }
}

/// Lets a client in, with its place among its own connections where these are counted; nothing when
/// it has too many.
pub(crate) fn admit(plane: &Plane, client: IpAddr) -> Option<Option<Box<Hold>>> {
    let gate = &plane.generation.gate;
    if let Some(table) = &gate.new_per_client {
        let now = plane.since_start(clock::now());
        if let Verdict::Limited { .. } = table.check(key_of_ip(client, gate.seed), now) {
            return None;
        }
    }
    let Some(table) = &gate.per_client else {
        return Some(None);
    };
    let hold = table.acquire(key_of_ip(client, gate.seed))?;
    Some(Some(Box::new(hold))) // most connections have none, and must be small
}
