//! `plimsoll explain CODE` and `plimsoll schema`: what the language knows of itself.

use anyhow::bail;
use plimsoll_config::Code;

use crate::output::print;

/// What `plimsoll explain` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The code of an error or a warning, like E0312; without one, all codes are listed
    code: Option<String>,
}

pub(crate) fn explain(arguments: &Arguments) -> anyhow::Result<()> {
    match &arguments.code {
        None => print(&list()),
        Some(code) => match plimsoll_config::explain(code) {
            Some(text) => print(text),
            None => bail!("unknown code `{code}`; `plimsoll explain` lists all codes"),
        },
    }
}

/// Every code with the first sentence of its text.
fn list() -> String {
    let line = |code: &&Code| {
        let first = code.explain.split(". ").next().unwrap_or_default();
        let first: Vec<&str> = first
            .trim_end_matches(['.', ':', '\n'])
            .split_whitespace()
            .collect();
        format!("{}  {}\n", code.id, first.join(" "))
    };
    plimsoll_config::CODES.iter().map(line).collect()
}

pub(crate) fn schema() -> anyhow::Result<()> {
    print(&format!("{:#}\n", plimsoll_config::schema()))
}
