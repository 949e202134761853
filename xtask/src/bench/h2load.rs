//! The load generator for HTTP/2, h2load, and what it reports.

use super::LOAD_CORE;
use super::load::{Load, microseconds};
use crate::command::output;
use anyhow::{Context, Result, bail};
use std::process::Command;

/// Requests that one connection has under way.
const STREAMS: &str = "16";

/// Loads `url` for this many seconds.
pub(crate) fn run(url: &str, connections: u32, seconds: u32) -> Result<Load> {
    let mut command = Command::new("timeout"); // should it hang, the bench does not
    command.arg((seconds + 30).to_string());
    command.args(["taskset", "-c", LOAD_CORE, "h2load", "--threads", "1"]);
    command.args(["--clients", &connections.to_string()]);
    command.args(["--max-concurrent-streams", STREAMS]);
    command.args(["--duration", &seconds.to_string(), url]);
    let (good, text) = output(&mut command)?;
    if !good {
        bail!("h2load failed:\n{text}");
    }
    parse(&text).with_context(|| format!("h2load wrote what is not understood:\n{text}"))
}

/// It tells no percentiles: the mean and the longest time stand for them.
fn parse(text: &str) -> Option<Load> {
    let mut load = Load::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let count = |at: usize| words.get(at)?.trim_end_matches(',').parse::<u32>().ok();
        match words.as_slice() {
            ["finished", "in", _, rate, ..] => load.per_second = rate.parse().ok()?,
            ["requests:", ..] => {
                load.requests = count(5)?;
                load.errors += u64::from(count(9)?);
            }
            ["status", "codes:", ..] => {
                for at in [6, 8] {
                    load.errors += u64::from(count(at)?);
                }
            }
            ["time", "for", "request:", _, max, mean, ..] => {
                load.p50_us = microseconds(mean)?;
                load.p99_us = microseconds(max)?;
            }
            _ => {}
        }
    }
    (load.requests > 0).then_some(load)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
finished in 2.00s, 52345.50 req/s, 54.21MB/s
requests: 104691 total, 104819 started, 104691 done, 104690 succeeded, 1 failed, 1 errored, 0 timeout
status codes: 104688 2xx, 0 3xx, 2 4xx, 0 5xx
traffic: 108.43MB (113697345) total, 1.20MB (1256291) headers, 102.24MB (107203584) data
                     min         max         mean         sd        +/- sd
time for request:      309us      9.25ms      2.43ms       310us    86.62%
time for connect:      110us       390us       250us       103us    62.50%
";

    #[test]
    fn reads_the_report_of_h2load() {
        let load = parse(OUTPUT).unwrap();
        assert_eq!((load.requests, load.errors), (104_691, 3));
        assert_eq!((load.per_second, load.p50_us), (52_345.5, 2_430.0));
        assert_eq!(load.p99_us, 9_250.0);
    }
}
