//! `plimsoll sessions`: what is open on a running Plimsoll, and ending it.

use std::time::Duration;

use clap::Subcommand;
use plimsoll_control::sessions::{Listed, Query, SessionView};
use serde::Deserialize;

use crate::output::print;
use crate::running::At;
use crate::table::{self, Align, Table};

/// What `plimsoll sessions` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: At,
    /// Print them as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    which: Which,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// End those that are meant, which have to be named
    Close(Which),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// The one that is called so
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Those that came to this address
    #[arg(long, value_name = "ADDRESS")]
    listener: Option<std::net::SocketAddr>,
    /// Those of this client, or of this network
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// Those that this site or service serves
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Those that go to this pool
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// Those that go to this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Those that have come so far
    #[arg(long, value_name = "STATE", value_parser = ["new", "idle", "request", "server", "tunnel", "streams"])]
    state: Option<String>,
    /// How many at most; of those to show, 100 where nothing else is said
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
}

#[derive(Deserialize)]
struct Closed {
    closed: usize,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(Verb::Close(which)) = &arguments.verb {
        let order = which.query();
        let Closed { closed } = arguments.at.post("/v1/sessions/close", &order)?;
        return print(&format!("{closed} closed\n"));
    }
    let query = serde_urlencoded::to_string(arguments.which.query())?;
    let listed: Listed = arguments.at.look(&format!("/v1/sessions?{query}"))?;
    match arguments.json {
        true => print(&format!("{:#}\n", serde_json::to_value(&listed)?)),
        false => print(&text(&listed)),
    }
}

impl Which {
    fn query(&self) -> Query {
        Query {
            id: self.id.clone(),
            listener: self.listener,
            client: self.client.clone(),
            site: self.site.clone(),
            pool: self.pool.clone(),
            server: self.server.clone(),
            state: self.state.clone(),
            limit: self.limit,
        }
    }
}

fn text(listed: &Listed) -> String {
    let mut table = Table::new([
        ("ID", Align::Left),
        ("CLIENT", Align::Left),
        ("LISTENER", Align::Left),
        ("PROTO", Align::Left),
        ("STATE", Align::Left),
        ("SITE", Align::Left),
        ("POOL", Align::Left),
        ("SERVER", Align::Left),
        ("AGE", Align::Right),
        ("IDLE", Align::Right),
        ("REQS", Align::Right),
        ("IN", Align::Right),
        ("OUT", Align::Right),
    ]);
    for session in &listed.sessions {
        table.row(row(session));
    }
    let left = listed.count.saturating_sub(listed.sessions.len());
    let more = match left {
        0 => String::new(),
        left => format!("and {left} more\n"),
    };
    let silent = match listed.silent_workers {
        0 => String::new(),
        silent => format!("{silent} of the workers did not answer in time\n"),
    };
    format!("{}{more}{silent}", table.text())
}

fn row(session: &SessionView) -> [String; 13] {
    let word = |word: &Option<String>| word.clone().unwrap_or_else(|| "-".to_owned());
    [
        session.id.clone(),
        session.client.clone(),
        session.listener.clone(),
        session.protocol.clone(),
        session.state.clone(),
        word(&session.site),
        word(&session.pool),
        word(&session.server),
        span(Some(session.age)),
        span(session.idle),
        session.requests.to_string(),
        table::bytes(session.bytes_in),
        table::bytes(session.bytes_out),
    ]
}

fn span(seconds: Option<f64>) -> String {
    match seconds {
        Some(seconds @ 60.0..) => table::span(Duration::from_secs_f64(seconds).as_secs()),
        seconds => table::time(seconds),
    }
}
