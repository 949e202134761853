//! Active checks: each server of a pool that has checks is asked again and again, beside the
//! traffic, and its pool told what that says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use plimsoll_balance::{CheckRule, Checked, Health, ServerIndex};
use plimsoll_check::{HttpProbe, Probe, Report, Verdict};
use plimsoll_config::model::{self, Check, Config};
use plimsoll_net::clock;
use plimsoll_proxy::generation::{Pool, Server};

use crate::launch::Running;

/// How many checks of a server passed and failed.
#[derive(Debug, Default)]
pub struct Count {
    /// Those that passed.
    pub passed: AtomicU64,
    /// Those that did not.
    pub failed: AtomicU64,
}

/// The counts of all servers, by their number over all pools.
pub(crate) fn counts(servers: usize) -> Box<[Count]> {
    (0..servers).map(|_| Count::default()).collect()
}

/// What all checks of one server say together.
#[derive(Debug)]
struct Verdicts(Mutex<Vec<Health>>);

impl Verdicts {
    /// Sets what one check says; returns the worst of all.
    fn set(&self, check: usize, health: Health) -> Health {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(check) {
            *own = health;
        }
        worst(&all)
    }
}

fn worst(all: &[Health]) -> Health {
    if all.contains(&Health::Unreachable) {
        Health::Unreachable
    } else if all.contains(&Health::Unfit) {
        Health::Unfit
    } else {
        Health::Up
    }
}

/// One check of one server.
struct Target {
    running: Arc<Running>,
    pool: usize,
    server: ServerIndex,
    check: usize,
    probe: Probe,
    rule: CheckRule,
    settings: Check,
    address: SocketAddr,
    verdicts: Arc<Verdicts>,
}

/// Checks the servers of `running` for ever, as `config` says.
pub fn start(config: &Config, running: &Arc<Running>) {
    for (number, (settings, pool)) in config
        .pools
        .iter()
        .zip(&running.generation.pools)
        .enumerate()
    {
        for (at, server) in (0..).map(ServerIndex::new).zip(&pool.servers) {
            let rules: Vec<CheckRule> = settings.checks.iter().map(rule).collect();
            let initial: Vec<Health> = rules
                .iter()
                .map(|rule| Checked::new(rule).health())
                .collect();
            if worst(&initial) != Health::Up {
                pool.balancer
                    .set_health(at, worst(&initial), running.since_start(clock::now()));
            }
            let verdicts = Arc::new(Verdicts(Mutex::new(initial)));
            for (check, (settings, rule)) in settings.checks.iter().zip(rules).enumerate() {
                let Some(mut address) = server.addresses.first().copied() else {
                    continue;
                };
                address.set_port(settings.port.unwrap_or_else(|| address.port()));
                let target = Target {
                    running: Arc::clone(running),
                    pool: number,
                    server: at,
                    check,
                    probe: probe(&settings.probe, server),
                    rule,
                    settings: settings.clone(),
                    address,
                    verdicts: Arc::clone(&verdicts),
                };
                tokio::spawn(target.watch());
            }
        }
    }
}

impl Target {
    async fn watch(self) {
        let mut checked = Checked::new(&self.rule);
        let mut pause = Checked::first_pause(&self.rule, random());
        loop {
            tokio::time::sleep(pause).await;
            let report =
                plimsoll_check::run(&self.probe, self.address, self.settings.timeout).await;
            self.count(&report);
            let found = match report.verdict {
                Verdict::Passed => Health::Up,
                Verdict::Unfit => Health::Unfit,
                Verdict::Unreachable => Health::Unreachable,
            };
            if let Some(health) = checked.note(found, &self.rule) {
                self.tell(health, &report);
            }
            pause = checked.pause(&self.rule, random());
        }
    }

    fn pool(&self) -> Option<&Pool> {
        self.running.generation.pools.get(self.pool)
    }

    fn count(&self, report: &Report) {
        let server = self
            .pool()
            .and_then(|pool| pool.servers.get(self.server.position()));
        let Some(count) = server.and_then(|server| self.running.checks.get(server.id)) else {
            return;
        };
        match report.verdict {
            Verdict::Passed => count.passed.fetch_add(1, Relaxed),
            Verdict::Unfit | Verdict::Unreachable => count.failed.fetch_add(1, Relaxed),
        };
    }

    fn tell(&self, health: Health, report: &Report) {
        let Some(pool) = self.pool() else { return };
        let together = self.verdicts.set(self.check, health);
        let now = self.running.since_start(clock::now());
        let standing = pool.balancer.set_health(self.server, together, now);
        let server = pool.servers.get(self.server.position());
        let server = server.map_or("", |server| &*server.name);
        let standing = standing.map_or("", plimsoll_balance::Standing::word);
        let pool = &*pool.name;
        match health {
            Health::Up => {
                tracing::info!(pool, server, standing, took = ?report.took, "check passes")
            }
            Health::Unfit | Health::Unreachable => {
                tracing::warn!(pool, server, standing, why = report.detail, "check fails");
            }
        }
    }
}

fn rule(check: &Check) -> CheckRule {
    CheckRule {
        fall: check.fall,
        rise: check.rise,
        initially_up: check.initially_up,
        every: check.every,
        fast: check.fast,
        down: check.down,
    }
}

fn probe(probe: &model::Probe, server: &Server) -> Probe {
    match probe {
        model::Probe::Http {
            method,
            path,
            host,
            expect,
            header,
            body,
        } => Probe::Http(HttpProbe {
            method: method.to_string(),
            path: path.to_string(),
            host: host
                .as_ref()
                .map_or_else(|| server.name.to_string(), ToString::to_string),
            expect: expect.clone(),
            header: header
                .as_ref()
                .map(|(name, text)| (name.to_string(), text.to_string())),
            body: body.as_ref().map(ToString::to_string),
        }),
        _ => Probe::Tcp,
    }
}

/// Spreads checks; without random numbers they come at even times.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}
