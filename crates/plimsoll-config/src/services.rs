//! Services that relay connections or datagrams: what they inherit, and what they may not share or ask for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::IpNet;

use crate::certified::{self, Wanted};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::{PoolDraft, RelayDraft, Settings, SiteDraft, UdpDraft};
use crate::model::{
    AccessLog, Balance, HashKey, LogFormat, Pool, Protocol, ProxyVersion, Source, Sticky, StickyBy,
    TcpRule, TcpService, UdpService,
};
use crate::read::Reader;
use crate::resolve::{self, Pools};
use crate::source::Span;
use crate::syntax::Word;

/// Flows of a service that does not say how many it may have.
const FLOWS: NonZeroU32 = NonZeroU32::new(65_536).unwrap();

/// The services that relay connections, beside the sites.
pub(crate) fn tcp<'a>(
    reader: &mut Reader<'_>,
    sites: impl Iterator<Item = &'a SiteDraft>,
    services: &[RelayDraft],
    defaults: &Settings,
    pools: &mut Pools,
) -> Vec<TcpService> {
    let of_sites = sites.flat_map(|site| {
        let listen = resolve::listen(site, defaults).into_iter();
        listen.map(|address| (address, site.span))
    });
    check_addresses(reader, of_sites.collect(), services.iter());
    services
        .iter()
        .map(|service| resolve_tcp(reader, service, defaults, pools))
        .collect()
}

/// The services that relay datagrams; no site has addresses of theirs.
pub(crate) fn udp(
    reader: &mut Reader<'_>,
    services: &[UdpDraft],
    defaults: &Settings,
    pools: &mut Pools,
) -> Vec<UdpService> {
    let relays = services.iter().map(|service| &service.relay);
    check_addresses(reader, Vec::new(), relays);
    services
        .iter()
        .map(|service| resolve_udp(reader, service, defaults, pools))
        .collect()
}

fn resolve_tcp(
    reader: &mut Reader<'_>,
    service: &RelayDraft,
    up: &Settings,
    pools: &mut Pools,
) -> TcpService {
    let own = &service.settings;
    check_formats(reader, service, Relayed::Connections);
    TcpService {
        name: service.name.as_str().into(),
        listen: service.addresses(),
        tls: Vec::new(),
        internal: certified::internal(reader, Wanted::by_service(service)),
        client_certificate: resolve::client_certificate(
            reader,
            own,
            None,
            Wanted::by_service(service),
        ),
        proxy_protocol: service.announced_by(up),
        socket: resolve::socket(own, up),
        header: own.header.or(up.header).unwrap_or(Duration::from_secs(10)),
        idle: own
            .tunnel
            .or(up.tunnel)
            .unwrap_or(Duration::from_secs(3600)),
        lifetime: own.lifetime,
        detect: own.detect.unwrap_or(Duration::from_secs(5)),
        log: service.log(up, Relayed::Connections),
        rules: service.rules(reader, pools),
        pool: service.rest().map(|target| pools.find(reader, target)),
        place: resolve::place(reader, service.span),
    }
}

fn resolve_udp(
    reader: &mut Reader<'_>,
    service: &UdpDraft,
    up: &Settings,
    pools: &mut Pools,
) -> UdpService {
    let relay = &service.relay;
    check_formats(reader, relay, Relayed::Datagrams);
    let idle = relay.settings.idle.or(up.idle);
    UdpService {
        name: relay.name.as_str().into(),
        listen: relay.addresses(),
        proxy_protocol: relay.announced_by(up),
        idle: idle.unwrap_or(Duration::from_secs(30)),
        responses: service.responses.map(|(count, _)| count),
        flows: service.flows.map_or(FLOWS, |(most, _)| most),
        quic: service.quic.is_some(),
        log: relay.log(up, Relayed::Datagrams),
        // Without one it has been refused already.
        pool: relay.rest().map_or(0, |target| pools.find(reader, target)),
        place: resolve::place(reader, relay.span),
    }
}

impl RelayDraft {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.listen.iter().map(|(address, _)| *address).collect()
    }

    fn announced_by(&self, up: &Settings) -> Vec<IpNet> {
        let own = self.settings.proxy_protocol.as_ref();
        let networks = own.or(up.proxy_protocol.as_ref());
        networks.cloned().unwrap_or_default()
    }

    /// Where its log goes. What `defaults` wants told in a form that is not for what it relays is written as JSON.
    fn log(&self, up: &Settings, relayed: Relayed) -> Vec<AccessLog> {
        let logs = self.settings.log.as_ref().or(up.log.as_ref());
        let form = |log: &AccessLog| AccessLog {
            to: log.to.clone(),
            format: match relayed.is_told_of_in(log.format) {
                true => log.format,
                false => LogFormat::Json,
            },
        };
        logs.into_iter().flatten().map(form).collect()
    }

    fn rules(&self, reader: &mut Reader<'_>, pools: &mut Pools) -> Vec<TcpRule> {
        let rules = self.rules.iter().map(|rule| TcpRule {
            openings: rule.openings.iter().map(|(said, _)| said.clone()).collect(),
            pool: pools.find(reader, &rule.pool),
            place: resolve::place(reader, rule.span),
        });
        rules.collect()
    }

    /// The pool of what no rule takes, or of all.
    fn rest(&self) -> Option<&Word> {
        let target = self.default.as_ref().or(self.pool.as_ref());
        target.map(|(target, _)| target)
    }
}

/// Refuses lines that tell of something else than what a service relays.
fn check_formats(reader: &mut Reader<'_>, service: &RelayDraft, relayed: Relayed) {
    let mut logs = service.settings.log.iter().flatten();
    if !logs.any(|log| !relayed.is_told_of_in(log.format)) {
        return;
    }
    let (message, help) = match relayed {
        Relayed::Connections => (
            "`combined` tells of requests, and connections have none",
            "write `log PATH json` or `log PATH haproxy`",
        ),
        Relayed::Datagrams => (
            "the format tells of requests or connections, and there are none here",
            "write `log PATH json`",
        ),
    };
    let problem = Diagnostic::new(&codes::VALUE, service.span, message);
    reader.problem(problem.help(help));
}

/// Refuses an address that a service shares with another one, or with those that `taken` ones have.
fn check_addresses<'a>(
    reader: &mut Reader<'_>,
    taken: Vec<(SocketAddr, Span)>,
    services: impl Iterator<Item = &'a RelayDraft>,
) {
    let mut seen: BTreeMap<SocketAddr, Span> = BTreeMap::new();
    for (address, span) in taken {
        seen.entry(address).or_insert(span);
    }
    for (address, span) in services.flat_map(|service| &service.listen) {
        if let Some(first) = seen.insert(*address, *span) {
            let message = format!("two services listen on {address}");
            let problem = Diagnostic::new(&codes::LISTEN_SHARED, *span, message);
            let problem = problem.related(first, "the other one");
            reader.problem(problem.help("have one of them listen elsewhere"));
        }
    }
}

/// What passes as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relayed {
    Connections,
    Datagrams,
}

impl Relayed {
    /// Tells whether lines in this format tell of it.
    fn is_told_of_in(self, format: LogFormat) -> bool {
        match self {
            Self::Connections => format != LogFormat::Combined,
            Self::Datagrams => format == LogFormat::Json,
        }
    }
}

/// What each service relays, and to which pools, as they are written and by their numbers.
pub(crate) fn targets<'a>(
    tcp: &'a [RelayDraft],
    tcp_resolved: &'a [TcpService],
    udp: &'a [UdpDraft],
    udp_resolved: &'a [UdpService],
) -> impl Iterator<Item = (Relayed, &'a Word, usize)> {
    let tcp = tcp.iter().zip(tcp_resolved);
    let tcp = tcp.flat_map(|(written, resolved)| {
        let rules = written.rules.iter().zip(&resolved.rules);
        let rules = rules.map(|(written, resolved)| (&written.pool, resolved.pool));
        rules.chain(written.rest().zip(resolved.pool))
    });
    let tcp = tcp.map(|(target, pool)| (Relayed::Connections, target, pool));
    let udp = udp.iter().zip(udp_resolved);
    let udp = udp.filter_map(|(written, resolved)| {
        Some((Relayed::Datagrams, written.relay.rest()?, resolved.pool))
    });
    tcp.chain(udp)
}

/// Refuses pools that ask for something that only requests have, or only connections.
pub(crate) fn check_pools<'a>(
    reader: &mut Reader<'_>,
    targets: impl Iterator<Item = (Relayed, &'a Word, usize)>,
    drafts: &[PoolDraft],
    pools: &[Pool],
) {
    for (relayed, target, pool) in targets {
        let Some((draft, pool)) = drafts.get(pool).zip(pools.get(pool)) else {
            continue;
        };
        // One that does not exist has been refused already.
        let asked = asked(pool).or_else(|| asked_of_datagrams(relayed, draft, pool));
        let Some(what) = asked.filter(|_| draft.name == target.text) else {
            continue;
        };
        let name = &draft.name;
        let thing = match relayed {
            Relayed::Connections => "connection",
            Relayed::Datagrams => "datagram",
        };
        let message = format!("pool `{name}` {what}, which a {thing} does not have");
        let problem = Diagnostic::new(&codes::NO_REQUEST, target.span, message);
        reader.problem(problem.related(draft.span, "the pool"));
    }
}

/// Refuses ids of servers that nobody looks for.
pub(crate) fn check_quic_ids(
    reader: &mut Reader<'_>,
    services: &[UdpService],
    drafts: &[PoolDraft],
) {
    for (pool, draft) in drafts.iter().enumerate() {
        let mut services = services.iter();
        let is_read = services.any(|service| service.quic && service.pool == pool);
        let mut servers = draft.servers.iter().filter(|_| !is_read);
        if let Some(server) = servers.find(|server| server.quic_id.is_some()) {
            let message = "nothing looks for this `quic-id`";
            let problem = Diagnostic::new(&codes::VALUE, server.span, message);
            reader.problem(problem.help("write `quic` in a `udp` block with this pool"));
        }
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

/// What the pool asks for that only requests have.
fn asked(pool: &Pool) -> Option<&'static str> {
    match &pool.balance {
        Balance::Hash(key) | Balance::Maglev(key) if *key != HashKey::ClientIp => {
            Some("looks at a part of the request")
        }
        _ if pool.sticky.as_ref().is_some_and(is_of_requests) => {
            Some("looks at the session of a request")
        }
        _ if pool.protocol == Protocol::Http2 => Some("looks at HTTP/2"),
        _ => None,
    }
}

/// What the pool asks for that requests and connections have, and datagrams have not.
fn asked_of_datagrams(relayed: Relayed, draft: &PoolDraft, pool: &Pool) -> Option<&'static str> {
    if relayed == Relayed::Connections {
        None
    } else if pool.tls.is_some() {
        Some("has its servers speak TLS")
    } else if pool.source != Source::System {
        Some("opens connections from another `source`")
    } else if draft.settings.socket.is_some() {
        Some("has options of a `socket`")
    } else if pool.queue.is_some() {
        Some("has a place in its `queue`")
    } else if pool.proxy_protocol == Some(ProxyVersion::V1) {
        Some("writes a line of the PROXY protocol")
    } else {
        None
    }
}
