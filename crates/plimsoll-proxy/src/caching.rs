//! What a route's cache is compiled to.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_cache::cache::Cache;
use plimsoll_config::model;
use plimsoll_http::caching::{Policy, SECONDS_MAX};
use xxhash_rust::xxh3::xxh3_64;

/// A cache, and by which rules answers are kept there.
#[derive(Debug)]
pub struct Keeping {
    /// Where they are kept.
    pub cache: Arc<Cache>,
    pub(crate) policy: Policy,
    /// How long a request waits for an answer that is fetched for another one.
    pub(crate) wait: Duration,
}

impl Keeping {
    pub(crate) fn new(cache: &model::Cache) -> Self {
        let ttl = cache
            .ttl
            .iter()
            .map(|(status, time)| (*status, seconds(*time)));
        Self {
            cache: Arc::new(Cache::new(
                Arc::clone(&cache.name),
                cache.memory,
                cache.object_max,
            )),
            policy: Policy {
                ttl: ttl.collect(),
                heuristic: cache.heuristic,
                while_revalidate: seconds(cache.while_revalidate),
                if_error: seconds(cache.if_error),
            },
            wait: cache.wait,
        }
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(SECONDS_MAX)
}

/// The cache of one route.
#[derive(Debug)]
pub(crate) struct Caching {
    /// Its number.
    pub(crate) number: usize,
    pub(crate) keeping: Arc<Keeping>,
    /// Tells its answers from those of routes that treat the same requests in another way.
    pub(crate) identity: u64,
}

impl Caching {
    pub(crate) fn new(
        route: &model::Route,
        site: &model::Site,
        all: &[Arc<Keeping>],
    ) -> Option<Self> {
        let number = route.cache?;
        let keeping = Arc::clone(all.get(number)?);
        // Places are left out, so that a line that moves changes nothing.
        let treated = (
            &route.path,
            &route.methods,
            &route.conditions,
            &site.steps,
            &route.steps,
        );
        let text = format!("{:?} {:?} {treated:?}", site.name, site.listen);
        Some(Self {
            number,
            keeping,
            identity: xxh3_64(text.as_bytes()),
        })
    }
}
