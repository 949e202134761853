//! Caches: what they keep, and the routes that name them.

use std::time::Duration;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::{ActionDraft, CacheDraft, RouteDraft, SiteDraft};
use crate::model::{Cache, Site};
use crate::read::Reader;
use crate::suggest::nearest;
use crate::syntax::Word;

impl CacheDraft {
    /// How much memory it may take.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.map_or(64 << 20, |(size, _)| size)
    }

    /// How long a body it may keep.
    pub(crate) fn object_max(&self) -> u64 {
        let usual = || (1 << 20).min(self.memory() / 8);
        self.object_max.map_or_else(usual, |(size, _)| size)
    }

    fn resolve(&self) -> Cache {
        let memory = self.memory();
        let stale = self.stale.map(|(stale, _)| stale).unwrap_or_default();
        let ttl = self.ttl.as_ref().map(|(ttl, _)| ttl.clone());
        Cache {
            name: self.name.as_str().into(),
            memory,
            disk: self.disk.as_ref().map(|(disk, _)| disk.clone()),
            key: self
                .key
                .as_ref()
                .map(|(key, _)| key.clone())
                .unwrap_or_default(),
            object_max: self.object_max(),
            slice: self.slice.map(|(size, _)| size),
            ttl: ttl.unwrap_or_default(),
            heuristic: self.heuristic.and_then(|(share, _)| share),
            while_revalidate: stale.while_revalidate.unwrap_or_default(),
            if_error: stale.if_error.unwrap_or_default(),
            wait: self.wait.map_or(Duration::from_secs(5), |(time, _)| time),
        }
    }
}

/// The caches that were written, which the routes of `resolved` are told by their numbers; what is wrong with them
/// or with routes that name them is said.
pub(crate) fn resolve(
    reader: &mut Reader<'_>,
    (caches, sites): (&[CacheDraft], &[SiteDraft]),
    resolved: &mut [Site],
) -> Vec<Cache> {
    let routes = || sites.iter().flat_map(|site| &site.routes);
    for (site, resolved) in sites.iter().zip(resolved) {
        for (route, resolved) in site.routes.iter().zip(&mut resolved.routes) {
            resolved.cache = find(caches, route);
        }
    }
    for route in routes() {
        check_route(reader, caches, route);
    }
    for cache in caches {
        let mut named = routes().filter_map(|route| route.cache.as_ref());
        // With an error elsewhere, the route may have been lost.
        if !named.any(|(name, _)| name.text == cache.name) && !reader.is_broken() {
            let message = format!("no route keeps anything in cache `{}`", cache.name);
            let problem = Diagnostic::new(&codes::CACHE_UNUSED, cache.span, message);
            let help = format!("remove it, or add `cache {}` to a route", cache.name);
            reader.problem(problem.help(help));
        }
    }
    caches.iter().map(CacheDraft::resolve).collect()
}

fn check_route(reader: &mut Reader<'_>, caches: &[CacheDraft], route: &RouteDraft) {
    let Some((name, span)) = &route.cache else {
        return;
    };
    if find(caches, route).is_none() {
        reader.error(|_| unknown(name, caches));
    }
    let asks = matches!(
        route.action,
        None | Some((ActionDraft::Proxy(_) | ActionDraft::Split { .. }, _))
    );
    if !asks {
        let message = "the route asks no server, so there is nothing to keep";
        let problem = Diagnostic::new(&codes::CACHE_NOTHING, *span, message);
        reader.problem(problem.help("take `cache` out, or write `proxy POOL`"));
    }
}

/// The number of the cache that a route names.
fn find(caches: &[CacheDraft], route: &RouteDraft) -> Option<usize> {
    let (name, _) = route.cache.as_ref()?;
    caches.iter().position(|cache| cache.name == name.text)
}

fn unknown(name: &Word, caches: &[CacheDraft]) -> Diagnostic {
    let message = format!("cache `{}` does not exist", name.text);
    let problem = Diagnostic::new(&codes::CACHE_UNKNOWN, name.span, message);
    let known = || caches.iter().map(|cache| cache.name.as_str());
    match nearest(&name.text, known()) {
        Some(near) => problem.label(format!("did you mean `{near}`?")),
        None => problem.help(format!(
            "write `cache {} {{ memory 64MiB }}` at the top level",
            name.text
        )),
    }
}
