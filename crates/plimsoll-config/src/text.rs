//! A model written in the language: what `plimsoll proxy --print-config` prints, and parts of it for
//! whoever explains what a configuration does.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::model::{
    AccessLog, Action, Balance, ClientTimeouts, Config, HashKey, Host, PathPattern, Pool,
    RequestLimits, Route, Server, ServerTimeouts, Site, Step, TcpRule,
};
use crate::statements::{self, Words};
use crate::units::{duration_text, size_text};

/// Writes `config` in the language. Every value is written out, so that nothing depends on the
/// defaults of the version that reads it.
pub fn to_text(config: &Config) -> String {
    let mut out = String::new();
    match config.workers {
        Some(workers) => put(&mut out, format_args!("workers {workers}\n")),
        None => out.push_str("workers auto\n"),
    }
    let admin = statements::admin(&config.admin);
    put(
        &mut out,
        format_args!("admin {}\n", statements::line(&admin)),
    );
    for statement in statements::root(config) {
        put(&mut out, format_args!("{}\n", statements::line(&statement)));
    }
    // Pools that routes make from an address have no block; what they inherit says what they are.
    if let Some(pool) = config.pools.iter().find(|pool| is_anonymous(pool)) {
        out.push_str("\ndefaults {\n");
        write_pool_settings(pool, &mut out);
        out.push_str("}\n");
    }
    for site in &config.sites {
        write_site(config, site, &mut out);
    }
    for service in &config.tcp {
        let statements = statements::tcp(config, service);
        write_service("tcp", &service.listen, &statements, &mut out);
    }
    for service in &config.udp {
        let statements = statements::udp(config, service);
        write_service("udp", &service.listen, &statements, &mut out);
    }
    for pool in config.pools.iter().filter(|pool| !is_anonymous(pool)) {
        write_pool(pool, &mut out);
    }
    for cache in &config.caches {
        put(&mut out, format_args!("\ncache {} {{\n", word(&cache.name)));
        for statement in statements::cache(cache) {
            put(
                &mut out,
                format_args!("    {}\n", statements::line(&statement)),
            );
        }
        out.push_str("}\n");
    }
    out
}

/// A pool that a route made from an address has that address for its name.
pub(crate) fn is_anonymous(pool: &Pool) -> bool {
    pool.name.contains(':')
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

/// A word, in quotes when it needs them.
pub fn word(text: &str) -> String {
    let is_bare = |c: char| !c.is_whitespace() && !c.is_control() && !"{};\"`#".contains(c);
    if !text.is_empty() && text.chars().all(is_bare) {
        return text.to_owned();
    }
    if text.contains("${") && !text.contains('`') {
        return format!("`{text}`");
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '$' => out.push_str("\\u{24}"),
            c if c.is_control() => put(&mut out, format_args!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn write_site(config: &Config, site: &Site, out: &mut String) {
    let hosts: Vec<String> = site.hosts.iter().map(|h| word(&host(h))).collect();
    put(out, format_args!("\nsite {} {{\n", hosts.join(" ")));
    let listen: Vec<String> = site.listen.iter().map(ToString::to_string).collect();
    put(out, format_args!("    listen {}\n", listen.join(" ")));
    let ClientTimeouts {
        header,
        idle,
        body,
        tunnel,
    } = site.timeouts;
    let [header, idle, body, tunnel] = [header, idle, body, tunnel].map(duration_text);
    put(
        out,
        format_args!("    timeout header={header} idle={idle} body={body} tunnel={tunnel}\n"),
    );
    let RequestLimits {
        head,
        fields,
        uri,
        body,
        min_rate,
    } = site.limits;
    let (head, uri) = (size_text(head.into()), size_text(uri.into()));
    let body = body.map_or_else(|| "unlimited".to_owned(), size_text);
    let rate = if min_rate == 0 {
        "off".to_owned()
    } else {
        format!("{}/s", size_text(min_rate.into()))
    };
    put(
        out,
        format_args!(
            "    request-limits head={head} fields={fields} uri={uri} body={body} min-rate={rate}\n"
        ),
    );
    let all = statements::logs(&site.log).into_iter();
    for statement in all.chain(statements::site(config, site)) {
        put(out, format_args!("    {}\n", statements::line(&statement)));
    }
    for route in &site.routes {
        write_route(config, route, out);
    }
    out.push_str("}\n");
}

/// A service that relays what comes to these addresses.
fn write_service(name: &str, listen: &[SocketAddr], statements: &[Words], out: &mut String) {
    let listen: Vec<String> = listen.iter().map(ToString::to_string).collect();
    put(out, format_args!("\n{name} {} {{\n", listen.join(" ")));
    for statement in statements {
        put(out, format_args!("    {}\n", statements::line(statement)));
    }
    out.push_str("}\n");
}

/// A rule that chooses the pool of a connection.
pub fn tcp_rule(config: &Config, rule: &TcpRule) -> String {
    statements::line(&statements::tcp_rule(config, rule))
}

/// A host.
pub fn host(host: &Host) -> String {
    match host {
        Host::Any => "*".to_owned(),
        Host::Exact(name) => name.to_string(),
        Host::Suffix(suffix) => format!("*{suffix}"),
        Host::Expression(expression) => format!("~{expression}"),
    }
}

fn write_route(config: &Config, route: &Route, out: &mut String) {
    put(out, format_args!("    {} {{ ", self::route(route)));
    let statements = statements::route(config, route);
    let mut statements: Vec<String> = statements.iter().map(statements::line).collect();
    statements.extend(action(config, route));
    put(out, format_args!("{} }}\n", statements.join(" ; ")));
}

/// A pattern of paths.
pub(crate) fn path(pattern: &PathPattern) -> String {
    match pattern {
        PathPattern::Any => "*".to_owned(),
        PathPattern::Exact(path) | PathPattern::Glob(path) => path.to_string(),
        PathPattern::Prefix(path) => format!("{path}*"),
    }
}

/// A route without its block.
pub fn route(route: &Route) -> String {
    let mut out = String::from("route");
    match &route.path {
        PathPattern::Any => {}
        pattern => put(&mut out, format_args!(" {}", word(&path(pattern)))),
    }
    if !route.methods.is_empty() {
        put(
            &mut out,
            format_args!(" method={}", route.methods.join(",")),
        );
    }
    for condition in &route.conditions {
        put(&mut out, format_args!(" {}", word(&condition.text)));
    }
    out
}

/// A step of a site or a route.
pub fn step(config: &Config, step: &Step) -> String {
    statements::line(&statements::step(config, step))
}

/// What a route does, where the statements do not say it.
fn action(config: &Config, route: &Route) -> Option<String> {
    Some(match &route.action {
        Action::Proxy(pool) => {
            let name = config.pools.get(*pool).map_or("", |pool| &*pool.name);
            format!("proxy {}", word(name))
        }
        Action::Respond { status, body } if body.text.is_empty() => format!("respond {status}"),
        Action::Respond { status, body } => format!("respond {status} {}", word(&body.text)),
        Action::Redirect { .. } | Action::Split(_) | Action::Files(_) => return None,
    })
}

fn write_pool(pool: &Pool, out: &mut String) {
    put(
        out,
        format_args!(
            "\npool {} {{\n    balance {}\n",
            word(&pool.name),
            balance(&pool.balance)
        ),
    );
    write_pool_settings(pool, out);
    for server in &pool.servers {
        write_server(server, out);
    }
    out.push_str("}\n");
}

fn write_pool_settings(pool: &Pool, out: &mut String) {
    let ServerTimeouts { connect, response } = pool.timeouts;
    let [connect, response, idle] = [connect, response, pool.keep_alive.idle].map(duration_text);
    put(
        out,
        format_args!("    timeout connect={connect} response={response}\n"),
    );
    match pool.keep_alive.max {
        0 => out.push_str("    keep-alive off\n"),
        max => put(out, format_args!("    keep-alive max={max} idle={idle}\n")),
    }
    for statement in statements::policy(pool) {
        put(out, format_args!("    {}\n", statements::line(&statement)));
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write_server(server: &Server, out: &mut String) {
    put(out, format_args!("    server {}", word(&server.name)));
    if server.weight != 1 {
        put(out, format_args!(" weight={}", server.weight));
    }
    if let Some(max) = server.max_connections {
        put(out, format_args!(" max-connections={max}"));
    }
    if let Some(zone) = &server.zone {
        put(out, format_args!(" zone={}", word(zone)));
    }
    if let Some(ip) = server.check_address {
        put(out, format_args!(" check-address={ip}"));
    }
    if let Some(id) = &server.quic_id {
        put(out, format_args!(" quic-id={}", hex(id)));
    }
    match server.tier {
        0 => {}
        1 => out.push_str(" backup"),
        tier => put(out, format_args!(" tier={tier}")),
    }
    out.push('\n');
}

/// Where a log goes, as it is written.
pub fn log_target(log: &AccessLog) -> String {
    statements::log_target(log)
}

/// How servers are picked.
pub fn balance(balance: &Balance) -> String {
    match balance {
        Balance::RoundRobin => "round-robin".to_owned(),
        Balance::Random => "random".to_owned(),
        Balance::TwoChoices => "two-choices".to_owned(),
        Balance::LeastConnections => "least-connections".to_owned(),
        Balance::LeastTime => "least-time".to_owned(),
        Balance::First => "first".to_owned(),
        Balance::Hash(by) => format!("hash {}", word(&key(by))),
        Balance::Maglev(by) => format!("maglev {}", word(&key(by))),
    }
}

/// A key of requests.
pub(crate) fn key(key: &HashKey) -> String {
    match key {
        HashKey::ClientIp => "client-ip".to_owned(),
        HashKey::Fingerprint => "ja4".to_owned(),
        HashKey::Host => "host".to_owned(),
        HashKey::Path => "path".to_owned(),
        HashKey::Uri => "uri".to_owned(),
        HashKey::Query(name) => format!("query:{name}"),
        HashKey::Header(name) => format!("header:{name}"),
        HashKey::Cookie(name) => format!("cookie:{name}"),
    }
}
