//! How long a reload of many sites takes, and what those notice who are served meanwhile.

use super::contender::{Contender, Manner, Running};
use super::work_directory;
use anyhow::{Context, Result};
use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::load::{Expect, Load, Report};
use plimsoll_e2e::wait;
use std::fmt::Write;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) const NAME: &str = "reload-10000-sites";
pub(crate) const ABOUT: &str =
    "time of a reload of 10,000 sites, and p99 of what is served meanwhile";

/// How many sites there are, each with two routes.
const SITES: usize = 10_000;

/// How often they are reloaded, each time with another one changed.
const RELOADS: usize = 10;

/// How long a reload may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it is looked at how requests go when nothing is reloaded.
const QUIET: Duration = Duration::from_secs(5);

/// How it went.
#[derive(Debug)]
pub(crate) struct Reloaded {
    pub(crate) proxy: &'static str,
    /// Sorted, in seconds.
    pub(crate) seconds: Vec<f64>,
    pub(crate) quiet_p99_ms: f64,
    pub(crate) p99_ms: f64,
    /// Requests that were not answered well.
    pub(crate) errors: usize,
}

impl Reloaded {
    /// The middle of the times, and the longest.
    pub(crate) fn typical_and_worst(&self) -> (f64, f64) {
        let at = |place: usize| self.seconds.get(place).copied().unwrap_or(f64::NAN);
        (at(self.seconds.len() / 2), at(self.seconds.len() - 1))
    }
}

/// Tells whether a proxy takes part: others tell nobody when they are done.
pub(crate) fn is_for(contender: Contender) -> bool {
    contender == Contender::PlimsollHttp
}

pub(crate) fn measure(
    contender: Contender,
    servers: [u16; 2],
    authority: &Authority,
) -> Result<Reloaded> {
    let proxy = contender.start(&work_directory()?, servers, Manner::default(), authority)?;
    let file = proxy.directory().join("proxy.conf");
    let own = fs::read_to_string(&file)?;
    let reload = |round: usize| -> Result<f64> {
        fs::write(&file, own.clone() + &sites(&proxy, round)?)?;
        let before = told(&proxy);
        let began = Instant::now();
        proxy.signal(Signal::HUP);
        wait::until(PATIENCE, || (told(&proxy) > before).then_some(()))
            .with_context(|| format!("{} does not reload: {}", proxy.name(), proxy.said()))?;
        Ok(began.elapsed().as_secs_f64())
    };
    reload(0)?;
    let quiet = load(&proxy).start();
    thread::sleep(QUIET);
    let quiet = quiet.stop();
    let mut seconds = Vec::new();
    let mut all = Report::default();
    for round in 1..=RELOADS {
        let running = load(&proxy).start();
        seconds.push(reload(round)?);
        let report = running.stop();
        all.latencies.extend(report.latencies);
        all.failures.extend(report.failures);
    }
    all.latencies.sort_unstable();
    seconds.sort_by(f64::total_cmp);
    let p99_ms = |report: &Report| report.percentile(0.99).as_secs_f64() * 1e3;
    Ok(Reloaded {
        proxy: proxy.name(),
        seconds,
        quiet_p99_ms: p99_ms(&quiet),
        p99_ms: p99_ms(&all),
        errors: quiet.failures.len() + all.failures.len(),
    })
}

fn load(proxy: &Running) -> Load {
    Load {
        path: "/1k".to_owned(),
        expect: Expect::Any,
        ..Load::on(proxy.addresses.plain)
    }
}

/// How often it has said that it was reloaded.
fn told(proxy: &Running) -> usize {
    proxy
        .said()
        .matches("the configuration was reloaded")
        .count()
}

/// Sites beside the one that is asked; one of them is another one each round.
fn sites(proxy: &Running, round: usize) -> Result<String> {
    let (mut text, listen) = (String::new(), proxy.addresses.plain);
    for number in 0..SITES {
        let status = if number == round { 204 } else { 200 };
        writeln!(
            text,
            "site s{number}.example {{ listen {listen} ; route /static/* {{ respond {status} }} ; route {{ proxy app }} }}"
        )?;
    }
    Ok(text)
}
