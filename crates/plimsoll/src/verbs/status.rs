//! `plimsoll status`: what a running Plimsoll serves, and how that goes.

use std::fmt::Write;

use plimsoll_admin::canary::CanaryView;
use plimsoll_admin::view::{CacheView, PoolView, ServerView, View};

use crate::output::print;
use crate::running::At;
use crate::table::Align::{Left, Right};
use crate::table::{Table, bytes, rate, span, time};

/// What `plimsoll status` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: At,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) const PATH: &str = "/v1/status";

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.json {
        let view: serde_json::Value = arguments.at.look(PATH)?;
        return print(&format!("{view:#}\n"));
    }
    let view: View = arguments.at.look(PATH)?;
    print(&text(&view))
}

fn text(view: &View) -> String {
    let mut out = head(view);
    let mut put = |text: String| {
        let _ = write!(out, "\n{text}");
    };
    put(sites(view));
    put(listeners(view));
    if !view.pools.is_empty() {
        put(pools(&view.pools));
    }
    if !view.caches.is_empty() {
        put(caches(&view.caches));
    }
    if !view.certificates.is_empty() {
        put(certificates(view));
    }
    out
}

/// What it is, and all sites together.
pub(crate) fn head(view: &View) -> String {
    let flow = &view.traffic;
    let canary = view.canary.as_ref().map(canary).unwrap_or_default();
    format!(
        "{}: version {}, configuration {}, {} workers, up {}\n\
         {} requests/s, {} errors/s, p50 {}, p99 {}, {} connections\n{canary}",
        view.node,
        view.version,
        view.generation,
        view.workers,
        span(view.now.saturating_sub(view.started)),
        rate(flow.request_rate),
        rate(flow.error_rate),
        time(flow.p50),
        time(flow.p99),
        view.connections,
    )
}

/// What a part of the connections is served under.
fn canary(view: &CanaryView) -> String {
    let CanaryView {
        generation,
        percent,
        seconds_left,
        new,
        before,
    } = view;
    format!(
        "configuration {generation} serves {percent}% of new connections for another {}\n  \
         new     {new}\n  before  {before}\n",
        span(*seconds_left)
    )
}

fn sites(view: &View) -> String {
    let mut table = Table::new([
        ("SITE", Left),
        ("REQUESTS/S", Right),
        ("ERRORS/S", Right),
        ("P50", Right),
        ("P99", Right),
        ("REQUESTS", Right),
    ]);
    for site in &view.sites {
        table.row([
            site.name.to_string(),
            rate(site.flow.request_rate),
            rate(site.flow.error_rate),
            time(site.flow.p50),
            time(site.flow.p99),
            site.flow.requests.to_string(),
        ]);
    }
    table.text()
}

fn listeners(view: &View) -> String {
    let mut table = Table::new([
        ("LISTENER", Left),
        ("KIND", Left),
        ("CONNECTIONS", Right),
        ("BUSY", Right),
        ("NEW/S", Right),
        ("REFUSED/S", Right),
    ]);
    for at in &view.listeners {
        table.row([
            at.address.clone(),
            at.kind.clone(),
            at.connections.to_string(),
            at.active.to_string(),
            rate(at.accept_rate),
            rate(at.refuse_rate),
        ]);
    }
    table.text()
}

/// A line for each pool.
pub(crate) fn pools(pools: &[PoolView]) -> String {
    let mut table = Table::new([
        ("POOL", Left),
        ("BALANCE", Left),
        ("READY", Right),
        ("REQUESTS/S", Right),
        ("ERRORS/S", Right),
        ("RETRIES/S", Right),
        ("WAITING", Right),
        ("P50", Right),
        ("P99", Right),
    ]);
    for pool in pools {
        table.row([
            pool.name.to_string(),
            pool.balance.clone(),
            format!("{}/{}", pool.serving, pool.servers.len()),
            rate(pool.request_rate),
            rate(pool.error_rate),
            rate(pool.retry_rate),
            pool.waiting.to_string(),
            time(pool.p50),
            time(pool.p99),
        ]);
    }
    table.text()
}

/// A line for each of `servers`, of these pools.
pub(crate) fn servers<'a>(servers: impl Iterator<Item = (&'a PoolView, &'a ServerView)>) -> String {
    let mut table = Table::new([
        ("POOL", Left),
        ("SERVER", Left),
        ("STATE", Left),
        ("WEIGHT", Right),
        ("REQUESTS/S", Right),
        ("ERRORS/S", Right),
        ("NOW", Right),
        ("CHECKS FAILED", Right),
        ("EJECTED", Right),
        ("REQUESTS", Right),
        ("WHY", Left),
    ]);
    for (pool, server) in servers {
        table.row([
            pool.name.to_string(),
            server.name.to_string(),
            server.state.clone(),
            match server.share_percent {
                100 => server.weight.to_string(),
                percent => format!("{} at {percent}%", server.weight),
            },
            rate(server.request_rate),
            rate(server.error_rate),
            match server.max_connections {
                Some(most) => format!("{}/{most}", server.in_flight),
                None => server.in_flight.to_string(),
            },
            match server.checks.passed + server.checks.failed {
                0 => "-".to_owned(),
                all => format!("{}/{all}", server.checks.failed),
            },
            server.ejections.to_string(),
            server.requests.to_string(),
            match server.state.as_str() {
                "ready" => String::new(),
                _ => server.checks.why.clone().unwrap_or_default(),
            },
        ]);
    }
    table.text()
}

fn caches(caches: &[CacheView]) -> String {
    let mut table = Table::new([
        ("CACHE", Left),
        ("REQUESTS/S", Right),
        ("HITS", Right),
        ("STORED", Right),
        ("ROOM", Right),
        ("URLS", Right),
    ]);
    for cache in caches {
        table.row([
            cache.name.to_string(),
            rate(cache.request_rate),
            cache
                .hit_ratio
                .map_or_else(|| "-".to_owned(), |ratio| format!("{:.0}%", ratio * 100.0)),
            bytes(cache.bytes),
            bytes(cache.max_bytes),
            cache.keys.to_string(),
        ]);
    }
    table.text()
}

fn certificates(view: &View) -> String {
    let mut table = Table::new([("CERTIFICATE", Left), ("GOOD FOR", Right)]);
    for certificate in &view.certificates {
        let left = match certificate.expires.checked_sub(view.now) {
            Some(left) => span(left),
            None => "expired".to_owned(),
        };
        table.row([certificate.file.clone(), left]);
    }
    table.text()
}
