//! Services that relay connections, as statements.

use super::{Words, accept, logs, proxy, socket, tls, words};
use crate::model::{Config, TcpService};
use crate::units::duration_text;

/// What is done with the connections of a service.
pub(crate) fn tcp(config: &Config, service: &TcpService) -> Vec<Words> {
    let (header, tunnel) = (service.header, service.idle);
    let named = [("header", Some(header)), ("tunnel", Some(tunnel))];
    let named = named.into_iter().chain([("lifetime", service.lifetime)]);
    let named = named.filter_map(|(name, time)| Some(format!("{name}={}", duration_text(time?))));
    let timeout = words(["timeout"]).into_iter().chain(named).collect();
    tls::service(service)
        .chain(accept(&service.proxy_protocol))
        .chain(socket::socket(&service.socket))
        .chain([timeout])
        .chain(logs(&service.log))
        .chain(proxy(config, service.pool))
        .collect()
}
