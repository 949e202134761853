//! Clients that come back without a whole handshake. OpenSSL is the client.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::certifier::put;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::tls::{pair, s_client};
use plimsoll_e2e::wait;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);
const LAST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
const VERSIONS: [&str; 2] = ["tls1_2", "tls1_3"];

fn start(tickets: &str, own: &Authority) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\n{tickets}\n\
         site a.example {{ listen 127.0.0.1:{{port}} ; {} ; route {{ respond 200 here }} }}\n",
        pair(own)
    );
    Start::run(&text).start()
}

/// Files of sessions and keys.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A key that is good, and for its owner alone.
    fn key(&self, name: &str, seed: u8, length: u8) -> String {
        let bytes: Vec<u8> = (0..length).map(|at| at.wrapping_mul(7) ^ seed).collect();
        self.write(name, &bytes)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    fn begin(&self, plimsoll: &Plimsoll, version: &str) {
        let session = self.path(version).display().to_string();
        let options = format!("-{version} -ign_eof -servername a.example -sess_out {session}");
        let said = s_client(plimsoll, &options, LAST);
        assert!(
            said.contains("New, TLS") && said.contains("200 OK"),
            "{said}"
        );
    }

    /// Tells whether the session goes on; the client is answered in any case.
    fn goes_on(&self, plimsoll: &Plimsoll, version: &str) -> bool {
        let session = self.path(version).display().to_string();
        let options = format!("-{version} -ign_eof -servername a.example -sess_in {session}");
        let said = s_client(plimsoll, &options, LAST);
        assert!(said.contains("200 OK"), "{said}");
        said.contains("Reused, TLS")
    }
}

#[test]
fn sessions_go_on_and_are_counted() {
    let (own, files) = (Authority::make("DNS:a.example"), Files::new());
    let plimsoll = start("", &own);
    for version in VERSIONS {
        files.begin(&plimsoll, version);
        assert!(files.goes_on(&plimsoll, version));
        assert!(files.goes_on(&plimsoll, version));
    }
    let count = |version: &str, resumed: bool| {
        plimsoll.metric(&format!(
            "plimsoll_tls_handshakes_total{{version=\"{version}\",resumed=\"{resumed}\"}}"
        ))
    };
    for version in ["1.2", "1.3"] {
        assert_eq!(count(version, false), Some(1.0), "{version}");
        assert_eq!(count(version, true), Some(2.0), "{version}");
    }
    // Each process has keys of its own.
    let other = start("", &own);
    for version in VERSIONS {
        assert!(!files.goes_on(&other, version));
    }
}

#[test]
fn nobody_gets_a_ticket_where_they_are_off() {
    let (own, files) = (Authority::make("DNS:a.example"), Files::new());
    let plimsoll = start("tls-tickets off", &own);
    for version in VERSIONS {
        files.begin(&plimsoll, version);
        let session = files.path(version);
        assert!(!session.exists() || !files.goes_on(&plimsoll, version));
    }
}

#[test]
fn nodes_that_share_keys_take_each_others_tickets_while_the_keys_change() {
    let (own, files) = (Authority::make("DNS:a.example"), Files::new());
    let (new, old) = (files.key("new", 1, 80), files.key("old", 2, 48));
    let one = start(&format!("tls-tickets {old}"), &own);
    let other = start(&format!("tls-tickets {new} {old}"), &own);
    for version in VERSIONS {
        files.begin(&one, version);
        assert!(files.goes_on(&other, version));
        // What the other one makes is under a key that the first does not have.
        files.begin(&other, version);
        assert!(files.goes_on(&other, version));
        assert!(!files.goes_on(&one, version));
    }
    // The key of the first node becomes the new one.
    let next = files.key("next", 1, 80);
    put(&next, Path::new(&old));
    let taken =
        format!("plimsoll_file_reads_total{{file=\"{old}\",kind=\"ticket-key\",result=\"taken\"}}");
    wait::expect("the key", SOON, || one.metric(&taken) == Some(2.0));
    for version in VERSIONS {
        assert!(files.goes_on(&one, version));
    }
}

#[test]
fn keys_that_others_could_know_are_refused() {
    let (own, files) = (Authority::make("DNS:a.example"), Files::new());
    let open = files.key("open", 1, 80);
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    for (file, problem) in [
        (files.write("zero", &[0; 80]), "all its bytes are the same"),
        (
            files.write("short", b"0123456789abcdef"),
            "it holds 16 bytes",
        ),
        (open, "everybody on the machine may use it"),
        ("/nowhere".to_owned(), "No such file"),
    ] {
        let text = format!(
            "admin off\ntls-tickets {file}\nsite a.example {{ listen 127.0.0.1:{{port}} ; {} ; route {{ respond 200 }} }}\n",
            pair(&own)
        );
        let mut plimsoll = Start::run(&text).spawn();
        assert_eq!(plimsoll.wait_exit(SOON).code(), Some(78));
        let stderr = plimsoll.stderr();
        assert!(stderr.contains(problem), "{stderr}");
    }
}
