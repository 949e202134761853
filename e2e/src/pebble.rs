//! Pebble: an issuer of certificates for tests, which speaks RFC 8555 and trusts nobody.

use crate::daemon::Daemon;
use crate::issuer::Authority;
use crate::names::{NameServer, Say};
use crate::ports;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use tempfile::TempDir;

/// How to start Pebble.
pub struct Start {
    http: u16,
    tls: u16,
    names: Option<SocketAddr>,
    lifetime: Option<u64>,
    port: Option<u16>,
    authority: Option<Authority>,
    account: Option<(String, String)>,
    environment: Vec<(&'static str, &'static str)>,
}

/// A running Pebble.
pub struct Pebble {
    daemon: Daemon,
    port: u16,
    management: u16,
    authority: Authority,
    directory: TempDir,
    _names: NameServer,
}

impl Pebble {
    /// It will look at names on these ports: over HTTP, and with TLS. All names lead here.
    #[must_use]
    pub fn asking(http: u16, tls: u16) -> Start {
        Start {
            http,
            tls,
            names: None,
            lifetime: None,
            port: None,
            authority: None,
            account: None,
            environment: vec![
                ("PEBBLE_VA_NOSLEEP", "1"),
                ("PEBBLE_WFE_NONCEREJECT", "0"),
                ("PEBBLE_AUTHZREUSE", "0"),
            ],
        }
    }

    /// Returns the URL of the directory.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.port)
    }

    /// Returns where it is asked.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        ports::local(self.port)
    }

    /// Returns who has certified it.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the file with the certificate to trust when asking.
    #[must_use]
    pub fn ca(&self) -> String {
        self.authority.trusted()
    }

    /// Returns a directive that names it.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("acme-issuer {} ca={}", self.url(), self.ca())
    }

    /// Returns a file with the root of all that it certifies.
    ///
    /// # Panics
    /// If it does not tell.
    #[must_use]
    pub fn root(&self) -> String {
        let file = self.directory.path().join("root.pem").display().to_string();
        let url = format!("https://127.0.0.1:{}/roots/0", self.management);
        let mut curl = Command::new("curl");
        curl.args(["-sSf", "--noproxy", "*", "--cacert", &self.ca()]);
        let output = curl.args(["-o", &file, &url]).output();
        let output = output.expect("install the Debian package curl");
        assert!(output.status.success(), "{output:?}");
        file
    }

    /// Stops it; it forgets all that it knew. Returns who has certified it.
    #[must_use]
    pub fn stop(self) -> Authority {
        let Self {
            daemon, authority, ..
        } = self;
        drop(daemon);
        authority
    }

    /// Returns what it has said so far.
    #[must_use]
    pub fn said(&self) -> String {
        self.daemon.stdout() + &self.daemon.stderr()
    }

    /// Returns how many certificates it has given.
    #[must_use]
    pub fn given(&self) -> usize {
        self.said().matches("Issued certificate serial").count()
    }
}

impl Start {
    /// Asks this name server where names are, and for records.
    #[must_use]
    pub fn names(mut self, server: SocketAddr) -> Self {
        self.names = Some(server);
        self
    }

    /// Certificates are good for so many seconds.
    #[must_use]
    pub fn lifetime(mut self, seconds: u64) -> Self {
        self.lifetime = Some(seconds);
        self
    }

    /// Listens on this port.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Is certified by this authority.
    #[must_use]
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Knows nobody but who has this key under this name.
    #[must_use]
    pub fn bound_to(mut self, kid: &str, key: &str) -> Self {
        self.account = Some((kid.to_owned(), key.to_owned()));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start(self) -> Pebble {
        let authority = self.authority;
        let authority = authority.unwrap_or_else(|| Authority::make("IP:127.0.0.1"));
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let names = NameServer::start(Say::At(vec![Ipv4Addr::LOCALHOST], 1));
        let (port, management) = (self.port.unwrap_or_else(ports::free), ports::free());
        let lifetime = self.lifetime.unwrap_or(90 * 24 * 60 * 60);
        let (certificate, key) = (authority.certificate(), authority.key());
        let (http, tls) = (self.http, self.tls);
        let accounts = self.account.map_or(String::new(), |(kid, key)| {
            format!(
                r#","externalAccountBindingRequired": true, "externalAccountMACKeys": {{"{kid}": "{key}"}}"#
            )
        });
        let text = format!(
            r#"{{"pebble": {{"listenAddress": "127.0.0.1:{port}", "managementListenAddress": "127.0.0.1:{management}",
                "certificate": "{certificate}", "privateKey": "{key}", "httpPort": {http}, "tlsPort": {tls},
                "certificateValidityPeriod": {lifetime}, "ocspResponderURL": ""{accounts}}}}}"#
        );
        let file = directory.path().join("pebble.json");
        fs::write(&file, text).expect("an own directory is writable");
        let mut command = Command::new("pebble");
        command.arg("-config").arg(&file).arg("-dnsserver");
        command.arg(self.names.unwrap_or_else(|| names.address()).to_string());
        command.envs(self.environment);
        let mut daemon = Daemon::spawn("pebble", "install the Debian package pebble", command);
        daemon.wait_listening(&[port, management]);
        Pebble {
            daemon,
            port,
            management,
            authority,
            directory,
            _names: names,
        }
    }
}
