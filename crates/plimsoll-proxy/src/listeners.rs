//! From a configuration to the addresses that are listened on: which site answers for which host, and
//! with which certificates.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{self, Config, Host};
use plimsoll_http::h1::parse::HeadLimits;
use rustls::ServerConfig;

use crate::generation::{Hosts, Listener};
use crate::material::Materials;
use crate::tls::{Common, Secure};

/// The addresses of a configuration, each with the sites that answer there.
pub(crate) fn compile(config: &Config, materials: &mut Materials) -> Vec<Listener> {
    let (mut listeners, firsts) = plain(config);
    let configs = configs(config, materials);
    for (listener, first) in listeners.iter_mut().zip(firsts) {
        // All sites of an address speak TLS, or none does.
        let is_secure = config
            .sites
            .get(first)
            .is_some_and(|site| !site.tls.is_empty());
        listener.tls = is_secure.then(|| {
            Arc::new(Secure {
                hosts: Arc::clone(&listener.hosts),
                first,
                configs: Arc::clone(&configs),
            })
        });
    }
    listeners
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
                    listeners.push(Listener {
                        address,
                        limits: HeadLimits {
                            head: 0,
                            fields: 0,
                            uri: 0,
                        },
                        header_timeout: Duration::ZERO,
                        idle_timeout: Duration::ZERO,
                        // All sites of an address say the same.
                        announced_by: site.proxy_protocol.clone(),
                        hosts: Arc::default(),
                        tls: None,
                    });
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

/// How the sites with certificates are served, in their order. Those with the same ones are served
/// alike.
fn configs(config: &Config, materials: &mut Materials) -> Arc<[(usize, Arc<ServerConfig>)]> {
    let common = OnceCell::new();
    let mut known = BTreeMap::new();
    let mut configs = Vec::new();
    for (index, site) in config.sites.iter().enumerate() {
        if site.tls.is_empty() {
            continue;
        }
        let served = known.entry(&site.tls).or_insert_with(|| {
            let pairs = site.tls.iter().map(|pair| materials.pair(pair)).collect();
            common.get_or_init(Common::new).config(pairs)
        });
        configs.extend(served.clone().map(|served| (index, served)));
    }
    configs.into()
}

fn add_host(hosts: &mut Hosts, host: &Host, site: usize) {
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
