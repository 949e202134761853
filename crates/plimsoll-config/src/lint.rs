//! What is allowed and probably not meant.

use std::collections::BTreeMap;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::{PoolDraft, SiteDraft};
use crate::model::PathPattern;
use crate::read::Reader;
use crate::source::Span;

/// Finds routes that an earlier one shadows. Each route is compared with the paths above it, not
/// with every other route, so a hundred thousand routes take a moment.
pub(crate) fn unreachable_routes(reader: &mut Reader<'_>, site: &SiteDraft) {
    let mut exact: BTreeMap<&str, Span> = BTreeMap::new();
    let mut below: BTreeMap<&str, Span> = BTreeMap::new();
    let mut any: Option<Span> = None;
    for route in &site.routes {
        let first = any.or_else(|| match &route.path {
            PathPattern::Any => None,
            PathPattern::Exact(path) => {
                exact.get(&**path).copied().or_else(|| shadow(&below, path))
            }
            PathPattern::Prefix(path) => shadow(&below, path),
        });
        if let Some(first) = first {
            let problem = Diagnostic::new(
                &codes::UNREACHABLE,
                route.span,
                "this route can never be reached",
            );
            let problem = problem.related(first, "this one takes all of its requests");
            reader.problem(problem.help("write the narrower route first"));
        }
        if !route.methods.is_empty() {
            continue; // it takes only some of the requests
        }
        match &route.path {
            PathPattern::Any => any = any.or(Some(route.span)),
            PathPattern::Exact(path) => drop(exact.entry(path).or_insert(route.span)),
            PathPattern::Prefix(path) => drop(below.entry(path).or_insert(route.span)),
        }
    }
}

/// The route that takes everything below some parent of `path`, or `path` itself.
fn shadow(below: &BTreeMap<&str, Span>, path: &str) -> Option<Span> {
    let parents = path
        .match_indices('/')
        .filter_map(|(at, _)| path.get(..=at));
    parents
        .filter_map(|parent| below.get(parent))
        .next()
        .copied()
}

/// Finds pools that cannot be meant.
pub(crate) fn pool(reader: &mut Reader<'_>, pool: &PoolDraft, is_used: bool) {
    let name = &pool.name;
    if pool.servers.is_empty() {
        let problem = Diagnostic::new(
            &codes::NO_SERVER,
            pool.span,
            format!("pool `{name}` has no server"),
        );
        reader.problem(problem.help("add one: `server 10.0.0.1:80`"));
    } else if pool
        .servers
        .iter()
        .all(|server| server.tier > 0 || server.weight == 0)
    {
        let message = format!("pool `{name}` has only backups and servers of weight 0");
        let problem = Diagnostic::new(&codes::NO_PRIMARY, pool.span, message);
        reader.problem(problem.help("let one server have a weight and not be a `backup`"));
    }
    // With an error elsewhere, the route may have been lost.
    if !is_used && !reader.is_broken() {
        let problem = Diagnostic::new(
            &codes::POOL_UNUSED,
            pool.span,
            format!("no route proxies to pool `{name}`"),
        );
        reader.problem(problem.help(format!("remove it, or add `route {{ proxy {name} }}`")));
    }
}
