//! What is counted, and for whom. Labels come from the configuration alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use plimsoll_http::method::Method;
use plimsoll_http::reason::Reason;

use crate::counter::{CodeCounters, Counter};
use crate::histogram::Histogram;
use crate::outcomes::Outcomes;

/// The names behind the numbers: sites, pools and listeners in the order of the configuration.
#[derive(Debug, Default)]
pub struct Labels {
    /// Names of sites.
    pub sites: Vec<Arc<str>>,
    /// Pools and the servers in them.
    pub pools: Vec<PoolLabels>,
    /// Addresses of listeners, and behind them those of ports.
    pub listeners: Vec<String>,
    /// Which of the listeners relay connections.
    pub relays: Vec<usize>,
    /// Addresses that datagrams come to.
    pub ports: Vec<String>,
    /// Names of caches.
    pub caches: Vec<Arc<str>>,
    /// Where rules are written that refuse clients.
    pub rules: Vec<String>,
}

/// A pool and its servers.
#[derive(Debug)]
pub struct PoolLabels {
    /// Name of the pool.
    pub name: Arc<str>,
    /// Names of its servers.
    pub servers: Vec<Arc<str>>,
}

/// What one worker counts. What has a name is counted on under it when the configuration changes.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// By site.
    pub sites: Box<[Arc<SiteMetrics>]>,
    /// By pool.
    pub pools: Box<[Arc<PoolMetrics>]>,
    /// By pool, and by server in it.
    servers: Box<[Box<[Arc<ServerMetrics>]>]>,
    /// By listener.
    pub listeners: Box<[Arc<ListenerMetrics>]>,
    /// By port.
    pub ports: Box<[Arc<PortMetrics>]>,
    /// By cache.
    pub caches: Box<[Arc<CacheMetrics>]>,
    /// Requests that were refused, by rule.
    pub denied: Box<[Arc<Counter>]>,
    /// What has no name in the configuration.
    pub totals: Arc<Totals>,
    /// What came of what is served under this configuration.
    pub outcomes: Outcomes,
}

/// What a worker counts whatever it serves.
#[derive(Debug)]
pub struct Totals {
    /// Exchanges that did not end with the server's own answer, by reason.
    pub reasons: Box<[Counter]>,
    /// Fields that were dropped because their name holds an underscore.
    pub aliases_dropped: Counter,
    /// Access log lines that no one could take.
    pub log_dropped: Counter,
    /// Connections that ended in a panic.
    pub panics: Counter,
    /// Requests that were refused for want of memory or time.
    pub overload_refused: Counter,
    /// How late this worker came to its last turn, in microseconds.
    pub lag: Counter,
    /// How often it has looked after what waits for a time: it does so ten times a second.
    pub turns: Counter,
    /// Connections whose handshake waits for its turn.
    pub handshakes_waiting: Counter,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            reasons: by_reason(),
            aliases_dropped: Counter::default(),
            log_dropped: Counter::default(),
            panics: Counter::default(),
            overload_refused: Counter::default(),
            lag: Counter::default(),
            turns: Counter::default(),
            handshakes_waiting: Counter::default(),
        }
    }
}

fn by_reason() -> Box<[Counter]> {
    Reason::ALL.iter().map(|_| Counter::default()).collect()
}

/// What is counted for a site.
#[derive(Debug, Default)]
pub struct SiteMetrics {
    /// Answers, by method and status code.
    pub requests: [CodeCounters; Method::COUNT],
    /// From the first byte of a request to the last byte of its answer.
    pub duration: Histogram,
    /// Requests above a limit.
    pub limited: Counter,
}

/// What is counted for a pool.
#[derive(Debug, Default)]
pub struct PoolMetrics {
    /// How long opening a connection took.
    pub connect: Histogram,
    /// From the request to the first byte of the answer.
    pub first_byte: Histogram,
    /// Exchanges on a new connection.
    pub connections_new: Counter,
    /// Exchanges on a connection that was kept.
    pub connections_reused: Counter,
    /// Those that could not be opened for want of something on this side: a port, an address, a descriptor.
    pub connections_wanting: Counter,
    /// New ones with TLS whose two ends did not know each other.
    pub tls_new: Counter,
    /// New ones with TLS that took up a session from before.
    pub tls_resumed: Counter,
    /// Requests that were sent once more.
    pub retries: Counter,
    /// Requests that were not, because the budget was spent.
    pub retries_refused: Counter,
    /// Second servers that were asked while the first one let wait, and answered first.
    pub hedges_won: Counter,
    /// Those that did not.
    pub hedges_lost: Counter,
    /// Copies of requests that were answered, and not compared.
    pub mirrored: Counter,
    /// Copies that were answered as the request was.
    pub mirrored_same: Counter,
    /// Copies that were not.
    pub mirrored_different: Counter,
    /// Copies that were not answered.
    pub mirrored_failed: Counter,
    /// Requests that were not copied, or whose answer never came whole.
    pub mirrored_skipped: Counter,
    /// How many requests it may have from this worker, where that is found out.
    pub concurrency_limit: Counter,
}

/// What is counted for a server.
#[derive(Debug)]
pub struct ServerMetrics {
    /// Answers, by status code.
    pub requests: CodeCounters,
    /// Attempts that failed, by reason.
    pub errors: Box<[Counter]>,
    /// How often it was ejected.
    pub ejections: Counter,
}

impl Default for ServerMetrics {
    fn default() -> Self {
        Self {
            requests: CodeCounters::default(),
            errors: by_reason(),
            ejections: Counter::default(),
        }
    }
}

/// What is counted for a listener.
#[derive(Debug, Default)]
pub struct ListenerMetrics {
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections that were closed because their client had too many.
    pub refused: Counter,
    /// Connections whose TLS failed.
    pub tls_failed: Counter,
    /// Connections whose time was over while their handshake waited for its turn.
    pub tls_late: Counter,
    /// Connections of which nobody who may has said whom they are from.
    pub unannounced: Counter,
    /// Relayed connections whose first bytes no rule took.
    pub unmatched: Counter,
    /// Bytes from clients whose connections are relayed.
    pub bytes_in: Counter,
    /// Bytes to them.
    pub bytes_out: Counter,
    /// Connections that have ended.
    pub closed: Counter,
    /// Connections with an exchange under way.
    pub active: Counter,
}

/// What is counted for an address that datagrams come to, beside its flows, which count as connections.
#[derive(Debug, Default)]
pub struct PortMetrics {
    /// From clients.
    pub received: Traffic,
    /// To clients.
    pub sent: Traffic,
    /// Datagrams that went no further, by [`Dropped`].
    pub dropped: [Counter; Dropped::ALL.len()],
}

/// What came, or went.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: Counter,
    /// Bytes in them.
    pub bytes: Counter,
}

impl Traffic {
    /// Counts datagrams with so many bytes together.
    pub fn add(&self, datagrams: u64, bytes: u64) {
        self.datagrams.add(datagrams);
        self.bytes.add(bytes);
    }
}

/// Why a datagram went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// There is no flow for it, and none may begin.
    Refused,
    /// No server could be reached, or none has room.
    NoServer,
    /// Its sender cannot be answered, or does not say soundly whom it is from.
    Unsound,
    /// The network took no more.
    Unsent,
}

impl Dropped {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Refused, Self::NoServer, Self::Unsound, Self::Unsent];

    /// The word for the metric's label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::NoServer => "no_server",
            Self::Unsound => "unsound",
            Self::Unsent => "unsent",
        }
    }
}

/// What is counted for a cache.
#[derive(Debug, Default)]
pub struct CacheMetrics {
    /// Requests, by [`CacheResult`].
    pub requests: [Counter; CacheResult::ALL.len()],
}

impl CacheMetrics {
    /// Counts a request.
    pub fn count(&self, result: CacheResult) {
        if let Some(counter) = self.requests.get(result as usize) {
            counter.add(1);
        }
    }
}

/// What a cache did with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// It answered.
    Hit,
    /// It answered with what was being fetched for another one.
    Collapsed,
    /// It answered with what was no longer fresh, and had it refreshed.
    Stale,
    /// It answered with what was no longer fresh, as no server could.
    StaleError,
    /// What it had was no longer fresh, and the server confirmed it.
    Revalidated,
    /// What it had was no longer fresh, and a server answered.
    Expired,
    /// It had nothing, and a server answered.
    Miss,
    /// It was not for the cache.
    Bypass,
}

impl CacheResult {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Hit,
        Self::Collapsed,
        Self::Stale,
        Self::StaleError,
        Self::Revalidated,
        Self::Expired,
        Self::Miss,
        Self::Bypass,
    ];

    /// Tells whether it cost no server a request of its own.
    pub const fn is_hit(self) -> bool {
        matches!(
            self,
            Self::Hit | Self::Collapsed | Self::Stale | Self::StaleError
        )
    }

    /// The word for logs and the metric's label.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Collapsed => "collapsed",
            Self::Stale => "stale",
            Self::StaleError => "stale_error",
            Self::Revalidated => "revalidated",
            Self::Expired => "expired",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }
}

impl PortMetrics {
    /// Counts datagrams that went no further.
    pub fn count_dropped(&self, count: u64, why: Dropped) {
        if let Some(counter) = self.dropped.get(why as usize) {
            counter.add(count);
        }
    }
}

impl WorkerMetrics {
    /// Zeros for everything that has a label.
    pub fn new(labels: &Labels) -> Self {
        Self::default().succeed(&Labels::default(), labels)
    }

    /// What is counted from now on under the names in `new`: what had its name in `old` goes on.
    #[must_use]
    pub fn succeed(&self, old: &Labels, new: &Labels) -> Self {
        let pools = |labels: &Labels| -> Vec<Arc<str>> {
            let pools = labels.pools.iter();
            pools.map(|pool| Arc::clone(&pool.name)).collect()
        };
        Self {
            sites: carry((&old.sites, &self.sites), &new.sites),
            pools: carry((&pools(old), &self.pools), &pools(new)),
            servers: self.servers(old, new),
            listeners: carry((&old.listeners, &self.listeners), &new.listeners),
            ports: carry((&old.ports, &self.ports), &new.ports),
            caches: carry((&old.caches, &self.caches), &new.caches),
            denied: carry((&old.rules, &self.denied), &new.rules),
            totals: Arc::clone(&self.totals),
            outcomes: Outcomes::default(),
        }
    }

    fn servers(&self, old: &Labels, new: &Labels) -> Box<[Box<[Arc<ServerMetrics>]>]> {
        let known = old.pools.iter().zip(&self.servers);
        let known: BTreeMap<_, _> = known
            .map(|(pool, kept)| (&pool.name, (&*pool.servers, &**kept)))
            .collect();
        let pools = new.pools.iter();
        pools
            .map(|pool| {
                let before = known.get(&pool.name).copied();
                carry(before.unwrap_or_default(), &pool.servers)
            })
            .collect()
    }

    /// Counts an exchange that ended for `reason`.
    pub fn count_reason(&self, reason: Reason) {
        if let Some(counter) = self.totals.reasons.get(reason as usize) {
            counter.add(1);
        }
    }

    /// The counters of one pool.
    pub fn pool(&self, pool: usize) -> Option<&PoolMetrics> {
        self.pools.get(pool).map(Arc::as_ref)
    }

    /// The counters of one listener.
    pub fn listener(&self, listener: usize) -> Option<&ListenerMetrics> {
        self.listeners.get(listener).map(Arc::as_ref)
    }

    /// The counters of one server.
    pub fn server(&self, pool: usize, server: usize) -> Option<&ServerMetrics> {
        Some(self.servers.get(pool)?.get(server)?)
    }
}

/// A counter for each of `names`: the one that has the name already, or a new one. Of several with one name
/// the first one is the same.
fn carry<N: Ord, T: Default>((names, kept): (&[N], &[Arc<T>]), new: &[N]) -> Box<[Arc<T>]> {
    let mut known: BTreeMap<&N, &Arc<T>> = names.iter().zip(kept).rev().collect();
    let counter = |name| known.remove(name).map(Arc::clone).unwrap_or_default();
    new.iter().map(counter).collect()
}

impl ServerMetrics {
    /// Counts an attempt that failed for `reason`.
    pub fn count_error(&self, reason: Reason) {
        if let Some(counter) = self.errors.get(reason as usize) {
            counter.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(sites: &[&str], pools: &[(&str, &[&str])]) -> Labels {
        let names = |names: &[&str]| names.iter().map(|name| (*name).into()).collect();
        let pool = |(name, servers): &(&str, &[&str])| PoolLabels {
            name: (*name).into(),
            servers: names(servers),
        };
        Labels {
            sites: names(sites),
            pools: pools.iter().map(pool).collect(),
            ..Labels::default()
        }
    }

    #[test]
    fn what_keeps_its_name_is_counted_on_wherever_it_stands() {
        let old = labels(&["a", "b"], &[("p", &["s", "t"]), ("q", &["s"])]);
        let before = WorkerMetrics::new(&old);
        before.sites[1].limited.add(2);
        before.server(0, 1).unwrap().ejections.add(3);
        before.count_reason(Reason::DnsError);
        let new = labels(&["c", "b"], &[("q", &["t"]), ("p", &["t", "u"])]);
        let after = before.succeed(&old, &new);
        // Who still serves as before counts into the same.
        before.sites[1].limited.add(1);
        let limited = |site: usize| after.sites[site].limited.value();
        assert_eq!((limited(0), limited(1)), (0, 3));
        let ejections = |pool, server| after.server(pool, server).unwrap().ejections.value();
        assert_eq!(
            (ejections(0, 0), ejections(1, 0), ejections(1, 1)),
            (0, 3, 0)
        );
        assert_eq!(after.totals.reasons[Reason::DnsError as usize].value(), 1);
    }
}
