//! `plimsoll reload`: have a running Plimsoll serve what its file says now.

use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use plimsoll_control::reload::canary::{Canary, Decided};
use plimsoll_control::reload::{Refused, Reloaded, Wanted};

use crate::exit::BadConfiguration;
use crate::output::print;
use crate::running::{At, PATIENCE};

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
    /// Serve only so much of the new connections so at first, such as 5%; all after the time of `--for`, unless it does worse
    #[arg(long, value_name = "SHARE", value_parser = percent, conflicts_with = "confirm")]
    canary: Option<u8>,
    /// For how long that is, such as 10m; as it is, 60s
    #[arg(long = "for", value_name = "TIME", value_parser = time, requires = "canary")]
    time: Option<Duration>,
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
    let seconds = arguments.time.map(|time| time.as_secs());
    let canary = arguments.canary.map(|percent| Canary {
        percent,
        seconds: seconds.unwrap_or(Canary::usual()),
    });
    let wanted = Wanted {
        confirm_within: arguments.confirm.map(|time| time.as_secs()),
        canary,
    };
    let patience = PATIENCE + Duration::from_secs(canary.map_or(0, |canary| canary.seconds));
    let reloaded: Reloaded = match arguments.at.post_within(path, &wanted, patience) {
        Ok(reloaded) => reloaded,
        Err(error) => return Err(explain(error)),
    };
    warn(&reloaded.warnings);
    if arguments.json {
        print(&format!("{:#}\n", serde_json::to_value(&reloaded)?))?;
    } else {
        print(&text(&reloaded, done))?;
    }
    let went_back = |decided: &Decided| !decided.takes_all;
    match reloaded
        .canary
        .as_ref()
        .filter(|decided| went_back(decided))
    {
        Some(decided) if arguments.verb.is_none() => bail!("not kept: {}", decided.why),
        _ => Ok(()),
    }
}

/// What is different now, or `done` when nothing is; and what became of it, if a part was served so first.
fn text(reloaded: &Reloaded, done: &str) -> String {
    let lines = reloaded.differences.iter();
    let mut text: String = lines.map(|what| format!("{what}\n")).collect();
    if let Some(decided) = &reloaded.canary {
        let Decided {
            why, new, before, ..
        } = decided;
        let end = match decided.takes_all {
            true => "all connections are served so",
            false => "no connection is served so any more",
        };
        text += &format!("{end}: {why}\n  new     {new}\n  before  {before}\n");
    }
    match text.is_empty() {
        true => done.to_owned(),
        false => text,
    }
}

/// Reads a share.
fn percent(text: &str) -> Result<u8, String> {
    let percent = text
        .strip_suffix('%')
        .and_then(|number| number.parse().ok());
    let percent = percent.filter(|percent| (1..=99).contains(percent));
    percent.ok_or_else(|| "write a share of 1% to 99%, such as `5%`".to_owned())
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
