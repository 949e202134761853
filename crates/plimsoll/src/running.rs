//! Asking a running Plimsoll.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use plimsoll_admin::listen;
use plimsoll_config::model::AdminAddress;
use plimsoll_control::reload::Refused;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long it may take to answer. A reload may have to wait for others: for names, keys and what issuers say.
pub(crate) const PATIENCE: Duration = Duration::from_secs(70);

/// Which Plimsoll is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct At {
    /// Where its admin listener is: `unix:PATH`, or an address; as it is, the usual socket, or else 127.0.0.1:9900
    #[arg(long, value_name = "ADDRESS", global = true)]
    running: Option<AdminAddress>,
}

/// The variable that holds the token for changes over an address.
const TOKEN: &str = "PLIMSOLL_TOKEN";

/// A connection to an admin listener.
trait Line: Read + Write {}

impl<T: Read + Write> Line for T {}

impl At {
    /// The one at `place`, or where they usually are.
    pub(crate) fn new(place: Option<AdminAddress>) -> Self {
        Self { running: place }
    }

    /// Shows what is at `path`.
    pub(crate) fn look<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.place().ask("GET", path, None, PATIENCE)
    }

    /// Sends `order` to `path`.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        order: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.post_within(path, order, PATIENCE)
    }

    /// The same, for what takes longer.
    pub(crate) fn post_within<T: DeserializeOwned>(
        &self,
        path: &str,
        order: &impl Serialize,
        patience: Duration,
    ) -> anyhow::Result<T> {
        let body = serde_json::to_vec(order)?;
        self.place().ask("POST", path, Some(body), patience)
    }

    /// Hands each line of what comes from `path` to `hear`, until that has heard enough or nothing more comes.
    pub(crate) fn follow(
        &self,
        path: &str,
        hear: impl FnMut(&str) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        self.place().follow(path, hear)
    }

    fn place(&self) -> Place {
        let usual = || {
            let mut sockets = listen::sockets().into_iter();
            let there = sockets.find(|path| can_be_opened(path));
            there.map_or(AdminAddress::Ip(listen::ADDRESS), AdminAddress::Socket)
        };
        Place(self.running.clone().unwrap_or_else(usual))
    }
}

/// Tells whether someone listens there who lets us in.
fn can_be_opened(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// The status of an answer with this head.
fn status_of(head: &str) -> &str {
    head.split(' ').nth(1).unwrap_or_default()
}

struct Place(AdminAddress);

impl Place {
    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> anyhow::Result<T> {
        let place = &self.0;
        let answer = self.exchange(method, path, body, patience);
        let answer =
            answer.with_context(|| format!("no answer from the admin listener on {place}"))?;
        let answer = String::from_utf8_lossy(&answer);
        let end = || anyhow!("no answer from the admin listener on {place}");
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(end)?;
        let status = status_of(head);
        if status == "422" {
            return Err(Refused(body.to_owned()).into());
        }
        if status != "200" {
            bail!(
                "the admin listener on {place} says {status}: {}",
                body.trim()
            );
        }
        serde_json::from_str(body).context("the admin listener answers something else")
    }

    fn follow(
        &self,
        path: &str,
        mut hear: impl FnMut(&str) -> anyhow::Result<ControlFlow<()>>,
    ) -> anyhow::Result<()> {
        let place = &self.0;
        let lost = || format!("no answer from the admin listener on {place}");
        let mut answer = BufReader::new(self.send("GET", path, None, PATIENCE).with_context(lost)?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if answer.read_line(&mut head).with_context(lost)? == 0 {
                bail!(lost());
            }
        }
        let status = status_of(&head);
        if status != "200" {
            let mut why = String::new();
            answer.read_to_string(&mut why).with_context(lost)?;
            bail!(
                "the admin listener on {place} says {status}: {}",
                why.trim()
            );
        }
        for line in answer.lines() {
            if hear(&line.with_context(lost)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Sends a request, and reads all that comes back. In HTTP/1.0 the answer ends with its connection.
    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> io::Result<Vec<u8>> {
        let mut line = self.send(method, path, body, patience)?;
        let mut answer = Vec::new();
        line.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        patience: Duration,
    ) -> io::Result<Box<dyn Line>> {
        let mut line = self.connect(patience)?;
        let mut head = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n");
        if let Ok(token) = std::env::var(TOKEN) {
            head += &format!("Authorization: Bearer {}\r\n", token.trim());
        }
        if let Some(body) = &body {
            let length = body.len();
            head += &format!("Content-Type: application/json\r\nContent-Length: {length}\r\n");
        }
        head += "\r\n";
        line.write_all(head.as_bytes())?;
        line.write_all(&body.unwrap_or_default())?;
        Ok(line)
    }

    fn connect(&self, patience: Duration) -> io::Result<Box<dyn Line>> {
        match &self.0 {
            AdminAddress::Ip(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(patience))?;
                Ok(Box::new(stream))
            }
            AdminAddress::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(patience))?;
                Ok(Box::new(stream))
            }
        }
    }
}
