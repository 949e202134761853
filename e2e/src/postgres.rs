//! PostgreSQL from Debian: servers of their own, and copies of them.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::daemon::Daemon;

/// The first user of all servers.
pub const USER: &str = "postgres";

const HINT: &str = "install the Debian package postgresql";

/// The data of a server; nobody who comes to it needs a password.
pub struct Postgres {
    directory: TempDir,
}

impl Postgres {
    /// A new one, without any data.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let this = Self::empty();
        let mut make = this.command("initdb");
        run(make.args(["--no-sync", "-A", "trust", "-U", USER]));
        this
    }

    /// Has a user show a password from now on, in this way; before it starts.
    ///
    /// # Panics
    /// If there is no data.
    pub fn ask_password_of(&self, user: &str, way: &str) {
        let path = self.directory.path().join("data/pg_hba.conf");
        let rules = fs::read_to_string(&path).expect("initdb has written it");
        let rules = format!("host all {user} 127.0.0.1/32 {way}\n{rules}");
        fs::write(path, rules).expect("it is ours");
    }

    /// A copy of a server that runs, which follows it.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn copy_of(primary: SocketAddr) -> Self {
        let this = Self::empty();
        let mut make = this.command("pg_basebackup");
        make.args(["-R", "--no-sync", "-c", "fast", "-h", "127.0.0.1"]);
        run(make.args(["-U", USER, "-p", &primary.port().to_string()]));
        this
    }

    fn empty() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        // The server has a user of its own.
        let all = fs::Permissions::from_mode(0o777);
        fs::set_permissions(directory.path(), all).expect("it is ours");
        Self { directory }
    }

    /// Starts a server on its data.
    #[must_use]
    pub fn start(&self, port: u16) -> Daemon {
        let mut command = self.command("postgres");
        command.arg("-k").arg(self.directory.path());
        command.args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "fsync=off", "-c", "max_connections=50"]);
        Daemon::spawn("postgres", HINT, command)
    }

    /// Has a copy follow nobody any more.
    ///
    /// # Panics
    /// If it does not.
    pub fn promote(&self) {
        run(self.command("pg_ctl").args(["promote", "-w"]));
    }

    /// One of PostgreSQL's programs, for this data.
    fn command(&self, name: &str) -> Command {
        let mut command = as_owner(&program(name));
        command.current_dir("/");
        command.arg("-D").arg(self.directory.path().join("data"));
        command
    }
}

impl Default for Postgres {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks a server; returns what it says.
#[must_use]
pub fn ask(address: SocketAddr, question: &str) -> Option<String> {
    let mut command = Command::new(program("psql"));
    command.args(["-h", "127.0.0.1", "-p", &address.port().to_string()]);
    command.args(["-U", USER, "-d", "postgres", "-tAc", question]);
    let output = command.output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| said.trim().to_owned())
}

/// PostgreSQL's programs refuse to run for root.
fn as_owner(program: &Path) -> Command {
    if !fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=postgres", "--regid=postgres", "--clear-groups"])
        .arg(program);
    command
}

/// One of PostgreSQL's programs.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").expect(HINT);
    let newest = versions.flatten().map(|version| version.path()).max();
    newest.expect(HINT).join("bin").join(name)
}

fn run(command: &mut Command) {
    let output = command.output().expect(HINT);
    assert!(output.status.success(), "{command:?}: {output:?}");
}
