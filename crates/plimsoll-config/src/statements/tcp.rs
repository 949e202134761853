//! Services that relay connections, as statements.

use super::{Words, accept, logs, socket, tls, words};
use crate::model::{Config, Opening, TcpRule, TcpService};
use crate::text;
use crate::units::duration_text;

/// What is done with the connections of a service.
pub(crate) fn tcp(config: &Config, service: &TcpService) -> Vec<Words> {
    let (header, tunnel) = (service.header, service.idle);
    let named = [("header", Some(header)), ("tunnel", Some(tunnel))];
    let others = [
        ("lifetime", service.lifetime),
        ("detect", Some(service.detect)),
    ];
    let named = named.into_iter().chain(others);
    let named = named.filter_map(|(name, time)| Some(format!("{name}={}", duration_text(time?))));
    let timeout = words(["timeout"]).into_iter().chain(named).collect();
    let rest = service.pool.and_then(|pool| config.pools.get(pool));
    let name = if service.rules.is_empty() {
        "proxy"
    } else {
        "default"
    };
    let rest = rest.map(|pool| words([name, &*pool.name]));
    let rules = service.rules.iter().map(|rule| tcp_rule(config, rule));
    tls::service(service)
        .chain(accept(&service.proxy_protocol))
        .chain(socket::socket(&service.socket))
        .chain([timeout])
        .chain(logs(&service.log))
        .chain(rules)
        .chain(rest)
        .collect()
}

/// A rule that chooses the pool of a connection.
pub(crate) fn tcp_rule(config: &Config, rule: &TcpRule) -> Words {
    let name = match rule.openings.first() {
        Some(Opening::Offer(_)) => "alpn",
        Some(Opening::Speech(_)) => "protocol",
        _ => "sni",
    };
    let opening = |opening: &Opening| match opening {
        Opening::Name(host) => text::host(host),
        Opening::Offer(protocol) => protocol.to_string(),
        Opening::Speech(spoken) => spoken.name().to_owned(),
    };
    let pool = config.pools.get(rule.pool);
    let pool = pool.map(|pool| pool.name.to_string());
    words([name])
        .into_iter()
        .chain(rule.openings.iter().map(opening))
        .chain(["->".to_owned()])
        .chain(pool)
        .collect()
}
