//! What a running Plimsoll serves, and how that goes: the form of it that people and machines get.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use plimsoll_balance as balance;
use plimsoll_config::text;
use plimsoll_control::launch::Running;
use plimsoll_observe::histogram::Counts;
use plimsoll_proxy::caching::Keeping;
use plimsoll_proxy::generation::{Generation, Pool, Server};
use plimsoll_proxy::material::Material;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::canary::CanaryView;
use crate::snapshot::{Answered, Asked, Classes, Crowd, Snapshot, Traffic, Tries};

/// Everything at a moment. Times are seconds since 1970, durations seconds; what is said by the second is of the
/// second before.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct View {
    /// The version of the program.
    pub version: String,
    /// The name of the machine.
    pub node: String,
    /// When the process began to serve.
    pub started: u64,
    /// The moment.
    pub now: u64,
    /// The number of the configuration that is served: the first one of a process is 1.
    pub generation: u64,
    /// What serves a part of the connections, if anything does.
    pub canary: Option<CanaryView>,
    /// How many worker threads there are.
    pub workers: usize,
    /// Client connections.
    pub connections: usize,
    /// All sites together.
    pub traffic: Flow,
    /// What is served for sets of hosts.
    pub sites: Vec<SiteView>,
    /// Where connections and datagrams come to.
    pub listeners: Vec<ListenerView>,
    /// Servers, by pool.
    pub pools: Vec<PoolView>,
    /// Where answers are kept.
    pub caches: Vec<CacheView>,
    /// Certificates that clients are shown.
    pub certificates: Vec<CertificateView>,
}

/// How many requests there are, and how long they take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flow {
    /// Requests that were answered since the process began.
    pub requests: u64,
    /// Of these, with a status of 500 or more.
    pub errors: u64,
    /// Requests a second.
    pub request_rate: f64,
    /// Of these, with a status of 500 or more.
    pub error_rate: f64,
    /// What half of them take at most; nothing when there were none.
    pub p50: Option<f64>,
    /// What 90 of 100 take at most.
    pub p90: Option<f64>,
    /// What 99 of 100 take at most.
    pub p99: Option<f64>,
}

/// What is served for a set of hosts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SiteView {
    /// Its name.
    pub name: Arc<str>,
    /// How it goes.
    #[serde(flatten)]
    pub flow: Flow,
    /// Requests above a limit, a second.
    pub limited_rate: f64,
}

/// Where connections or datagrams come to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ListenerView {
    /// Its address.
    pub address: String,
    /// What is done there: `http`, `https`, `tcp`, `tls`, `udp`.
    pub kind: String,
    /// Connections, or flows of datagrams.
    pub connections: u64,
    /// Of these, with an exchange under way.
    pub active: u64,
    /// New ones, a second.
    pub accept_rate: f64,
    /// Those that were turned away for being too many, a second.
    pub refuse_rate: f64,
    /// Bytes that are relayed from clients, a second.
    pub in_rate: f64,
    /// Bytes that are relayed to clients, a second.
    pub out_rate: f64,
}

/// Servers that can stand in for each other.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct PoolView {
    /// Its name.
    pub name: Arc<str>,
    /// How a server is picked.
    pub balance: String,
    /// How many of its servers may get new requests.
    pub serving: usize,
    /// Requests that wait for a server with room.
    pub waiting: u32,
    /// Requests a second.
    pub request_rate: f64,
    /// Answers with a status of 500 or more and attempts that failed, a second.
    pub error_rate: f64,
    /// Attempts that were made once more, a second.
    pub retry_rate: f64,
    /// How many of 1 went over a connection that was there already; nothing when there were none.
    pub reused: Option<f64>,
    /// How long half of its servers' answers take to their first byte at most; nothing when there were none.
    pub p50: Option<f64>,
    /// What 99 of 100 take at most.
    pub p99: Option<f64>,
    /// Its servers.
    pub servers: Vec<ServerView>,
}

/// Where requests go.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ServerView {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it may get new requests, and why not: `ready`, `trial`, `drain`, `maintenance`, `ejected`, `unfit`,
    /// `unreachable`.
    pub state: String,
    /// Its weight, as configured.
    pub weight: u32,
    /// How much of its weight it takes now, in percent.
    pub share_percent: u8,
    /// Requests that it has now.
    pub in_flight: u32,
    /// How many it may have.
    pub max_connections: Option<u32>,
    /// Requests since the process began.
    pub requests: u64,
    /// Requests a second.
    pub request_rate: f64,
    /// Answers with a status of 500 or more and attempts that failed, a second.
    pub error_rate: f64,
    /// What active checks found.
    pub checks: ChecksView,
    /// How often it was ejected.
    pub ejections: u64,
}

/// What active checks of a server found.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ChecksView {
    /// How many passed.
    pub passed: u64,
    /// How many did not.
    pub failed: u64,
    /// What the last one found wrong; nothing when it passed.
    pub why: Option<String>,
}

/// Where answers are kept.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CacheView {
    /// Its name.
    pub name: Arc<str>,
    /// Requests a second.
    pub request_rate: f64,
    /// How many of 1 cost no server a request; nothing when there were none.
    pub hit_ratio: Option<f64>,
    /// Bytes that are stored.
    pub bytes: u64,
    /// Bytes that may be.
    pub max_bytes: u64,
    /// URLs that something is stored for.
    pub keys: u64,
}

/// A certificate that clients are shown.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CertificateView {
    /// Its file, or what it is for.
    pub file: String,
    /// Until when it is good.
    pub expires: u64,
    /// Whether it is renewed without anybody's doing.
    pub is_renewed: bool,
}

/// Which process it is.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) node: String,
    pub(crate) started: u64,
}

impl View {
    /// What went on between two moments of `running`.
    pub(crate) fn between(
        running: &Running,
        process: &Process,
        (before, after): (&Snapshot, &Snapshot),
        now: u64,
    ) -> Self {
        let generation = &running.generation;
        let pace = Pace::of(before, after);
        let mut whole = (Traffic::default(), Traffic::default());
        for site in &after.sites {
            whole.1.merge(site);
        }
        for site in &pace.before.sites {
            whole.0.merge(site);
        }
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: process.node.clone(),
            started: process.started,
            now,
            generation: generation.number,
            canary: None,
            workers: running.peers.count(),
            connections: running.peers.connections(),
            traffic: pace.flow(&whole.0, &whole.1),
            sites: pace.sites(generation),
            listeners: pace.listeners(generation),
            pools: pace.pools(running),
            caches: pace.caches(generation),
            certificates: certificates(generation),
        }
    }

    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Option<&PoolView> {
        self.pools.iter().find(|pool| *pool.name == *name)
    }
}

impl Traffic {
    fn merge(&mut self, other: &Self) {
        for (count, more) in self.answers.iter_mut().zip(other.answers) {
            *count += more;
        }
        self.durations.merge(&other.durations);
        self.limited += other.limited;
    }
}

/// What went on between two moments.
struct Pace<'a> {
    before: &'a Snapshot,
    after: &'a Snapshot,
    seconds: f64,
}

impl<'a> Pace<'a> {
    fn of(before: &'a Snapshot, after: &'a Snapshot) -> Self {
        // What is counted under which number may differ from one generation to the next.
        let before = match before.generation == after.generation {
            true => before,
            false => after,
        };
        let elapsed = after.at.saturating_duration_since(before.at);
        Self {
            before,
            after,
            seconds: elapsed.max(Duration::from_millis(1)).as_secs_f64(),
        }
    }

    fn rate(&self, before: u64, after: u64) -> f64 {
        round(to_f64(after.saturating_sub(before)) / self.seconds)
    }

    fn flow(&self, before: &Traffic, after: &Traffic) -> Flow {
        let durations = after.durations.since(&before.durations);
        Flow {
            requests: total(&after.answers),
            errors: errors(&after.answers),
            request_rate: self.rate(total(&before.answers), total(&after.answers)),
            error_rate: self.rate(errors(&before.answers), errors(&after.answers)),
            p50: quantile(&durations, 0.5),
            p90: quantile(&durations, 0.9),
            p99: quantile(&durations, 0.99),
        }
    }

    fn sites(&self, generation: &Generation) -> Vec<SiteView> {
        let pairs = self.before.sites.iter().zip(&self.after.sites);
        let sites = generation.labels.sites.iter().zip(pairs);
        let view = |(name, (before, after)): (&Arc<str>, (&Traffic, &Traffic))| SiteView {
            name: Arc::clone(name),
            flow: self.flow(before, after),
            limited_rate: self.rate(before.limited, after.limited),
        };
        sites.map(view).collect()
    }

    fn listeners(&self, generation: &Generation) -> Vec<ListenerView> {
        let listeners = generation.listeners.iter();
        let listeners = listeners.map(|at| (at.address.to_string(), at.kind()));
        let ports = generation.ports.iter();
        let ports = ports.map(|at| (at.address.to_string(), "udp"));
        let pairs = self.before.listeners.iter().zip(&self.after.listeners);
        let all = listeners.chain(ports).zip(pairs);
        all.map(|((address, kind), (before, after))| self.listener(address, kind, before, after))
            .collect()
    }

    fn listener(&self, address: String, kind: &str, before: &Crowd, after: &Crowd) -> ListenerView {
        ListenerView {
            address,
            kind: kind.to_owned(),
            connections: after.accepted.saturating_sub(after.closed),
            active: after.active,
            accept_rate: self.rate(before.accepted, after.accepted),
            refuse_rate: self.rate(before.refused, after.refused),
            in_rate: self.rate(before.bytes_in, after.bytes_in),
            out_rate: self.rate(before.bytes_out, after.bytes_out),
        }
    }

    fn pools(&self, running: &Running) -> Vec<PoolView> {
        let pairs = self.before.pools.iter().zip(&self.after.pools);
        let pools = running.generation.pools.iter().zip(pairs);
        pools
            .map(|(pool, (before, after))| self.pool(running, pool, before, after))
            .collect()
    }

    fn pool(&self, running: &Running, pool: &Pool, before: &Asked, after: &Asked) -> PoolView {
        let sum = |of: fn(&Tries) -> u64, asked: &Asked| asked.servers.iter().map(of).sum();
        let rate = |of| self.rate(sum(of, before), sum(of, after));
        let waits = after.waits.since(&before.waits);
        let fresh = after.fresh.saturating_sub(before.fresh);
        let reused = after.reused.saturating_sub(before.reused);
        let servers = pool.servers.iter().zip(pool.balancer.servers());
        let pairs = before.servers.iter().zip(&after.servers);
        PoolView {
            name: Arc::clone(&pool.name),
            balance: balance_of(&running.generation, pool),
            serving: count_serving(pool),
            waiting: pool.line.as_ref().map_or(0, |line| line.waiting()),
            request_rate: rate(Tries::requests),
            error_rate: rate(Tries::errors),
            retry_rate: self.rate(before.retries, after.retries),
            reused: part(reused, reused + fresh),
            p50: quantile(&waits, 0.5),
            p99: quantile(&waits, 0.99),
            servers: servers
                .zip(pairs)
                .map(|((server, state), (before, after))| ServerView {
                    checks: checks(running, server),
                    ..self.server(state, before, after)
                })
                .collect(),
        }
    }

    fn server(&self, server: &balance::Server, before: &Tries, after: &Tries) -> ServerView {
        ServerView {
            name: Arc::clone(server.name()),
            state: server.standing().word().to_owned(),
            weight: server.weight(),
            share_percent: server.share_percent(),
            in_flight: server.in_flight(),
            max_connections: server.max_connections().map(Into::into),
            requests: after.requests(),
            request_rate: self.rate(before.requests(), after.requests()),
            error_rate: self.rate(before.errors(), after.errors()),
            checks: ChecksView::default(),
            ejections: after.ejections,
        }
    }

    fn caches(&self, generation: &Generation) -> Vec<CacheView> {
        let pairs = self.before.caches.iter().zip(&self.after.caches);
        let caches = generation.caches.iter().zip(pairs);
        caches
            .map(|(keeping, (before, after))| self.cache(keeping, before, after))
            .collect()
    }

    fn cache(&self, keeping: &Keeping, before: &Answered, after: &Answered) -> CacheView {
        let requests = after.requests.saturating_sub(before.requests);
        CacheView {
            name: Arc::clone(&keeping.cache.name),
            request_rate: self.rate(before.requests, after.requests),
            hit_ratio: part(after.hits.saturating_sub(before.hits), requests),
            bytes: keeping.cache.size(),
            max_bytes: keeping.cache.room(),
            keys: keeping.cache.len() as u64,
        }
    }
}

impl Tries {
    fn requests(&self) -> u64 {
        total(&self.answers) + self.failures
    }

    fn errors(&self) -> u64 {
        errors(&self.answers) + self.failures
    }
}

/// Tells whether a server may get new requests.
pub(crate) fn is_serving(server: &balance::Server) -> bool {
    use balance::Standing::{Ready, Trial};
    matches!(server.standing(), Ready | Trial)
}

/// How many servers of a pool may get new requests.
pub(crate) fn count_serving(pool: &Pool) -> usize {
    let servers = pool.balancer.servers().iter();
    servers.filter(|server| is_serving(server)).count()
}

fn checks(running: &Running, server: &Server) -> ChecksView {
    let Some(count) = running.checks.get(server.id()) else {
        return ChecksView::default();
    };
    ChecksView {
        passed: count.passed.load(Relaxed),
        failed: count.failed.load(Relaxed),
        why: count.why().map(String::from),
    }
}

/// How a server of a pool is picked, in the words of the language.
fn balance_of(generation: &Generation, pool: &Pool) -> String {
    let written = generation.config.pools.get(pool.index);
    written.map_or_else(String::new, |written| text::balance(&written.balance))
}

fn certificates(generation: &Generation) -> Vec<CertificateView> {
    let view = |file: &Material| {
        Some(CertificateView {
            file: file.path.to_string(),
            expires: file.expires()?,
            is_renewed: file.issued.is_some() || file.is_awaited,
        })
    };
    generation.materials.iter().filter_map(view).collect()
}

fn total(answers: &Classes) -> u64 {
    answers.iter().sum()
}

fn errors(answers: &Classes) -> u64 {
    answers.last().copied().unwrap_or_default()
}

fn part(some: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| round(to_f64(some) / to_f64(all)))
}

fn quantile(durations: &Counts, part: f64) -> Option<f64> {
    let seconds = durations.quantile(part)?;
    Some((seconds * 1e6).round() / 1e6)
}

/// Three places behind the point are enough to look at.
fn round(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

fn to_f64(count: u64) -> f64 {
    count as f64
}
