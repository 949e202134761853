//! What a route's cache is compiled to, and how it is purged.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_cache::cache::{Cache, Purge};
use plimsoll_cache::disk::{self, Disk, Limits, OpenError, Place};
use plimsoll_cache::purge::Selector;
use plimsoll_config::model;
use plimsoll_http::caching::{Parameters, Parts, Policy, SECONDS_MAX, key};
use schemars::JsonSchema;
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
    /// Of what size slices are, where objects are kept in slices.
    pub(crate) slice: Option<u64>,
    /// What of a request belongs to its key.
    pub(crate) parts: Parts,
    /// How long a request waits for an answer that is fetched for another one.
    pub(crate) wait: Duration,
}

impl Keeping {
    /// What is kept goes on from the cache `before`, where that has as much room.
    /// Likewise its files, from whichever of `all` had them.
    pub(crate) fn new(
        cache: &model::Cache,
        before: Option<(&model::Cache, &Self)>,
        all: &[Arc<Self>],
    ) -> Self {
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
                None => Arc::new(kept(cache, all)),
            },
            policy: Policy {
                ttl: ttl.collect(),
                heuristic: cache.heuristic,
                while_revalidate: seconds(cache.while_revalidate),
                if_error: seconds(cache.if_error),
            },
            slice: cache.slice,
            parts: parts(&cache.key),
            wait: cache.wait,
        }
    }
}

fn parts(key: &model::CacheKey) -> Parts {
    let bytes = |names: &[Box<str>]| names.iter().map(|name| name.as_bytes().into()).collect();
    Parts {
        parameters: match &key.query {
            model::Parameters::All => Parameters::All,
            model::Parameters::None => Parameters::None,
            model::Parameters::Only(names) => Parameters::Only(bytes(names)),
            model::Parameters::Without(names) => Parameters::Without(bytes(names)),
        },
        is_sorted: key.is_sorted,
        headers: bytes(&key.headers),
        cookies: bytes(&key.cookies),
    }
}

/// A cache with nothing in its memory.
fn kept(cache: &model::Cache, before: &[Arc<Keeping>]) -> Cache {
    let mut kept = Cache::new(Arc::clone(&cache.name), cache.memory, cache.object_max);
    kept.disk = cache.disk.as_ref().map(|disk| {
        let place = Place {
            directory: PathBuf::from(&*disk.directory),
            limits: Limits {
                max: disk.max,
                memory: cache.memory / 4,
            },
        };
        let mut disks = before.iter().filter_map(|of| of.cache.disk.as_ref());
        match disks.find(|old| old.place.directory == place.directory) {
            Some(old) => Disk::after(place, old),
            None => Disk::new(place),
        }
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
        let mut text = format!("{:?} {:?} {treated:?}", site.name, site.listen);
        if keeping.parts != Parts::default() {
            // What was stored by other parts of requests is found by nobody.
            text += &format!("{:?}", keeping.parts);
        }
        Some(Self {
            number,
            keeping,
            identity: xxh3_64(text.as_bytes()),
        })
    }
}

/// What is to be purged. One of URL, prefix and tag, which is not empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "PurgeOrder")]
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

/// Why it is not clear which answers are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOrder {
    /// Nothing says which, or more than one thing does.
    #[error("say which answers: one of `url`, `prefix` and `tag`, not empty")]
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
        let what = What {
            cache: self.cache.as_deref(),
            url: self.url.as_deref(),
            prefix: self.prefix.as_deref(),
            tag: self.tag.as_deref(),
        };
        let kind = if self.soft { Purge::Soft } else { Purge::Hard };
        let purge = |of: &Chosen<'_>| {
            let cache = &of.keeping.cache;
            let purged = cache.purge(kind, &of.selector());
            cache.disk.iter().for_each(Disk::settle);
            purged
        };
        Ok(what.choose(all)?.iter().map(purge).sum())
    }
}

/// Which answers are meant: one of URL, prefix and tag, which is not empty.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct What<'a> {
    /// Of this cache; nothing means of all.
    pub(crate) cache: Option<&'a str>,
    pub(crate) url: Option<&'a str>,
    pub(crate) prefix: Option<&'a str>,
    pub(crate) tag: Option<&'a str>,
}

/// Answers of caches.
pub(crate) struct Chosen<'a> {
    pub(crate) keeping: &'a Arc<Keeping>,
    kind: fn(&[u8]) -> Selector<'_>,
    text: Vec<u8>,
}

impl Chosen<'_> {
    pub(crate) fn selector(&self) -> Selector<'_> {
        (self.kind)(&self.text)
    }
}

impl What<'_> {
    /// Finds what is meant in `all`: in each cache by its own keys.
    pub(crate) fn choose<'a>(&self, all: &'a [Arc<Keeping>]) -> Result<Vec<Chosen<'a>>, BadOrder> {
        let selectors = [self.url, self.prefix, self.tag];
        let said = || selectors.iter().flatten();
        if said().count() != 1 || said().any(|text| text.is_empty()) {
            return Err(BadOrder::Selector);
        }
        // A cache that does not exist comes after what is no question.
        self.text(&Parts::default())?;
        let is_mine = |of: &&Arc<Keeping>| self.cache.is_none_or(|name| *name == *of.cache.name);
        let choose = |keeping| self.choose_in(keeping);
        let chosen: Vec<_> = all
            .iter()
            .filter(is_mine)
            .map(choose)
            .collect::<Result<_, _>>()?;
        match chosen.is_empty() {
            true => Err(BadOrder::Cache),
            false => Ok(chosen),
        }
    }

    fn choose_in<'a>(&self, keeping: &'a Arc<Keeping>) -> Result<Chosen<'a>, BadOrder> {
        let kind: fn(&[u8]) -> Selector<'_> = match (self.url, self.prefix) {
            (Some(_), _) => |key| Selector::Url(key),
            (None, Some(_)) => |key| Selector::Prefix(key),
            (None, None) => |tag| Selector::Tag(tag),
        };
        let text = self.text(&keeping.parts)?;
        Ok(Chosen {
            keeping,
            kind,
            text,
        })
    }

    fn text(&self, parts: &Parts) -> Result<Vec<u8>, BadOrder> {
        let of_url = |url, parts| key::of_url(url, parts).ok_or(BadOrder::Url);
        match (self.url, self.prefix, self.tag) {
            (Some(url), ..) => of_url(url, parts),
            // What begins like it may have more parameters.
            (_, Some(prefix), _) => of_url(prefix, &Parts::default()),
            (.., tag) => Ok(tag.unwrap_or_default().into()),
        }
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
