//! Pools: their servers, how one is picked, and what is done about those that fail.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{KeyPair, Place, SocketOptions, Source};

/// Servers that can stand in for each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// Its name; for a pool made from `proxy host:port`, that text.
    pub name: Arc<str>,
    /// How a server is picked.
    pub balance: Balance,
    /// Its servers in written order.
    pub servers: Vec<Server>,
    /// Deadlines of its upstream connections.
    pub timeouts: ServerTimeouts,
    /// What its servers speak.
    pub protocol: Protocol,
    /// How its servers are spoken with over TLS; `None` means without.
    pub tls: Option<ServerTls>,
    /// In which version of the PROXY protocol its servers are told who the client is; `None` means in
    /// none.
    pub proxy_protocol: Option<ProxyVersion>,
    /// From where connections to its servers are made.
    pub source: Source,
    /// What the system does for them. Default nothing.
    pub socket: SocketOptions,
    /// Idle upstream connections.
    pub keep_alive: KeepAlive,
    /// How servers are checked; a server is up when all checks say so.
    pub checks: Vec<Check>,
    /// When a server that fails requests is ejected; `None` means never.
    pub outlier: Option<Outlier>,
    /// Below this many percent of servers that are well, those that only failed checks or were
    /// ejected are used as well; 0 means when there is no other, `None` never.
    pub fail_open: Option<u8>,
    /// How long a server that comes back takes to its full share.
    pub slow_start: Option<Duration>,
    /// How many requests may be under way; `None` means no limit.
    pub max_requests: Option<NonZeroU32>,
    /// What becomes of the requests of a server that is found down.
    pub on_down: OnDown,
    /// How many servers of each tier and zone this node uses; `None` means all.
    pub subset: Option<NonZeroU32>,
    /// What is tried again.
    pub retry: Retry,
    /// When a second server is asked for a slow answer; `None` means never.
    pub hedge: Option<Hedge>,
    /// Requests that wait while every server is full; `None` means they are refused.
    pub queue: Option<Queue>,
    /// Between what the limit on requests under way follows the times of answers; `None` means that
    /// there is no such limit.
    pub adaptive: Option<Adaptive>,
    /// How a client is kept on its server; `None` means it is not.
    pub sticky: Option<Sticky>,
    /// Where it is written.
    pub place: Place,
}

/// What becomes of the requests of a server that its checks find down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnDown {
    /// They go on.
    #[default]
    Finish,
    /// All connections to it are closed.
    CloseConnections,
}

/// How a server is picked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Balance {
    /// Smooth weighted round robin (the default).
    RoundRobin,
    /// Weighted random.
    Random,
    /// The less loaded of two random servers.
    TwoChoices,
    /// The least loaded server.
    LeastConnections,
    /// The server with the lowest peak-EWMA latency times load.
    LeastTime,
    /// The first server with room.
    First,
    /// A consistent-hash ring with bounded load.
    Hash(HashKey),
    /// Maglev's lookup table.
    Maglev(HashKey),
}

/// What of a request is hashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashKey {
    /// The client's address.
    ClientIp,
    /// The fingerprint of how the client begins TLS.
    Fingerprint,
    /// The host.
    Host,
    /// The canonical path.
    Path,
    /// The canonical path and the query.
    Uri,
    /// One query parameter.
    Query(Box<str>),
    /// One header field, in lower case.
    Header(Box<str>),
    /// One cookie.
    Cookie(Box<str>),
}

/// One server of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Host and port as written; the `server` of log lines and metrics.
    pub name: Arc<str>,
    /// Where it is.
    pub address: ServerAddress,
    /// Its share of the requests. Default 1, at most 65,535; 0 takes nothing new.
    pub weight: u32,
    /// Requests in flight at once, over all workers; `None` means no limit.
    pub max_connections: Option<NonZeroU32>,
    /// Servers of a higher tier are used only when none of a lower one may be picked; 1 is `backup`.
    pub tier: u8,
    /// Where it is.
    pub zone: Option<Box<str>>,
    /// Where its checks go; `None` means where requests go.
    pub check_address: Option<IpAddr>,
    /// What stands in the ids of QUIC connections that it gives (draft-ietf-quic-load-balancers).
    pub quic_id: Option<Box<[u8]>>,
    /// Where it is written.
    pub place: Place,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServerAddress {
    /// An address and a port.
    Ip(IpAddr, u16),
    /// A host name, resolved when the configuration is loaded, and a port.
    Name(Box<str>, u16),
}

/// How servers are spoken with over TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTls {
    /// Whether they have to prove who they are. Default true.
    pub verify: bool,
    /// The name that all of them have; `None` means that each has its own, or its address.
    pub sni: Option<Box<str>>,
    /// A file with those whose word on them counts; `None` means those that the system trusts.
    pub ca: Option<Box<str>>,
    /// What they are shown that ask who we are.
    pub identity: Option<KeyPair>,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            verify: true,
            sni: None,
            ca: None,
            identity: None,
        }
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}

/// Deadlines of an upstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerTimeouts {
    /// From the first SYN to an established connection. Default 3 s.
    pub connect: Duration,
    /// From the end of the request to the end of the response head. Default 60 s.
    pub response: Duration,
}

/// A version of HTTP that servers speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection. The default.
    #[default]
    Http1,
    /// HTTP/2, many at once.
    Http2,
}

impl Protocol {
    /// The version, as a configuration says it.
    pub fn version(self) -> &'static str {
        match self {
            Self::Http1 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// Idle upstream connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeepAlive {
    /// How many each worker keeps for a server; 0 closes each after its response. Default 128.
    pub max: u16,
    /// How long one may stay idle. Default 30 s, below what most servers allow.
    pub idle: Duration,
}

/// How servers are checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// Between two checks. Default 2 s.
    pub every: Duration,
    /// The same while a server's state is changing. Default `every`, at most 1 s.
    pub fast: Duration,
    /// The same while a server is down. Default `every`.
    pub down: Duration,
    /// For a whole check. Default 1 s.
    pub timeout: Duration,
    /// Failed checks in a row that take a server down. Default 3.
    pub fall: u32,
    /// Passed checks in a row that bring it up. Default 2.
    pub rise: u32,
    /// Another port than the server's.
    pub port: Option<u16>,
    /// Whether it goes over TLS where requests to the server do. Default true.
    pub tls: bool,
    /// Whether it is announced in the PROXY protocol where requests are. Default true.
    pub proxy_protocol: bool,
    /// Whether servers are up before their first check. Default true.
    pub initially_up: bool,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    /// Whether a connection can be opened.
    Tcp,
    /// An HTTP request.
    Http {
        /// Method.
        method: Box<str>,
        /// Path and query.
        path: Box<str>,
        /// `Host`; `None` means the server's name.
        host: Option<Box<str>>,
        /// Status codes that pass, as ranges.
        expect: Vec<(u16, u16)>,
        /// A field that must be there, and a text in its value.
        header: Option<(Box<str>, Box<str>)>,
        /// A text in the body.
        body: Option<Box<str>>,
    },
    /// Whether a TLS handshake is answered.
    Tls,
    /// The gRPC health service; the name of a service, or nothing for the whole server.
    Grpc(Box<str>),
    /// PostgreSQL's startup.
    Postgres {
        /// Who logs in.
        user: Box<str>,
        /// Where.
        database: Box<str>,
        /// With which password, where the server wants one.
        password: Option<Box<str>>,
        /// What it has to be.
        role: Option<Role>,
    },
    /// MySQL's greeting, or what it has to be.
    Mysql {
        /// Who logs in.
        user: Box<str>,
        /// What it has to be.
        role: Option<Role>,
    },
    /// `PING`, or what it has to be.
    Redis(Option<Role>),
    /// SMTP's greeting.
    Smtp,
    /// Texts to send and texts to wait for.
    Script(Vec<ScriptStep>),
    /// A datagram, and what has to be in the answer; both as [`payload`] reads them.
    Udp {
        /// What is sent.
        send: Box<str>,
        /// What has to be in the answer.
        expect: Box<str>,
    },
    /// A question to a name server, for this name.
    Dns(Box<str>),
    /// A program.
    Exec(Vec<Box<str>>),
    /// What an agent beside the server says of it.
    Agent,
}

/// The bytes that a text stands for, in which `\xHH` is one of any value and `\\` a backslash; nothing when
/// something else stands behind a backslash.
pub fn payload(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = match (first, behind) {
            (b'\\', [b'\\', left @ ..]) => {
                out.push(b'\\');
                left
            }
            (b'\\', [b'x', high, low, left @ ..]) => {
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).ok();
                let digits = digits.filter(|_| high.is_ascii_hexdigit());
                out.push(u8::from_str_radix(digits?, 16).ok()?);
                left
            }
            (b'\\', _) => return None,
            _ => {
                out.push(first);
                behind
            }
        };
    }
    Some(out)
}

/// What a database is among its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows another one.
    Replica,
}

impl Role {
    /// All of them, as they are written.
    pub const NAMES: [(&str, Self); 2] = [("primary", Self::Primary), ("replica", Self::Replica)];
}

/// A step of a scripted check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScriptStep {
    /// Sends a text.
    Send(Box<str>),
    /// Waits for a text.
    Expect(Box<str>),
}

/// When a server that fails requests is ejected, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlier {
    /// Answers with 5xx, or failures, in a row; off by default.
    pub consecutive_5xx: Option<NonZeroU32>,
    /// Answers with 502, 503 or 504, or failures, in a row. Default 5.
    pub consecutive_gateway: Option<NonZeroU32>,
    /// Failures in a row: no connection, no answer, a broken one. Default 5.
    pub consecutive_failures: Option<NonZeroU32>,
    /// The failed share of an interval in percent; off by default.
    pub failure_percent: Option<u8>,
    /// How many standard deviations below the pool's mean success rate, in thousandths; off by default.
    pub success_rate: Option<u32>,
    /// How often shares are looked at. Default 10 s.
    pub interval: Duration,
    /// Requests in an interval below which a share means nothing. Default 100.
    pub volume: u32,
    /// The first rest; the nth is n times as long. Default 30 s.
    pub eject: Duration,
    /// The longest rest. Default 300 s.
    pub eject_max: Duration,
    /// The part of a pool that may rest at once, in percent. Default 50.
    pub max_ejected: u8,
}

/// What is tried again, with another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Further attempts. Default 2.
    pub attempts: u32,
    /// Retries for every hundred requests, over ten seconds. Default 20.
    pub budget: u8,
    /// Retries a second that the budget never goes below. Default 10.
    pub reserve: u32,
    /// After a connection that ended before an answer. Default true.
    pub on_reset: bool,
    /// After an answer that did not begin in time.
    pub on_timeout: bool,
    /// After these status codes.
    pub on_status: Vec<u16>,
    /// For one attempt, while there are others left; `None` means the response timeout.
    pub per_try: Option<Duration>,
}

/// When a request that waits for its answer is sent to a second server, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hedge {
    /// After what wait.
    pub after: HedgeAfter,
    /// For how many of a hundred requests at most. Default 5.
    pub budget: u8,
}

/// How long a request waits for its answer before a second server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HedgeAfter {
    /// As long as this percentile of the pool's recent answers, in thousandths, took.
    Percentile(u16),
    /// A fixed time.
    Delay(Duration),
}

/// Requests that wait while every server is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// How many, over all workers.
    pub length: u32,
    /// How long each.
    pub timeout: Duration,
}

/// A limit on requests under way that follows the times of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adaptive {
    /// It never falls below this.
    pub min: u32,
    /// It never grows above this.
    pub max: u32,
}

/// How a client is kept on its server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sticky {
    /// How a client is known.
    pub by: StickyBy,
    /// What tokens of servers are made with: nodes with the same key understand each other.
    pub key: Box<str>,
    /// Whether a client stays on a server that is down by its checks.
    pub force: bool,
}

/// How a client is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StickyBy {
    /// A cookie of our own.
    Cookie(StickyCookie),
    /// A cookie of the application, whose value is replaced.
    Rewrite(Box<str>),
    /// A cookie of the application, whose value gets a prefix.
    Prefix(Box<str>),
    /// A part of the request, remembered.
    Key {
        /// Which part.
        key: HashKey,
        /// How long a client may stay away.
        idle: Duration,
        /// How many clients are remembered.
        entries: u32,
    },
    /// A cookie of the application or a field that answers and requests carry, remembered.
    Learn {
        /// [`HashKey::Cookie`] or [`HashKey::Header`].
        key: HashKey,
        /// How long a client may stay away.
        idle: Duration,
        /// How many clients are remembered.
        entries: u32,
    },
}

/// A cookie that says which server a client belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StickyCookie {
    /// Its name.
    pub name: Box<str>,
    /// `Path`. Default `/`.
    pub path: Box<str>,
    /// `Domain`; `None` means the host alone.
    pub domain: Option<Box<str>>,
    /// `Max-Age`; `None` means until the client is closed.
    pub max_age: Option<Duration>,
    /// How long a client may stay away before its cookie is passed over.
    pub max_idle: Option<Duration>,
    /// How long a cookie holds at most.
    pub max_life: Option<Duration>,
    /// `SameSite`. Default `Lax`.
    pub same_site: SameSite,
    /// `Secure`.
    pub secure: bool,
    /// `HttpOnly`. Default true.
    pub http_only: bool,
    /// Whether servers see it. Default false.
    pub visible: bool,
}

/// `SameSite` of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SameSite {
    /// `Strict`.
    Strict,
    /// `Lax`.
    Lax,
    /// `None`.
    None,
}
