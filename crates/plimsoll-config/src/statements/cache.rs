//! Caches, as statements.

use super::{Words, words};
use crate::model::Cache;
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
    let rest = [ttl, stale].into_iter().filter(|words| words.len() > 1);
    first.into_iter().chain(disk).chain(rest).collect()
}
