//! `plimsoll trace`: what becomes of a request, and why.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use plimsoll_config::model::AdminAddress;
use plimsoll_control::explain::{Candidate, Line, Outcome, Question, Rules, Trace};

use crate::configuration::{self, Path};
use crate::output::print;
use crate::running::At;

/// What `plimsoll trace` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    path: Path,
    /// The request: `GET http://example.com/a?b=c`; without a method it is GET. Or a connection that is relayed:
    /// `tls://example.com:443`, and likewise ssh, postgres, mysql, redis; or a datagram: `udp://127.0.0.1:53`
    #[arg(value_name = "REQUEST")]
    request: String,
    /// A field of the request: `Name: value`
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    fields: Vec<String>,
    /// The body of the request
    #[arg(short = 'd', long = "data", value_name = "TEXT")]
    body: Option<String>,
    /// A protocol that the client offers with TLS; https offers h2 and http/1.1
    #[arg(long, value_name = "PROTOCOL")]
    alpn: Vec<String>,
    /// Who sends it
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    client: IpAddr,
    /// Ask the Plimsoll that runs, whose admin listener is here, and not the file
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, require_equals = true)]
    running: Option<Option<AdminAddress>>,
    /// Print the trace as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = question(arguments)?;
    let trace = match &arguments.running {
        Some(place) => At::new(place.clone()).post("/v1/trace", &question)?,
        None => {
            let config = configuration::load(&arguments.path.config)?;
            // A file that cannot be used is what `plimsoll check` is for.
            let rules = Rules::new(&config);
            let _ = rules.load();
            rules.explain(&question)
        }
    };
    match arguments.json {
        true => print(&format!("{:#}\n", serde_json::to_value(&trace)?)),
        false => print(&text(&trace)),
    }
}

/// The request that the arguments describe.
fn question(arguments: &Arguments) -> anyhow::Result<Question> {
    let (method, uri) = match arguments.request.trim().split_once(' ') {
        Some((method, uri)) => (method, uri.trim()),
        None => ("GET", arguments.request.trim()),
    };
    let Some((scheme, rest)) = uri.split_once("://") else {
        bail!("`{uri}` is not a whole URI: write it like `http://example.com/path`");
    };
    let (scheme, default_port) = match scheme {
        "http" => ("http", 80),
        "https" => ("https", 443),
        "udp" => ("udp", 53),
        "postgres" => ("postgres", 5432),
        "mysql" => ("mysql", 3306),
        "redis" => ("redis", 6379),
        "ssh" => ("ssh", 22),
        "tls" => ("tls", 443),
        other => bail!(
            "`{other}` is not a scheme that is served: write http, https, tls, ssh, postgres, mysql, redis or udp"
        ),
    };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at_checked(at).unwrap_or_default();
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let port = port.and_then(|port| port.parse().ok());
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut head = format!("{method} {slash}{target} HTTP/1.1\r\n");
    let has = |name: &str| {
        let mut names = arguments.fields.iter().filter_map(|f| f.split_once(':'));
        names.any(|(field, _)| field.trim().eq_ignore_ascii_case(name))
    };
    if !has("host") {
        let _ = write!(head, "Host: {authority}\r\n");
    }
    for field in &arguments.fields {
        let Some((name, value)) = field.split_once(':') else {
            bail!("`{field}` is not a field: write it like `-H 'X-Name: value'`");
        };
        let _ = write!(head, "{}: {}\r\n", name.trim(), value.trim());
    }
    let body = arguments.body.clone().unwrap_or_default().into_bytes();
    if !body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        let _ = write!(head, "Content-Length: {}\r\n", body.len());
    }
    head.push_str("\r\n");
    Ok(Question {
        head: head.into_bytes(),
        body,
        client: SocketAddr::new(arguments.client, 50_000),
        port: port.unwrap_or(default_port),
        scheme: scheme.into(),
        name: host(authority).into(),
        offers: match (scheme, arguments.alpn.as_slice()) {
            ("https", []) => vec!["h2".to_owned(), "http/1.1".to_owned()],
            (_, offers) => offers.to_vec(),
        },
        unix: SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    })
}

/// The host of an authority, without brackets.
pub(super) fn host(authority: &str) -> &str {
    match authority
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((address, _)) => address,
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// A trace for people.
fn text(trace: &Trace) -> String {
    let mut out = String::new();
    let mut put = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<9}{text}");
    };
    if !trace.target.is_empty() {
        put("request", trace.target.clone());
    }
    if let Some(listener) = &trace.listener {
        put("listener", listener.clone());
    }
    let lines = trace.site.iter().chain(&trace.routes).chain(&trace.steps);
    let lines: Vec<&Line> = lines.collect();
    let width = |of: fn(&Line) -> usize| lines.iter().map(|line| of(line)).max().unwrap_or(0);
    let places = width(|line| line.place.len());
    let texts = width(|line| line.text.len()).min(56);
    let row = |line: &Line| {
        let mark = if line.is_taken { "*" } else { " " };
        let row = format!(
            "{mark} {:<places$}  {:<texts$}  {}",
            line.place, line.text, line.verdict
        );
        row.trim_end().to_owned()
    };
    let parts = [
        ("site", trace.site.as_slice()),
        ("routes", &trace.routes),
        ("steps", &trace.steps),
    ];
    for (name, lines) in parts {
        for (at, line) in lines.iter().enumerate() {
            put(if at == 0 { name } else { "" }, row(line));
        }
    }
    if let Some(sent) = &trace.sent {
        put("sent", sent.clone());
    }
    if let Some(cache) = &trace.cache {
        let parts = cache.parts.iter().map(|part| format!(", {part}"));
        let parts: String = parts.collect();
        let text = format!("{}  {}{parts}  {}", cache.name, cache.key, cache.verdict);
        put("cache", text);
    }
    put("outcome", outcome(&trace.outcome));
    if let Some(pool) = &trace.pool {
        put("pool", format!("{} ({})", pool.name, pool.balance));
        for (at, server) in pool.servers.iter().enumerate() {
            put(if at == 0 { "servers" } else { "" }, candidate(server));
        }
    }
    out
}

fn outcome(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered(status, text) if text.is_empty() => format!("answered with {status}"),
        Outcome::Answered(status, text) => format!("answered with {status}: {}", text.trim_end()),
        Outcome::Pool(name) => format!("a server of `{name}` answers"),
        Outcome::Relayed(name) => {
            format!("the connection goes to a server of `{name}`, whatever is asked on it")
        }
        Outcome::Flow(name) => {
            format!("the flow goes to a server of `{name}`, whatever is in its datagrams")
        }
        Outcome::Refused(why) => format!("the connection is closed: {why}"),
        Outcome::Shares(shares) => {
            let whole: u64 = shares.iter().map(|(share, _)| u64::from(*share)).sum();
            let share = |(share, name): &(u32, String)| format!("{share} of {whole} to `{name}`");
            shares.iter().map(share).collect::<Vec<_>>().join(", ")
        }
        Outcome::Files(directory) => format!("a file below `{directory}` answers"),
        Outcome::Redirected(status, to) => format!("the client is sent to {to} ({status})"),
    }
}

fn candidate(server: &Candidate) -> String {
    let mut text = format!("{}  {}", server.name, server.eligible);
    if server.eligible != server.standing && server.standing != "ready" {
        let _ = write!(text, ", {}", server.standing);
    }
    let _ = write!(text, ", weight {}", server.weight);
    if server.share < 100 {
        let _ = write!(text, " at {} %", server.share);
    }
    if server.tier > 0 {
        let _ = write!(text, ", tier {}", server.tier);
    }
    if server.in_flight > 0 {
        let _ = write!(text, ", {} in flight", server.in_flight);
    }
    text
}
