//! A load of TLS handshakes, made by OpenSSL's `s_time`, and what it reports.

use super::LOAD_CORE;
use super::load::Load;
use crate::command::output;
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::process::Command;

/// Opens one connection after the other for this many seconds, and asks for `path` on each.
/// TLS 1.2: `s_time` does not take up sessions of TLS 1.3.
pub(crate) fn run(address: SocketAddr, path: &str, is_resumed: bool, seconds: u32) -> Result<Load> {
    let mut command = Command::new("timeout"); // should it hang, the bench does not
    command.arg((seconds + 30).to_string());
    command.args(["taskset", "-c", LOAD_CORE, "openssl", "s_time", "-tls1_2"]);
    command.arg(if is_resumed { "-reuse" } else { "-new" });
    command.args(["-www", path, "-time", &seconds.to_string()]);
    command.args(["-connect", &address.to_string()]);
    let (good, text) = output(&mut command)?;
    if !good {
        bail!("openssl s_time failed:\n{text}");
    }
    let load = parse(&text, seconds);
    load.with_context(|| format!("s_time wrote what is not understood:\n{text}"))
}

/// It tells no times of single requests.
fn parse(text: &str, seconds: u32) -> Option<Load> {
    let line = text.lines().find(|line| line.contains(" real seconds"))?;
    let requests = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Load {
        requests,
        per_second: f64::from(requests) / f64::from(seconds),
        ..Load::default()
    })
    .filter(|load| load.requests > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_report_of_s_time() {
        let text = "Collecting connection statistics for 2 seconds\n***\n\n\
                    1834 connections in 0.50s; 3668.00 connections/user sec, bytes read 2200800\n\
                    1834 connections in 3 real seconds, 1200 bytes read per connection\n";
        let load = parse(text, 2).unwrap();
        assert_eq!((load.requests, load.per_second), (1834, 917.0));
    }
}
