//! The load generators. What follows is wrk, and what it reports.

use super::case::{Case, Speaks};
use super::contender::Running;
use super::{LOAD_CORE, datagrams, h2load, handshakes, work_directory};
use crate::command::output;
use anyhow::{Context, Result, bail};
use std::fs;
use std::process::Command;

/// What came of a load.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Load {
    pub(crate) requests: u32,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    /// Bytes of all answers, where the generator counts them.
    pub(crate) bytes: Option<f64>,
    /// Requests that failed, and responses that were none of 2xx and 3xx.
    pub(crate) errors: u64,
}

/// Loads `proxy` for this many seconds.
pub(crate) fn run(case: &Case, proxy: &Running, seconds: u32) -> Result<Load> {
    let (to, path) = (&proxy.addresses, case.path);
    match case.speaks {
        Speaks::Http1 | Speaks::Files | Speaks::Stored => {
            wrk(case, &format!("http://{}{path}", to.plain), seconds)
        }
        Speaks::Http1Tls => wrk(case, &format!("https://{}{path}", to.tls), seconds),
        Speaks::Http2 => {
            let url = format!("http://{}{path}", to.http2);
            h2load::run(&url, case.connections, seconds)
        }
        Speaks::Http2Tls => {
            let url = format!("https://{}{path}", to.tls);
            h2load::run(&url, case.connections, seconds)
        }
        Speaks::Handshakes { is_resumed } => handshakes::run(to.tls, path, is_resumed, seconds),
        Speaks::Datagrams if case.one_shot => datagrams::run(to.one_shot, case, seconds),
        Speaks::Datagrams => datagrams::run(to.plain, case, seconds),
    }
}

fn wrk(case: &Case, url: &str, seconds: u32) -> Result<Load> {
    let mut command = Command::new("timeout"); // should wrk hang, the bench does not
    command.arg((seconds + 30).to_string());
    command.args([
        "taskset",
        "-c",
        LOAD_CORE,
        "wrk",
        "--threads",
        "1",
        "--latency",
    ]);
    command
        .arg("--connections")
        .arg(case.connections.to_string());
    command.arg("--duration").arg(format!("{seconds}s"));
    if case.one_shot {
        command.args(["--header", "Connection: close"]);
    }
    if let Some(coding) = case.coding {
        command.arg("--header");
        command.arg(format!("Accept-Encoding: {}", coding.name()));
    }
    if case.body > 0 {
        let script = work_directory()?.join(format!("{}.lua", case.name));
        let text = format!(
            "wrk.method = 'POST'\nwrk.body = string.rep('x', {})\n",
            case.body
        );
        fs::write(&script, text)?;
        command.arg("--script").arg(script);
    }
    command.arg(url);
    let (good, text) = output(&mut command)?;
    if !good {
        bail!("wrk failed:\n{text}");
    }
    parse(&text).with_context(|| format!("wrk wrote what is not understood:\n{text}"))
}

fn parse(text: &str) -> Option<Load> {
    let mut load = Load::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [count, "requests", "in", .., read, "read"] => {
                load.requests = count.parse().ok()?;
                load.bytes = bytes(read);
            }
            ["Requests/sec:", rate] => load.per_second = rate.parse().ok()?,
            ["50%", time] => load.p50_us = microseconds(time)?,
            ["99%", time] => load.p99_us = microseconds(time)?,
            ["Socket", "errors:", counts @ ..] => {
                let numbers = counts
                    .iter()
                    .filter_map(|word| word.trim_end_matches(',').parse::<u64>().ok());
                load.errors += numbers.sum::<u64>();
            }
            ["Non-2xx", .., count] => load.errors += count.parse::<u64>().ok()?,
            _ => {}
        }
    }
    (load.requests > 0).then_some(load)
}

/// The number of bytes that wrk rounds to three places.
fn bytes(amount: &str) -> Option<f64> {
    let unit_at = amount.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = amount.split_at(unit_at);
    let power = ["B", "KB", "MB", "GB"]
        .iter()
        .position(|known| *known == unit)?;
    Some(number.parse::<f64>().ok()? * 1024_f64.powi(i32::try_from(power).ok()?))
}

pub(crate) fn microseconds(time: &str) -> Option<f64> {
    let unit_at = time.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = time.split_at(unit_at);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 6e7,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
Running 5s test @ http://127.0.0.1:9301/1k
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   465.18us   61.46us   2.03ms   87.76%
    Req/Sec   136.90k     4.03k  144.97k    71.43%
  Latency Distribution
     50%  455.00us
     75%    1.02ms
     99%    2.03ms
  286102 requests in 2.10s, 301.77MB read
  Socket errors: connect 1, read 40, write 0, timeout 2
  Non-2xx or 3xx responses: 7
Requests/sec: 136156.58
Transfer/sec:    143.61MB
";

    #[test]
    fn reads_the_report_of_wrk() {
        let load = parse(OUTPUT).unwrap();
        assert_eq!((load.requests, load.errors), (286_102, 50));
        assert_eq!((load.per_second, load.p50_us), (136_156.58, 455.0));
        assert_eq!(load.bytes, Some(301.77 * 1024.0 * 1024.0));
        assert!((load.p99_us - 2_030.0).abs() < 0.01);
        assert_eq!(parse("unable to connect"), None);
    }

    #[test]
    fn knows_the_units_of_time() {
        let times = ["455.00us", "1.50ms", "2.00s", "1.00m"].map(microseconds);
        assert_eq!(times, [Some(455.0), Some(1_500.0), Some(2e6), Some(6e7)]);
        assert_eq!(microseconds("5"), None);
    }
}
