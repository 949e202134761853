//! Caches, as statements.

use super::{Words, words};
use crate::model::{Cache, CacheKey, Parameters};
use crate::units::{duration_text, size_text};

/// What a cache keeps, complete: nothing depends on defaults.
pub(crate) fn cache(cache: &Cache) -> Vec<Words> {
    let ttl = cache
        .ttl
        .iter()
        .map(|(status, time)| format!("{status}={}", duration_text(*time)));
    let ttl: Words = words(["ttl"]).into_iter().chain(ttl).collect();
    let heuristic = cache.heuristic.map(|share| format!("{share}%"));
    let stale = [
        ("while-revalidate", cache.while_revalidate),
        ("if-error", cache.if_error),
    ];
    let stale = stale.iter().filter(|(_, time)| !time.is_zero());
    let stale = stale.map(|(name, time)| format!("{name}={}", duration_text(*time)));
    let stale: Words = words(["stale"]).into_iter().chain(stale).collect();
    let first = [
        words(["memory", &size_text(cache.memory)]),
        words(["object-size-max", &size_text(cache.object_max)]),
        words(["heuristic", heuristic.as_deref().unwrap_or("off")]),
        words(["wait", &duration_text(cache.wait)]),
    ];
    let disk = cache.disk.as_ref();
    let disk = disk.map(|disk| words(["disk", &disk.directory, &size_text(disk.max)]));
    let slice = cache.slice.map(|size| words(["slice", &size_text(size)]));
    let rest = [key(&cache.key), ttl, stale]
        .into_iter()
        .filter(|words| words.len() > 1);
    first
        .into_iter()
        .chain(slice)
        .chain(disk)
        .chain(rest)
        .collect()
}

/// What tells answers apart.
fn key(key: &CacheKey) -> Words {
    let listed =
        |name: &str, of: &[Box<str>]| (!of.is_empty()).then(|| format!("{name}={}", of.join(",")));
    let parameters = match &key.query {
        Parameters::All => None,
        Parameters::None => Some("query=off".to_owned()),
        Parameters::Only(names) => listed("only", names),
        Parameters::Without(names) => listed("without", names),
    };
    let sorted = key.is_sorted.then(|| "query=sorted".to_owned());
    let fields = [
        listed("header", &key.headers),
        listed("cookie", &key.cookies),
    ];
    let options = sorted.into_iter().chain(parameters);
    let options = options.chain(fields.into_iter().flatten());
    words(["key"]).into_iter().chain(options).collect()
}
