//! The draft becomes the model: names to indices, defaults to values.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::certified::Wanted;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directives::{named_match, policy};
use crate::draft::{
    ActionDraft, Certified, Draft, PoolDraft, RouteDraft, ServerDraft, Settings, SiteDraft,
};
use crate::model::{
    Action, Balance, Buffer, ClientCertificate, ClientTimeouts, Compress, Config, KeepAlive,
    Monitor, Overload, Place, Pool, Priority, Protocol, RequestLimits, Route, Server,
    ServerTimeouts, Site, SocketOptions, Source, Split, Step, Template,
};
use crate::read::Reader;
use crate::source::Span;
use crate::suggest::nearest;
use crate::syntax::Word;
use crate::{acme, alike, arguments, caches, certified, https, lint, services};

/// Resolves `draft`; problems go to `reader`, and with an error among them the result means nothing.
pub(crate) fn resolve(reader: &mut Reader<'_>, mut draft: Draft) -> Config {
    let defaults = draft
        .defaults
        .take()
        .map(|(settings, _)| settings)
        .unwrap_or_default();
    check_any(reader, &draft);
    alike::check(reader, &draft.sites, &defaults);
    let redirects = https::redirects(&draft.sites, &defaults);
    let acme = acme::settings(reader, &mut draft, &redirects, &defaults);
    let all = (&*draft.sites, &*draft.tcp);
    let names = acme::Names::gather(reader, all, &defaults, acme.as_ref());
    let matches = named_match::finish(reader);
    let geo = draft.geo.map(|(geo, _)| geo);
    let spool = draft.spool.map(|(spool, _)| spool);
    check_asked(reader, geo.is_some(), spool.is_some());
    let mut pools = Pools::new(&draft.pools);
    let mut sites = Vec::new();
    for site in &draft.sites {
        lint::unreachable_routes(reader, site);
        check_routes(reader, site);
        let mut resolved = resolve_site(reader, site, &defaults, &mut pools);
        resolved.tls = names.pairs(Wanted::by_site(site, &defaults), acme.as_ref());
        sites.push(resolved);
    }
    sites.extend(
        redirects
            .iter()
            .map(|site| resolve_site(reader, site, &defaults, &mut pools)),
    );
    let all = draft.sites.iter().chain(&redirects);
    let mut tcp = services::tcp(reader, all, &draft.tcp, &defaults, &mut pools);
    for (service, resolved) in draft.tcp.iter().zip(&mut tcp) {
        resolved.tls = names.pairs(Wanted::by_service(service), acme.as_ref());
    }
    let udp = services::udp(reader, &draft.udp, &defaults, &mut pools);
    let pools = resolve_pools(reader, &draft.pools, &pools, &defaults);
    let relayed = services::targets(&draft.tcp, &tcp, &draft.udp, &udp);
    services::check_pools(reader, relayed, &draft.pools, &pools);
    services::check_quic_ids(reader, &udp, &draft.pools);
    let workers: Option<NonZeroU16> = draft.workers.and_then(|(workers, _)| workers);
    let (connections, _) = draft.connections.unwrap_or_default();
    Config {
        workers,
        admin: draft.admin.unwrap_or_default().0,
        user: draft.user.map(|(user, _)| user),
        zone: draft.zone.map(|(zone, _)| zone),
        max_requests: draft.max_requests.map(|(most, _)| most),
        resolver: draft
            .resolver
            .map_or_else(Default::default, |(resolver, _)| resolver),
        connections,
        overload: draft
            .overload
            .map_or_else(|| Some(Overload::default()), |(overload, _)| overload),
        acme,
        geo,
        spool,
        tickets: draft.tickets.unwrap_or_default().0,
        fingerprints: reader.fingerprints,
        matches,
        caches: caches::resolve(reader, (&draft.caches, &draft.sites), &mut sites),
        sites,
        tcp,
        udp,
        pools,
    }
}

/// Refuses a site that answers nothing.
fn check_routes(reader: &mut Reader<'_>, site: &SiteDraft) {
    if site.routes.is_empty() && !reader.is_broken() {
        let problem = Diagnostic::new(&codes::NO_ROUTE, site.span, "the site has no route");
        reader.problem(problem.help("add one: `route { proxy POOL }`"));
    }
}

/// Refuses a configuration that serves nothing.
fn check_any(reader: &mut Reader<'_>, draft: &Draft) {
    if draft.sites.is_empty() && draft.tcp.is_empty() && draft.udp.is_empty() {
        let problem = Diagnostic::new(
            &codes::NOTHING,
            Span::default(),
            "nothing is served: there is no `site`, no `tcp` and no `udp`",
        );
        reader.problem(
            problem
                .help("the smallest: `site * { listen :8080 ; route { proxy 127.0.0.1:3000 } }`"),
        );
    }
}

/// What some rules ask for must be said at the top level.
fn check_asked(reader: &mut Reader<'_>, has_geo: bool, has_spool: bool) {
    if let Some(asked) = reader.geo_asked.filter(|_| !has_geo) {
        let message = "nothing tells where clients are";
        let problem = Diagnostic::new(&codes::NO_GEO, asked, message);
        reader.problem(
            problem.help("write `geo FILE` at the top level, with a MaxMind country file"),
        );
    }
    if let Some(asked) = reader.spool_asked.filter(|_| !has_spool) {
        let message = "nothing says where on disk bodies may wait";
        let problem = Diagnostic::new(&codes::NO_SPOOL, asked, message);
        reader.problem(problem.help("write `spool /var/spool/plimsoll` at the top level"));
    }
}

/// The pools that routes may name, and those that are made from an address.
pub(crate) struct Pools {
    names: BTreeMap<String, usize>,
    used: Vec<bool>,
    anonymous: Vec<PoolDraft>,
}

impl Pools {
    fn new(pools: &[PoolDraft]) -> Self {
        let mut names = BTreeMap::new();
        for (index, pool) in pools.iter().enumerate() {
            names.entry(pool.name.clone()).or_insert(index);
        }
        Self {
            names,
            used: vec![false; pools.len()],
            anonymous: Vec::new(),
        }
    }

    pub(crate) fn find(&mut self, reader: &mut Reader<'_>, target: &Word) -> usize {
        if let Some(&index) = self.names.get(&target.text) {
            if let Some(used) = self.used.get_mut(index) {
                *used = true;
            }
            return index;
        }
        if let Some(address) = arguments::server_address(&target.text) {
            return self.add(target, address);
        }
        reader.error(|_| self.unknown(target));
        0
    }

    fn unknown(&self, target: &Word) -> Diagnostic {
        let message = format!("pool `{}` does not exist", target.text);
        let mut problem = Diagnostic::new(&codes::POOL_UNKNOWN, target.span, message);
        let known: Vec<&str> = self
            .names
            .keys()
            .map(String::as_str)
            .filter(|name| !name.contains(':'))
            .collect();
        if let Some(near) = nearest(&target.text, known.iter().copied()) {
            problem = problem.label(format!("did you mean `{near}`?"));
        }
        problem = match known.len() {
            0 => problem.note("there are no pools"),
            1..=20 => problem.note(format!("pools here: {}", known.join(", "))),
            many => problem.note(format!("there are {many} pools")),
        };
        let name = target.text.split(':').next().unwrap_or_default();
        let help = format!("to proxy to a host name write it with a port: `proxy {name}:80`");
        problem.help(help)
    }

    fn add(&mut self, target: &Word, address: crate::model::ServerAddress) -> usize {
        let index = self.used.len() + self.anonymous.len();
        let name = target.text.clone();
        let span = target.span;
        let server = ServerDraft {
            name: name.clone(),
            address,
            weight: 1,
            max_connections: None,
            tier: 0,
            zone: None,
            check_address: None,
            quic_id: None,
            span,
        };
        self.names.insert(name.clone(), index);
        self.anonymous.push(PoolDraft {
            name,
            servers: vec![server],
            addresses: BTreeMap::new(),
            max_requests: None,
            tls: None,
            proxy_protocol: None,
            settings: Settings::default(),
            span,
        });
        index
    }
}

/// Refuses to show servers whom a connection is from on which many have their requests.
fn check_shared(reader: &mut Reader<'_>, pools: &[PoolDraft], defaults: &Settings) {
    for pool in pools {
        if pool.settings.protocol.or(defaults.protocol) != Some(Protocol::Http2) {
            continue;
        }
        if let Some((Some(_), span)) = pool.proxy_protocol {
            let message = "a connection with HTTP/2 is not from one client";
            let problem = Diagnostic::new(&codes::PROXY_SHARED, span, message);
            let help = "leave `proxy-protocol` out, as each request names its client in `X-Forwarded-For`, or say `http 1`";
            reader.problem(problem.help(help));
        }
        let source = pool.settings.source.as_ref().or(defaults.source.as_ref());
        if source == Some(&Source::Client) {
            let message = "a connection with HTTP/2 is not from one client's address";
            let problem = Diagnostic::new(&codes::PROXY_SHARED, pool.span, message);
            let help = "leave `source transparent` out, as each request names its client in `X-Forwarded-For`, or say `http 1.1`";
            reader.problem(problem.help(help));
        }
    }
}

/// Who says in the PROXY protocol whom connections to a site are from.
pub(crate) fn accepts<'a>(site: &'a SiteDraft, defaults: &'a Settings) -> &'a [IpNet] {
    let own = site.settings.proxy_protocol.as_ref();
    let networks = own.or(defaults.proxy_protocol.as_ref());
    networks.map(Vec::as_slice).unwrap_or_default()
}

/// What a block says itself, or what `defaults` says for it.
fn inherited<T: Clone>(own: &Option<T>, up: &Option<T>) -> Option<T> {
    own.as_ref().or(up.as_ref()).cloned()
}

/// What the system does for connections.
pub(crate) fn socket(own: &Settings, defaults: &Settings) -> SocketOptions {
    own.socket.or(defaults.socket).unwrap_or_default()
}

pub(crate) fn tls<'a>(site: &'a SiteDraft, defaults: &'a Settings) -> &'a [Certified] {
    let pairs = site.settings.tls.as_ref().or(defaults.tls.as_ref());
    pairs.map(Vec::as_slice).unwrap_or_default()
}

/// Which certificates clients show. What is inherited is for those alone that come with TLS.
pub(crate) fn client_certificate(
    reader: &mut Reader<'_>,
    own: &Settings,
    inherited: Option<&Option<ClientCertificate>>,
    wanted: Wanted<'_>,
) -> Option<ClientCertificate> {
    let own = own.client_certificate.as_ref();
    let is_plain = wanted.from.is_empty();
    if is_plain && own.is_some_and(Option::is_some) {
        let message = "certificates are asked of clients that come without TLS";
        let problem = Diagnostic::new(&codes::CLIENT_CERTIFICATE_PLAIN, wanted.span, message);
        reader.problem(problem.help("add `tls CERTIFICATE KEY`, or take `client-certificate` out"));
    }
    own.or(inherited).filter(|_| !is_plain)?.clone()
}

pub(crate) fn listen(site: &SiteDraft, defaults: &Settings) -> Vec<SocketAddr> {
    let port = if tls(site, defaults).is_empty() {
        80
    } else {
        443
    };
    match site.listen.as_slice() {
        [] => vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))],
        listen => listen.iter().map(|(address, _)| *address).collect(),
    }
}

pub(crate) fn place(reader: &Reader<'_>, span: Span) -> Place {
    let file = reader
        .sources
        .file(span.file)
        .map_or_else(|| Arc::from(""), |file| Arc::clone(&file.name));
    Place {
        file,
        line: reader.sources.line(span),
    }
}

/// Steps with the numbers of the pools that they refer to.
fn steps(
    reader: &mut Reader<'_>,
    steps: &[Step],
    referred: &[(usize, Word)],
    pools: &mut Pools,
) -> Vec<Step> {
    let mut steps = steps.to_vec();
    for (number, word) in referred {
        let found = pools.find(reader, word);
        if let Some(pool) = steps.get_mut(*number).and_then(Step::pool_mut) {
            *pool = found;
        }
    }
    steps
}

fn places(reader: &Reader<'_>, spans: &[Span]) -> Vec<Place> {
    spans.iter().map(|span| place(reader, *span)).collect()
}

fn resolve_site(
    reader: &mut Reader<'_>,
    site: &SiteDraft,
    defaults: &Settings,
    pools: &mut Pools,
) -> Site {
    let (own, up) = (&site.settings, defaults);
    let seconds = Duration::from_secs;
    Site {
        name: site.name.as_str().into(),
        hosts: site.hosts.iter().map(|(host, _)| host.clone()).collect(),
        listen: listen(site, defaults),
        tls: Vec::new(),
        internal: certified::internal(reader, Wanted::by_site(site, defaults)),
        client_certificate: client_certificate(
            reader,
            own,
            up.client_certificate.as_ref(),
            Wanted::by_site(site, defaults),
        ),
        proxy_protocol: accepts(site, defaults).to_vec(),
        socket: socket(own, up),
        hide: own.hide.or(up.hide).unwrap_or_default(),
        errors: own.errors.iter().chain(&up.errors).cloned().collect(),
        monitor: site.monitor.as_ref().map(|(monitor, _)| Monitor {
            path: monitor.path.clone(),
            pools: monitor
                .pools
                .iter()
                .map(|pool| pools.find(reader, pool))
                .collect(),
        }),
        trust: inherited(&own.trust, &up.trust).unwrap_or_default(),
        timeouts: ClientTimeouts {
            header: own.header.or(up.header).unwrap_or_else(|| seconds(10)),
            idle: own.idle.or(up.idle).unwrap_or_else(|| seconds(60)),
            body: own.body.or(up.body).unwrap_or_else(|| seconds(30)),
            tunnel: own.tunnel.or(up.tunnel).unwrap_or_else(|| seconds(3600)),
        },
        limits: RequestLimits {
            head: own.head_bytes.or(up.head_bytes).unwrap_or(32 * 1024),
            fields: own.fields.or(up.fields).unwrap_or(100),
            uri: own.uri_bytes.or(up.uri_bytes).unwrap_or(8 * 1024),
            body: own.body_bytes.or(up.body_bytes).unwrap_or(None),
            min_rate: own.min_rate.or(up.min_rate).unwrap_or(240),
        },
        log: inherited(&own.log, &up.log).unwrap_or_default(),
        max_requests: site.max_requests.map(|(most, _)| most),
        steps: steps(reader, &site.steps, &site.step_pools, pools),
        step_places: places(reader, &site.step_spans),
        routes: site
            .routes
            .iter()
            .map(|route| resolve_route(reader, route, (site, defaults), pools))
            .collect(),
        place: place(reader, site.span),
    }
}

fn resolve_route(
    reader: &mut Reader<'_>,
    route: &RouteDraft,
    (site, defaults): (&SiteDraft, &Settings),
    pools: &mut Pools,
) -> Route {
    let action = match &route.action {
        Some((ActionDraft::Proxy(target), _)) => Action::Proxy(pools.find(reader, target)),
        Some((ActionDraft::Respond { status, body }, _)) => Action::Respond {
            status: *status,
            body: body.clone(),
        },
        Some((ActionDraft::Redirect { status, to }, _)) => Action::Redirect {
            status: *status,
            to: to.clone(),
        },
        Some((ActionDraft::Split { shares, sticky }, _)) => Action::Split(Split {
            shares: shares
                .iter()
                .map(|(share, pool)| (*share, pools.find(reader, pool)))
                .collect(),
            sticky: sticky.clone(),
        }),
        Some((ActionDraft::Files(files), _)) => Action::Files(files.clone()),
        None => Action::Respond {
            status: 404,
            body: Template::default(),
        },
    };
    Route {
        path: route.path.clone(),
        methods: route.methods.clone(),
        conditions: route.conditions.clone(),
        buffer: route
            .buffer
            .map_or_else(Buffer::default, |(buffer, _)| buffer),
        response_buffer: route
            .response_buffer
            .map_or_else(Buffer::default, |(buffer, _)| buffer),
        is_internal: route.internal.is_some(),
        compress: compress(route, (site, defaults)),
        cache: None, // where caches are known
        steps: steps(reader, &route.steps, &route.step_pools, pools),
        step_places: places(reader, &route.step_spans),
        errors: route.errors.clone(),
        priority: route
            .priority
            .or(site.priority)
            .map_or(Priority::Normal, |(priority, _)| priority),
        action,
        place: place(reader, route.span),
    }
}

/// How the answers of a route are compressed.
fn compress(route: &RouteDraft, (site, defaults): (&SiteDraft, &Settings)) -> Option<Compress> {
    let said = [&route.compress, &site.settings.compress, &defaults.compress];
    let (compress, _) = said.into_iter().find_map(Option::as_ref)?;
    compress.clone()
}

/// The pools that were written, and those that were made from an address.
fn resolve_pools(
    reader: &mut Reader<'_>,
    drafts: &[PoolDraft],
    named: &Pools,
    defaults: &Settings,
) -> Vec<Pool> {
    for (pool, is_used) in drafts.iter().zip(&named.used) {
        lint::pool(reader, pool, *is_used);
    }
    check_shared(reader, drafts, defaults);
    let all = drafts.iter().chain(&named.anonymous);
    all.map(|pool| resolve_pool(reader, pool, defaults))
        .collect()
}

fn resolve_server(reader: &Reader<'_>, server: &ServerDraft) -> Server {
    Server {
        name: server.name.as_str().into(),
        address: server.address.clone(),
        weight: server.weight,
        max_connections: server.max_connections,
        tier: server.tier,
        zone: server.zone.clone(),
        check_address: server.check_address,
        quic_id: server.quic_id.clone(),
        place: place(reader, server.span),
    }
}

fn resolve_pool(reader: &Reader<'_>, pool: &PoolDraft, defaults: &Settings) -> Pool {
    let (own, up) = (&pool.settings, defaults);
    let seconds = Duration::from_secs;
    Pool {
        name: pool.name.as_str().into(),
        balance: inherited(&own.balance, &up.balance).unwrap_or(Balance::RoundRobin),
        servers: pool
            .servers
            .iter()
            .map(|server| resolve_server(reader, server))
            .collect(),
        timeouts: ServerTimeouts {
            connect: own.connect.or(up.connect).unwrap_or_else(|| seconds(3)),
            response: own.response.or(up.response).unwrap_or_else(|| seconds(60)),
        },
        protocol: own.protocol.or(up.protocol).unwrap_or_default(),
        tls: pool.tls.clone().and_then(|(tls, _)| tls),
        proxy_protocol: pool.proxy_protocol.and_then(|(version, _)| version),
        source: inherited(&own.source, &up.source).unwrap_or_default(),
        socket: SocketOptions {
            fast_open: false, // which is for clients
            ..socket(own, up)
        },
        keep_alive: match own.keep_max.or(up.keep_max).unwrap_or(128) {
            // Without idle connections it means nothing how long they may be idle.
            0 => KeepAlive {
                max: 0,
                idle: seconds(30),
            },
            max => KeepAlive {
                max,
                idle: own
                    .keep_idle
                    .or(up.keep_idle)
                    .unwrap_or_else(|| seconds(30)),
            },
        },
        checks: inherited(&own.checks, &up.checks).unwrap_or_default(),
        outlier: inherited(&own.outlier, &up.outlier).unwrap_or(Some(policy::OUTLIER)),
        fail_open: own.fail_open.or(up.fail_open).unwrap_or(Some(0)),
        slow_start: own.slow_start.or(up.slow_start).unwrap_or(None),
        max_requests: pool.max_requests.map(|(most, _)| most),
        on_down: own.on_down.or(up.on_down).unwrap_or_default(),
        subset: own.subset.or(up.subset).unwrap_or(None),
        retry: inherited(&own.retry, &up.retry).unwrap_or_else(policy::retry_default),
        hedge: own.hedge.or(up.hedge).unwrap_or(None),
        queue: own.queue.or(up.queue).unwrap_or(None),
        adaptive: own.adaptive.or(up.adaptive).unwrap_or(None),
        sticky: inherited(&own.sticky, &up.sticky).unwrap_or(None),
        place: place(reader, pool.span),
    }
}
