//! From a configuration to the addresses that are listened on: which site answers for which host, and
//! with which certificates.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use plimsoll_config::model::{
    self, AccessLog, ClientCertificate, Config, Host, Internal, KeyPair, SocketOptions, TcpService,
    Tickets, UdpService,
};
use plimsoll_http::h1::parse::HeadLimits;
use xxhash_rust::xxh3::xxh3_64;

use crate::acme::Challenges;
use crate::compile::{self, Machine};
use crate::datagrams::{Connections, Service};
use crate::generation::{Hosts, Listener, Port};
use crate::material::Materials;
use crate::opening::Rules;
use crate::pools::options;
use crate::relay::Relay;
use crate::succession::Before;
use crate::tls::clients::Policy;
use crate::tls::sessions::{Sessions, Source};
use crate::tls::staple::Proof;
use crate::tls::{Common, Protocols, Secure, SecureSite, Served};

/// The addresses of a configuration, each with the sites that answer there or with what is done with its
/// connections.
pub(crate) fn compile(
    config: &Config,
    materials: &mut Materials,
    (sessions, challenges): (&Arc<Sessions>, &Arc<Challenges>),
    logs: &mut Vec<AccessLog>,
) -> Vec<Listener> {
    let (mut listeners, firsts) = plain(config);
    let mut serving = Serving::new(config, materials, sessions);
    let sites = serving.sites(config);
    let secure = |hosts: &Arc<Hosts>, first, sites: &Arc<[SecureSite]>| {
        Arc::new(Secure {
            hosts: Arc::clone(hosts),
            first,
            sites: Arc::clone(sites),
            sessions: Arc::clone(sessions),
            is_curious: config.fingerprints,
            challenges: Arc::clone(challenges),
        })
    };
    for (listener, first) in listeners.iter_mut().zip(firsts) {
        // All sites of an address speak TLS, or none does.
        let is_secure = sites
            .binary_search_by_key(&first, |known| known.site)
            .is_ok();
        listener.tls = is_secure.then(|| secure(&listener.hosts, first, &sites));
    }
    let any = Arc::new(Hosts {
        any: Some(0),
        ..Hosts::default()
    });
    for service in &config.tcp {
        let served = serving.service(service);
        let tls = served.map(|served| secure(&any, 0, &served));
        listeners.extend(relays(service, tls.as_ref(), logs));
    }
    for listener in &mut listeners {
        listener.door = door(config, listener);
    }
    listeners
}

/// Tells doors apart. Behind one door, what a connection has agreed on when it began holds as long as it lasts:
/// what clients speak there, and which certificates they have to show.
fn door(config: &Config, listener: &Listener) -> u64 {
    let asks = |site: &&model::Site| site.listen.contains(&listener.address);
    let asks = config.sites.iter().filter(asks);
    let mut asks = asks.map(|site| (&site.hosts, &site.client_certificate));
    let is_asked = asks.clone().any(|(_, asked)| asked.is_some());
    let asked: Vec<_> = asks
        .by_ref()
        .filter(|_| is_asked && listener.tls.is_some())
        .collect();
    let kind = (listener.tls.is_some(), listener.relay.is_some());
    xxh3_64(format!("{} {kind:?} {asked:?}", listener.address).as_bytes())
}

/// The addresses of a service that relays connections.
fn relays(
    service: &TcpService,
    tls: Option<&Arc<Secure>>,
    logs: &mut Vec<AccessLog>,
) -> Vec<Listener> {
    let relay = Arc::new(Relay {
        name: Arc::clone(&service.name),
        rules: Rules::new(service),
        idle: service.idle,
        lifetime: service.lifetime,
        logs: compile::log_numbers(&service.log, logs),
    });
    let listener = |&address| Listener {
        header_timeout: service.header,
        tls: tls.cloned(),
        relay: Some(Arc::clone(&relay)),
        ..Listener::new(address, &service.proxy_protocol, service.socket)
    };
    service.listen.iter().map(listener).collect()
}

/// The addresses that datagrams come to.
pub(crate) fn ports(
    config: &Config,
    (machine, before): (&Machine, Before<'_>),
    logs: &mut Vec<AccessLog>,
) -> Vec<Port> {
    let mut ports = Vec::new();
    for service in &config.udp {
        let addresses = service.listen.iter();
        let pool = config.pools.get(service.pool);
        let service = Arc::new(self::service(service, pool, (machine, before), logs));
        ports.extend(addresses.map(|&address| Port {
            address,
            service: Arc::clone(&service),
        }));
    }
    ports
}

fn service(
    service: &UdpService,
    pool: Option<&model::Pool>,
    (machine, before): (&Machine, Before<'_>),
    logs: &mut Vec<AccessLog>,
) -> Service {
    // Half of what connections may have: others need descriptors, too.
    let most = (service.flows.get() as usize).min(machine.connections_max / 2);
    let known = before.datagrams(&service.name).and_then(|(_, known)| {
        let same = |old: &model::Pool| {
            let names = |pool: &model::Pool| -> Vec<_> {
                pool.servers
                    .iter()
                    .map(|server| Arc::clone(&server.name))
                    .collect()
            };
            pool.is_some_and(|pool| old.name == pool.name && names(old) == names(pool))
        };
        let old = before.0?.config.pools.get(known.pool)?;
        // Servers are known by where they stand.
        known.quic.as_ref().filter(|_| same(old))
    });
    Service {
        name: Arc::clone(&service.name),
        pool: service.pool,
        idle: service.idle,
        responses: service.responses,
        flows: most / (machine.workers * service.listen.len()).max(1),
        quic: service
            .quic
            .then(|| Connections::new(pool, machine.seed, known)),
        announced_by: service.proxy_protocol.clone(),
        logs: compile::log_numbers(&service.log, logs),
    }
}

impl Listener {
    fn new(address: SocketAddr, announced_by: &[IpNet], socket: SocketOptions) -> Self {
        Self {
            address,
            door: 0,
            limits: HeadLimits {
                head: 0,
                fields: 0,
                uri: 0,
            },
            header_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            announced_by: announced_by.to_vec(),
            options: options(socket),
            hosts: Arc::default(),
            tls: None,
            relay: None,
        }
    }
}

/// The addresses, and the first site of each.
fn plain(config: &Config) -> (Vec<Listener>, Vec<usize>) {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut firsts = Vec::new();
    for (index, site) in config.sites.iter().enumerate() {
        for &address in &site.listen {
            let at = listeners
                .iter()
                .position(|l| l.address == address)
                .unwrap_or_else(|| {
                    // All sites of an address say the same.
                    listeners.push(Listener::new(address, &site.proxy_protocol, site.socket));
                    firsts.push(index);
                    listeners.len() - 1
                });
            let Some(listener) = listeners.get_mut(at) else {
                continue;
            };
            let limits = &mut listener.limits;
            limits.head = limits.head.max(site.limits.head as usize);
            limits.fields = limits.fields.max(usize::from(site.limits.fields));
            limits.uri = limits.uri.max(site.limits.uri as usize);
            listener.header_timeout = listener.header_timeout.max(site.timeouts.header);
            listener.idle_timeout = listener.idle_timeout.max(site.timeouts.idle);
            // Nobody else has them yet.
            let Some(hosts) = Arc::get_mut(&mut listener.hosts) else {
                continue;
            };
            for host in &site.hosts {
                add_host(hosts, host, index);
            }
        }
    }
    (listeners, firsts)
}

/// Makes what serves clients that come with TLS. Who has the same certificates, and asks clients for the same, is
/// served alike.
struct Serving<'a> {
    materials: &'a mut Materials,
    common: Arc<Common>,
    known: BTreeMap<Asked<'a>, Arc<Served>>,
}

/// What clients are shown, and asked for.
type Asked<'a> = (
    &'a [KeyPair],
    Option<&'a Internal>,
    Option<&'a ClientCertificate>,
    Protocols,
);

impl<'a> Serving<'a> {
    fn new(config: &Config, materials: &'a mut Materials, sessions: &Arc<Sessions>) -> Self {
        let source = match &config.tickets {
            Tickets::Off => Source::Off,
            Tickets::Own => Source::Own(Arc::clone(sessions)),
            Tickets::Files(files) => {
                let files = files.iter();
                Source::Files(files.map(|file| materials.ticket_key(file)).collect())
            }
        };
        Self {
            materials,
            common: Arc::new(Common::new(source, sessions.key_log())),
            known: BTreeMap::new(),
        }
    }

    fn served(&mut self, asked: Asked<'a>) -> Arc<Served> {
        if let Some(known) = self.known.get(&asked) {
            return Arc::clone(known);
        }
        let (pairs, internal, clients, protocols) = asked.clone();
        let materials = &mut *self.materials;
        let mut proofs: Vec<_> = pairs.iter().map(|pair| materials.proof(pair)).collect();
        proofs.extend(internal.map(|internal| Proof::new(materials.issued(internal), None)));
        let clients = clients.map(|asked| Policy::new(asked, materials.issuers(asked)));
        let common = Arc::clone(&self.common);
        let made = Arc::new(Served::new(common, proofs, clients, protocols));
        self.known.insert(asked, Arc::clone(&made));
        made
    }

    /// How the sites with certificates are served, in their order.
    fn sites(&mut self, config: &'a Config) -> Arc<[SecureSite]> {
        let sites = config.sites.iter().enumerate();
        let secure = sites.filter(|(_, site)| !site.tls.is_empty() || site.internal.is_some());
        let secure = secure.map(|(index, site)| SecureSite {
            site: index,
            name: Arc::clone(&site.name),
            served: self.served((
                &site.tls,
                site.internal.as_ref(),
                site.client_certificate.as_ref(),
                Protocols::Http,
            )),
        });
        secure.collect()
    }

    /// How the clients of a service are served, if they come with TLS: whatever name they ask for.
    fn service(&mut self, service: &'a TcpService) -> Option<Arc<[SecureSite]>> {
        let is_secure = !service.tls.is_empty() || service.internal.is_some();
        is_secure.then(|| {
            let only = SecureSite {
                site: 0,
                name: Arc::clone(&service.name),
                served: self.served((
                    &service.tls,
                    service.internal.as_ref(),
                    service.client_certificate.as_ref(),
                    Protocols::Any(offered(service)),
                )),
            };
            [only].into()
        })
    }
}

/// The protocols that rules of a service ask for.
fn offered(service: &TcpService) -> Vec<Vec<u8>> {
    let openings = service.rules.iter().flat_map(|rule| &rule.openings);
    let offers = openings.filter_map(|opening| match opening {
        model::Opening::Offer(protocol) => Some(protocol.as_bytes().to_vec()),
        model::Opening::Name(_) | model::Opening::Speech(_) => None,
    });
    offers.collect()
}

pub(crate) fn add_host(hosts: &mut Hosts, host: &Host, site: usize) {
    match host {
        Host::Any => hosts.any = hosts.any.or(Some(site)),
        Host::Exact(name) => {
            hosts.exact.entry(name.as_bytes().into()).or_insert(site);
        }
        Host::Expression(text) => {
            hosts
                .expressions
                .extend(model::expression(text).map(|expression| (expression, site)));
        }
        Host::Suffix(suffix) => {
            hosts
                .suffixes
                .entry(suffix.as_bytes().into())
                .or_insert(site);
        }
    }
}
