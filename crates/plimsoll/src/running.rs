//! Asking a running Plimsoll.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the admin listener on `address` at `path`.
pub(crate) fn ask<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    question: &impl Serialize,
) -> anyhow::Result<T> {
    let no_answer = || format!("no answer from the admin listener on {address}");
    let body = serde_json::to_vec(question)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).with_context(no_answer)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).with_context(no_answer)?;
    stream.write_all(&body).with_context(no_answer)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).with_context(no_answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(no_answer)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    if status != "200" {
        bail!(
            "the admin listener on {address} says {status}: {}",
            body.trim()
        );
    }
    serde_json::from_str(body).context("the admin listener answers something else")
}
