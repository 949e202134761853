//! `fuzz`: one target of `fuzz/`, for a while.

use crate::command;
use crate::command::{is_installed, root};
use anyhow::{Result, bail};

/// How long one input may take.
const INPUT_SECONDS_MAX: u32 = 10;

pub(crate) fn run(name: &str, seconds: u32) -> Result<()> {
    if !root().join("fuzz/Cargo.toml").is_file() {
        bail!("there is no `fuzz/Cargo.toml` yet");
    }
    if !is_installed("cargo-fuzz") {
        command::run("cargo install --locked cargo-fuzz")?;
    }
    // Without sanitizer it runs on the stable compiler, and the code has no `unsafe` to watch. What takes
    // long is a fault, too.
    command::run(&format!(
        "cargo fuzz run --sanitizer none {name} -- -timeout={INPUT_SECONDS_MAX} -max_total_time={seconds}"
    ))
}
