//! What is left of a proxy's service when three times as much is asked for as the servers can do.

use super::contender::{Contender, Manner, Running};
use super::{LOAD_CORE, pinned, work_directory};
use crate::command::{output, target};
use anyhow::{Context, Result, bail};
use plimsoll_e2e::daemon::Daemon;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::ports;
use std::process::Command;

pub(crate) const NAME: &str = "overload-3x";
pub(crate) const ABOUT: &str = "servers with 20 slots of 10 ms, three times what they can do";

/// What each of two servers works on at the same time, and how long.
const SLOTS: u32 = 10;
const WORK_MS: u32 = 10;

/// Requests a second that the servers could do if they never paused.
const CAPACITY: u32 = 2 * SLOTS * 1000 / WORK_MS;

/// When a client gives up.
const PATIENCE_MS: u32 = 1000;

/// The load, in hundredths of the capacity, and for how many seconds. The first phases look for
/// the most that can be served.
const PHASES: [(u32, u32); 6] = [(80, 5), (90, 5), (100, 5), (120, 5), (300, 60), (50, 15)];

/// Which of the phases is the overload, and which comes after it.
const OVERLOAD: usize = 4;
const AFTER: usize = 5;

/// How a proxy went through it.
#[derive(Debug, PartialEq)]
pub(crate) struct Overload {
    pub(crate) proxy: &'static str,
    /// Requests a second that were served in time, in the best second before the overload.
    pub(crate) peak: f64,
    /// The same, in the mean of the overload.
    pub(crate) goodput: f64,
    /// How long good answers of the overload took.
    pub(crate) good: Times,
    /// How long refusals of the overload took.
    pub(crate) refused: Times,
    /// Requests of the overload, in hundredths, whose clients heard nothing in time.
    pub(crate) unanswered: f64,
    /// Seconds after the overload until all requests were served.
    pub(crate) recovery: f64,
}

/// The middle and the worst but one in a hundred, in milliseconds.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Times {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Tells whether a proxy can take part: one that knows of requests.
pub(crate) fn is_for(contender: Contender) -> bool {
    matches!(
        contender,
        Contender::PlimsollHttp | Contender::NginxHttp | Contender::HaproxyHttp
    )
}

pub(crate) fn measure(contender: Contender, authority: &Authority) -> Result<Overload> {
    let servers = [ports::free(), ports::free()];
    let mut command = pinned(LOAD_CORE, &target().join("release/bench-limited"));
    command.args([SLOTS.to_string(), WORK_MS.to_string()]);
    command.args(servers.map(|port| ports::local(port).to_string()));
    let mut daemon = Daemon::spawn("bench-limited", "it was just built", command);
    daemon.wait_listening(&servers);
    let manner = Manner {
        slots: Some(SLOTS),
        ..Manner::default()
    };
    let proxy = contender.start(&work_directory()?, servers, manner, authority)?;
    let text = load(&proxy)?;
    let requests = text.lines().map(Request::parse).collect::<Option<Vec<_>>>();
    let requests = requests.context("bench-open-loop wrote what is not understood")?;
    Ok(summary(proxy.name(), &requests))
}

fn load(proxy: &Running) -> Result<String> {
    let mut command = Command::new("timeout"); // should it hang, the bench does not
    command.args(["200", "taskset", "-c", LOAD_CORE]);
    command.arg(target().join("release/bench-open-loop"));
    command.args([proxy.addresses.plain.to_string(), PATIENCE_MS.to_string()]);
    command.args(PHASES.map(|(share, seconds)| format!("{}:{seconds}", CAPACITY * share / 100)));
    let (good, text) = output(&mut command)?;
    if !good {
        bail!("bench-open-loop failed:\n{text}");
    }
    Ok(text)
}

/// A line of the load generator.
struct Request<'a> {
    phase: usize,
    due: f64,
    fate: &'a str,
    took_ms: f64,
}

impl<'a> Request<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        Some(Self {
            phase: words.next()?.parse().ok()?,
            due: words.next()?.parse().ok()?,
            fate: words.next()?,
            took_ms: words.next()?.parse::<f64>().ok()? * 1000.0,
        })
    }

    /// When the client had its answer.
    fn done(&self) -> f64 {
        self.due + self.took_ms / 1000.0
    }

    fn is_good(&self) -> bool {
        self.fate == "Good"
    }
}

fn summary(proxy: &'static str, requests: &[Request<'_>]) -> Overload {
    let overload = || requests.iter().filter(|request| request.phase == OVERLOAD);
    let before = requests.iter().filter(|request| request.phase < OVERLOAD);
    let good_before = before.filter(|request| request.is_good());
    let took = |fate| {
        times(
            overload()
                .filter(|r| r.fate == fate)
                .map(|r| r.took_ms)
                .collect(),
        )
    };
    let heard = |request: &&Request<'_>| matches!(request.fate, "Good" | "Refused");
    let seconds = PHASES.get(OVERLOAD).map_or(0, |&(_, seconds)| seconds);
    let all = count(overload());
    Overload {
        proxy,
        peak: best_second(good_before.map(Request::done)),
        goodput: count(overload().filter(|request| request.is_good())) / f64::from(seconds),
        good: took("Good"),
        refused: took("Refused"),
        unanswered: 100.0 * (1.0 - count(overload().filter(heard)) / all),
        recovery: recovery(requests),
    }
}

/// Returns when the last request that was not served came, after the overload.
fn recovery(requests: &[Request<'_>]) -> f64 {
    let after = || requests.iter().filter(|request| request.phase == AFTER);
    let began = after()
        .map(|request| request.due)
        .fold(f64::INFINITY, f64::min);
    let bad = after().filter(|request| !request.is_good());
    bad.map(|request| request.due - began).fold(0.0, f64::max)
}

/// Returns the most of these times that are within one second.
fn best_second(times: impl Iterator<Item = f64>) -> f64 {
    let mut seconds = std::collections::BTreeMap::new();
    for time in times {
        *seconds.entry(time.floor().to_bits()).or_insert(0_u32) += 1;
    }
    seconds.into_values().max().map_or(0.0, f64::from)
}

fn count<T>(items: impl Iterator<Item = T>) -> f64 {
    u32::try_from(items.count()).map_or(f64::NAN, f64::from)
}

fn times(mut took_ms: Vec<f64>) -> Times {
    took_ms.sort_by(f64::total_cmp);
    let at = |share: usize| took_ms.get(took_ms.len() * share / 100).copied();
    Times {
        p50_ms: at(50).unwrap_or_default(),
        p99_ms: at(99).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_up_what_the_load_generator_wrote() {
        let text = "3 19.1 Good 0.010\n3 19.9 Good 0.011\n3 20.0 Good 0.012\n4 21.0 Good 0.020\n\
                    4 22.0 Refused 0.001\n4 23.0 Late 1.0\n4 24.0 Failed 0.5\n\
                    5 80.0 Good 0.010\n5 80.5 Refused 0.001\n5 81.0 Good 0.010";
        let requests: Vec<_> = text
            .lines()
            .map(|line| Request::parse(line).unwrap())
            .collect();
        let expected = Overload {
            proxy: "proxy",
            peak: 2.0,
            goodput: 1.0 / 60.0,
            good: Times {
                p50_ms: 20.0,
                p99_ms: 20.0,
            },
            refused: Times {
                p50_ms: 1.0,
                p99_ms: 1.0,
            },
            unanswered: 50.0,
            recovery: 0.5,
        };
        assert_eq!(summary("proxy", &requests), expected);
        assert!(Request::parse("thread panicked").is_none());
    }
}
