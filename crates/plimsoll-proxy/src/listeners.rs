//! From a configuration to the addresses that are listened on: which site answers for which host, and
//! with which certificates.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use plimsoll_config::model::{
    self, AccessLog, Config, Host, Site, SocketOptions, TcpService, Tickets,
};
use plimsoll_http::h1::parse::HeadLimits;

use crate::acme::Challenges;
use crate::compile;
use crate::generation::{Hosts, Listener};
use crate::material::Materials;
use crate::opening::Rules;
use crate::pools::options;
use crate::relay::Relay;
use crate::tls::clients::Policy;
use crate::tls::sessions::{Sessions, Source};
use crate::tls::staple::Proof;
use crate::tls::{Common, Secure, SecureSite, Served};

/// The addresses of a configuration, each with the sites that answer there or with what is done with its
/// connections.
pub(crate) fn compile(
    config: &Config,
    materials: &mut Materials,
    (sessions, challenges): (&Arc<Sessions>, &Arc<Challenges>),
    logs: &mut Vec<AccessLog>,
) -> Vec<Listener> {
    let (mut listeners, firsts) = plain(config);
    let sites = secure_sites(config, materials, sessions);
    for (listener, first) in listeners.iter_mut().zip(firsts) {
        // All sites of an address speak TLS, or none does.
        let is_secure = config.sites.get(first).is_some_and(is_secure);
        listener.tls = is_secure.then(|| {
            Arc::new(Secure {
                hosts: Arc::clone(&listener.hosts),
                first,
                sites: Arc::clone(&sites),
                sessions: Arc::clone(sessions),
                is_curious: config.fingerprints,
                challenges: Arc::clone(challenges),
            })
        });
    }
    listeners.extend(config.tcp.iter().flat_map(|service| relays(service, logs)));
    listeners
}

/// The addresses of a service that relays connections.
fn relays(service: &TcpService, logs: &mut Vec<AccessLog>) -> Vec<Listener> {
    let relay = Arc::new(Relay {
        name: Arc::clone(&service.name),
        rules: Rules::new(service),
        idle: service.idle,
        lifetime: service.lifetime,
        logs: compile::log_numbers(&service.log, logs),
    });
    let listener = |&address| Listener {
        header_timeout: service.header,
        relay: Some(Arc::clone(&relay)),
        ..Listener::new(address, &service.proxy_protocol, service.socket)
    };
    service.listen.iter().map(listener).collect()
}

impl Listener {
    fn new(address: SocketAddr, announced_by: &[IpNet], socket: SocketOptions) -> Self {
        Self {
            address,
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

fn is_secure(site: &Site) -> bool {
    !site.tls.is_empty() || site.internal.is_some()
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

/// How the sites with certificates are served, in their order. Those with the same ones, and that ask
/// their clients for the same, are served alike.
fn secure_sites(
    config: &Config,
    materials: &mut Materials,
    sessions: &Arc<Sessions>,
) -> Arc<[SecureSite]> {
    let source = match &config.tickets {
        Tickets::Off => Source::Off,
        Tickets::Own => Source::Own(Arc::clone(sessions)),
        Tickets::Files(files) => Source::Files(
            files
                .iter()
                .map(|file| materials.ticket_key(file))
                .collect(),
        ),
    };
    let common = OnceCell::new();
    let mut known = BTreeMap::new();
    let mut sites = Vec::new();
    for (index, site) in config.sites.iter().enumerate() {
        if !is_secure(site) {
            continue;
        }
        let key = (&site.tls, &site.internal, &site.client_certificate);
        let served = known.entry(key).or_insert_with(|| {
            let proofs: Vec<_> = site.tls.iter().map(|pair| materials.proof(pair)).collect();
            let internal = site.internal.as_ref();
            let issued = internal.map(|internal| Proof::new(materials.issued(internal), None));
            let proofs = proofs.into_iter().chain(issued).collect();
            let asked = site.client_certificate.as_ref();
            let clients = asked.map(|asked| Policy::new(asked, materials.issuers(asked)));
            let common =
                common.get_or_init(|| Arc::new(Common::new(source.clone(), sessions.key_log())));
            Arc::new(Served::new(Arc::clone(common), proofs, clients))
        });
        sites.push(SecureSite {
            site: index,
            name: Arc::clone(&site.name),
            served: Arc::clone(served),
        });
    }
    sites.into()
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
