//! Unbound from Debian: a resolver that knows what it is told.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::daemon::Daemon;
use crate::{ports, wait};

/// How to start one.
pub struct Unbound<'a> {
    /// Where it keeps its file.
    pub directory: &'a Path,
    /// Where it listens, for datagrams and connections.
    pub port: u16,
    /// Where each datagram begins with whom it is from.
    pub announced_port: Option<u16>,
    /// Whom of those on this machine it answers: `127.0.0.0/9`.
    pub answers: &'a [&'a str],
}

impl Unbound<'_> {
    /// Starts one that knows these records: `"name.test. A 10.0.0.1"`.
    ///
    /// # Panics
    /// If it is not installed, or does not come up.
    #[must_use]
    pub fn start(&self, records: impl Iterator<Item = String>) -> Daemon {
        let file = self.directory.join(format!("unbound-{}.conf", self.port));
        let mut text = format!(
            "server:\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"\"\n \
             directory: \"{}\"\n module-config: \"iterator\"\n num-threads: 1\n \
             access-control: 127.0.0.0/8 refuse\n \
             interface: 127.0.0.1@{}\n local-zone: \"test.\" static\n",
            self.directory.display(),
            self.port
        );
        if let Some(port) = self.announced_port {
            let _ = writeln!(
                text,
                " interface: 127.0.0.1@{port}\n proxy-protocol-port: {port}"
            );
        }
        for network in self.answers {
            let _ = writeln!(text, " access-control: {network} allow");
        }
        for record in records {
            let _ = writeln!(text, " local-data: \"{record}\"");
        }
        text += "remote-control:\n control-enable: no\n";
        fs::write(&file, text).expect("the directory is writable");
        let mut command = Command::new("unbound");
        command.args(["-d", "-c"]).arg(&file);
        let mut daemon = Daemon::spawn("unbound", "install the Debian package unbound", command);
        daemon.wait_listening(&[self.port]);
        let ports = [Some(self.port), self.announced_port];
        wait::expect("unbound to take datagrams", crate::raw::PATIENCE, || {
            ports
                .iter()
                .flatten()
                .all(|port| ports::is_receiving(*port))
        });
        daemon
    }
}

/// A question for the address of `name`, as a client asks it (RFC 1035 §4.1).
#[must_use]
pub fn question(id: u16, name: &str) -> Vec<u8> {
    let mut out = id.to_be_bytes().to_vec();
    out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]); // recursion is desired, and there is one question
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(u8::try_from(label.len()).expect("labels are short"));
        out.extend_from_slice(label.as_bytes());
    }
    out.extend([0, 0, 1, 0, 1]); // A, IN
    out
}

/// What an answer says to `question`: its code, and the address in its last record if it has one. Nothing when it
/// is the answer to another one.
#[must_use]
pub fn answer(question: &[u8], answer: &[u8]) -> Option<(u8, Option<[u8; 4]>)> {
    let is_to_it = answer.get(..2) == question.get(..2)
        && answer.get(12..question.len()) == question.get(12..);
    let code = answer.get(3).filter(|_| is_to_it)? & 0x0f;
    let has_records = answer.get(6..8) != Some(&[0, 0]);
    let address = answer.last_chunk::<4>().filter(|_| has_records);
    Some((code, address.copied()))
}
