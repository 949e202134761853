//! A program of the operator's. It gets no shell and no environment but where the server is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::process::Command;

use crate::Failure;

/// A program and its arguments.
#[derive(Clone, Debug)]
pub struct ExecProbe {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// Runs the program; dropped before its end, it kills it.
pub(crate) async fn run(probe: &ExecProbe, address: SocketAddr) -> Result<(), Failure> {
    let mut command = Command::new(&probe.program);
    command
        .args(&probe.arguments)
        .env_clear()
        .env("PLIMSOLL_SERVER_ADDRESS", address.ip().to_string())
        .env("PLIMSOLL_SERVER_PORT", address.port().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let status = command.status().await?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::Answer(status.to_string())),
    }
}
