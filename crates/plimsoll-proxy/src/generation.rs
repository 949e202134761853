//! Everything that one configuration compiled to. Immutable: workers read it without locks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use ipnet::IpNet;
use plimsoll_balance::Pool as Balancer;
use plimsoll_balance::ceiling::Ceiling;
use plimsoll_balance::concurrency::ConcurrencyTable;
use plimsoll_balance::rate::RateTable;
use plimsoll_config::model::{
    AccessLog, Adaptive, Buffer, ClientTimeouts, Config, Excess, HashKey, Hedge, Hide, LimitBy,
    Monitor, Overload, Priority, Protocol, ProxyVersion, RequestLimits, Retry, ServerTimeouts, Way,
};
use plimsoll_http::h1::parse::HeadLimits;
use plimsoll_net::connect::Connector;
use plimsoll_net::idle_pool::{Berth, Berths};
use plimsoll_net::listener::{First, Terms, TooLong};
use plimsoll_net::options::Options;
use plimsoll_observe::metrics::Labels;
use regex::bytes::Regex;
use tokio::sync::Notify;

use crate::acme::Challenges;
use crate::addresses::Addresses;
use crate::caching::{Caching, Keeping};
use crate::condition::{Body, Condition, Verdict};
use crate::datagrams::Service;
use crate::edits::Edits;
use crate::files::Files;
use crate::gate::Gate;
use crate::hashing::Turns;
use crate::http::compress::Compress;
use crate::http::line::Board;
use crate::key_set::KeySet;
use crate::material::{Material, SystemRoots};
use crate::page::OwnPage;
use crate::relay::Relay;
use crate::routes::Routes;
use crate::seen::Seen;
use crate::server_tls::ServerTls;
use crate::spool::Spool;
use crate::steps::Step;
use crate::sticky::Sticky;
use crate::strain::Memory;
use crate::template::Template;
use crate::tls::Secure;
use crate::tls::sessions::Sessions;
use crate::tls::stapled::Stapled;

/// A compiled configuration.
#[derive(Debug)]
pub struct Generation {
    /// Its number: the first one of a process is 1.
    pub number: u64,
    /// What it was compiled from, for whoever explains it.
    pub config: Arc<Config>,
    /// Listeners, by number.
    pub listeners: Vec<Listener>,
    /// Where datagrams come to, by number; among what is counted by listener they come behind those.
    pub ports: Vec<Port>,
    /// Sites, by number.
    pub sites: Vec<Site>,
    /// Pools, by number.
    pub pools: Vec<Pool>,
    /// Caches, by number.
    pub caches: Vec<Arc<Keeping>>,
    /// The highest number of a server, and one.
    pub servers: usize,
    /// Who gives servers their numbers.
    pub(crate) berths: Arc<Berths>,
    /// Worker threads; `None` means one a core.
    pub workers: Option<NonZeroU16>,
    /// Who may connect.
    pub gate: Gate,
    /// How many requests may be under way; nothing means no limit.
    pub(crate) ceiling: Option<Ceiling>,
    /// When requests are refused for want of memory or time.
    pub overload: Option<Overload>,
    /// How short memory is.
    pub memory: Arc<Memory>,
    /// What sessions of TLS share with those of generations before.
    pub sessions: Arc<Sessions>,
    /// Where bodies wait on disk.
    pub spool: Option<Arc<Spool>>,
    /// Directories whose files are served.
    pub files: Vec<Arc<Files>>,
    /// Files that rules read.
    pub materials: Vec<Material>,
    /// Key sets that are fetched.
    pub key_sets: Vec<Arc<KeySet>>,
    /// Certificates of sites, and what their issuers say of them.
    pub stapled: Vec<Arc<Stapled>>,
    /// Those whom the system trusts, if their word on servers counts.
    pub system_roots: Option<SystemRoots>,
    /// What issuers of certificates are shown.
    pub challenges: Arc<Challenges>,
    /// Parameters of queries that hold tokens or keys.
    pub(crate) secret_parameters: Vec<Box<[u8]>>,
    /// What limits have counted, by what tells them from each other.
    pub(crate) limiters: BTreeMap<u64, Arc<Limiter>>,
    /// Secret and random: what is kept over generations was made with it.
    pub(crate) seed: u64,
    /// How many passwords may be hashed at once.
    pub(crate) turns: Turns,
    /// The names of all that is counted.
    pub labels: Labels,
}

impl Generation {
    /// Tells whether whoever comes by a door of `other` could come by the same one of this, and the other way round.
    pub fn has_the_doors_of(&self, other: &Self) -> bool {
        let doors =
            |of: &Self| -> BTreeSet<u64> { of.listeners.iter().map(|at| at.door).collect() };
        doors(self) == doors(other)
    }
}

/// An address that is listened on, and the sites that answer there.
#[derive(Debug)]
pub struct Listener {
    /// The address.
    pub address: SocketAddr,
    /// Tells apart what clients come to: in another generation, who came by this door goes on where it is the same
    /// one.
    pub(crate) door: u64,
    /// What heads may measure: the widest limits of its sites, as the site is not known before.
    pub limits: HeadLimits,
    /// How long a head may take: the longest of its sites.
    pub header_timeout: Duration,
    /// Who says whom connections are from; nobody means that they come without that being said.
    pub(crate) announced_by: Vec<IpNet>,
    /// What the system does for connections.
    pub(crate) options: Options,
    /// How long a connection may wait for its next request.
    pub idle_timeout: Duration,
    pub(crate) hosts: Arc<Hosts>,
    /// Who serves its clients, if they come with TLS.
    pub(crate) tls: Option<Arc<Secure>>,
    /// What is done with its connections, if they carry no requests.
    pub(crate) relay: Option<Arc<Relay>>,
}

impl Listener {
    /// Tells whether clients come with TLS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// What is done there, in a word.
    pub fn kind(&self) -> &'static str {
        match (self.relay.is_some(), self.is_secure()) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "tcp",
            (true, true) => "tls",
        }
    }

    /// How it is listened on.
    pub fn terms(&self) -> Terms {
        let first = match (&self.relay, &self.tls) {
            (Some(relay), None) if !relay.rules.ask_first() => First::Either,
            _ => First::Client,
        };
        Terms {
            first,
            options: self.options,
        }
    }

    /// The number of the site for a host.
    pub fn site(&self, host: &[u8]) -> Option<usize> {
        self.hosts.site(host)
    }
}

/// An address that datagrams come to.
#[derive(Debug)]
pub struct Port {
    /// The address.
    pub address: SocketAddr,
    /// What is done with them.
    pub(crate) service: Arc<Service>,
}

impl Port {
    /// What becomes of datagrams that are too long for the path.
    pub fn too_long(&self) -> TooLong {
        self.service.too_long()
    }
}

/// Finds the site for a host.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    pub(crate) exact: HashMap<Box<[u8]>, usize>,
    /// `.example.com` for `*.example.com`.
    pub(crate) suffixes: HashMap<Box<[u8]>, usize>,
    /// Expressions, in written order.
    pub(crate) expressions: Vec<(Regex, usize)>,
    pub(crate) any: Option<usize>,
}

impl Hosts {
    /// The number of the site for a host.
    pub(crate) fn site(&self, host: &[u8]) -> Option<usize> {
        // A checked authority has a host of at most 255 bytes; HTTP/1.0 may come without one.
        let mut lower = [0; 260];
        let lower = lower.get_mut(..host.len())?;
        lower.copy_from_slice(host);
        lower.make_ascii_lowercase();
        self.find(lower)
    }

    /// The number of the site for `host`, in lower case: an exact name first, then the longest
    /// wildcard, then the first expression in written order, then `*`.
    pub(crate) fn find(&self, host: &[u8]) -> Option<usize> {
        if let Some(&site) = self.exact.get(host) {
            return Some(site);
        }
        if !self.suffixes.is_empty() {
            let dots = host
                .iter()
                .enumerate()
                .filter(|(_, b)| **b == b'.')
                .map(|(at, _)| at);
            let suffixes = dots.filter_map(|at| host.get(at..));
            if let Some(&site) = suffixes
                .filter_map(|suffix| self.suffixes.get(suffix))
                .next()
            {
                return Some(site);
            }
        }
        let mut expressions = self.expressions.iter();
        let found = expressions.find(|(expression, _)| expression.is_match(host));
        found.map(|(_, site)| *site).or(self.any)
    }
}

/// What is served for a set of hosts.
#[derive(Debug)]
pub struct Site {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Its number.
    pub index: usize,
    /// The number of its name among those that are counted.
    pub label: usize,
    /// Its routes in written order; the first match wins.
    pub routes: Routes,
    /// Whose word on clients counts.
    pub trust: Vec<IpNet>,
    /// Deadlines of its client connections.
    pub timeouts: ClientTimeouts,
    /// What a request may measure.
    pub limits: RequestLimits,
    /// How many requests may be under way; nothing means no limit.
    pub(crate) ceiling: Option<Ceiling>,
    /// What is done with its requests before what their routes do, in written order.
    pub(crate) steps: Vec<Step>,
    /// Whether any of its routes keeps answers.
    pub(crate) caches: bool,
    /// Whether it asks its clients for certificates.
    pub(crate) asks_for_certificates: bool,
    /// What is hidden from its clients.
    pub(crate) hide: Hide,
    /// Own pages for errors that no route answers.
    pub(crate) pages: Vec<OwnPage>,
    /// A path that tells an outer balancer whether to come here.
    pub(crate) monitor: Option<Monitor>,
    /// What is done to the fields of answers that no route gives.
    pub(crate) response: Edits,
    /// Its access logs, by number in the worker's list.
    pub logs: Vec<usize>,
    /// Its access logs as configured, for whoever opens them.
    pub log_targets: Vec<AccessLog>,
}

/// Which requests go where.
#[derive(Debug)]
pub struct Route {
    /// Which paths it takes.
    pub path: PathMatch,
    /// Which methods it takes; empty means all.
    pub methods: Vec<Box<[u8]>>,
    /// What else its requests must have, all of it.
    pub(crate) conditions: Vec<Condition>,
    /// How much of a body is read before a server is asked.
    pub buffer: Buffer,
    /// How much of an answer waits here for its client.
    pub(crate) response_buffer: Buffer,
    /// Whether it takes only requests that a server sends to it.
    pub is_internal: bool,
    /// Where its answers are kept; nothing means nowhere.
    pub(crate) caching: Option<Caching>,
    /// What is done with its requests, in written order.
    pub(crate) steps: Vec<Step>,
    /// What is done to the fields of its requests, by the site and by itself.
    pub(crate) request: Edits,
    /// What is done to the fields of its answers, by the site and by itself.
    pub(crate) response: Edits,
    /// Own pages for errors, its own before those of the site.
    pub(crate) pages: Vec<OwnPage>,
    /// Which of its answers are compressed.
    pub(crate) compress: Option<Compress>,
    /// Which of its requests go first.
    pub priority: Priority,
    /// What it does.
    pub(crate) action: Action,
    /// `file:line`, for the access log.
    pub place: Box<str>,
    /// Its number in its site.
    pub(crate) number: usize,
}

impl Route {
    /// A group of the expression for its path.
    pub(crate) fn path_group<'a>(&self, seen: &Seen<'a>, group: usize) -> Option<&'a [u8]> {
        self.conditions
            .iter()
            .find_map(|condition| condition.path_group(seen, group))
    }

    /// What keeps a request away, before its conditions are asked.
    pub(crate) fn misses(&self, seen: &Seen<'_>) -> Option<Miss> {
        let method = seen.head.method_span.of(seen.bytes);
        let mut methods = self.methods.iter();
        if self.is_internal != seen.origin.is_inside {
            Some(Miss::Internal)
        } else if !self.path.takes(seen.path()) {
            Some(Miss::Path)
        } else if !self.methods.is_empty() && !methods.any(|allowed| **allowed == *method) {
            Some(Miss::Method)
        } else {
            None
        }
    }

    /// Tells whether it takes a request, of whose body this is known.
    pub fn judge(&self, seen: &Seen<'_>, body: Body<'_>) -> Verdict {
        let conditions = &self.conditions;
        let takes = self.misses(seen).is_none() && conditions.iter().all(|c| c.holds(seen));
        if !takes {
            return Verdict::Passes;
        }
        // Bodies last: they are read only for routes that could take the request.
        let of_body = self.conditions.iter().filter(|c| c.asks_for_body());
        of_body
            .map(|condition| condition.judge_body(seen, body, self.buffer.memory))
            .find(|verdict| *verdict != Verdict::Takes)
            .unwrap_or(Verdict::Takes)
    }
}

/// Why a route does not take a request, whatever its conditions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// Only servers send requests there, or the other way round.
    Internal,
    /// It is for other paths.
    Path,
    /// It is for other methods.
    Method,
}

/// Which paths a route takes.
#[derive(Debug)]
pub enum PathMatch {
    /// Every path.
    Any,
    /// One path.
    Exact(Box<[u8]>),
    /// Everything below; ends in a slash.
    Prefix(Box<[u8]>),
    /// Every path that this expression, made of a pattern, matches.
    Pattern(Regex),
}

impl PathMatch {
    /// Tells whether it takes a path.
    pub fn takes(&self, path: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => path == &**exact,
            // `/static/*` takes `/static` too: a trailing slash carries no meaning.
            Self::Prefix(prefix) => {
                path.starts_with(prefix) || prefix.strip_suffix(b"/") == Some(path)
            }
            Self::Pattern(expression) => expression.is_match(path),
        }
    }
}

/// What a route does.
#[derive(Debug)]
pub(crate) enum Action {
    /// Sends the request to a pool, by number.
    Proxy(usize),
    /// Answers it.
    Respond {
        /// Status code.
        status: u16,
        /// Plain text.
        body: Template,
    },
    /// Sends the client elsewhere.
    Redirect {
        /// Status code.
        status: u16,
        /// Where to.
        to: Template,
    },
    /// Answers it with a file.
    Files(Arc<Files>),
    /// Sends shares of the requests to several pools.
    Split(Split),
}

/// Shares of requests, for several pools.
#[derive(Debug)]
pub(crate) struct Split {
    /// Where the share of each pool ends, and the pool's number.
    pub(crate) ends: Vec<(u64, usize)>,
    /// What keeps a client with its pool; nothing draws lots for each request.
    pub(crate) sticky: Option<HashKey>,
}

impl Split {
    /// The pool for a point from the whole range of numbers.
    pub(crate) fn pool(&self, point: u64) -> Option<usize> {
        let whole = self.ends.last()?.0;
        let at = u64::try_from((u128::from(point) * u128::from(whole)) >> 64).ok()?;
        self.ends
            .iter()
            .find(|(end, _)| at < *end)
            .map(|(_, pool)| *pool)
    }
}

/// How much clients may ask for, and how much they have.
#[derive(Debug)]
pub struct Limiter {
    /// What is counted.
    pub(crate) table: LimitTable,
    /// Who has one for himself.
    pub(crate) by: LimitBy,
    /// What becomes of a request above it.
    pub(crate) action: Excess,
    /// What a client is told of it: `RateLimit-Policy`.
    pub(crate) policy: Box<str>,
    /// Secret, so that nobody can choose keys that meet in one place of the table.
    pub(crate) seed: u64,
}

/// What a limit counts.
#[derive(Debug)]
pub(crate) enum LimitTable {
    /// Requests in a time.
    Rate(RateTable),
    /// Requests under way.
    Concurrent(Arc<ConcurrencyTable>),
    /// Bytes of bodies in a time.
    Bytes(RateTable, Way),
}

/// Servers that can stand in for each other.
#[derive(Debug)]
pub struct Pool {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Its number.
    pub index: usize,
    /// A number that it has in every generation.
    pub(crate) id: u64,
    /// Who serves a request.
    pub balancer: Arc<Balancer>,
    /// What of a request is hashed, when the balancer hashes.
    pub key: Option<HashKey>,
    /// Its servers in the balancer's order.
    pub servers: Vec<Server>,
    /// Deadlines of its upstream connections.
    pub timeouts: ServerTimeouts,
    /// What its servers speak.
    pub protocol: Protocol,
    /// How servers are told whom a connection is for; nothing means not at all.
    pub proxy_protocol: Option<ProxyVersion>,
    /// How connections to them are opened.
    pub connector: Connector,
    /// How long an upstream connection may be idle.
    pub keep_for: Duration,
    /// How many idle connections a worker keeps for each server.
    pub keep_max: usize,
    /// What is tried again.
    pub retry: Retry,
    /// When a second server is asked; nothing means never.
    pub hedge: Option<Hedge>,
    /// How many requests it may have; nothing means as many as its servers may.
    pub(crate) ceiling: Option<Ceiling>,
    /// Who may wait while every server is full; nothing means nobody.
    pub line: Option<Board>,
    /// Between what a limit on its requests follows the times of answers; nothing means none.
    pub adaptive: Option<Adaptive>,
    /// How a client is kept on its server; nothing means that it is not.
    pub(crate) sticky: Option<Sticky>,
}

/// Where requests go.
#[derive(Debug)]
pub struct Server {
    /// Its name in logs and metrics: host and port as written.
    pub name: Arc<str>,
    /// Where connections to it are kept.
    pub berth: Arc<Berth>,
    /// Where it is; more than one address for a name that has more.
    pub addresses: Addresses,
    /// How it is spoken with over TLS; nothing means without.
    pub tls: Option<ServerTls>,
    /// Tells those who have a connection to it that it is down; nothing where they are left alone.
    pub(crate) cut: Option<Arc<Notify>>,
}

impl Server {
    /// A number that no other server has, as long as anyone knows this one.
    pub fn id(&self) -> usize {
        self.berth.number()
    }

    /// Has the connections closed that exchanges have to it; false where they are left alone.
    pub fn cut(&self) -> bool {
        if let Some(cut) = &self.cut {
            cut.notify_waiters();
        }
        self.cut.is_some()
    }
}
