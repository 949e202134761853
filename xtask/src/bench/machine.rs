//! On what, and of what, the figures are.

use crate::command::{command, output, read};
use anyhow::Result;
use std::fs;
use std::process::Command;

/// What a figure cannot be compared without.
pub(crate) struct Machine {
    pub(crate) date: String,
    /// The short commit, with `-dirty` when the tree has other changes.
    pub(crate) commit: String,
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// Programs and their versions.
    pub(crate) versions: Vec<(&'static str, String)>,
}

pub(crate) fn describe() -> Result<Machine> {
    let changed = !read("git status --porcelain --untracked-files=no")?.is_empty();
    let commit = read("git rev-parse --short=9 HEAD")?.trim().to_owned();
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let versions = [
        ("rustc", "rustc --version"),
        ("nginx", "nginx -v"),
        ("haproxy", "haproxy -v"),
        ("varnish", "varnishd -V"),
        ("wrk", "wrk -v"),
    ];
    Ok(Machine {
        date: read("date -u +%Y-%m-%d")?.trim().to_owned(),
        commit: if changed {
            format!("{commit}-dirty")
        } else {
            commit
        },
        cpu: model.map_or("unknown", |(_, name)| name).to_owned(),
        cores: cpus
            .lines()
            .filter(|line| line.starts_with("processor"))
            .count(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        versions: versions
            .map(|(name, line)| (name, version(&mut command(line))))
            .into(),
    })
}

/// Returns the first line a program writes; some write it to the error output, or fail.
fn version(command: &mut Command) -> String {
    let text = output(command).map_or_else(|error| error.to_string(), |(_, text)| text);
    text.lines().next().unwrap_or("unknown").trim().to_owned()
}
