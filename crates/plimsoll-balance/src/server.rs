//! One server: what the configuration says of it, and what all workers know of it.

use crate::ewma::PeakEwma;
use crate::hash;
use crate::pool::ServerIndex;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
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
    /// Whether the server is used only when no other can be.
    pub backup: bool,
}

/// Whether a server may receive new requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    Ready,
    /// It finishes what it has and receives nothing new.
    Drain,
    /// It does not work.
    Down,
}

/// How a request ended, as far as the choice of the next server is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server answered.
    Served,
    /// The server failed: no connection, no answer, or one that is its fault.
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
    /// Apart from the counters: every pick reads it, every worker writes those.
    standing: AtomicU8,
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

    /// Tells whether it serves only when no other server can.
    #[must_use]
    pub fn is_backup(&self) -> bool {
        self.spec.backup
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
        self.spec
            .max_connections
            .is_some_and(|max| self.in_flight() >= max.get())
    }

    /// Returns the expected time of an answer in seconds, or nothing before the first one.
    #[must_use]
    #[inline]
    pub fn latency_seconds(&self, now: Duration) -> Option<f32> {
        self.state.counters.latency.estimate(now)
    }

    /// Returns whether it may receive new requests.
    #[must_use]
    #[inline]
    pub fn standing(&self) -> Standing {
        match self.state.standing.load(Relaxed) {
            0 => Standing::Ready,
            1 => Standing::Drain,
            _ => Standing::Down,
        }
    }

    /// Sets whether it may receive new requests, for all workers and for later generations.
    pub fn set_standing(&self, standing: Standing) {
        let code = match standing {
            Standing::Ready => 0,
            Standing::Drain => 1,
            Standing::Down => 2,
        };
        self.state.standing.store(code, Relaxed);
    }

    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    pub(crate) fn name_hash(&self) -> u64 {
        self.name_hash
    }

    /// Takes one slot below the maximum, exactly: two workers never both get the last one.
    #[inline]
    pub(crate) fn acquire(&self, index: ServerIndex) -> Option<Slot<'_>> {
        let in_flight = &self.state.counters.in_flight;
        match self.spec.max_connections {
            None => {
                in_flight.fetch_add(1, Relaxed);
            }
            Some(max) => {
                let below = |count: u32| (count < max.get()).then_some(count + 1);
                in_flight.fetch_update(Relaxed, Relaxed, below).ok()?;
            }
        }
        Some(Slot {
            server: self,
            index,
        })
    }
}

/// One request in flight on a server. It is given back exactly once: by [`Slot::release`], or as
/// [`Outcome::Cancelled`] when it is dropped.
#[derive(Debug)]
#[must_use = "dropping a slot gives it back at once"]
pub struct Slot<'pool> {
    server: &'pool Server,
    index: ServerIndex,
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

    /// Gives the slot back and teaches the pool how the request went.
    ///
    /// `latency` is the time from sending the request to the head of its answer, where one came;
    /// `now` is on the clock of [`Ask::now`](crate::Ask).
    pub fn release(self, outcome: Outcome, latency: Option<Duration>, now: Duration) {
        let sample = match outcome {
            Outcome::Served => latency,
            Outcome::Failed => Some(latency.unwrap_or_default().max(FAILURE_LATENCY)),
            Outcome::Cancelled => None,
        };
        if let Some(sample) = sample {
            self.server.state.counters.latency.record(sample, now);
        }
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

    fn server(max_connections: Option<u32>) -> Server {
        let max_connections = max_connections.and_then(NonZeroU32::new);
        let spec = ServerSpec {
            name: "a".into(),
            weight: 1,
            max_connections,
            backup: false,
        };
        Server::new(spec, Arc::default())
    }

    const AT: ServerIndex = ServerIndex::new(0);

    #[test]
    fn a_slot_is_given_back_exactly_once_however_it_ends() {
        let server = server(None);
        for outcome in [Outcome::Served, Outcome::Failed, Outcome::Cancelled] {
            let slot = server.acquire(AT).unwrap();
            assert_eq!(server.in_flight(), 1);
            slot.release(outcome, None, Duration::ZERO);
            assert_eq!(server.in_flight(), 0);
        }
        drop(server.acquire(AT));
        assert_eq!(server.in_flight(), 0);
    }

    #[test]
    fn a_full_server_gives_no_slot() {
        let server = server(Some(2));
        let (one, two) = (server.acquire(AT), server.acquire(AT));
        assert!(one.is_some() && two.is_some() && server.is_full());
        assert!(server.acquire(AT).is_none());
        drop(one);
        assert!(server.acquire(AT).is_some());
    }

    #[test]
    fn a_fast_failure_is_not_a_fast_server() {
        let server = server(None);
        let slot = server.acquire(AT).unwrap();
        slot.release(
            Outcome::Failed,
            Some(Duration::from_micros(50)),
            Duration::ZERO,
        );
        assert_eq!(server.latency_seconds(Duration::ZERO), Some(1.0));
    }

    #[test]
    fn a_cancelled_request_teaches_nothing() {
        let server = server(None);
        let slot = server.acquire(AT).unwrap();
        slot.release(
            Outcome::Cancelled,
            Some(Duration::from_secs(9)),
            Duration::ZERO,
        );
        assert_eq!(server.latency_seconds(Duration::ZERO), None);
    }

    #[test]
    fn standing_is_kept() {
        let server = server(None);
        for standing in [Standing::Down, Standing::Drain, Standing::Ready] {
            server.set_standing(standing);
            assert_eq!(server.standing(), standing);
        }
    }
}
