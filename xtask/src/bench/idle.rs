//! What a connection costs that waits for its next request.

use super::contender::{Contender, Running};
use super::descriptors;
use anyhow::{Result, anyhow};
use plimsoll_e2e::raw::Raw;
use std::thread;
use std::time::Duration;

pub(crate) const NAME: &str = "idle-10000";
pub(crate) const ABOUT: &str = "memory of 10,000 connections that made one request each";

/// How many connections are opened, if the limit of descriptors allows them.
const CONNECTIONS: u64 = 10_000;

/// Descriptors that a proxy and this program need for anything else.
const SPARE: u64 = 300;

/// Time for a proxy to give back what the last requests needed.
const SETTLE: Duration = Duration::from_secs(1);

/// Bytes a connection.
pub(crate) struct Idle {
    pub(crate) proxy: &'static str,
    pub(crate) connections: u32,
    pub(crate) resident: f64,
    pub(crate) proportional: f64,
}

/// Measures a proxy that was just started.
pub(crate) fn measure(contender: Contender, proxy: &Running) -> Result<Idle> {
    let room = descriptors().saturating_sub(SPARE) / contender.descriptors_per_client();
    let connections = u32::try_from(room.min(CONNECTIONS))?;
    drop(connect(proxy)?); // what the first request of all needs is not counted
    thread::sleep(SETTLE);
    let before = proxy.memory()?;
    let held = (0..connections)
        .map(|_| connect(proxy))
        .collect::<Result<Vec<_>>>()?;
    thread::sleep(SETTLE);
    let after = proxy.memory()?;
    drop(held);
    let each = |before: u64, after: u64| {
        let kibibytes = u32::try_from(after.saturating_sub(before) / 1024).unwrap_or(u32::MAX);
        f64::from(kibibytes) * 1024.0 / f64::from(connections)
    };
    Ok(Idle {
        proxy: proxy.name(),
        connections,
        resident: each(before.resident, after.resident),
        proportional: each(before.proportional, after.proportional),
    })
}

fn connect(proxy: &Running) -> Result<Raw> {
    let mut client = Raw::try_connect(proxy.address)?;
    client.send("GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    match client.try_response("GET") {
        Ok(response) if response.status() == 200 => Ok(client),
        other => Err(anyhow!("{}: {other:?}", proxy.name())),
    }
}
