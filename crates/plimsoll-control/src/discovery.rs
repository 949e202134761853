//! Where servers are that have a name: looked up before the start, and again whenever an answer
//! expires. A bad answer, or none, does not take the addresses away that the last good one gave.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::{ResolverBuilder, TokioResolver};
use plimsoll_config::model::{Config, Resolver, ServerAddress};
use plimsoll_http::reason::Reason;
use plimsoll_net::clock;
use plimsoll_proxy::addresses::Known;
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::launch::Running;
use crate::watches::{Key, Watches, key};

/// How soon a good answer is asked for again at least, and at most: it may have been good for a
/// second, or for a week.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// How long to wait at most after a question that had no good answer.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// How long the first look-ups may take together.
const FIRST: Duration = Duration::from_secs(10);

/// The names of all servers, and what is known of them.
#[derive(Debug)]
pub struct Names {
    resolver: Option<TokioResolver>,
    hold: Duration,
    names: Vec<Arc<Name>>,
}

/// A name, and how its look-ups went.
#[derive(Debug)]
pub struct Name {
    /// The name.
    pub host: Box<str>,
    /// Look-ups with a good answer.
    pub found: AtomicU64,
    /// Others.
    pub failed: AtomicU64,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    /// The last good answer.
    good: Option<Instant>,
    /// When to ask again.
    next: Instant,
    /// How often in a row there was no good answer.
    failures: u32,
}

/// What one look-up brought: addresses without ports, and until when they are good.
pub(crate) type Answer = Result<(Vec<IpAddr>, Instant), NetError>;

impl Names {
    /// Looks the names of `config` up, all at once; those that the configuration `before` has are known.
    ///
    /// Returns them with what was found, by name.
    ///
    /// # Errors
    /// It is not known whom to ask.
    pub async fn look_up(config: &Config, before: Option<&Running>) -> io::Result<(Self, Found)> {
        let hosts: BTreeSet<&str> = hosts(config).collect();
        let now = clock::now();
        let known = |host: &str| {
            let mut names = before?.names.iter();
            names.find(|name| *name.host == *host).map(Arc::clone)
        };
        let mut found = Found(before.map(places_now).unwrap_or_default());
        let names = hosts.into_iter();
        let names = names.map(|host| known(host).unwrap_or_else(|| Arc::new(Name::new(host, now))));
        let names = Self {
            names: names.collect(),
            resolver: None,
            hold: config.resolver.hold,
        };
        if names.names.is_empty() {
            return Ok((names, found));
        }
        let resolver = resolver(&config.resolver).map_err(io::Error::other)?;
        let mut looking = JoinSet::new();
        let new = names
            .names
            .iter()
            .filter(|name| known(&name.host).is_none());
        for name in new {
            let (name, resolver) = (Arc::clone(name), resolver.clone());
            looking.spawn(async move {
                let answer = tokio::time::timeout(FIRST, ask(&resolver, &name.host)).await;
                (name, answer.unwrap_or(Err(NetError::Timeout)))
            });
        }
        while let Some(looked) = looking.join_next().await {
            let (name, answer) = looked.map_err(io::Error::other)?;
            name.note(&answer, clock::now());
            let known = answer.map(|(ips, _)| ips);
            found.0.insert(name.host.clone(), known);
        }
        let resolver = Some(resolver);
        Ok((Self { resolver, ..names }, found))
    }

    /// The names, for who shows them.
    pub fn all(&self) -> Vec<Arc<Name>> {
        self.names.clone()
    }

    /// Looks names up again for ever, and tells servers where they lead. Names that are looked up so already
    /// go on.
    pub(crate) fn change(self, watches: &mut Watches<Asked>, engine: &Arc<Engine>) {
        let how = format!("{:?}", engine.now().generation.config.resolver);
        let asked = |name: &Arc<Name>| (key(name), how.clone());
        let wanted: Vec<Asked> = self.names.iter().map(asked).collect();
        let missing = watches.missing(&wanted);
        let missing: BTreeSet<Asked> = missing.into_iter().cloned().collect();
        let new = self.names.into_iter().filter_map(|name| {
            let asked = asked(&name);
            let resolver = self.resolver.clone().filter(|_| missing.contains(&asked))?;
            let watch = Watch {
                name,
                resolver,
                engine: Arc::clone(engine),
                hold: self.hold,
            };
            let mut task = JoinSet::new();
            task.spawn(watch.run());
            Some((asked, task))
        });
        watches.change(&wanted, new.collect::<Vec<_>>());
    }
}

/// A name, and whom is asked where it leads.
pub(crate) type Asked = (Key, String);

/// Where names lead as far as servers know.
fn places_now(running: &Running) -> BTreeMap<Box<str>, Result<Vec<IpAddr>, NetError>> {
    let pools = running
        .generation
        .config
        .pools
        .iter()
        .zip(&running.generation.pools);
    let servers = pools.flat_map(|(settings, pool)| settings.servers.iter().zip(&pool.servers));
    let named = servers.filter_map(|(settings, server)| match &settings.address {
        ServerAddress::Name(name, _) => Some((name, server)),
        ServerAddress::Ip(..) => None,
    });
    let places = named.filter_map(|(name, server)| {
        let known = server.addresses.now();
        let ips = known.as_ref().as_ref().ok()?.iter().map(SocketAddr::ip);
        Some((Box::from(&**name), Ok(ips.collect())))
    });
    places.collect()
}

/// What the first look-ups found, by name.
#[derive(Debug, Default)]
pub struct Found(BTreeMap<Box<str>, Result<Vec<IpAddr>, NetError>>);

impl Found {
    /// Where a server is.
    pub fn known(&self, address: &ServerAddress) -> Known {
        match address {
            ServerAddress::Ip(ip, port) => Ok([SocketAddr::from((*ip, *port))].into()),
            ServerAddress::Name(name, port) => match self.0.get(&**name) {
                Some(Ok(ips)) => Ok(with_port(ips, *port)),
                Some(Err(error)) => Err(reason(error)),
                None => Err(Reason::DnsError),
            },
        }
    }

    /// The names without an address, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&str, String)> {
        let names = self.0.iter();
        names.filter_map(|(name, found)| Some((&**name, why(found.as_ref().err()?))))
    }
}

impl Name {
    fn new(host: &str, now: Instant) -> Self {
        let state = State {
            good: None,
            next: now,
            failures: 0,
        };
        Self {
            host: host.into(),
            found: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    /// How old the last good answer is; nothing when there was none.
    pub fn age(&self) -> Option<Duration> {
        Some(clock::now().saturating_duration_since(self.state().good?))
    }

    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, answer: &Answer, now: Instant) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = match answer {
            Ok((_, until)) => {
                self.found.fetch_add(1, Relaxed);
                (state.good, state.failures) = (Some(now), 0);
                until.saturating_duration_since(now).clamp(AGAIN.0, AGAIN.1)
            }
            Err(_) => {
                self.failed.fetch_add(1, Relaxed);
                state.failures = state.failures.saturating_add(1);
                pause_after(state.failures)
            }
        };
        state.next = now + pause;
        *state
    }
}

/// How long to wait after so many questions in a row that had no good answer.
fn pause_after(failures: u32) -> Duration {
    let doubled = 1_u64 << failures.saturating_sub(1).min(8);
    Duration::from_secs(doubled).min(RETRY_MAX)
}

/// One name that is looked up again and again.
struct Watch {
    name: Arc<Name>,
    resolver: TokioResolver,
    engine: Arc<Engine>,
    hold: Duration,
}

impl Watch {
    async fn run(self) {
        loop {
            let next = self.name.state().next;
            tokio::time::sleep_until(next.into()).await;
            let answer = ask(&self.resolver, &self.name.host).await;
            let before = self.name.state();
            let after = self.name.note(&answer, clock::now());
            self.tell(&answer, before);
            match answer {
                Ok((ips, _)) => self.set(&Ok(ips)).await,
                Err(error) if self.is_too_old(after) => self.set(&Err(reason(&error))).await,
                Err(_) => {}
            }
        }
    }

    fn is_too_old(&self, state: State) -> bool {
        let age = |good| clock::now().saturating_duration_since(good);
        state.good.is_none_or(|good| age(good) > self.hold)
    }

    fn tell(&self, answer: &Answer, before: State) {
        let name = &*self.name.host;
        match answer {
            Ok(_) if before.failures > 0 => tracing::info!(name, "name found again"),
            Ok(_) => {}
            Err(error) if before.failures == 0 && before.good.is_some() => {
                tracing::warn!(name, why = why(error), hold = ?self.hold, "name not found; last addresses used");
            }
            Err(_) => {}
        }
    }

    /// Tells servers where they are, if that is something new. Their idle connections may lead
    /// elsewhere, and are closed.
    async fn set(&self, ips: &Result<Vec<IpAddr>, Reason>) {
        for running in self.engine.all() {
            self.set_in(&running, ips).await;
        }
    }

    async fn set_in(&self, running: &Running, ips: &Result<Vec<IpAddr>, Reason>) {
        let generation = &running.generation;
        for (pool, server, port) in places(&generation.config, &self.name.host) {
            let pool = generation.pools.get(pool);
            let Some(server) = pool.and_then(|pool| pool.servers.get(server)) else {
                continue;
            };
            let known = ips
                .as_ref()
                .map(|ips| with_port(ips, port))
                .map_err(|reason| *reason);
            if *server.addresses.now() == known {
                continue;
            }
            match &known {
                Ok(now) => tracing::info!(server = &*server.name, ?now, "server is elsewhere"),
                Err(_) => tracing::warn!(server = &*server.name, "server has no address"),
            }
            server.addresses.set(known);
            running.peers.forget(&server.berth).await;
        }
    }
}

pub(crate) async fn ask(resolver: &TokioResolver, host: &str) -> Answer {
    let found = resolver.lookup_ip(host).await?;
    let mut ips: Vec<_> = found.iter().collect();
    // IPv4 first, as a name may have an IPv6 address that leads nowhere.
    ips.sort_by_key(|ip| (ip.is_ipv6(), *ip));
    ips.dedup();
    if ips.is_empty() {
        return Err(NetError::Message("the answer is empty"));
    }
    Ok((ips, found.valid_until()))
}

/// Whom to ask.
pub(crate) fn resolver(settings: &Resolver) -> Result<TokioResolver, NetError> {
    let mut builder: ResolverBuilder<TokioRuntimeProvider> = match settings.servers.as_slice() {
        [] => TokioResolver::builder_tokio()?,
        servers => {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = settings.timeout;
    options.attempts = 1; // once more
    options.cache_size = 0; // names are kept here
    builder.build()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let mut connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    for connection in &mut connections {
        connection.port = address.port();
    }
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// What it is called when there is no address.
fn reason(error: &NetError) -> Reason {
    match error {
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) | NetError::Busy => {
            Reason::DnsTimeout
        }
        _ => Reason::DnsError,
    }
}

/// What went wrong, for people.
pub(crate) fn why(error: &NetError) -> String {
    let text = match error {
        NetError::Timeout => "no answer in time",
        NetError::NoConnections | NetError::Io(_) => "no name server can be reached",
        error if error.is_nx_domain() => "there is no such name",
        error if error.is_no_records_found() => "the name has no address",
        error => return error.to_string(),
    };
    text.to_owned()
}

fn with_port(ips: &[IpAddr], port: u16) -> Box<[SocketAddr]> {
    ips.iter().map(|ip| SocketAddr::from((*ip, port))).collect()
}

fn hosts(config: &Config) -> impl Iterator<Item = &str> {
    let servers = config.pools.iter().flat_map(|pool| &pool.servers);
    servers.filter_map(|server| match &server.address {
        ServerAddress::Name(name, _) => Some(&**name),
        ServerAddress::Ip(..) => None,
    })
}

/// The servers that have this name.
fn places(config: &Config, host: &str) -> Vec<(usize, usize, u16)> {
    let pools = config.pools.iter().enumerate();
    let servers = pools.flat_map(|(at, pool)| {
        let servers = pool.servers.iter().enumerate();
        servers.map(move |(number, server)| (at, number, &server.address))
    });
    servers
        .filter_map(|(pool, server, address)| match address {
            ServerAddress::Name(name, port) if &**name == host => Some((pool, server, *port)),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_asked_for_when_answers_expire_and_ever_more_rarely_without_one() {
        let now = clock::now();
        let name = Name::new("app", now);
        let seconds = Duration::from_secs;
        let good = |ttl| Ok((Vec::new(), now + seconds(ttl)));
        let pause = |answer: Answer| name.note(&answer, now).next - now;
        assert_eq!(pause(good(60)), seconds(60));
        assert_eq!(pause(good(0)), seconds(1));
        assert_eq!(pause(good(86_400)), seconds(300));
        let bad = || Err(NetError::Timeout);
        let pauses: Vec<u64> = (0..7).map(|_| pause(bad()).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pause(good(60)), seconds(60));
        assert_eq!(pause(bad()), seconds(1));
        assert_eq!((name.found.into_inner(), name.failed.into_inner()), (4, 8));
    }
}
