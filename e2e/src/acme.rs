//! Plimsoll that asks an issuer for certificates, and who looks at what it serves.

use crate::pebble::{self, Pebble};
use crate::plimsoll::{Plimsoll, Start};
use crate::{ports, wait};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long a certificate may take.
pub const SOON: Duration = Duration::from_secs(30);

/// A place for what is kept, and the ports that an issuer comes to.
pub struct Stand {
    directory: TempDir,
    /// Where Plimsoll listens without TLS.
    pub http: u16,
    /// Where it listens with TLS.
    pub tls: u16,
}

impl Default for Stand {
    fn default() -> Self {
        Self::new()
    }
}

impl Stand {
    /// Makes a place, and finds ports.
    ///
    /// # Panics
    /// If there is no place.
    #[must_use]
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().expect("the temporary directory is writable"),
            http: ports::free(),
            tls: ports::free(),
        }
    }

    /// Returns Pebble, which comes to these ports.
    #[must_use]
    pub fn pebble(&self) -> pebble::Start {
        Pebble::asking(self.http, self.tls)
    }

    /// Starts Plimsoll with a site that asks for a certificate.
    #[must_use]
    pub fn plimsoll(&self, acme: &str, issuers: &str) -> Plimsoll {
        self.serve(acme, issuers, "a.example b.example")
    }

    /// Does the same for these hosts.
    #[must_use]
    pub fn serve(&self, acme: &str, issuers: &str, hosts: &str) -> Plimsoll {
        let plain = "deny all ; route { respond 200 ${request.path} }";
        self.serve_with(acme, issuers, hosts, plain)
    }

    /// Does the same; without TLS, this is served.
    ///
    /// # Panics
    /// If it does not listen.
    #[must_use]
    pub fn serve_with(&self, acme: &str, issuers: &str, hosts: &str, plain: &str) -> Plimsoll {
        let text = format!(
            "admin 127.0.0.1:{{port:admin}}\nacme storage={{state}} retry=1s {acme}\n{issuers}\n\
             site {hosts} {{ listen 127.0.0.1:{{tls}} ; tls auto ; route {{ respond 200 here }} }}\n\
             site * {{ listen 127.0.0.1:{{http}} ; {plain} }}\n"
        );
        let start = Start::run(&text).set("state", self.state().display());
        let plimsoll = start.set("http", self.http).set("tls", self.tls).start();
        for port in [self.http, self.tls] {
            assert!(ports::wait_listening(port, SOON), "{}", plimsoll.stderr());
        }
        plimsoll
    }

    /// Returns what curl gets of a host over HTTPS, if it trusts this root.
    ///
    /// # Panics
    /// If there is no curl.
    #[must_use]
    pub fn get(&self, host: &str, root: &str) -> Option<String> {
        let to = format!("::127.0.0.1:{}", self.tls);
        let url = format!("https://{host}/");
        let mut curl = Command::new("curl");
        curl.args(["-sS", "--noproxy", "*", "--max-time", "10"]);
        curl.args(["--connect-to", &to, "--cacert", root, &url]);
        let output = curl.output().expect("install the Debian package curl");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    /// Waits until a host is served with a certificate from below this root.
    ///
    /// # Panics
    /// If it is not.
    pub fn wait(&self, plimsoll: &Plimsoll, host: &str, root: &str) {
        let mut said = String::new();
        let served = wait::until(SOON, || {
            said = plimsoll.stderr();
            self.get(host, root).filter(|text| text == "here")
        });
        assert!(served.is_some(), "{host} is not served:\n{said}");
    }

    /// Returns a file of this name that nobody else knows.
    #[must_use]
    pub fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the directory of what is kept.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.place("kept")
    }

    /// Returns the file with the certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.state().join("certificates/a.example.pem")
    }

    /// Returns what stands in it.
    ///
    /// # Panics
    /// If it is not there.
    #[must_use]
    pub fn kept(&self) -> String {
        fs::read_to_string(self.file()).expect("a certificate is kept")
    }
}

/// Returns how many orders ended so.
///
/// # Panics
/// If nobody counts them.
#[must_use]
pub fn orders(plimsoll: &Plimsoll, result: &str) -> f64 {
    let name = format!("plimsoll_acme_orders_total{{result=\"{result}\"}}");
    plimsoll.metric(&name).expect("orders are counted")
}
