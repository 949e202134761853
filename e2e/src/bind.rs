//! BIND: a name server with one zone, which takes changes from who has its key.

use crate::daemon::Daemon;
use crate::ports;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use tempfile::TempDir;

/// The key that signs changes, as BIND writes it.
const KEY: &str = "key \"update\" {\n\talgorithm hmac-sha256;\n\tsecret \"RtZqoZYLb5FmT1ZmJzZ7Jg7Xb8tN0a8hTn1zSlqg3jM=\";\n};\n";

/// A running name server.
pub struct Bind {
    daemon: Daemon,
    port: u16,
    directory: TempDir,
}

impl Bind {
    /// Starts a server that has the zone `zone`, in which all names lead to this machine.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn start(zone: &str) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let (port, place) = (ports::free(), directory.path().display().to_string());
        let text = format!(
            "{KEY}options {{ directory \"{place}\"; pid-file none; session-keyfile none; recursion no;\n\
             listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; dnssec-validation no;\n\
             managed-keys-directory \"{place}\"; }};\ncontrols {{ }};\n\
             zone \"{zone}\" {{ type primary; file \"zone\"; allow-update {{ key \"update\"; }}; }};\n"
        );
        let records =
            "$TTL 1\n@ SOA ns hostmaster 1 60 60 60 1\n@ NS ns\nns A 127.0.0.1\n* A 127.0.0.1\n";
        for (name, text) in [
            ("named.conf", &*text),
            ("zone", records),
            ("update.key", KEY),
        ] {
            let file = directory.path().join(name);
            fs::write(file, text).expect("an own directory is writable");
        }
        let key = directory.path().join("update.key");
        let owner = fs::Permissions::from_mode(0o600);
        fs::set_permissions(key, owner).expect("an own file is ours");
        let mut command = Command::new("/usr/sbin/named");
        command.args(["-f", "-g", "-n", "1", "-c", &format!("{place}/named.conf")]);
        let mut daemon = Daemon::spawn("named", "install the Debian package bind9", command);
        daemon.wait_listening(&[port]);
        Self {
            daemon,
            port,
            directory,
        }
    }

    /// Returns where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ports::local(self.port)
    }

    /// Returns what it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.daemon.stderr()
    }

    /// Returns the file with the key that signs changes.
    #[must_use]
    pub fn key(&self) -> String {
        let file = self.directory.path().join("update.key");
        file.display().to_string()
    }
}
