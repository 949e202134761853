//! Active checks: each server of a pool that has checks is asked again and again, beside the
//! traffic, and its pool told what that says.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use plimsoll_balance::{CheckRule, Checked, Health, ServerIndex, Wish};
use plimsoll_check::{
    Advice, ExecProbe, HttpProbe, MysqlProbe, PostgresProbe, Probe, Report, Role, Step, Tls,
    UdpProbe, Verdict, Way,
};
use plimsoll_config::model::{self, Check, Config};
use plimsoll_net::clock;
use plimsoll_proxy::generation::{Pool, Server};
use plimsoll_proxy::proxy_protocol;

use crate::launch::Running;

/// How many checks of a server passed, failed, or could not be made.
#[derive(Debug, Default)]
pub struct Count {
    /// Those that passed.
    pub passed: AtomicU64,
    /// Those that did not.
    pub failed: AtomicU64,
    /// Those that did not ask the server.
    pub skipped: AtomicU64,
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

/// Nobody is known whose word on a server counts.
struct Unknown;

/// One check of one server.
struct Target {
    running: Arc<Running>,
    pool: usize,
    server: ServerIndex,
    check: usize,
    probe: Probe,
    rule: CheckRule,
    settings: Check,
    elsewhere: Option<IpAddr>,
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
            let configured = settings.servers.get(at.position());
            let elsewhere = configured.and_then(|server| server.check_address);
            for (check, (settings, rule)) in settings.checks.iter().zip(rules).enumerate() {
                let target = Target {
                    running: Arc::clone(running),
                    pool: number,
                    server: at,
                    check,
                    probe: probe(&settings.probe, server),
                    rule,
                    settings: settings.clone(),
                    elsewhere,
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
        let mut was_asked = false;
        loop {
            tokio::time::sleep(pause).await;
            let report = self.ask().await;
            self.count(&report);
            self.heed(report.advice);
            let found = match report.verdict {
                Verdict::Passed => Some(Health::Up),
                Verdict::Unfit => Some(Health::Unfit),
                Verdict::Unreachable => Some(Health::Unreachable),
                // What was never asked may be of a kind of address that is not to be had here.
                Verdict::Skipped => (!was_asked).then_some(Health::Unreachable),
            };
            was_asked |= report.verdict != Verdict::Skipped;
            if let Some(health) = found.and_then(|found| checked.note(found, &self.rule)) {
                self.tell(health, &report);
                self.cut(health).await;
            }
            pause = checked.pause(&self.rule, random());
        }
    }

    async fn ask(&self) -> Report {
        let unreachable = |detail: &str| Report {
            verdict: Verdict::Unreachable,
            took: Duration::ZERO,
            detail: detail.to_owned(),
            advice: Advice::default(),
        };
        let Some(address) = self.address() else {
            return unreachable("it has no address");
        };
        let tls = match self.tls() {
            Ok(tls) => tls,
            Err(Unknown) => return unreachable("nobody's word on it counts"),
        };
        let first_words = self.first_words();
        let way = Way {
            tls: tls.as_ref(),
            first_words: &first_words,
            source: self.source(address),
        };
        plimsoll_check::run(&self.probe, way, address, self.settings.timeout).await
    }

    /// Where the check comes from, as requests to the server do; an agent beside it is asked like the server.
    fn source(&self, to: SocketAddr) -> Option<IpAddr> {
        self.pool()?.connector.own_source(to.ip())
    }

    /// What a server is told of the connection that a check comes on.
    fn first_words(&self) -> Vec<u8> {
        let is_told = self.settings.proxy_protocol && !self.probe.is_beside();
        let version = self.pool().and_then(|pool| pool.proxy_protocol);
        let words = version.filter(|_| is_told).map(proxy_protocol::tell_own);
        words.unwrap_or_default()
    }

    /// How the check speaks within TLS, as requests to the server do; nothing when it does not.
    fn tls(&self) -> Result<Option<Tls>, Unknown> {
        if !self.settings.tls || self.probe.is_bare() {
            return Ok(None);
        }
        let server = self
            .pool()
            .and_then(|pool| pool.servers.get(self.server.position()));
        let Some(tls) = server.and_then(|server| server.tls.as_ref()) else {
            return Ok(None);
        };
        let config = tls.for_check(self.probe.protocols()).ok_or(Unknown)?;
        let name = tls.name();
        Ok(Some(Tls { config, name }))
    }

    /// Where the check goes; nothing when the server's name leads nowhere.
    fn address(&self) -> Option<SocketAddr> {
        let server = self.pool()?.servers.get(self.server.position())?;
        let known = server.addresses.now();
        let mut address = *known.as_ref().as_ref().ok()?.first()?;
        address.set_ip(self.elsewhere.unwrap_or_else(|| address.ip()));
        address.set_port(self.settings.port.unwrap_or_else(|| address.port()));
        Some(address)
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
            Verdict::Skipped => count.skipped.fetch_add(1, Relaxed),
        };
    }

    /// Does what an agent asks for; other checks ask for nothing.
    fn heed(&self, advice: Advice) {
        let Some(pool) = self.pool() else { return };
        if let Some(percent) = advice.weight_percent {
            let now = self.running.since_start(clock::now());
            pool.balancer.set_advice(self.server, percent, now);
        }
        if let (Some(takes_new), Some(server)) =
            (advice.takes_new, pool.balancer.server(self.server))
        {
            server.set_wish(if takes_new { Wish::Serve } else { Wish::Drain });
        }
    }

    /// Closes the connections to a server that is down, where that is wanted.
    async fn cut(&self, health: Health) {
        let pool = self.pool();
        let server = pool.and_then(|pool| pool.servers.get(self.server.position()));
        if let Some(server) = server
            && health != Health::Up
            && server.cut()
        {
            self.running.peers.forget(server.id).await;
        }
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
    let text = |text: &str| text.to_owned();
    match probe {
        model::Probe::Http {
            method,
            path,
            host,
            expect,
            header,
            body,
        } => Probe::Http(HttpProbe {
            method: text(method),
            path: text(path),
            host: text(host.as_deref().unwrap_or(&server.name)),
            expect: expect.clone(),
            header: header
                .as_ref()
                .map(|(name, value)| (text(name), text(value))),
            body: body.as_deref().map(text),
        }),
        model::Probe::Tcp => Probe::Tcp,
        model::Probe::Tls => Probe::Tls(host_name(&server.name)),
        model::Probe::Grpc(service) => Probe::Grpc {
            service: text(service),
            authority: text(&server.name),
        },
        model::Probe::Postgres {
            user,
            database,
            password,
            role: wanted,
        } => Probe::Postgres(PostgresProbe {
            user: text(user),
            database: text(database),
            password: password.as_deref().map(text),
            role: wanted.map(role),
        }),
        model::Probe::Mysql { user, role: wanted } => Probe::Mysql(MysqlProbe {
            user: text(user),
            role: wanted.map(role),
        }),
        model::Probe::Redis(wanted) => Probe::Redis(wanted.map(role)),
        model::Probe::Smtp => Probe::Smtp,
        model::Probe::Script(steps) => {
            let step = |step: &model::ScriptStep| match step {
                model::ScriptStep::Send(text) => Step::Send(text.as_bytes().to_vec()),
                model::ScriptStep::Expect(text) => Step::Expect(text.as_bytes().to_vec()),
            };
            Probe::Script(steps.iter().map(step).collect())
        }
        model::Probe::Udp { send, expect } => {
            // What is no payload was refused when it was read.
            let bytes = |text: &str| model::payload(text).unwrap_or_default();
            Probe::Udp(UdpProbe {
                send: bytes(send),
                expect: bytes(expect),
            })
        }
        model::Probe::Dns(name) => Probe::Dns(text(name)),
        model::Probe::Exec(words) => {
            let (program, arguments) = words
                .split_first()
                .map_or(("", &[][..]), |(p, a)| (&**p, a));
            Probe::Exec(ExecProbe {
                program: program.into(),
                arguments: arguments.iter().map(|word| text(word)).collect(),
            })
        }
        model::Probe::Agent => Probe::Agent,
    }
}

/// The name in `name:port`; nothing for an address, which TLS does not name (RFC 6066 §3).
fn host_name(server: &str) -> String {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let is_address = host.starts_with('[') || host.parse::<IpAddr>().is_ok();
    if is_address {
        String::new()
    } else {
        host.to_owned()
    }
}

/// Spreads checks; without random numbers they come at even times.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

fn role(role: model::Role) -> Role {
    match role {
        model::Role::Primary => Role::Primary,
        model::Role::Replica => Role::Replica,
    }
}
