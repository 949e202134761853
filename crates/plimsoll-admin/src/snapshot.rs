//! All counters at one moment, so that two of them tell how much there is in a second.

use std::sync::Arc;
use std::time::Instant;

use plimsoll_observe::counter::{CodeCounters, Counter};
use plimsoll_observe::histogram::Counts;
use plimsoll_observe::metrics::{CacheResult, WorkerMetrics};
use plimsoll_proxy::generation::Generation;

/// How often which kind of answer was given, 1xx to 5xx.
pub(crate) type Classes = [u64; 5];

/// What was counted until a moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) at: Instant,
    /// Of which generation.
    pub(crate) generation: u64,
    pub(crate) sites: Vec<Traffic>,
    pub(crate) listeners: Vec<Crowd>,
    pub(crate) pools: Vec<Asked>,
    pub(crate) caches: Vec<Answered>,
}

/// What a site was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traffic {
    pub(crate) answers: Classes,
    pub(crate) durations: Counts,
    pub(crate) limited: u64,
}

/// Who came to a listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowd {
    pub(crate) accepted: u64,
    pub(crate) closed: u64,
    pub(crate) active: u64,
    pub(crate) refused: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What a pool was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) servers: Vec<Tries>,
    /// Until the first byte of an answer.
    pub(crate) waits: Counts,
    pub(crate) retries: u64,
    pub(crate) fresh: u64,
    pub(crate) reused: u64,
}

/// What a server was asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tries {
    pub(crate) answers: Classes,
    pub(crate) failures: u64,
    pub(crate) ejections: u64,
}

/// What a cache did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answered {
    pub(crate) hits: u64,
    pub(crate) requests: u64,
}

impl Snapshot {
    /// What has been counted until now.
    pub(crate) fn take(
        generation: &Generation,
        workers: &[Arc<WorkerMetrics>],
        at: Instant,
    ) -> Self {
        let mut taken = Self {
            at,
            generation: generation.number,
            sites: vec![Traffic::default(); generation.labels.sites.len()],
            listeners: vec![Crowd::default(); generation.labels.listeners.len()],
            pools: vec![Asked::default(); generation.pools.len()],
            caches: vec![Answered::default(); generation.caches.len()],
        };
        for (pool, asked) in generation.pools.iter().zip(&mut taken.pools) {
            asked.servers = vec![Tries::default(); pool.servers.len()];
        }
        workers.iter().for_each(|worker| taken.add(worker));
        taken
    }

    fn add(&mut self, worker: &WorkerMetrics) {
        for (site, counted) in self.sites.iter_mut().zip(&worker.sites) {
            counted
                .requests
                .iter()
                .for_each(|of| add_classes(&mut site.answers, of));
            site.durations.add(&counted.duration);
            site.limited += counted.limited.value();
        }
        for (crowd, counted) in self.listeners.iter_mut().zip(&worker.listeners) {
            crowd.accepted += counted.accepted.value();
            crowd.closed += counted.closed.value();
            crowd.active += counted.active.value();
            crowd.refused += counted.refused.value();
            crowd.bytes_in += counted.bytes_in.value();
            crowd.bytes_out += counted.bytes_out.value();
        }
        for (number, (asked, counted)) in self.pools.iter_mut().zip(&worker.pools).enumerate() {
            asked.waits.add(&counted.first_byte);
            asked.retries += counted.retries.value();
            asked.fresh += counted.connections_new.value();
            asked.reused += counted.connections_reused.value();
            for (at, tries) in asked.servers.iter_mut().enumerate() {
                let Some(counted) = worker.server(number, at) else {
                    continue;
                };
                add_classes(&mut tries.answers, &counted.requests);
                tries.failures += sum(&counted.errors);
                tries.ejections += counted.ejections.value();
            }
        }
        for (answered, counted) in self.caches.iter_mut().zip(&worker.caches) {
            for (result, count) in CacheResult::ALL.iter().zip(&counted.requests) {
                answered.requests += count.value();
                answered.hits += if result.is_hit() { count.value() } else { 0 };
            }
        }
    }
}

fn add_classes(classes: &mut Classes, counted: &CodeCounters) {
    for (class, count) in classes.iter_mut().zip(counted.classes()) {
        *class += count;
    }
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().map(Counter::value).sum()
}
