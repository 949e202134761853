//! What the next generation takes over from the one before, and by which name it is known there.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_balance::ceiling::Ceiling;
use plimsoll_balance::concurrency::{ConcurrencyTable, WhenFull};
use plimsoll_balance::rate::{Rate, RateTable};
use plimsoll_config::model::{self, Config, Limited};
use plimsoll_net::idle_pool::Berths;
use xxhash_rust::xxh3::xxh3_64;

use crate::acme::Challenges;
use crate::caching::Keeping;
use crate::datagrams::Service;
use crate::gate::Gate;
use crate::generation::{Generation, LimitTable, Limiter, Pool};
use crate::hashing::Turns;
use crate::spool::Spool;
use crate::strain::Memory;

/// The generation before; nothing for the first one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before<'a>(pub(crate) Option<&'a Generation>);

impl<'a> Before<'a> {
    /// The pool of this name, and how it was configured.
    pub(crate) fn pool(self, name: &str) -> Option<(&'a model::Pool, &'a Pool)> {
        let pools = &self.0?.pools;
        let pool = pools.iter().find(|pool| *pool.name == *name)?;
        let settings = self.0?.config.pools.get(pool.index)?;
        Some((settings, pool))
    }

    /// Who gives servers their numbers.
    pub(crate) fn berths(self) -> Arc<Berths> {
        self.0
            .map(|before| Arc::clone(&before.berths))
            .unwrap_or_default()
    }

    /// What issuers of certificates are shown.
    pub(crate) fn challenges(self) -> Arc<Challenges> {
        self.0
            .map(|before| Arc::clone(&before.challenges))
            .unwrap_or_default()
    }

    /// How short memory is.
    pub(crate) fn memory(self) -> Arc<Memory> {
        self.0
            .map(|before| Arc::clone(&before.memory))
            .unwrap_or_default()
    }

    /// How many passwords may be hashed at once.
    pub(crate) fn turns(self, workers: usize, seed: u64) -> Turns {
        self.0
            .map_or_else(|| Turns::new(workers, seed), |before| before.turns.clone())
    }

    /// Who may connect; `max` is what holds when nothing is configured.
    pub(crate) fn gate(self, config: &Config, max: usize, seed: u64) -> Gate {
        let before = self
            .0
            .map(|before| (&before.config.connections, &before.gate));
        Gate::new(&config.connections, max, seed, before)
    }

    /// How many requests are under way.
    pub(crate) fn ceiling(self) -> Option<&'a Ceiling> {
        self.0?.ceiling.as_ref()
    }

    /// The caches, with what they hold.
    pub(crate) fn caches(self, config: &Config) -> Vec<Arc<Keeping>> {
        let caches = config.caches.iter();
        let all = self.0.map_or(&[][..], |before| &before.caches);
        let keeping = |cache: &model::Cache| Keeping::new(cache, self.cache(&cache.name), all);
        caches.map(keeping).map(Arc::new).collect()
    }

    /// The cache of this name, and how it was configured.
    fn cache(self, name: &str) -> Option<(&'a model::Cache, &'a Keeping)> {
        let all = self.0?.config.caches.iter().zip(&self.0?.caches);
        let mut all = all.map(|(settings, keeping)| (settings, &**keeping));
        all.find(|(settings, _)| *settings.name == *name)
    }

    /// How many requests are under way to the site of this name on these listeners.
    pub(crate) fn ceiling_of(self, site: &model::Site) -> Option<&'a Ceiling> {
        let is_it = |old: &model::Site| old.name == site.name && old.listen == site.listen;
        let at = self.0?.config.sites.iter().position(is_it)?;
        self.0?.sites.get(at)?.ceiling.as_ref()
    }

    /// The spool that `config` wants.
    pub(crate) fn spool(self, config: &Config) -> Option<Arc<Spool>> {
        let wanted = config.spool.as_ref()?;
        let same = self
            .0
            .filter(|before| before.config.spool.as_ref() == Some(wanted));
        let known = same.and_then(|before| before.spool.as_ref().map(Arc::clone));
        Some(known.unwrap_or_else(|| Arc::new(Spool::new(wanted))))
    }

    /// The service for datagrams of this name, and how it was configured.
    pub(crate) fn datagrams(self, name: &str) -> Option<(&'a model::UdpService, &'a Service)> {
        let ports = self.0?.ports.iter().map(|port| &*port.service);
        let service = ports.into_iter().find(|service| *service.name == *name)?;
        let mut settings = self.0?.config.udp.iter();
        let settings = settings.find(|settings| *settings.name == *name)?;
        Some((settings, service))
    }
}

/// Makes what limits count into, and finds what they have counted.
///
/// A limit is known by where it is (the site and the route, whatever line that stands in) and by what it says.
#[derive(Debug)]
pub(crate) struct Limits {
    before: BTreeMap<u64, Arc<Limiter>>,
    made: BTreeMap<u64, Arc<Limiter>>,
    /// Where the limits are that come now.
    place: String,
    seed: u64,
}

impl Limits {
    pub(crate) fn new(before: Before<'_>, seed: u64) -> Self {
        let before = before.0.map(|before| before.limiters.clone());
        Self {
            before: before.unwrap_or_default(),
            made: BTreeMap::new(),
            place: String::new(),
            seed,
        }
    }

    /// What comes from now on is in this place.
    pub(crate) fn enter(&mut self, place: &impl Debug) {
        self.place = format!("{place:?}");
    }

    pub(crate) fn limiter(&mut self, limit: &model::Limit) -> Arc<Limiter> {
        // Where the same is said twice in one place, it is counted twice.
        let id = |time: usize| xxh3_64(format!("{}\n{limit:?}\n{time}", self.place).as_bytes());
        let free = |id: &u64| !self.made.contains_key(id);
        let id = (0..).map(id).find(free).unwrap_or_default();
        let known = self.before.get(&id).map(Arc::clone);
        let limiter = known.unwrap_or_else(|| Arc::new(limiter(limit, self.seed)));
        self.made.insert(id, Arc::clone(&limiter));
        limiter
    }

    pub(crate) fn finish(self) -> BTreeMap<u64, Arc<Limiter>> {
        self.made
    }
}

fn limiter(limit: &model::Limit, seed: u64) -> Limiter {
    let entries = limit.entries as usize;
    let table = match limit.of {
        Limited::Rate { count, per, burst } => {
            LimitTable::Rate(RateTable::new(Rate { count, per }, burst, entries))
        }
        Limited::Concurrent(most) => {
            LimitTable::Concurrent(ConcurrencyTable::new(most, entries, WhenFull::Admit))
        }
        Limited::Bytes {
            rate: count,
            burst,
            way,
        } => {
            let per = Duration::from_secs(1);
            let table = RateTable::new(Rate { count, per }, burst, entries);
            LimitTable::Bytes(table, way)
        }
    };
    let policy = match limit.of {
        Limited::Rate { count, per, .. } => {
            format!("\"limit\";q={count};w={}", per.as_secs())
        }
        Limited::Concurrent(most) => format!("\"limit\";q={most};qu=\"concurrent-requests\""),
        Limited::Bytes { .. } => String::new(), // nobody is refused
    };
    Limiter {
        table,
        policy: policy.into(),
        by: limit.by.clone(),
        action: limit.action,
        seed,
    }
}
