//! `plimsoll pool`: the servers of a running Plimsoll, and what is wanted of them.

use anyhow::bail;
use clap::Subcommand;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use plimsoll_admin::change::{Change, State};
use plimsoll_admin::view::PoolView;

use crate::output::print;
use crate::running::At;
use crate::verbs::status;

/// What `plimsoll pool` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: At,
    /// Which pool; as it is, all of them are shown
    pool: Option<String>,
    /// Print them as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Have servers finish what they have, and serve only clients that belong to them
    Drain(Which),
    /// Have servers finish what they have, and take nothing new
    #[command(alias = "maint")]
    Maintenance(Which),
    /// Have servers serve again
    #[command(alias = "enable")]
    Ready(Which),
    /// Give servers a part of their weight
    Weight(Weight),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The servers, as they are written in the pool
    #[arg(required = true)]
    servers: Vec<String>,
    /// Even when this takes away more than half of those that serve
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct Weight {
    /// How much of it: `50%`
    #[arg(value_parser = percent)]
    part: u8,
    #[command(flatten)]
    which: Which,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Some(name) = &arguments.pool else {
        if arguments.verb.is_some() {
            bail!("say which pool: `plimsoll pool NAME drain SERVER`");
        }
        return show_all(arguments);
    };
    let path = format!("/v1/pools/{}", utf8_percent_encode(name, NON_ALPHANUMERIC));
    let pool: PoolView = match &arguments.verb {
        Some(verb) => arguments.at.post(&path, &change(verb))?,
        None => arguments.at.look(&path)?,
    };
    match arguments.json {
        true => print(&format!("{:#}\n", serde_json::to_value(&pool)?)),
        false => print(&status::servers(
            pool.servers.iter().map(|server| (&pool, server)),
        )),
    }
}

fn show_all(arguments: &Arguments) -> anyhow::Result<()> {
    let pools: Vec<PoolView> = arguments.at.look("/v1/pools")?;
    match arguments.json {
        true => print(&format!("{:#}\n", serde_json::to_value(&pools)?)),
        false => print(&status::pools(&pools)),
    }
}

fn change(verb: &Verb) -> Change {
    let (which, state, share_percent) = match verb {
        Verb::Drain(which) => (which, Some(State::Drain), None),
        Verb::Maintenance(which) => (which, Some(State::Maintenance), None),
        Verb::Ready(which) => (which, Some(State::Ready), None),
        Verb::Weight(Weight { part, which }) => (which, None, Some(*part)),
    };
    Change {
        servers: which.servers.clone(),
        state,
        share_percent,
        force: which.force,
    }
}

/// Reads `50%`.
fn percent(text: &str) -> Result<u8, String> {
    let number = text
        .strip_suffix('%')
        .and_then(|number| number.parse().ok());
    let percent = number.filter(|percent| *percent <= 100);
    percent.ok_or_else(|| "write a part of its weight: `0%` to `100%`".to_owned())
}
