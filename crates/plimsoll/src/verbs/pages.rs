//! `plimsoll completions` and `plimsoll man`: what shells and manuals know of the command line.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Command;
use clap_complete::Shell;

/// What `plimsoll completions` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// For which shell
    shell: Shell,
}

/// What `plimsoll man` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Manual {
    /// Where the pages go
    directory: PathBuf,
}

/// Prints what a shell completes words of `command` by.
pub(crate) fn completions(arguments: &Completions, mut command: Command) -> anyhow::Result<()> {
    clap_complete::generate(arguments.shell, &mut command, "plimsoll", &mut io::stdout());
    Ok(())
}

/// Writes a page of the manual for `command` and one for each of its verbs.
pub(crate) fn manual(arguments: &Manual, command: Command) -> anyhow::Result<()> {
    fs::create_dir_all(&arguments.directory)?;
    let command = command.disable_help_subcommand(true);
    Ok(clap_mangen::generate_to(command, &arguments.directory)?)
}
