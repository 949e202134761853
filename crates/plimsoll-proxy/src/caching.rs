//! What a route's cache is compiled to, and how it is purged.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_cache::cache::{Cache, Purge};
use plimsoll_cache::disk::{self, Disk, OpenError, Place};
use plimsoll_cache::purge::Selector;
use plimsoll_config::model;
use plimsoll_http::caching::{Policy, SECONDS_MAX, key};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// Fields that say by which words an answer can be purged: what stands there is for caches alone.
pub(crate) const TAGS: [&str; 2] = ["Cache-Tag", "Surrogate-Key"];

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
    /// What is kept goes on from the cache `before`, where that has as much room.
    pub(crate) fn new(cache: &model::Cache, before: Option<(&model::Cache, &Self)>) -> Self {
        let place = |cache: &model::Cache| (cache.memory, cache.object_max, cache.disk.clone());
        let is_same = |old: &model::Cache| place(old) == place(cache);
        let known = before.filter(|(old, _)| is_same(old));
        let ttl = cache
            .ttl
            .iter()
            .map(|(status, time)| (*status, seconds(*time)));
        Self {
            cache: match known {
                Some((_, keeping)) => Arc::clone(&keeping.cache),
                None => Arc::new(kept(cache)),
            },
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

/// An empty cache.
fn kept(cache: &model::Cache) -> Cache {
    let mut kept = Cache::new(Arc::clone(&cache.name), cache.memory, cache.object_max);
    kept.disk = cache.disk.as_ref().map(|disk| {
        Disk::new(Place {
            directory: PathBuf::from(&*disk.directory),
            max: disk.max,
            memory: cache.memory / 4,
        })
    });
    kept
}

/// Why a cache cannot keep files.
#[derive(Debug, thiserror::Error)]
#[error("cannot use `{}` for cache `{cache}`: {source}", directory.display())]
pub struct BadDisk {
    cache: Arc<str>,
    directory: PathBuf,
    source: OpenError,
}

impl Keeping {
    /// Opens its directory, if it has one; times are counted from `epoch`, which is one since 1970. `given` has the lock of
    /// a directory, where this process follows another one that has it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(
        &self,
        epoch: Duration,
        given: impl Fn(&Path) -> Option<OwnedFd>,
    ) -> Result<(), BadDisk> {
        self.with_disk(|disk| disk.open(epoch, given(&disk.place.directory)))
    }

    /// Sees whether its directory could be used, if it has one, and leaves it as it is.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn check(&self) -> Result<(), BadDisk> {
        self.with_disk(|disk| disk::check(&disk.place.directory))
    }

    fn with_disk(&self, act: impl Fn(&Disk) -> Result<(), OpenError>) -> Result<(), BadDisk> {
        let Some(disk) = &self.cache.disk else {
            return Ok(());
        };
        act(disk).map_err(|source| BadDisk {
            cache: Arc::clone(&self.cache.name),
            directory: disk.place.directory.clone(),
            source,
        })
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

/// What is to be purged. One of URL, prefix and tag, which is not empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Order {
    /// From this cache; nothing means from all.
    pub cache: Option<String>,
    /// What is stored for this URL, in all its forms.
    pub url: Option<String>,
    /// What is stored for URLs that begin like this.
    pub prefix: Option<String>,
    /// What its server has given this word.
    pub tag: Option<String>,
    /// Whether it still answers where a stale answer may.
    pub soft: bool,
}

/// Why nothing was purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// Nothing says what, or more than one thing does.
    #[error("say what to purge: one of `url`, `prefix` and `tag`, not empty")]
    Selector,
    /// It is no URL that is answered here.
    #[error("write a whole URL: `https://example.com/path`")]
    Url,
    /// There is no such cache.
    #[error("there is no cache with this name")]
    Cache,
}

impl Order {
    /// Purges it from `all`; tells how many answers that were. Where caches have disks, this blocks until those are done.
    ///
    /// # Errors
    /// Why nothing was purged.
    pub fn carry_out(&self, all: &[Arc<Keeping>]) -> Result<usize, BadOrder> {
        let said = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let selectors = [&self.url, &self.prefix, &self.tag];
        let is_clear = selectors.iter().filter(|text| text.is_some()).count() == 1;
        if !is_clear || !selectors.iter().any(|text| said(text)) {
            return Err(BadOrder::Selector);
        }
        let url = self.url.as_ref().or(self.prefix.as_ref());
        let key = match url {
            Some(url) => key::of_url(url).ok_or(BadOrder::Url)?,
            None => Vec::new(),
        };
        let selector = match (&self.url, &self.tag) {
            (Some(_), _) => Selector::Url(&key),
            (None, Some(tag)) => Selector::Tag(tag.as_bytes()),
            (None, None) => Selector::Prefix(&key),
        };
        let kind = if self.soft { Purge::Soft } else { Purge::Hard };
        let mine = |of: &&Arc<Keeping>| {
            self.cache
                .as_ref()
                .is_none_or(|name| **name == *of.cache.name)
        };
        if !all.iter().any(|of| mine(&of)) {
            return Err(BadOrder::Cache);
        }
        let purge = |of: &Arc<Keeping>| {
            let purged = of.cache.purge(kind, &selector);
            of.cache.disk.iter().for_each(Disk::settle);
            purged
        };
        Ok(all.iter().filter(mine).map(purge).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_say_one_thing() {
        let some = |text: &str| Some(text.to_owned());
        let order = Order::default;
        for (order, expected) in [
            (order(), BadOrder::Selector),
            (
                Order {
                    url: some(""),
                    ..order()
                },
                BadOrder::Selector,
            ),
            (
                Order {
                    prefix: some(""),
                    ..order()
                },
                BadOrder::Selector,
            ),
            (
                Order {
                    tag: some(""),
                    ..order()
                },
                BadOrder::Selector,
            ),
            (
                Order {
                    tag: some("a"),
                    url: some(""),
                    ..order()
                },
                BadOrder::Selector,
            ),
            (
                Order {
                    tag: some("a"),
                    url: some("http://h/"),
                    ..order()
                },
                BadOrder::Selector,
            ),
            (
                Order {
                    url: some("/a"),
                    ..order()
                },
                BadOrder::Url,
            ),
            (
                Order {
                    prefix: some("http"),
                    ..order()
                },
                BadOrder::Url,
            ),
            (
                Order {
                    tag: some("a"),
                    cache: some("other"),
                    ..order()
                },
                BadOrder::Cache,
            ),
        ] {
            assert_eq!(order.carry_out(&[]), Err(expected), "{order:?}");
        }
    }
}
