//! `lint`: what a machine can say of a change without running it.

use crate::command::{self, command, is_installed, output};
use crate::tidy;
use anyhow::{Result, bail};

const DENY: &str = "cargo deny check";

pub(crate) fn run() -> Result<()> {
    command::run("cargo fmt --all --check")?;
    command::run("cargo clippy --workspace --all-targets -- -D warnings")?;
    tidy::run()?;
    if !is_installed("cargo-deny") {
        command::run("cargo install --locked cargo-deny")?;
    }
    command::run(&format!("{DENY} bans licenses sources"))?;
    advisories()
}

/// Asks the advisory database, which must be fetched: without a network this is skipped aloud.
fn advisories() -> Result<()> {
    let (good, text) = output(&mut command(&format!("{DENY} advisories")))?;
    if good {
        println!("advisories ok");
        return Ok(());
    }
    if text.contains("failed to fetch advisory database") {
        println!("advisories SKIPPED: the database cannot be reached");
        return Ok(());
    }
    bail!("advisories:\n{text}")
}
