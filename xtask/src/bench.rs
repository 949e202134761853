//! `bench`: what a request costs Plimsoll, NGINX and HAProxy, measured side by side.
//!
//! Each proxy has the first core to itself; load and upstream share the second. The proxies take
//! turns, case by case and round by round, so that a slow minute of the machine hits all of them,
//! and the medians are reported.

mod case;
mod changes;
mod contender;
mod datagrams;
mod h2load;
mod handshakes;
mod idle;
mod load;
mod machine;
mod measure;
mod metrics;
mod options;
mod overload;
mod process;
mod report;
mod setting;
mod sites;
mod syscalls;

use crate::command::{self, target};
use crate::packages::{self, H2LOAD, HAPROXY, NGINX, NGINX_STREAM, OPENSSL, STRACE, VARNISH, WRK};
use crate::test::has_plimsoll;
use anyhow::{Result, bail};
use case::Case;
use contender::{Contender, Manner, Running};
use measure::Row;
use options::Options;
use plimsoll_e2e::daemon::Daemon;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::ports;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use setting::NGINX_STREAM_MODULE;

/// Enough for 10,000 idle connections, which a TCP relay holds twice.
const DESCRIPTORS: u64 = 65_536;

/// Where the proxies run, and where load and upstream run.
pub(crate) const PROXY_CORE: &str = "0";
pub(crate) const LOAD_CORE: &str = "1";

pub(crate) fn run(words: &[&str]) -> Result<()> {
    let Some(options) = Options::parse(words)? else {
        println!("{}", options::usage());
        return Ok(());
    };
    packages::ensure(&[
        NGINX,
        NGINX_STREAM,
        HAPROXY,
        VARNISH,
        WRK,
        H2LOAD,
        OPENSSL,
        STRACE,
    ])?;
    raise_descriptors()?;
    let contenders = options.contenders(has_plimsoll());
    if contenders.is_empty() {
        bail!("`--only` selects no proxy");
    }
    command::run("cargo build --release -p plimsoll-e2e --bins")?;
    if contenders.iter().any(|contender| contender.is_plimsoll()) {
        command::run(options.build_plimsoll())?;
    }
    let bench = Bench {
        upstream: Upstream::start()?,
        authority: Authority::make("DNS:bench.test,IP:127.0.0.1"),
        options,
        contenders,
    };
    let results = bench.measure()?;
    let machine = machine::describe()?;
    report::write(&machine, &results)
}

/// The servers behind all proxies: one process on two ports.
pub(crate) struct Upstream {
    pub(crate) ports: [u16; 2],
    _daemon: Daemon,
}

impl Upstream {
    fn start() -> Result<Self> {
        let ports = [ports::free(), ports::free()];
        let mut command = pinned(LOAD_CORE, &target().join("release/bench-upstream"));
        command.args(ports.map(|port| ports::local(port).to_string()));
        let mut daemon = Daemon::spawn("bench-upstream", "it was just built", command);
        daemon.wait_listening(&ports);
        Ok(Self {
            ports,
            _daemon: daemon,
        })
    }
}

/// What is measured, on what.
struct Bench {
    upstream: Upstream,
    /// Who says that the proxies are who they are.
    authority: Authority,
    options: Options,
    contenders: Vec<Contender>,
}

/// All that was measured.
pub(crate) struct Results {
    pub(crate) seconds: u32,
    pub(crate) rows: Vec<Row>,
    pub(crate) idle: Vec<idle::Idle>,
    pub(crate) overload: Vec<overload::Overload>,
    pub(crate) changes: Vec<changes::Lost>,
    pub(crate) sites: Vec<sites::Reloaded>,
}

impl Bench {
    fn measure(&self) -> Result<Results> {
        let mut rows = Vec::new();
        let running = self.start_all()?;
        for case in self.options.cases() {
            rows.extend(self.measure_case(case, &running)?);
        }
        drop(running);
        Ok(Results {
            seconds: self.options.seconds(),
            rows,
            idle: self.measure_idle()?,
            overload: self.measure_overload()?,
            changes: self.measure_changes()?,
            sites: self.measure_sites()?,
        })
    }

    fn measure_idle(&self) -> Result<Vec<idle::Idle>> {
        let mut measured = Vec::new();
        for kind in idle::Kind::ALL {
            for contender in self.contenders_for(kind.name(), |c| kind.is_for(c)) {
                let proxy = self.start(contender)?;
                measured.push(idle::measure(kind, contender, &proxy, &self.authority)?);
            }
        }
        Ok(measured)
    }

    fn start(&self, contender: Contender) -> Result<Running> {
        let ports = self.upstream.ports;
        contender.start(
            &work_directory()?,
            ports,
            Manner::default(),
            &self.authority,
        )
    }

    fn measure_overload(&self) -> Result<Vec<overload::Overload>> {
        let wanted = self.contenders_for(overload::NAME, overload::is_for);
        wanted
            .map(|contender| overload::measure(contender, &self.authority))
            .collect()
    }

    fn measure_changes(&self) -> Result<Vec<changes::Lost>> {
        let wanted = self.contenders_for(changes::NAME, changes::is_for);
        let ports = self.upstream.ports;
        let measured = wanted.map(|one| changes::measure(one, ports, &self.authority));
        let measured = measured.collect::<Result<Vec<_>>>()?;
        Ok(measured.into_iter().flatten().collect())
    }

    fn measure_sites(&self) -> Result<Vec<sites::Reloaded>> {
        let wanted = self.contenders_for(sites::NAME, sites::is_for);
        let ports = self.upstream.ports;
        wanted
            .map(|one| sites::measure(one, ports, &self.authority))
            .collect()
    }

    /// Returns who takes part in a case of its own kind, and says so when it is their turn.
    fn contenders_for(
        &self,
        case: &'static str,
        takes_part: impl Fn(Contender) -> bool,
    ) -> impl Iterator<Item = Contender> {
        let all = self.contenders.iter().copied();
        all.filter(move |&contender| self.options.wants(case) && takes_part(contender))
            .inspect(move |contender| println!("{case}: {}", contender.name()))
    }

    fn start_all(&self) -> Result<Vec<Running>> {
        let all = self.contenders.iter();
        all.map(|&contender| self.start(contender)).collect()
    }

    fn measure_case(&self, case: &'static Case, running: &[Running]) -> Result<Vec<Row>> {
        let takes_part = |proxy: &&Running| case.is_for(proxy.carries());
        let running: Vec<_> = running.iter().filter(takes_part).collect();
        let mut rows: Vec<_> = running.iter().map(|proxy| Row::new(case, proxy)).collect();
        for round in 0..self.options.rounds() {
            let mut turn: Vec<_> = running.iter().zip(&mut rows).collect();
            let count = turn.len();
            turn.rotate_left(round % count); // nobody is always first
            for (proxy, row) in turn {
                proxy.trim_log()?;
                if round == 0 {
                    load::run(case, proxy, 1)?; // fills caches and idle connections
                }
                let sample = measure::sample(case, proxy, self.options.seconds())?;
                println!(
                    "{} round {}: {}: {sample}",
                    case.name,
                    round + 1,
                    proxy.name()
                );
                row.samples.push(sample);
            }
        }
        for (proxy, row) in running.iter().zip(&mut rows) {
            row.syscalls = Some(syscalls::per_request(case, proxy)?);
        }
        Ok(rows)
    }
}

/// Returns `program`, to run on one core.
pub(crate) fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(program);
    command
}

/// Returns a directory for configurations and logs; it is on disk and ignored by Git.
pub(crate) fn work_directory() -> Result<PathBuf> {
    let directory = command::root().join("bench/work");
    std::fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Raises the limit of descriptors, which the proxies inherit, as far as this user may.
fn raise_descriptors() -> Result<()> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|limit| limit >= DESCRIPTORS) {
        return Ok(());
    }
    let wanted = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: maximum.map(|m| m.max(DESCRIPTORS)),
    };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        // Only a privileged user passes the maximum; then some idle connections fewer must do.
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )?;
    }
    Ok(())
}

/// Returns how many descriptors a proxy may have.
pub(crate) fn descriptors() -> u64 {
    getrlimit(Resource::Nofile)
        .current
        .map_or(DESCRIPTORS, |limit| limit.min(DESCRIPTORS))
}
