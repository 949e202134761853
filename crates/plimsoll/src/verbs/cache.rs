//! `plimsoll cache`: what a running Plimsoll has in its caches.

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::output::print;
use crate::running::At;

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
    let Verb::Purge(purge) = &arguments.verb;
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
