//! `plimsoll fmt`: lay a configuration out.

use std::io::Write;

use anyhow::{Context, bail};
use plimsoll_config::Loader;
use plimsoll_control::files::Files;

use crate::configuration;
use crate::exit::BadConfiguration;
use crate::output::print;

/// What `plimsoll fmt` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The files to lay out in place
    #[arg(required = true)]
    files: Vec<String>,
    /// Change nothing; fail when a file is not laid out
    #[arg(long)]
    check: bool,
    /// Change nothing; show the lines that would change
    #[arg(long)]
    diff: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut is_good = true;
    let mut untidy = Vec::new();
    for path in &arguments.files {
        let bytes = Files
            .read(path)
            .map_err(|error| anyhow::anyhow!("cannot read {path}: {error:?}"))?;
        let text = String::from_utf8(bytes).with_context(|| format!("{path} is not UTF-8"))?;
        match plimsoll_config::format_text(path, &text) {
            Err((problems, sources)) => {
                configuration::show(&problems, &sources);
                is_good = false;
            }
            Ok(laid_out) if laid_out == text => {}
            Ok(laid_out) => {
                untidy.push(path.as_str());
                if arguments.diff {
                    print(&difference(path, &text, &laid_out))?;
                } else if !arguments.check {
                    replace(path, &laid_out)?;
                }
            }
        }
    }
    if !is_good {
        return Err(BadConfiguration.into());
    }
    if arguments.check && !untidy.is_empty() {
        bail!("not laid out: {}", untidy.join(", "));
    }
    Ok(())
}

/// Writes beside the file and renames, so that a crash leaves one or the other.
fn replace(path: &str, text: &str) -> anyhow::Result<()> {
    let beside = format!("{path}.fmt");
    let permissions = std::fs::metadata(path)
        .with_context(|| format!("cannot read {path}"))?
        .permissions();
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::File::create(&beside)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(permissions)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {path}"))
}

/// The changed lines, without those around them: laying out never moves a line past another.
fn difference(path: &str, before: &str, after: &str) -> String {
    let written = |line: &&str| !line.trim().is_empty();
    let pairs = before
        .lines()
        .filter(written)
        .zip(after.lines().filter(written));
    let changed = pairs
        .filter(|(old, new)| old != new)
        .map(|(old, new)| format!("-{old}\n+{new}\n"));
    format!(
        "--- {path}\n+++ {path} (laid out)\n{}",
        changed.collect::<String>()
    )
}
