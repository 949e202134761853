//! `test`: everything a change must pass, with real components.

use crate::command;
use crate::packages::{
    self, ADDUSER, BIND, CHROMIUM, CURL, DIG, EXT4, FFMPEG, GRPC, HAPROXY, IPROUTE, MARIADB, NGINX,
    OPENSSL, PEBBLE, POSTGRES, PYTHON, REDIS, RSYSLOG, UNBOUND, VENV, WRK,
};
use anyhow::Result;

pub(crate) fn run() -> Result<()> {
    packages::ensure(&[NGINX, HAPROXY, WRK, CURL, PYTHON, IPROUTE])?;
    packages::ensure(&[ADDUSER, REDIS, POSTGRES, MARIADB, OPENSSL, GRPC, CHROMIUM])?;
    packages::ensure(&[PEBBLE, BIND, UNBOUND, DIG, FFMPEG, EXT4, RSYSLOG, VENV])?;
    if has_plimsoll() {
        command::run("cargo build -p plimsoll")?; // the end-to-end tests find it beside themselves
    }
    command::run("cargo test --workspace")
}

/// Tells whether the workspace has the program.
pub(crate) fn has_plimsoll() -> bool {
    command::root().join("crates/plimsoll/Cargo.toml").is_file()
}
