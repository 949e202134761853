//! `plimsoll reload`: have a running Plimsoll serve what its file says now.

use plimsoll_control::reload::{Refused, Reloaded};
use serde_json::json;

use crate::exit::BadConfiguration;
use crate::output::print;
use crate::running::At;

/// What `plimsoll reload` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    at: At,
    /// Print what has changed as JSON
    #[arg(long)]
    json: bool,
}

#[expect(
    clippy::print_stderr,
    reason = "problems are for whoever changed the configuration"
)]
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let reloaded: Reloaded = match arguments.at.post("/v1/reload", &json!({})) {
        Ok(reloaded) => reloaded,
        Err(error) => match error.downcast::<Refused>() {
            Ok(Refused(why)) => {
                eprint!("{why}");
                eprintln!("not reloaded: nothing has changed");
                return Err(BadConfiguration.into());
            }
            Err(error) => return Err(error),
        },
    };
    eprint!("{}", reloaded.warnings);
    if arguments.json {
        return print(&format!("{:#}\n", serde_json::to_value(&reloaded)?));
    }
    let lines = reloaded.differences.iter();
    let mut text: String = lines.map(|what| format!("{what}\n")).collect();
    if text.is_empty() {
        text.push_str("nothing changed\n");
    }
    print(&text)
}
