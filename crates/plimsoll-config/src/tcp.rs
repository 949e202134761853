//! Services that relay connections: what they inherit, and what they may not share or ask for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::{PoolDraft, Settings, SiteDraft, TcpDraft};
use crate::model::{
    AccessLog, Balance, HashKey, LogFormat, Pool, Protocol, Sticky, StickyBy, TcpRule, TcpService,
};
use crate::read::Reader;
use crate::resolve::{self, Pools};
use crate::source::Span;
use crate::syntax::Word;

/// The services, beside the sites.
pub(crate) fn services<'a>(
    reader: &mut Reader<'_>,
    sites: impl Iterator<Item = &'a SiteDraft>,
    services: &[TcpDraft],
    defaults: &Settings,
    pools: &mut Pools,
) -> Vec<TcpService> {
    check_addresses(reader, sites, services, defaults);
    services
        .iter()
        .map(|service| resolve(reader, service, defaults, pools))
        .collect()
}

fn resolve(
    reader: &mut Reader<'_>,
    service: &TcpDraft,
    up: &Settings,
    pools: &mut Pools,
) -> TcpService {
    let own = &service.settings;
    let announced_by = own.proxy_protocol.as_ref().or(up.proxy_protocol.as_ref());
    check_formats(reader, service);
    TcpService {
        name: service.name.as_str().into(),
        listen: service.listen.iter().map(|(address, _)| *address).collect(),
        proxy_protocol: announced_by.cloned().unwrap_or_default(),
        socket: resolve::socket(own, up),
        header: own.header.or(up.header).unwrap_or(Duration::from_secs(10)),
        idle: own
            .tunnel
            .or(up.tunnel)
            .unwrap_or(Duration::from_secs(3600)),
        lifetime: own.lifetime,
        detect: own.detect.unwrap_or(Duration::from_secs(5)),
        log: logs(own, up),
        rules: service
            .rules
            .iter()
            .map(|rule| TcpRule {
                openings: rule.openings.iter().map(|(said, _)| said.clone()).collect(),
                pool: pools.find(reader, &rule.pool),
                place: resolve::place(reader, rule.span),
            })
            .collect(),
        pool: rest(service).map(|target| pools.find(reader, target)),
        place: resolve::place(reader, service.span),
    }
}

/// The pool of what no rule takes, or of all.
fn rest(service: &TcpDraft) -> Option<&Word> {
    let target = service.default.as_ref().or(service.pool.as_ref());
    target.map(|(target, _)| target)
}

/// The logs of a service. What `defaults` wants told of requests in a form that connections do not have is
/// written as JSON.
fn logs(own: &Settings, up: &Settings) -> Vec<AccessLog> {
    let logs = own.log.as_ref().or(up.log.as_ref());
    let form = |log: &AccessLog| AccessLog {
        to: log.to.clone(),
        format: match log.format {
            LogFormat::Combined => LogFormat::Json,
            known => known,
        },
    };
    logs.into_iter().flatten().map(form).collect()
}

/// Refuses lines that tell of requests.
fn check_formats(reader: &mut Reader<'_>, service: &TcpDraft) {
    let mut logs = service.settings.log.iter().flatten();
    if logs.any(|log| log.format == LogFormat::Combined) {
        let message = "`combined` tells of requests, and connections have none";
        let problem = Diagnostic::new(&codes::VALUE, service.span, message);
        reader.problem(problem.help("write `log PATH json` or `log PATH haproxy`"));
    }
}

/// Refuses an address that a service shares with another one, or with sites.
fn check_addresses<'a>(
    reader: &mut Reader<'_>,
    sites: impl Iterator<Item = &'a SiteDraft>,
    services: &[TcpDraft],
    defaults: &Settings,
) {
    let mut seen: BTreeMap<SocketAddr, Span> = BTreeMap::new();
    for site in sites {
        for address in resolve::listen(site, defaults) {
            seen.entry(address).or_insert(site.span);
        }
    }
    for (address, span) in services.iter().flat_map(|service| &service.listen) {
        if let Some(first) = seen.insert(*address, *span) {
            let message = format!("two services listen on {address}");
            let problem = Diagnostic::new(&codes::LISTEN_SHARED, *span, message);
            let problem = problem.related(first, "the other one");
            reader.problem(problem.help("have one of them listen elsewhere"));
        }
    }
}

/// The pools of a service, as they are written and by their numbers.
fn targets<'a>(
    (written, resolved): (&'a TcpDraft, &'a TcpService),
) -> impl Iterator<Item = (&'a Word, usize)> {
    let rules = written.rules.iter().zip(&resolved.rules);
    let rules = rules.map(|(written, resolved)| (&written.pool, resolved.pool));
    rules.chain(rest(written).zip(resolved.pool))
}

/// Refuses pools that look at something of a request where connections go to them.
pub(crate) fn check_pools(
    reader: &mut Reader<'_>,
    services: &[TcpDraft],
    drafts: &[PoolDraft],
    pools: &[Pool],
    resolved: &[TcpService],
) {
    for (target, pool) in services.iter().zip(resolved).flat_map(targets) {
        let Some((draft, pool)) = drafts.get(pool).zip(pools.get(pool)) else {
            continue;
        };
        // One that does not exist has been refused already.
        let Some(what) = asked(pool).filter(|_| draft.name == target.text) else {
            continue;
        };
        let name = &draft.name;
        let message = format!("pool `{name}` looks at {what}, which a connection does not have");
        let problem = Diagnostic::new(&codes::NO_REQUEST, target.span, message);
        reader.problem(problem.related(draft.span, "the pool"));
    }
}

/// Tells whether clients are known by more than their address.
fn is_of_requests(sticky: &Sticky) -> bool {
    !matches!(
        &sticky.by,
        StickyBy::Key {
            key: HashKey::ClientIp,
            ..
        }
    )
}

/// What the pool looks at that only requests have.
fn asked(pool: &Pool) -> Option<&'static str> {
    match &pool.balance {
        Balance::Hash(key) | Balance::Maglev(key) if *key != HashKey::ClientIp => {
            Some("a part of the request")
        }
        _ if pool.sticky.as_ref().is_some_and(is_of_requests) => Some("the session of a request"),
        _ if pool.protocol == Protocol::Http2 => Some("HTTP/2"),
        _ => None,
    }
}
