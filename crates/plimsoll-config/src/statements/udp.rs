//! Services that relay datagrams, as statements.

use super::{Words, accept, logs, proxy, words};
use crate::model::{Config, UdpService};
use crate::units::duration_text;

/// What is done with the datagrams of a service.
pub(crate) fn udp(config: &Config, service: &UdpService) -> Vec<Words> {
    let idle = format!("idle={}", duration_text(service.idle));
    let responses = service.responses.map(|count| count.to_string());
    let responses = responses.map(|count| words(["responses", &count]));
    accept(&service.proxy_protocol)
        .into_iter()
        .chain([words(["timeout", &idle])])
        .chain(responses)
        .chain([words(["flows", &service.flows.to_string()])])
        .chain(service.quic.then(|| words(["quic"])))
        .chain(logs(&service.log))
        .chain(proxy(config, service.pool))
        .collect()
}
