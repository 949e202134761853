//! From a configuration to the addresses that are listened on: which site answers for which host, and
//! with which certificates.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::{self, Config, Host};
use plimsoll_http::h1::parse::HeadLimits;

use crate::generation::{Hosts, Listener};
use crate::material::Materials;
use crate::tls::{Common, Secure};

/// The addresses of a configuration, each with the sites that answer there.
pub(crate) fn compile(config: &Config, materials: &mut Materials) -> Vec<Listener> {
    let mut listeners = plain(config);
    secure(config, &mut listeners, materials);
    listeners
}

fn plain(config: &Config) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
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
                        hosts: Arc::default(),
                        tls: None,
                    });
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
    listeners
}

/// Finds out who serves clients that come with TLS. Sites with the same certificates are served alike.
fn secure(config: &Config, listeners: &mut [Listener], materials: &mut Materials) {
    let common = OnceCell::new();
    let mut known = BTreeMap::new();
    for listener in listeners {
        let here = |site: &&(usize, &model::Site)| site.1.listen.contains(&listener.address);
        let sites: Vec<_> = config.sites.iter().enumerate().collect();
        let mut configs = Vec::new();
        for (index, site) in sites.iter().filter(here) {
            if site.tls.is_empty() {
                continue;
            }
            let served = known.entry(&site.tls).or_insert_with(|| {
                let pairs = site.tls.iter().map(|pair| materials.pair(pair)).collect();
                common.get_or_init(Common::new).config(pairs)
            });
            configs.extend(served.clone().map(|served| (*index, served)));
        }
        listener.tls = (!configs.is_empty()).then(|| {
            Arc::new(Secure {
                hosts: Arc::clone(&listener.hosts),
                configs,
            })
        });
    }
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
