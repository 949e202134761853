//! What is allowed and probably not meant.

use std::collections::BTreeMap;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::{PoolDraft, RouteDraft, SiteDraft, TcpRuleDraft};
use crate::model::{Host, Opening, PathPattern, Spoken};
use crate::read::Reader;
use crate::source::Span;

/// Finds routes that an earlier one shadows. Each route walks down its own path, past the routes
/// above it, so that all of them together cost what their text does.
pub(crate) fn unreachable_routes(reader: &mut Reader<'_>, site: &SiteDraft) {
    let is_internal = |route: &&RouteDraft| route.internal.is_some();
    // No request comes to both kinds.
    unreachable(
        reader,
        site.routes.iter().filter(|route| !is_internal(route)),
    );
    unreachable(reader, site.routes.iter().filter(is_internal));
}

fn unreachable<'a>(reader: &mut Reader<'_>, routes: impl Iterator<Item = &'a RouteDraft>) {
    let mut paths = Paths::default();
    let mut any: Option<Span> = None;
    for route in routes {
        let (node, above) = match &route.path {
            // What a pattern takes is not compared with what others take.
            PathPattern::Any | PathPattern::Glob(_) => (0, None),
            PathPattern::Exact(path) | PathPattern::Prefix(path) => paths.walk(path),
        };
        let same = match &route.path {
            PathPattern::Exact(_) => paths.exact.get(&node).copied(),
            _ => None,
        };
        if let Some(first) = any.or(same).or(above) {
            let problem = Diagnostic::new(
                &codes::UNREACHABLE,
                route.span,
                "this route can never be reached",
            );
            let problem = problem.related(first, "this one takes all of its requests");
            reader.problem(problem.help("write the narrower route first"));
        }
        if route.is_narrow {
            continue; // it takes only some of the requests
        }
        match &route.path {
            PathPattern::Any => any = any.or(Some(route.span)),
            PathPattern::Glob(_) => {}
            PathPattern::Exact(_) => drop(paths.exact.entry(node).or_insert(route.span)),
            PathPattern::Prefix(_) => drop(paths.below.entry(node).or_insert(route.span)),
        }
    }
}

/// The paths of the routes seen so far, as a tree of their segments.
#[derive(Default)]
struct Paths<'a> {
    /// The node that a segment leads to, with the slash at its end. The root is node 0.
    next: BTreeMap<(usize, &'a str), usize>,
    /// The first route that takes all requests to exactly this path.
    exact: BTreeMap<usize, Span>,
    /// The first route that takes all requests to what is below it.
    below: BTreeMap<usize, Span>,
}

impl<'a> Paths<'a> {
    /// Walks down `path` and returns its node and the topmost route that takes all below it or
    /// below a parent.
    fn walk(&mut self, path: &'a str) -> (usize, Option<Span>) {
        let (mut node, mut above) = (0, None);
        for segment in path.split_inclusive('/') {
            let fresh = self.next.len() + 1;
            node = *self.next.entry((node, segment)).or_insert(fresh);
            above = above.or_else(|| self.below.get(&node).copied());
        }
        (node, above)
    }
}

/// Finds what rules for connections ask for that an earlier one has taken.
pub(crate) fn unreachable_rules(reader: &mut Reader<'_>, rules: &[TcpRuleDraft]) {
    let mut taken: BTreeMap<Opening, Span> = BTreeMap::new();
    for (opening, span) in rules.iter().flat_map(|rule| &rule.openings) {
        if let Some(first) = wider(opening).find_map(|wide| taken.get(&wide)) {
            let message = "this can never match";
            let problem = Diagnostic::new(&codes::RULE_UNREACHABLE, *span, message);
            let problem = problem.related(*first, "this one takes all of its connections");
            reader.problem(problem.help("write the narrower rule first"));
        }
        taken.entry(opening.clone()).or_insert(*span);
    }
}

/// What takes all connections that an opening does: itself, and all that is wider.
fn wider(opening: &Opening) -> impl Iterator<Item = Opening> {
    let (name, is_tls) = match opening {
        Opening::Name(Host::Exact(name)) => (&**name, true),
        // What is below one suffix is below its suffixes as well.
        Opening::Name(Host::Suffix(name)) => (name.get(1..).unwrap_or_default(), true),
        Opening::Name(_) | Opening::Offer(_) => ("", true),
        Opening::Speech(_) => ("", false),
    };
    let suffixes = name.match_indices('.').filter_map(|(at, _)| name.get(at..));
    let suffixes = suffixes.map(|suffix| Opening::Name(Host::Suffix(suffix.into())));
    let any = matches!(opening, Opening::Name(_)).then_some(Opening::Name(Host::Any));
    let tls = is_tls.then_some(Opening::Speech(Spoken::Tls));
    std::iter::once(opening.clone())
        .chain(suffixes)
        .chain(any)
        .chain(tls)
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
