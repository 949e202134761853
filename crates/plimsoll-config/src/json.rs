//! The JSON form: the same model for machines, values written as in the language.
//!
//! Reading it goes through the language, so that both forms are checked by the same rules.

use std::fmt::Write;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::codes;
use crate::diagnostic::{Diagnostic, point};
use crate::model::{Action, Cache, Config, PathPattern, Pool, Route, Site};
use crate::source::{NoFiles, Sources};
use crate::statements::{self, Words};
use crate::text::{balance, hex, host, is_anonymous, path, word};
use crate::units::{duration_text, size_text};

/// A Plimsoll configuration.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JsonConfig {
    /// Worker threads; absent means one a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workers: Option<u16>,
    /// Where the admin listener is, as words: `["auto"]`, `["127.0.0.1:9900", "token=FILE"]`; `["off"]` turns it off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    admin: Option<Vec<String>>,
    /// Further statements of the top level, each as a list of its words.
    #[serde(default)]
    statements: Vec<Words>,
    /// What pools inherit that routes make from an address.
    #[serde(default)]
    defaults: JsonDefaults,
    /// What is served, in order.
    #[serde(default)]
    sites: Vec<JsonSite>,
    /// Services that relay connections, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tcp: Vec<JsonService>,
    /// Services that relay datagrams, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    udp: Vec<JsonService>,
    /// Servers that can stand in for each other.
    #[serde(default)]
    pools: Vec<JsonPool>,
    /// Where answers are kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    caches: Vec<JsonCache>,
}

/// What pools inherit that routes make from an address.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct JsonDefaults {
    timeout: JsonServerTimeout,
    keep_alive: JsonKeepAlive,
    /// Further statements, each as a list of its words: `["retry", "2", "budget=20%"]`.
    statements: Vec<Words>,
}

/// What is served for a set of hosts.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct JsonSite {
    /// `example.com`, `*.example.com`, `*`.
    hosts: Vec<String>,
    /// `:80`, `127.0.0.1:8080`.
    #[serde(default)]
    listen: Vec<String>,
    /// Deadlines.
    #[serde(default)]
    timeout: JsonClientTimeout,
    /// What a request may measure.
    #[serde(default)]
    request_limits: JsonLimits,
    /// Access logs; absent means off.
    #[serde(default)]
    log: Vec<JsonLog>,
    /// Further statements, each as a list of its words: `["limit", "20/s", "by=client-ip"]`.
    #[serde(default)]
    statements: Vec<Words>,
    /// Routes in order; the first match wins.
    #[serde(default)]
    routes: Vec<JsonRoute>,
}

/// A service that relays connections or datagrams.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JsonService {
    /// `:5432`, `127.0.0.1:5432`.
    listen: Vec<String>,
    /// What it says, each statement as a list of its words: `["proxy", "postgres"]`.
    statements: Vec<Words>,
}

/// Where answers are kept.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JsonCache {
    name: String,
    /// What it keeps, each statement as a list of its words: `["memory", "64MiB"]`.
    #[serde(default)]
    statements: Vec<Words>,
}

/// Deadlines of client connections.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct JsonClientTimeout {
    header: Option<String>,
    idle: Option<String>,
    body: Option<String>,
    tunnel: Option<String>,
}

/// What a request may measure.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct JsonLimits {
    head: Option<String>,
    fields: Option<u16>,
    uri: Option<String>,
    body: Option<String>,
    min_rate: Option<String>,
}

/// One access log.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JsonLog {
    /// A path, `stdout`, or a syslog daemon.
    to: String,
    /// `json`, `combined` or `haproxy`.
    format: String,
    /// What else lines for syslog are, such as `facility=local7`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

/// One route: exactly one of `proxy`, `respond`, or another action among its statements.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JsonRoute {
    /// `/exact`, `/below/*`; absent means every path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// Methods; absent means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    methods: Vec<String>,
    /// `header:x-canary=yes`, `not:client=10.0.0.0/8`; all must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<String>,
    /// Further statements, each as a list of its words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    statements: Vec<Words>,
    /// A pool's name, or host and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy: Option<String>,
    /// An answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    respond: Option<JsonRespond>,
}

/// An answer that a route gives itself.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct JsonRespond {
    status: u16,
    #[serde(default)]
    body: String,
}

/// Servers that can stand in for each other.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct JsonPool {
    name: String,
    /// As in the language: `round-robin`, `hash cookie:user`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    balance: Option<String>,
    /// Deadlines.
    #[serde(default)]
    timeout: JsonServerTimeout,
    /// Idle connections.
    #[serde(default)]
    keep_alive: JsonKeepAlive,
    /// Further statements, each as a list of its words: `["check", "GET", "/healthz", "every=2s"]`.
    #[serde(default)]
    statements: Vec<Words>,
    servers: Vec<JsonServer>,
}

/// Deadlines of server connections.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct JsonServerTimeout {
    connect: Option<String>,
    response: Option<String>,
}

/// Idle connections to servers; a `max` of 0 keeps none.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct JsonKeepAlive {
    max: Option<u16>,
    idle: Option<String>,
}

/// One server.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct JsonServer {
    /// Host and port.
    address: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_connections: Option<u32>,
    /// Servers of a higher tier are used only when none of a lower one may be picked.
    #[serde(default)]
    tier: u8,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    /// Where its checks go, if not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    check_address: Option<String>,
    /// What stands in the ids of QUIC connections that it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quic_id: Option<String>,
}

fn one() -> u32 {
    1
}

/// The JSON form of `config`, complete: nothing depends on defaults.
pub fn to_json(config: &Config) -> Value {
    let form = JsonConfig {
        workers: config.workers.map(Into::into),
        admin: Some(statements::admin(&config.admin)),
        statements: statements::root(config),
        defaults: config
            .pools
            .iter()
            .find(|pool| is_anonymous(pool))
            .map(json_defaults)
            .unwrap_or_default(),
        sites: config
            .sites
            .iter()
            .map(|site| json_site(config, site))
            .collect(),
        tcp: config
            .tcp
            .iter()
            .map(|service| json_service(&service.listen, statements::tcp(config, service)))
            .collect(),
        udp: config
            .udp
            .iter()
            .map(|service| json_service(&service.listen, statements::udp(config, service)))
            .collect(),
        pools: config
            .pools
            .iter()
            .filter(|pool| !is_anonymous(pool))
            .map(json_pool)
            .collect(),
        caches: config.caches.iter().map(json_cache).collect(),
    };
    // The form holds nothing that JSON cannot.
    serde_json::to_value(form).unwrap_or_default()
}

fn json_cache(cache: &Cache) -> JsonCache {
    JsonCache {
        name: cache.name.to_string(),
        statements: statements::cache(cache),
    }
}

fn json_service(listen: &[SocketAddr], statements: Vec<Words>) -> JsonService {
    JsonService {
        listen: listen.iter().map(ToString::to_string).collect(),
        statements,
    }
}

fn json_site(config: &Config, site: &Site) -> JsonSite {
    let (timeouts, limits) = (&site.timeouts, &site.limits);
    JsonSite {
        hosts: site.hosts.iter().map(host).collect(),
        listen: site.listen.iter().map(ToString::to_string).collect(),
        timeout: JsonClientTimeout {
            header: Some(duration_text(timeouts.header)),
            idle: Some(duration_text(timeouts.idle)),
            body: Some(duration_text(timeouts.body)),
            tunnel: Some(duration_text(timeouts.tunnel)),
        },
        request_limits: JsonLimits {
            head: Some(size_text(limits.head.into())),
            fields: Some(limits.fields),
            uri: Some(size_text(limits.uri.into())),
            body: Some(
                limits
                    .body
                    .map_or_else(|| "unlimited".to_owned(), size_text),
            ),
            min_rate: Some(match limits.min_rate {
                0 => "off".to_owned(),
                rate => format!("{}/s", size_text(rate.into())),
            }),
        },
        log: site
            .log
            .iter()
            .map(|log| JsonLog {
                to: statements::log_target(log),
                format: statements::log_format(log).to_owned(),
                options: statements::log_options(log),
            })
            .collect(),
        statements: statements::site(config, site),
        routes: site
            .routes
            .iter()
            .map(|route| json_route(config, route))
            .collect(),
    }
}

fn json_route(config: &Config, route: &Route) -> JsonRoute {
    let (proxy, respond) = match &route.action {
        Action::Proxy(pool) => (
            config.pools.get(*pool).map(|pool| pool.name.to_string()),
            None,
        ),
        Action::Respond { status, body } => (
            None,
            Some(JsonRespond {
                status: *status,
                body: body.text.to_string(),
            }),
        ),
        Action::Redirect { .. } | Action::Split(_) | Action::Files(_) => (None, None),
    };
    JsonRoute {
        path: match &route.path {
            PathPattern::Any => None,
            pattern => Some(path(pattern)),
        },
        methods: route.methods.iter().map(ToString::to_string).collect(),
        conditions: route
            .conditions
            .iter()
            .map(|condition| condition.text.to_string())
            .collect(),
        statements: statements::route(config, route),
        proxy,
        respond,
    }
}

fn json_defaults(pool: &Pool) -> JsonDefaults {
    JsonDefaults {
        timeout: JsonServerTimeout {
            connect: Some(duration_text(pool.timeouts.connect)),
            response: Some(duration_text(pool.timeouts.response)),
        },
        keep_alive: JsonKeepAlive {
            max: Some(pool.keep_alive.max),
            idle: Some(duration_text(pool.keep_alive.idle)),
        },
        statements: statements::policy(pool),
    }
}

fn json_pool(pool: &Pool) -> JsonPool {
    let JsonDefaults {
        timeout,
        keep_alive,
        statements,
    } = json_defaults(pool);
    JsonPool {
        name: pool.name.to_string(),
        balance: Some(balance(&pool.balance)),
        timeout,
        keep_alive,
        statements,
        servers: pool
            .servers
            .iter()
            .map(|server| JsonServer {
                address: server.name.to_string(),
                weight: server.weight,
                max_connections: server.max_connections.map(Into::into),
                tier: server.tier,
                zone: server.zone.as_deref().map(str::to_owned),
                check_address: server.check_address.map(|ip| ip.to_string()),
                quic_id: server.quic_id.as_deref().map(hex),
            })
            .collect(),
    }
}

/// Reads the JSON form.
///
/// # Errors
/// What is wrong with it; the problems point into the sources that come with them.
pub fn from_json(json: &str) -> Result<Config, (Vec<Diagnostic>, Sources)> {
    let form: JsonConfig = serde_json::from_str(json).map_err(|error| {
        let mut sources = Sources::default();
        let file = sources.add("json", json.to_owned());
        let line = sources.file(file).map_or(0, |f| {
            f.line_start(u32::try_from(error.line()).unwrap_or(1))
        });
        let at = line as usize + error.column().saturating_sub(1);
        let message = error.to_string();
        let message = message
            .split(" at line ")
            .next()
            .unwrap_or_default()
            .to_owned();
        let problem = Diagnostic::new(&codes::JSON, point(file, at), message);
        (
            vec![problem.help("`plimsoll schema` prints the schema of the form")],
            sources,
        )
    })?;
    let loaded = crate::load_text("json", &form.text(), &NoFiles);
    loaded.config.ok_or((loaded.diagnostics, loaded.sources))
}

/// Appends ` name=value` for each value there is.
fn options(out: &mut String, name: &str, options: &[(&str, Option<String>)]) {
    let given = options
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_ref()?)));
    let words: Vec<String> = given
        .map(|(key, value)| format!(" {key}={}", word(value)))
        .collect();
    if !words.is_empty() {
        let _ = writeln!(out, "{name}{}", words.concat());
    }
}

fn words(values: &[String]) -> String {
    values
        .iter()
        .map(|value| format!(" {}", word(value)))
        .collect()
}

impl JsonConfig {
    /// The same configuration in the language.
    fn text(&self) -> String {
        let mut out = String::new();
        if let Some(workers) = self.workers {
            let _ = writeln!(out, "workers {workers}");
        }
        if let Some(admin) = &self.admin {
            let _ = writeln!(
                out,
                "admin{}",
                if admin.is_empty() {
                    " off".to_owned()
                } else {
                    words(admin)
                }
            );
        }
        self.statements.iter().for_each(|s| statement(s, &mut out));
        out.push_str("defaults {\n");
        inherited(&self.defaults.timeout, &self.defaults.keep_alive, &mut out);
        self.defaults
            .statements
            .iter()
            .for_each(|s| statement(s, &mut out));
        out.push_str("}\n");
        self.sites.iter().for_each(|site| site.text(&mut out));
        self.tcp.iter().for_each(|s| s.text("tcp", &mut out));
        self.udp.iter().for_each(|s| s.text("udp", &mut out));
        self.pools.iter().for_each(|pool| pool.text(&mut out));
        for cache in &self.caches {
            let _ = writeln!(out, "cache {} {{", word(&cache.name));
            cache.statements.iter().for_each(|s| statement(s, &mut out));
            out.push_str("}\n");
        }
        out
    }
}

impl JsonService {
    fn text(&self, name: &str, out: &mut String) {
        let _ = writeln!(out, "{name}{} {{", words(&self.listen));
        self.statements.iter().for_each(|s| statement(s, out));
        out.push_str("}\n");
    }
}

impl JsonSite {
    fn text(&self, out: &mut String) {
        let _ = writeln!(out, "site{} {{", words(&self.hosts));
        if !self.listen.is_empty() {
            let _ = writeln!(out, "listen{}", words(&self.listen));
        }
        let timeout = &self.timeout;
        let given = [
            ("header", timeout.header.clone()),
            ("idle", timeout.idle.clone()),
            ("body", timeout.body.clone()),
            ("tunnel", timeout.tunnel.clone()),
        ];
        options(out, "timeout", &given);
        let limits = &self.request_limits;
        let given = [
            ("head", limits.head.clone()),
            ("fields", limits.fields.map(|n| n.to_string())),
            ("uri", limits.uri.clone()),
            ("body", limits.body.clone()),
            ("min-rate", limits.min_rate.clone()),
        ];
        options(out, "request-limits", &given);
        for log in &self.log {
            let options = log.options.iter().map(|option| word(option));
            let options: Vec<_> = options.collect();
            let (to, format, options) = (word(&log.to), word(&log.format), options.join(" "));
            let _ = writeln!(out, "log {to} {format} {options}");
        }
        if self.log.is_empty() {
            out.push_str("log off\n");
        }
        self.statements.iter().for_each(|s| statement(s, out));
        for route in &self.routes {
            let path = route
                .path
                .as_ref()
                .map(|path| format!(" {}", word(path)))
                .unwrap_or_default();
            let methods = match route.methods.as_slice() {
                [] => String::new(),
                methods => format!(" method={}", word(&methods.join(","))),
            };
            let conditions: String = route
                .conditions
                .iter()
                .map(|condition| format!(" {}", word(condition)))
                .collect();
            let _ = writeln!(out, "route{path}{methods}{conditions} {{");
            route.statements.iter().for_each(|s| statement(s, out));
            if let Some(pool) = &route.proxy {
                let _ = writeln!(out, "proxy {}", word(pool));
            }
            if let Some(respond) = &route.respond {
                let _ = writeln!(out, "respond {} {}", respond.status, word(&respond.body));
            }
            out.push_str("}\n");
        }
        out.push_str("}\n");
    }
}

fn statement(statement: &Words, out: &mut String) {
    let _ = writeln!(out, "{}", statements::line(statement));
}

/// What pools and `defaults` both have.
fn inherited(timeout: &JsonServerTimeout, keep_alive: &JsonKeepAlive, out: &mut String) {
    let JsonServerTimeout { connect, response } = timeout;
    options(
        out,
        "timeout",
        &[("connect", connect.clone()), ("response", response.clone())],
    );
    match keep_alive.max {
        Some(0) => out.push_str("keep-alive off\n"),
        max => {
            let given = [
                ("max", max.map(|max| max.to_string())),
                ("idle", keep_alive.idle.clone()),
            ];
            options(out, "keep-alive", &given);
        }
    }
}

impl JsonPool {
    fn text(&self, out: &mut String) {
        let _ = writeln!(out, "pool {} {{", word(&self.name));
        if let Some(balance) = &self.balance {
            let balance: Vec<String> = balance.split(' ').map(str::to_owned).collect();
            let _ = writeln!(out, "balance{}", words(&balance));
        }
        inherited(&self.timeout, &self.keep_alive, out);
        self.statements.iter().for_each(|s| statement(s, out));
        for server in &self.servers {
            let max = server
                .max_connections
                .map(|max| format!(" max-connections={max}"))
                .unwrap_or_default();
            let zone = server.zone.as_ref();
            let zone = zone.map(|zone| format!(" zone={}", word(zone)));
            let zone = zone.unwrap_or_default();
            let check = server.check_address.as_ref();
            let check = check.map(|ip| format!(" check-address={}", word(ip)));
            let check = check.unwrap_or_default();
            let quic = server.quic_id.as_ref();
            let quic = quic.map(|id| format!(" quic-id={}", word(id)));
            let quic = quic.unwrap_or_default();
            let _ = writeln!(
                out,
                "server {} weight={} tier={}{max}{zone}{check}{quic}",
                word(&server.address),
                server.weight,
                server.tier
            );
        }
        out.push_str("}\n");
    }
}
