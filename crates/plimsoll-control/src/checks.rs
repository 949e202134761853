//! Active checks: each server of a pool that has checks is asked again and again, beside the
//! traffic, and its pool told what that says.

use std::collections::{BTreeMap, BTreeSet};
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
use plimsoll_proxy::generation::{Generation, Pool, Server};
use plimsoll_proxy::proxy_protocol;
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::launch::Running;
use crate::watches::Watches;

/// How many checks of a server passed, failed, or could not be made.
#[derive(Debug, Default)]
pub struct Count {
    /// Those that passed.
    pub passed: AtomicU64,
    /// Those that did not.
    pub failed: AtomicU64,
    /// Those that did not ask the server.
    pub skipped: AtomicU64,
    /// What the last one found wrong, if it did.
    why: Mutex<Option<Box<str>>>,
}

impl Count {
    /// What the last check found wrong; nothing when it passed.
    pub fn why(&self) -> Option<Box<str>> {
        self.why
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The counts of all servers, by their number: those that were there before go on, wherever they stand.
pub(crate) fn counts(generation: &Generation, before: Option<&Running>) -> Box<[Arc<Count>]> {
    let mut known = BTreeMap::new();
    if let Some(before) = before {
        for (name, server) in servers(&before.generation) {
            known.extend(before.checks.get(server.id()).map(|count| (name, count)));
        }
    }
    let mut counts: Box<[Arc<Count>]> = (0..generation.servers).map(|_| Arc::default()).collect();
    for (name, server) in servers(generation) {
        if let (Some(count), Some(known)) = (counts.get_mut(server.id()), known.get(&name)) {
            *count = Arc::clone(known);
        }
    }
    counts
}

/// All servers, with the names of their pools and their own.
fn servers(generation: &Generation) -> impl Iterator<Item = ((&str, &str), &Server)> {
    generation.pools.iter().flat_map(|pool| {
        let servers = pool.servers.iter();
        servers.map(|server| ((&*pool.name, &*server.name), server))
    })
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

/// A server, by names, and all its checks: what is looked after together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Checking {
    pool: Arc<str>,
    server: Arc<str>,
    /// How it is checked, and where.
    how: String,
}

/// One check of one server.
struct Target {
    engine: Arc<Engine>,
    pool: Arc<str>,
    server: Arc<str>,
    check: usize,
    probe: Probe,
    rule: CheckRule,
    settings: Check,
    elsewhere: Option<IpAddr>,
    verdicts: Arc<Verdicts>,
}

/// Where the server of a check stands now.
struct Place {
    running: Arc<Running>,
    pool: usize,
    server: ServerIndex,
}

impl Place {
    fn pool(&self) -> Option<&Pool> {
        self.running.generation.pools.get(self.pool)
    }

    fn server(&self) -> Option<&Server> {
        self.pool()?.servers.get(self.server.position())
    }
}

/// All servers that have checks.
fn wanted(config: &Config) -> Vec<Checking> {
    let pools = config.pools.iter().filter(|pool| !pool.checks.is_empty());
    let servers = pools.flat_map(|pool| {
        let how = |server: &model::Server| {
            format!(
                "{:?} {:?} {:?}",
                server.address, server.check_address, pool.checks
            )
        };
        let servers = pool.servers.iter();
        servers.map(move |server| Checking {
            pool: Arc::clone(&pool.name),
            server: Arc::clone(&server.name),
            how: how(server),
        })
    });
    servers.collect()
}

/// Checks the servers of `engine` as its configuration says, and goes on with those that are checked so already.
/// Servers that are checked otherwise now are what they were until their checks say more; `before` says which
/// are known.
pub(crate) fn change(
    watches: &mut Watches<Checking>,
    engine: &Arc<Engine>,
    before: Option<&Running>,
) {
    let running = engine.now();
    let wanted = wanted(&running.generation.config);
    let new = begun(engine, (&running, before), watches.missing(&wanted));
    free_unchecked(&running);
    watches.change(&wanted, new);
}

/// Checks the servers of what is `tried`, too, that nobody checks under what serves `now`. How those are checked is not
/// another one yet: a server that fails a check which is tried would be down for all.
pub(crate) fn begin(
    watches: &mut Watches<Checking>,
    engine: &Arc<Engine>,
    (tried, now): (&Running, &Running),
) {
    let mut all = wanted(&now.generation.config);
    let name = |one: &Checking| (Arc::clone(&one.pool), Arc::clone(&one.server));
    let known: BTreeSet<_> = all.iter().map(name).collect();
    let mut own = wanted(&tried.generation.config);
    own.retain(|one| !known.contains(&name(one)));
    let new = begun(engine, (tried, Some(now)), own.iter().collect());
    all.extend(own);
    watches.change(&all, new);
}

/// Has servers be up that nobody checks, and so nobody says any more that they are down.
fn free_unchecked(running: &Running) {
    let now = running.since_start(clock::now());
    let pools = running.generation.config.pools.iter();
    let pools = pools.zip(&running.generation.pools);
    for (_, pool) in pools.filter(|(settings, _)| settings.checks.is_empty()) {
        for (at, _) in (0..).map(ServerIndex::new).zip(&pool.servers) {
            pool.balancer.set_health(at, Health::Up, now);
        }
    }
}

/// Begins to check those servers of `running` that are `missing`, in their order.
fn begun(
    engine: &Arc<Engine>,
    (running, before): (&Running, Option<&Running>),
    missing: Vec<&Checking>,
) -> Vec<(Checking, JoinSet<()>)> {
    let config = &running.generation.config;
    let mut missing = missing.into_iter().peekable();
    let mut new = Vec::new();
    let now = running.since_start(clock::now());
    for (settings, pool) in config.pools.iter().zip(&running.generation.pools) {
        let known = before.and_then(|before| known(before, settings));
        for ((at, server), configured) in (0..)
            .map(ServerIndex::new)
            .zip(&pool.servers)
            .zip(&settings.servers)
        {
            let is_new =
                missing.next_if(|next| *next.pool == *pool.name && *next.server == *server.name);
            let Some(key) = is_new else { continue };
            let health = known.and_then(|known| known.health(configured));
            let rules: Vec<CheckRule> = settings.checks.iter().map(rule).collect();
            let checked = |rule| match health {
                Some(health) => Checked::after(health),
                None => Checked::new(rule),
            };
            let all: Vec<Checked> = rules.iter().map(checked).collect();
            let initial: Vec<Health> = all.iter().map(Checked::health).collect();
            pool.balancer.set_health(at, worst(&initial), now);
            let verdicts = Arc::new(Verdicts(Mutex::new(initial)));
            let mut tasks = JoinSet::new();
            let of = settings.checks.iter().zip(rules).zip(all);
            for (check, ((settings, rule), checked)) in of.enumerate() {
                let target = Target {
                    engine: Arc::clone(engine),
                    pool: Arc::clone(&pool.name),
                    server: Arc::clone(&server.name),
                    check,
                    probe: probe(&settings.probe, server),
                    rule,
                    settings: settings.clone(),
                    elsewhere: configured.check_address,
                    verdicts: Arc::clone(&verdicts),
                };
                tasks.spawn(target.watch(checked));
            }
            new.push((key.clone(), tasks));
        }
    }
    new
}

/// A pool as it was.
#[derive(Clone, Copy)]
struct Known<'a> {
    settings: &'a model::Pool,
    pool: &'a Pool,
}

fn known<'a>(before: &'a Running, settings: &model::Pool) -> Option<Known<'a>> {
    let mut pools = before.generation.pools.iter();
    let pool = pools.find(|pool| *pool.name == *settings.name)?;
    let settings = before.generation.config.pools.get(pool.index)?;
    Some(Known { settings, pool })
}

impl Known<'_> {
    /// What checks have said of a server, if it was checked where it is now.
    fn health(&self, server: &model::Server) -> Option<Health> {
        let mut all = self.settings.servers.iter();
        let at = all.position(|old| old.name == server.name && old.address == server.address)?;
        let at = ServerIndex::new(u32::try_from(at).ok()?);
        let is_checked = !self.settings.checks.is_empty();
        self.pool
            .balancer
            .server(at)
            .filter(|_| is_checked)
            .map(|server| server.health())
    }
}

impl Target {
    async fn watch(self, mut checked: Checked) {
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

    /// Where the server stands now; nothing when it is gone.
    fn place(&self) -> Option<Place> {
        self.engine.all().find_map(|running| self.place_in(running))
    }

    fn place_in(&self, running: Arc<Running>) -> Option<Place> {
        let mut pools = running.generation.pools.iter();
        let pool = pools.position(|pool| pool.name == self.pool)?;
        let servers = &running.generation.pools.get(pool)?.servers;
        let server = servers
            .iter()
            .position(|server| server.name == self.server)?;
        let server = ServerIndex::new(u32::try_from(server).ok()?);
        Some(Place {
            running,
            pool,
            server,
        })
    }

    async fn ask(&self) -> Report {
        let unreachable = |detail: &str| Report {
            verdict: Verdict::Unreachable,
            took: Duration::ZERO,
            detail: detail.to_owned(),
            advice: Advice::default(),
        };
        let place = self.place();
        let Some((place, address)) = place.and_then(|place| {
            let address = self.address(&place)?;
            Some((place, address))
        }) else {
            return unreachable("it has no address");
        };
        let tls = match self.tls(&place) {
            Ok(tls) => tls,
            Err(Unknown) => return unreachable("nobody's word on it counts"),
        };
        let first_words = self.first_words(&place);
        let way = Way {
            tls: tls.as_ref(),
            first_words: &first_words,
            // Where the check comes from, as requests to the server do; an agent beside it is asked like the server.
            source: place
                .pool()
                .and_then(|pool| pool.connector.own_source(address.ip())),
        };
        drop(place);
        plimsoll_check::run(&self.probe, way, address, self.settings.timeout).await
    }

    /// What a server is told of the connection that a check comes on.
    fn first_words(&self, place: &Place) -> Vec<u8> {
        let is_told = self.settings.proxy_protocol && !self.probe.is_beside();
        let version = place.pool().and_then(|pool| pool.proxy_protocol);
        let words = version.filter(|_| is_told).map(proxy_protocol::tell_own);
        words.unwrap_or_default()
    }

    /// How the check speaks within TLS, as requests to the server do; nothing when it does not.
    fn tls(&self, place: &Place) -> Result<Option<Tls>, Unknown> {
        if !self.settings.tls || self.probe.is_bare() {
            return Ok(None);
        }
        let Some(tls) = place.server().and_then(|server| server.tls.as_ref()) else {
            return Ok(None);
        };
        let config = tls.for_check(self.probe.protocols()).ok_or(Unknown)?;
        let name = tls.name();
        Ok(Some(Tls { config, name }))
    }

    /// Where the check goes; nothing when the server's name leads nowhere.
    fn address(&self, place: &Place) -> Option<SocketAddr> {
        let known = place.server()?.addresses.now();
        let mut address = *known.as_ref().as_ref().ok()?.first()?;
        address.set_ip(self.elsewhere.unwrap_or_else(|| address.ip()));
        address.set_port(self.settings.port.unwrap_or_else(|| address.port()));
        Some(address)
    }

    fn count(&self, report: &Report) {
        let Some(place) = self.place() else { return };
        let number = place.server().map(Server::id);
        let Some(count) = number.and_then(|number| place.running.checks.get(number)) else {
            return;
        };
        let why = match report.verdict {
            Verdict::Passed => None,
            _ => Some(report.detail.as_str().into()),
        };
        *count.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
        match report.verdict {
            Verdict::Passed => count.passed.fetch_add(1, Relaxed),
            Verdict::Unfit | Verdict::Unreachable => count.failed.fetch_add(1, Relaxed),
            Verdict::Skipped => count.skipped.fetch_add(1, Relaxed),
        };
    }

    /// Does what an agent asks for; other checks ask for nothing.
    fn heed(&self, advice: Advice) {
        let Some(place) = self.place() else { return };
        let Some(pool) = place.pool() else { return };
        if let Some(percent) = advice.weight_percent {
            let now = place.running.since_start(clock::now());
            pool.balancer.set_advice(place.server, percent, now);
        }
        if let (Some(takes_new), Some(server)) =
            (advice.takes_new, pool.balancer.server(place.server))
        {
            server.set_wish(if takes_new { Wish::Serve } else { Wish::Drain });
        }
    }

    /// Closes the connections to a server that is down, where that is wanted.
    async fn cut(&self, health: Health) {
        let Some(place) = self.place() else { return };
        if let Some(server) = place.server()
            && health != Health::Up
            && server.cut()
        {
            place.running.peers.forget(&server.berth).await;
        }
    }

    fn tell(&self, health: Health, report: &Report) {
        let Some(place) = self.place() else { return };
        let Some(pool) = place.pool() else { return };
        let together = self.verdicts.set(self.check, health);
        let now = place.running.since_start(clock::now());
        let standing = pool.balancer.set_health(place.server, together, now);
        let standing = standing.map_or("", plimsoll_balance::Standing::word);
        let (pool, server) = (&*self.pool, &*self.server);
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
