//! `plimsoll run`: serve a configuration in the foreground.

use crate::configuration::{self, Path};
use crate::serving;

/// What `plimsoll run` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    path: Path,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration::load(&arguments.path.config)?;
    serving::serve(&config, Some(&arguments.path.config), async {})
}
