//! Redis from Debian.

use std::path::Path;
use std::process::Command;

use crate::daemon::Daemon;

/// Starts a server that keeps its files in `directory`, and writes none by itself.
#[must_use]
pub fn start(directory: &Path, port: u16, more: &[&str]) -> Daemon {
    let mut command = Command::new("redis-server");
    command.current_dir(directory);
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", ""]).args(more);
    Daemon::spawn("redis", "install the Debian package redis-server", command)
}
