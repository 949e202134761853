//! `plimsoll run`: serve a configuration in the foreground.

use crate::configuration::{self, Path};
use crate::serving::{self, File};

/// What `plimsoll run` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    path: Path,
    /// Reload by itself when a file of the configuration has changed
    #[arg(long)]
    watch: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = configuration::load(&arguments.path.config)?;
    let file = File {
        path: &arguments.path.config,
        is_watched: arguments.watch,
    };
    serving::serve(&config, Some(file), async {})
}
