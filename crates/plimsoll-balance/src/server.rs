//! One server: what the configuration says of it, and what all workers know of it.

use crate::care::Change;
use crate::ewma::PeakEwma;
use crate::hash;
use crate::outlier::Record;
use crate::pool::{Pool, ServerIndex};
pub(crate) use crate::slow_start::FULL_SHARE;
use crate::slow_start::Ramp;
use crate::standing::{Bars, Gate, Health, Standing, Wish};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// What a failed answer counts at least in [`Algorithm::LeastTime`](crate::Algorithm), because a
/// broken server fails fast and would look like the best one.
const FAILURE_LATENCY: Duration = Duration::from_secs(1);

/// What the configuration says of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSpec {
    /// The server's name, unique in its pool. Hash tables depend on it and on nothing else.
    pub name: Arc<str>,
    /// The share of the requests, relative to the other servers. 0 takes none.
    pub weight: u32,
    /// The most requests in flight over all workers.
    pub max_connections: Option<NonZeroU32>,
    /// Servers of a higher tier are used only when none of a lower one can be.
    pub tier: u8,
}

/// How a request ended, as far as the choice of the next server is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered.
    Served,
    /// It answered with 500 or another 5xx that is not below.
    ServerError,
    /// It answered with 502, 503 or 504: it, or something behind it, is not there.
    GatewayError,
    /// No connection, no answer, or one that broke the protocol.
    Failed,
    /// The request ended for a reason that says nothing of the server.
    Cancelled,
}

/// A server of a pool.
#[derive(Debug)]
pub struct Server {
    spec: ServerSpec,
    name_hash: u64,
    state: Arc<State>,
}

/// What outlives a configuration: the requests in flight are still there after a reload.
#[derive(Debug, Default)]
pub(crate) struct State {
    counters: Counters,
    pub(crate) record: Record,
    /// Apart from what every worker writes: every pick reads it.
    seen: Seen,
}

/// What every pick reads and hardly anybody writes.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Seen {
    gate: Gate,
    ramp: Ramp,
}

/// Alone on its cache lines (two: the prefetcher loads them in pairs), since all workers write it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Counters {
    in_flight: AtomicU32,
    latency: PeakEwma,
}

impl Server {
    pub(crate) fn new(spec: ServerSpec, state: Arc<State>) -> Self {
        let name_hash = hash::of(spec.name.as_bytes());
        Self {
            spec,
            name_hash,
            state,
        }
    }

    pub(crate) fn spec(&self) -> &ServerSpec {
        &self.spec
    }

    /// Returns the name given in the configuration.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.spec.name
    }

    /// Returns the configured weight.
    #[must_use]
    #[inline]
    pub fn weight(&self) -> u32 {
        self.spec.weight
    }

    /// Returns the most requests it may have in flight.
    #[must_use]
    pub fn max_connections(&self) -> Option<NonZeroU32> {
        self.spec.max_connections
    }

    /// Returns the tier: servers of a higher one serve only when none of a lower one can.
    #[must_use]
    pub fn tier(&self) -> u8 {
        self.spec.tier
    }

    /// Returns the requests in flight over all workers.
    #[must_use]
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.state.counters.in_flight.load(Relaxed)
    }

    /// Tells whether it has as many requests in flight as it may.
    #[must_use]
    #[inline]
    pub fn is_full(&self) -> bool {
        self.max_now()
            .is_some_and(|max| self.in_flight() >= max.get())
    }

    /// A server on trial has one place, and one that starts slowly a part of its places.
    #[inline]
    fn max_now(&self) -> Option<NonZeroU32> {
        if self.bars().meets(Bars::TRIAL) {
            Some(NonZeroU32::MIN)
        } else {
            let max = self.spec.max_connections?;
            Some(self.state.seen.ramp.part(max))
        }
    }

    /// Returns the expected time of an answer in seconds, or nothing before the first one.
    #[must_use]
    #[inline]
    pub fn latency_seconds(&self, now: Duration) -> Option<f32> {
        self.state.counters.latency.estimate(now)
    }

    /// Returns whether it may receive new requests.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.state.seen.gate.standing()
    }

    /// Returns what checks say of it.
    #[must_use]
    pub fn health(&self) -> Health {
        self.state.seen.gate.health()
    }

    /// Sets what the operator wants of it, for all workers and for later generations.
    pub fn set_wish(&self, wish: Wish) {
        self.state.seen.gate.set_wish(wish);
    }

    /// Returns what the operator wants of it.
    #[must_use]
    pub fn wish(&self) -> Wish {
        match self.bars() {
            bars if bars.meets(Bars::MAINTENANCE) => Wish::Maintain,
            bars if bars.meets(Bars::DRAIN) => Wish::Drain,
            _ => Wish::Serve,
        }
    }

    /// Returns how much of its weight the operator lets it have, in percent.
    #[must_use]
    pub fn portion_percent(&self) -> u8 {
        self.ramp().portion()
    }

    #[inline]
    pub(crate) fn bars(&self) -> Bars {
        self.state.seen.gate.bars()
    }

    /// Returns how much of its share it takes, in 255ths.
    #[inline]
    pub(crate) fn share(&self) -> u8 {
        self.state.seen.ramp.share()
    }

    /// Returns how much of its weight it takes now, in percent.
    #[must_use]
    pub fn share_percent(&self) -> u8 {
        let full = u32::from(FULL_SHARE);
        u8::try_from((u32::from(self.share()) * 100 + full / 2) / full).unwrap_or(100)
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.state.seen.gate
    }

    pub(crate) fn ramp(&self) -> &Ramp {
        &self.state.seen.ramp
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    pub(crate) fn name_hash(&self) -> u64 {
        self.name_hash
    }

    /// Counts one request more below the maximum, exactly: two workers never both get the last
    /// place.
    #[inline]
    pub(crate) fn enter(&self) -> bool {
        let in_flight = &self.state.counters.in_flight;
        let Some(max) = self.max_now() else {
            in_flight.fetch_add(1, Relaxed);
            return true;
        };
        let below = |count: u32| (count < max.get()).then_some(count + 1);
        in_flight.fetch_update(Relaxed, Relaxed, below).is_ok()
    }

    /// Counts one more, however many there are.
    pub(crate) fn enter_anyway(&self) {
        self.state.counters.in_flight.fetch_add(1, Relaxed);
    }
}

/// One request in flight on a server. It is given back exactly once: by [`Slot::release`], or when it is
/// dropped, which teaches nothing.
#[derive(Debug)]
#[must_use = "dropping a slot gives it back at once"]
pub struct Slot<'pool> {
    pub(crate) pool: &'pool Pool,
    pub(crate) server: &'pool Server,
    pub(crate) index: ServerIndex,
}

impl<'pool> Slot<'pool> {
    /// Returns the chosen server.
    #[must_use]
    pub fn server(&self) -> &'pool Server {
        self.server
    }

    /// Returns the place of the chosen server in its pool.
    #[must_use]
    pub fn index(&self) -> ServerIndex {
        self.index
    }

    /// Gives the slot back and teaches the pool how the request went; returns what that changed.
    ///
    /// `latency` is the time from sending the request to the head of its answer, where one came;
    /// `now` is on the clock of [`Ask::now`](crate::Ask).
    pub fn release(
        self,
        outcome: Outcome,
        latency: Option<Duration>,
        now: Duration,
    ) -> Option<Change> {
        self.teach(outcome, latency, now)
    }

    /// Teaches the pool how it goes, and keeps the slot: what lasts for hours has been served long before
    /// it ends.
    pub fn teach(
        &self,
        outcome: Outcome,
        latency: Option<Duration>,
        now: Duration,
    ) -> Option<Change> {
        let sample = match outcome {
            Outcome::Served => latency,
            Outcome::ServerError | Outcome::GatewayError | Outcome::Failed => {
                Some(latency.unwrap_or_default().max(FAILURE_LATENCY))
            }
            Outcome::Cancelled => None,
        };
        if let Some(sample) = sample {
            self.server.state.counters.latency.record(sample, now);
        }
        self.pool.learn(self.index, self.server, outcome, now)
    }
}

impl Drop for Slot<'_> {
    #[inline]
    fn drop(&mut self) {
        let before = self.server.state.counters.in_flight.fetch_sub(1, Relaxed);
        debug_assert!(before > 0, "a slot was given back that nobody held");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, Tried};

    fn pool(max_connections: Option<u32>) -> Pool {
        let spec = ServerSpec {
            name: "a".into(),
            weight: 1,
            max_connections: max_connections.and_then(NonZeroU32::new),
            tier: 0,
        };
        Pool::new(vec![spec], Algorithm::First)
    }

    fn acquire(pool: &Pool) -> Option<Slot<'_>> {
        pool.acquire(ServerIndex::new(0), &Tried::new()).ok()
    }

    fn server(pool: &Pool) -> &Server {
        pool.server(ServerIndex::new(0)).unwrap()
    }

    #[test]
    fn a_slot_is_given_back_exactly_once_however_it_ends() {
        let pool = pool(None);
        for outcome in [Outcome::Served, Outcome::Failed, Outcome::Cancelled] {
            let slot = acquire(&pool).unwrap();
            assert_eq!(server(&pool).in_flight(), 1);
            slot.release(outcome, None, Duration::ZERO);
            assert_eq!(server(&pool).in_flight(), 0);
        }
        drop(acquire(&pool));
        assert_eq!(server(&pool).in_flight(), 0);
    }

    #[test]
    fn a_full_server_gives_no_slot() {
        let pool = pool(Some(2));
        let (one, two) = (acquire(&pool), acquire(&pool));
        assert!(one.is_some() && two.is_some() && server(&pool).is_full());
        assert!(acquire(&pool).is_none());
        drop(one);
        assert!(acquire(&pool).is_some());
    }

    #[test]
    fn a_fast_failure_is_not_a_fast_server() {
        for outcome in [Outcome::Failed, Outcome::GatewayError, Outcome::ServerError] {
            let pool = pool(None);
            let slot = acquire(&pool).unwrap();
            slot.release(outcome, Some(Duration::from_micros(50)), Duration::ZERO);
            assert_eq!(server(&pool).latency_seconds(Duration::ZERO), Some(1.0));
        }
    }

    #[test]
    fn a_cancelled_request_teaches_nothing() {
        let pool = pool(None);
        let slot = acquire(&pool).unwrap();
        slot.release(
            Outcome::Cancelled,
            Some(Duration::from_secs(9)),
            Duration::ZERO,
        );
        assert_eq!(server(&pool).latency_seconds(Duration::ZERO), None);
    }
}
