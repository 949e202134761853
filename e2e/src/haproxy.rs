//! Debian's HAProxy as a peer.

use crate::daemon::Daemon;
use std::fs;
use std::process::Command;
use tempfile::TempDir;

/// A running HAProxy with a directory of its own.
pub struct Haproxy {
    _daemon: Daemon,
    _directory: TempDir,
}

impl Haproxy {
    /// Starts HAProxy with these sections behind its defaults, and waits until it listens on this port.
    ///
    /// # Panics
    /// If it is not installed, or refuses the sections.
    #[must_use]
    pub fn start(sections: &str, port: u16) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let file = directory.path().join("haproxy.cfg");
        let text = format!(
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 5s\n{sections}\n"
        );
        fs::write(&file, text).expect("a new directory is writable");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(&file);
        let missing = "install the Debian package haproxy";
        let mut daemon = Daemon::spawn("haproxy", missing, command);
        daemon.wait_listening(&[port]);
        Self {
            _daemon: daemon,
            _directory: directory,
        }
    }
}
