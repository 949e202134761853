//! BIND: a name server with zones, which takes changes from who has its key.

use crate::daemon::Daemon;
use crate::{network, ports, wait};
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The key that signs changes, as BIND writes it.
const KEY: &str = "key \"update\" {\n\talgorithm hmac-sha256;\n\tsecret \"RtZqoZYLb5FmT1ZmJzZ7Jg7Xb8tN0a8hTn1zSlqg3jM=\";\n};\n";

/// How long it may take to know all of its zones.
const START_MAX: Duration = Duration::from_secs(15);

/// Where name servers listen.
const PORT: u16 = 53;

/// A running name server.
pub struct Bind {
    daemon: Daemon,
    address: SocketAddr,
    directory: TempDir,
}

/// The server that learns of changes, and when it looks for them.
const SECONDARY: (Ipv4Addr, &str) = (Ipv4Addr::new(127, 0, 0, 2), "4");

impl Bind {
    /// Starts a server that has the zone `zone`, in which all names lead to this machine.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn start(zone: &str) -> Self {
        Self::primary(ports::local(ports::free()), &[zone], "@ NS ns\n")
    }

    /// Starts a server that has these zones, and another one that has them too and is not told of changes:
    /// it looks itself, every few seconds. Both are where name servers are, in a network of our own.
    ///
    /// # Panics
    /// If it is not installed.
    #[must_use]
    pub fn pair(zones: &[&str]) -> [Self; 2] {
        let (second, seconds) = SECONDARY;
        // It listens where an interface is.
        network::ip(&format!("address add {second}/32 dev lo"));
        let servers = format!("@ NS ns\n@ NS ns2\nns2 A {second}\n");
        let first = Self::primary(ports::local(PORT), zones, &servers);
        let learns = format!(
            "type secondary; primaries {{ 127.0.0.1; }}; allow-notify {{ none; }};\n\
             min-refresh-time {seconds}; max-refresh-time {seconds};"
        );
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let second = Self::run((second, PORT).into(), zones, &learns, directory);
        wait::expect("the zones of the second server", START_MAX, || {
            second.transfers() >= zones.len()
        });
        [first, second]
    }

    fn primary(address: SocketAddr, zones: &[&str], servers: &str) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let records = format!(
            "$TTL 1\n@ SOA ns hostmaster 1 60 60 600 1\n{servers}ns A 127.0.0.1\n* A 127.0.0.1\n"
        );
        for zone in zones {
            let file = directory.path().join(zone);
            fs::write(file, &records).expect("an own directory is writable");
        }
        let takes = "type primary; allow-update { key \"update\"; }; notify no;";
        Self::run(address, zones, takes, directory)
    }

    /// Starts a server that has each of these zones so.
    fn run(address: SocketAddr, zones: &[&str], has: &str, directory: TempDir) -> Self {
        let (ip, port) = (address.ip(), address.port());
        let place = directory.path().display().to_string();
        let mut text = format!(
            "{KEY}options {{ directory \"{place}\"; pid-file none; session-keyfile none; recursion no;\n\
             listen-on port {port} {{ {ip}; }}; listen-on-v6 {{ none; }}; dnssec-validation no;\n\
             managed-keys-directory \"{place}\"; }};\ncontrols {{ }};\n"
        );
        for zone in zones {
            writeln!(text, "zone \"{zone}\" {{ file \"{zone}\"; {has} }};")
                .expect("a text takes all");
        }
        for (name, text) in [("named.conf", &*text), ("update.key", KEY)] {
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
            address,
            directory,
        }
    }

    /// Returns how often it has learned of a zone from another server.
    #[must_use]
    pub fn transfers(&self) -> usize {
        self.said().matches("Transfer status: success").count()
    }

    /// Returns where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
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
