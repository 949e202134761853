//! MariaDB from Debian: servers of their own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::daemon::Daemon;

const HINT: &str = "install the Debian package mariadb-server";

/// The data of a server.
pub struct MariaDb {
    directory: TempDir,
}

impl MariaDb {
    /// A new one, without any data.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let this = Self { directory };
        let mut make = this.command("mariadb-install-db");
        let output = make.arg("--skip-test-db").output().expect(HINT);
        assert!(output.status.success(), "{make:?}: {output:?}");
        this
    }

    /// Starts a server on its data, with further options.
    #[must_use]
    pub fn start(&self, port: u16, more: &[&str]) -> Daemon {
        let mut command = self.command("mariadbd");
        command.args(["--bind-address=127.0.0.1", &format!("--port={port}")]);
        command.arg(format!("--socket={}", self.socket().display()));
        command.args(more);
        Daemon::spawn("mariadb", HINT, command)
    }

    /// Tells the server that runs on its data what to do, as its administrator.
    ///
    /// # Panics
    /// If it does not.
    pub fn tell(&self, statements: &str) {
        let mut command = Command::new("mariadb");
        let socket = format!("--socket={}", self.socket().display());
        command.args(["--no-defaults", "--user=root", &socket, "-e", statements]);
        let output = command.output().expect(HINT);
        assert!(output.status.success(), "{statements}: {output:?}");
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }

    /// One of MariaDB's programs, for this data.
    fn command(&self, name: &str) -> Command {
        let data = self.directory.path().join("data");
        let mut command = Command::new(name);
        command.args(["--no-defaults", "--user=root"]);
        command.arg(format!("--datadir={}", data.display()));
        command
    }
}

impl Default for MariaDb {
    fn default() -> Self {
        Self::new()
    }
}

/// A client's program that goes to a server as `user`, without a password.
#[must_use]
pub fn client(program: &str, address: SocketAddr, user: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--no-defaults", "--protocol=tcp", "-h", "127.0.0.1"]);
    command.args(["-P", &address.port().to_string(), "-u", user]);
    command
}

/// Asks a server; returns what it says.
#[must_use]
pub fn ask(address: SocketAddr, user: &str, question: &str) -> Option<String> {
    let mut command = client("mariadb", address, user);
    let output = command.args(["-N", "-B", "-e", question]).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}
