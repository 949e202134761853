//! Datagrams to a proxy and back, with a generator of our own.

use super::case::Case;
use super::load::Load;
use super::{LOAD_CORE, pinned};
use crate::command::{output, target};
use anyhow::{Context, Result, bail};
use std::net::SocketAddr;

pub(crate) fn run(to: SocketAddr, case: &Case, seconds: u32) -> Result<Load> {
    let mut command = pinned(LOAD_CORE, &target().join("release/bench-datagrams"));
    command.arg(to.to_string());
    command.args([case.connections, case.body, seconds].map(|number| number.to_string()));
    let (good, text) = output(&mut command)?;
    if !good {
        bail!("bench-datagrams failed:\n{text}");
    }
    let load = parse(&text, seconds);
    load.with_context(|| format!("bench-datagrams wrote what is not understood:\n{text}"))
}

fn parse(text: &str, seconds: u32) -> Option<Load> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [
        answers,
        "answers,",
        errors,
        "errors,",
        "p50",
        p50,
        "us,",
        "p99",
        p99,
        "us",
    ] = *words
    else {
        return None;
    };
    let requests = answers.parse().ok()?;
    Some(Load {
        requests,
        per_second: f64::from(requests) / f64::from(seconds),
        p50_us: p50.parse().ok()?,
        p99_us: p99.parse().ok()?,
        bytes: None,
        errors: errors.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_generator_writes() {
        let load = parse("1000 answers, 2 errors, p50 310 us, p99 900 us\n", 5).unwrap();
        assert_eq!((load.requests, load.errors), (1000, 2));
        assert_eq!(
            (load.per_second, load.p50_us, load.p99_us),
            (200.0, 310.0, 900.0)
        );
        assert_eq!(parse("usage", 5), None);
    }
}
