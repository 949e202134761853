//! `plimsoll reload`: have a running Plimsoll serve what its file says now.

use std::time::Duration;

use clap::Subcommand;
use plimsoll_control::reload::{Refused, Reloaded, Wanted};

use crate::exit::BadConfiguration;
use crate::output::print;
use crate::running::At;

/// What `plimsoll reload` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: At,
    /// Print what has changed as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Go back by itself after this time, such as 60s, unless `plimsoll reload confirm` is said before
    #[arg(long, value_name = "TIME", value_parser = time)]
    confirm: Option<Duration>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum Verb {
    /// Keep what waits to be confirmed
    Confirm,
    /// Take back what waits to be confirmed
    Back,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (path, done) = match arguments.verb {
        None => ("/v1/reload", "nothing changed\n"),
        Some(Verb::Confirm) => ("/v1/reload/confirm", "confirmed\n"),
        Some(Verb::Back) => ("/v1/reload/back", "nothing changed\n"),
    };
    let wanted = Wanted {
        confirm_within: arguments.confirm.map(|time| time.as_secs()),
    };
    let reloaded: Reloaded = match arguments.at.post(path, &wanted) {
        Ok(reloaded) => reloaded,
        Err(error) => return Err(explain(error)),
    };
    warn(&reloaded.warnings);
    if arguments.json {
        return print(&format!("{:#}\n", serde_json::to_value(&reloaded)?));
    }
    let lines = reloaded.differences.iter();
    let text: String = lines.map(|what| format!("{what}\n")).collect();
    print(if text.is_empty() { done } else { &text })
}

/// Says why nothing has changed, if that is known.
fn explain(error: anyhow::Error) -> anyhow::Error {
    match error.downcast::<Refused>() {
        Ok(Refused(why)) => {
            warn(&format!("{why}not reloaded: nothing has changed\n"));
            BadConfiguration.into()
        }
        Err(error) => error,
    }
}

#[expect(
    clippy::print_stderr,
    reason = "problems are for whoever changed the configuration"
)]
fn warn(text: &str) {
    eprint!("{text}");
}

/// Reads a time of whole seconds.
fn time(text: &str) -> Result<Duration, String> {
    let time = plimsoll_config::duration(text).filter(|time| time.as_secs() > 0);
    time.ok_or_else(|| "write a time of a second or more, such as `60s`".to_owned())
}
