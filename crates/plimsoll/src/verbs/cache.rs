//! `plimsoll cache`: what a running Plimsoll has in its caches.

use clap::Subcommand;
use plimsoll_control::explain::{Query, Stock, Stored};
use serde::{Deserialize, Serialize};

use crate::output::print;
use crate::running::At;
use crate::table::{self, Align, Table};

/// What `plimsoll cache` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Have it forget answers, by URL, by the beginning of URLs, or by a word that their servers gave them in
    /// `Cache-Tag` or `Surrogate-Key`
    Purge(Purge),
    /// Show what it has stored for a URL, for the beginning of URLs, or under a word of servers
    Show(Show),
}

#[derive(Debug, clap::Args)]
struct Purge {
    #[command(flatten)]
    what: What,
    /// Count the answers as stale, so that they still serve where stale ones may
    #[arg(long)]
    soft: bool,
    /// From this cache only
    #[arg(long, value_name = "NAME")]
    cache: Option<String>,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, clap::Args)]
struct Show {
    #[command(flatten)]
    what: What,
    /// In this cache only
    #[arg(long, value_name = "NAME")]
    cache: Option<String>,
    /// How many answers at most
    #[arg(long, value_name = "NUMBER", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// What is stored for this URL, in all its forms
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// What is stored for URLs that begin like this
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,
    /// What has this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<String>,
}

#[derive(Serialize)]
struct Order<'a> {
    cache: &'a Option<String>,
    url: &'a Option<String>,
    prefix: &'a Option<String>,
    tag: &'a Option<String>,
    soft: bool,
}

#[derive(Deserialize)]
struct Purged {
    purged: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.verb {
        Verb::Purge(purge) => run_purge(purge),
        Verb::Show(show) => run_show(show),
    }
}

fn run_show(show: &Show) -> anyhow::Result<()> {
    let query = Query {
        cache: show.cache.clone(),
        url: show.what.url.clone(),
        prefix: show.what.prefix.clone(),
        tag: show.what.tag.clone(),
        limit: Some(show.limit.into()),
    };
    let stock: Stock = show.at.post("/v1/cache/show", &query)?;
    match show.json {
        true => print(&format!("{:#}\n", serde_json::to_value(&stock)?)),
        false => print(&text(&stock)),
    }
}

/// A row for each answer.
fn text(stock: &Stock) -> String {
    let mut table = Table::new([
        ("URL", Align::Left),
        ("STATUS", Align::Right),
        ("SIZE", Align::Right),
        ("AGE", Align::Right),
        ("TTL", Align::Right),
        ("STATE", Align::Left),
        ("HITS", Align::Right),
        ("WHERE", Align::Left),
        ("FOR", Align::Left),
    ]);
    for answer in &stock.answers {
        table.row([
            answer.url.clone(),
            answer.status.to_string(),
            table::bytes(answer.bytes),
            table::span(answer.age.into()),
            u64::try_from(answer.ttl).map_or_else(|_| "-".to_owned(), table::span),
            answer.state.clone(),
            answer.hits.to_string(),
            answer.tier.clone(),
            about(answer),
        ]);
    }
    let more = if stock.is_more { "and more\n" } else { "" };
    format!("{}{more}", table.text())
}

/// For whom an answer is, in which codings it is kept, and by which words it is purged.
fn about(answer: &Stored) -> String {
    let parts = [
        answer.varies.join("; "),
        answer.codings.join(" "),
        answer
            .tags
            .iter()
            .map(|tag| format!("#{tag}"))
            .collect::<Vec<_>>()
            .join(" "),
    ];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" | ")
}

fn run_purge(purge: &Purge) -> anyhow::Result<()> {
    let What { url, prefix, tag } = &purge.what;
    let order = Order {
        cache: &purge.cache,
        url,
        prefix,
        tag,
        soft: purge.soft,
    };
    let Purged { purged } = purge.at.post("/v1/cache/purge", &order)?;
    print(&format!("{purged} purged\n"))
}
