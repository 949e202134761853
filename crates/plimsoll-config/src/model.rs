//! The typed configuration: what the program runs, with every default filled in.
//!
//! Nothing here is a string that still has to be parsed, and nothing is optional where a default
//! exists. Names point at pools by index, so a reference that does not resolve cannot be expressed.

mod access;
mod acme;
mod admin;
mod cache;
mod compress;
mod condition;
mod files;
mod pool;
mod socket;
mod step;
mod syslog;
mod tcp;
mod template;
mod tls;
mod udp;
mod url;
mod user;

pub use access::{
    Access, ApiKey, BasicAuth, Bearer, Cors, ForwardAuth, Jwt, KeySet, KeySource, Maintenance,
    SignedUrl, Whom,
};
pub use acme::{Acme, Challenge, DnsUpdate, ExternalAccount, Issuer};
pub use admin::{Admin, AdminAddress, SOCKET};
pub use cache::{Cache, CacheDisk, CacheKey, Parameters};
pub use compress::Compress;
pub(crate) use compress::TYPES as COMPRESSED_TYPES;
pub use condition::{
    Asked, BodyPart, Condition, JsonStep, NamedMatch, Part, Test, TimeSpan, expression,
};
pub use files::{Files, TryFile};
pub use pool::{
    Adaptive, Balance, Check, HashKey, Hedge, HedgeAfter, KeepAlive, OnDown, Outlier, Pool, Probe,
    Protocol, ProxyVersion, Queue, Retry, Role, SameSite, ScriptStep, Server, ServerAddress,
    ServerTimeouts, ServerTls, Sticky, StickyBy, StickyCookie, payload,
};
pub use socket::{SocketOptions, Source};
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
pub use step::{Abort, Change, CookieEdit, Fault, HeaderEdit, Mirror, QueryEdit, Rewrite, Step};
pub use syslog::{FACILITIES, NoPlace, SEVERITIES, Syslog, SyslogForm, SyslogPlace, TAG_MAX};
pub use tcp::{Opening, Spoken, TcpRule, TcpService};
pub use template::{Piece, Stage, Template, Variable};
pub(crate) use template::{VARIABLES, VariableRow};
pub use tls::{
    CertificatePart, ClientCertificate, Internal, KeyPair, Pass, Staple, Tickets, Verify,
};
pub use udp::UdpService;
pub(crate) use url::BadUrl;
pub use url::Url;
pub use user::User;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Worker threads; `None` means one a core.
    pub workers: Option<NonZeroU16>,
    /// Where it is asked, and changed.
    pub admin: Admin,
    /// As whom everything is done; `None` means whoever starts the program.
    pub user: Option<User>,
    /// Where this node is; servers of the same zone come first.
    pub zone: Option<Box<str>>,
    /// How many connections clients may have.
    pub connections: ConnectionLimits,
    /// How many requests may be under way; `None` means no limit.
    pub max_requests: Option<NonZeroU32>,
    /// When requests are refused for want of memory or time; `None` means never.
    pub overload: Option<Overload>,
    /// Who says where the names of servers are.
    pub resolver: Resolver,
    /// How certificates are asked for; `None` where nothing needs one.
    pub acme: Option<Acme>,
    /// A MaxMind file that tells where clients are.
    pub geo: Option<Box<str>>,
    /// Where bodies wait on disk.
    pub spool: Option<Spool>,
    /// With what clients that come with TLS come back.
    pub tickets: Tickets,
    /// Whether anything asks how clients begin TLS.
    pub fingerprints: bool,
    /// Matches that conditions refer to, in the order in which they are named first.
    pub matches: Vec<NamedMatch>,
    /// Sites in written order.
    pub sites: Vec<Site>,
    /// Services that relay connections, in written order.
    pub tcp: Vec<TcpService>,
    /// Services that relay datagrams, in written order.
    pub udp: Vec<UdpService>,
    /// Pools in written order; pools that a route names by address (`proxy app:80`) come last.
    pub pools: Vec<Pool>,
    /// Caches in written order.
    pub caches: Vec<Cache>,
}

/// Where a statement stands, for logs, traces and reports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// File as the user named it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
}

/// A set of host names and what is served for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Site {
    /// The first host as written; the `site` of log lines and metrics.
    pub name: Arc<str>,
    /// Which hosts it answers for.
    pub hosts: Vec<Host>,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Certificates and keys.
    pub tls: Vec<KeyPair>,
    /// The certificate that we issue ourselves; without any at all, its clients come without TLS.
    pub internal: Option<Internal>,
    /// Which certificates its clients show; `None` means none.
    pub client_certificate: Option<ClientCertificate>,
    /// Who says in the PROXY protocol, on each connection, whom it is from; empty means that connections
    /// come without.
    pub proxy_protocol: Vec<IpNet>,
    /// What the system does for its connections. Default nothing.
    pub socket: SocketOptions,
    /// Whose `X-Forwarded-*` and `Forwarded` count. Default nobody's.
    pub trust: Vec<IpNet>,
    /// What is hidden from its clients. Default nothing.
    pub hide: Hide,
    /// Own pages for errors; the first that has a status counts.
    pub errors: Vec<ErrorPage>,
    /// A path that tells an outer balancer whether to come here.
    pub monitor: Option<Monitor>,
    /// Deadlines of its client connections.
    pub timeouts: ClientTimeouts,
    /// What a request may measure.
    pub limits: RequestLimits,
    /// Where its access log goes; empty means off.
    pub log: Vec<AccessLog>,
    /// How many requests may be under way; `None` means no limit.
    pub max_requests: Option<NonZeroU32>,
    /// What is done with its requests before what their routes do, in written order.
    pub steps: Vec<Step>,
    /// Where each of them is written.
    pub step_places: Vec<Place>,
    /// Routes in written order; the first match wins.
    pub routes: Vec<Route>,
    /// Where it is written.
    pub place: Place,
}

/// What is hidden from clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hide {
    /// Which programs are behind.
    pub server: bool,
    /// What servers say of their errors.
    pub errors: bool,
}

/// An own page for errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorPage {
    /// For these.
    pub status: Vec<u16>,
    /// What it is.
    pub source: PageSource,
}

/// Where a page comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PageSource {
    /// A file.
    File(Box<str>),
    /// This text.
    Text(Box<str>),
}

/// A path that tells an outer balancer whether to come here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// The path.
    pub path: Box<str>,
    /// Pools that must have a server, by index into [`Config::pools`].
    pub pools: Vec<usize>,
}

/// A host pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Host {
    /// `*`: every host that no other site of the listener names.
    Any,
    /// One name or address in lower case, without port or trailing dot.
    Exact(Box<str>),
    /// `*.example.com`, kept as `.example.com`: one or more labels in front.
    Suffix(Box<str>),
    /// `~EXPRESSION`: every host in which it finds something; it compiles.
    Expression(Box<str>),
}

/// Deadlines that a client cannot refresh by trickling bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTimeouts {
    /// From the first byte of a request (or the accept) to the end of its head. Default 10 s.
    pub header: Duration,
    /// How long a kept connection may wait for its next request. Default 60 s.
    pub idle: Duration,
    /// Between two pieces of a body, either way. Default 30 s.
    pub body: Duration,
    /// How long neither end of a connection that has left HTTP may say anything. Default 1 h.
    pub tunnel: Duration,
}

/// What a request may measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestLimits {
    /// Bytes of a head. Default and maximum 32 KiB.
    pub head: u32,
    /// Fields of a head. Default and maximum 100.
    pub fields: u16,
    /// Bytes of a request target. Default 8 KiB.
    pub uri: u32,
    /// Bytes of a request body; `None` means no limit (the default).
    pub body: Option<u64>,
    /// The least speed of a request body in bytes a second, once it is 5 s old. Default 240; 0 is off.
    pub min_rate: u32,
}

/// One access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Where the lines go.
    pub to: LogTarget,
    /// How a line looks.
    pub format: LogFormat,
}

/// Where access log lines go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file, opened for appending.
    File(PathBuf),
    /// A syslog daemon.
    Syslog(Syslog),
}

/// How an access log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// NGINX's `combined`.
    Combined,
    /// The same, with the fingerprint of how the client begins TLS.
    JsonFingerprint,
    /// HAProxy's HTTP log.
    Haproxy,
}

/// Which requests go first where not all can go.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Priority {
    /// What can wait.
    Low,
    /// What is usual.
    #[default]
    Normal,
    /// What must not wait.
    High,
}

impl Priority {
    /// All of them, as they are written.
    pub const NAMES: [(&str, Self); 3] = [
        ("low", Self::Low),
        ("normal", Self::Normal),
        ("high", Self::High),
    ];
}

/// One `route`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Which paths it takes.
    pub path: PathPattern,
    /// Which methods it takes; empty means all.
    pub methods: Vec<Box<str>>,
    /// What else its requests must have, all of it.
    pub conditions: Vec<Condition>,
    /// How much of a body is read before a server is asked, or the route is found where it asks for
    /// the body.
    pub buffer: Buffer,
    /// How much of an answer is read before its client takes it.
    pub response_buffer: Buffer,
    /// Whether it takes only requests that a server sends to it.
    pub is_internal: bool,
    /// Which of its answers are compressed.
    pub compress: Option<Compress>,
    /// Where its answers are kept, by index into [`Config::caches`]; `None` means nowhere.
    pub cache: Option<usize>,
    /// What is done with its requests, in written order, after what the site does.
    pub steps: Vec<Step>,
    /// Where each of them is written.
    pub step_places: Vec<Place>,
    /// Own pages for errors, before those of the site.
    pub errors: Vec<ErrorPage>,
    /// Which of its requests go first. Default normal.
    pub priority: Priority,
    /// What it does.
    pub action: Action,
    /// Where it is written.
    pub place: Place,
}

/// What of a body may wait here. Default nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer {
    /// Bytes in memory; 0 is none of it.
    pub memory: u32,
    /// Further bytes on disk.
    pub disk: u64,
}

/// Where bodies wait on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spool {
    /// The directory.
    pub directory: Box<str>,
    /// Bytes of all bodies together.
    pub max: u64,
}

/// A path pattern, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathPattern {
    /// Every path.
    Any,
    /// Exactly this path.
    Exact(Box<str>),
    /// `/static/*`, kept as `/static/`: this path and everything below.
    Prefix(Box<str>),
    /// `/users/*/photo.*`: a `*` is any part of a segment, `**` any part of the path, and `/*` at
    /// the end everything below.
    Glob(Box<str>),
}

/// What a route does with a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Sends it to a pool, by index into [`Config::pools`].
    Proxy(usize),
    /// Answers it at once.
    Respond {
        /// Status code, 200 to 599.
        status: u16,
        /// The body, `text/plain; charset=utf-8`.
        body: Template,
    },
    /// Sends the client elsewhere.
    Redirect {
        /// Status code: 301, 302, 303, 307 or 308.
        status: u16,
        /// Where to: a path or a whole URI.
        to: Template,
    },
    /// Sends shares of the requests to several pools.
    Split(Split),
    /// Answers it with a file.
    Files(Files),
}

/// Shares of requests, for several pools.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// How large the share of each pool is, by index into [`Config::pools`], in written order.
    pub shares: Vec<(u32, usize)>,
    /// What keeps a client with its pool; nothing draws lots for each request.
    pub sticky: Option<HashKey>,
}

/// How much may be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Of what.
    pub of: Limited,
    /// Who has one for himself.
    pub by: LimitBy,
    /// What becomes of a request above it.
    pub action: Excess,
    /// How many keys are remembered. Default 65,536.
    pub entries: u32,
}

/// Who has a limit for himself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitBy {
    /// Nobody: all requests share it.
    All,
    /// Each request; of use for bytes alone.
    Request,
    /// Each value of this key.
    Key(HashKey),
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limited {
    /// Requests in a time.
    Rate {
        /// How many.
        count: u32,
        /// In what time: a second, a minute or an hour.
        per: Duration,
        /// How many at once.
        burst: u32,
    },
    /// Requests under way at once.
    Concurrent(u32),
    /// Bytes of bodies a second.
    Bytes {
        /// How many.
        rate: u32,
        /// How many at once.
        burst: u32,
        /// Of which bodies.
        way: Way,
    },
}

/// Which way a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// From the server to the client.
    Down,
    /// From the client to the server.
    Up,
}

/// What becomes of a request above a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Excess {
    /// It is answered with 429.
    Refuse,
    /// Its connection is closed without an answer.
    Drop,
    /// It is answered with 429, ten seconds later.
    Tarpit,
}

/// How many connections clients may have, over all listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionLimits {
    /// All of them; `None` means half of the descriptors that the process may have.
    pub max: Option<NonZeroU32>,
    /// Of one client at once.
    pub per_client: Option<NonZeroU32>,
    /// New ones of one client, and in what time.
    pub new_per_client: Option<(u32, Duration)>,
}

/// When there is too little memory or time for what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overload {
    /// How much memory there is; `None` means as much as the control group may have.
    pub memory: Option<u64>,
    /// How late a worker may come to what it has to do. Default 500 ms.
    pub lag: Duration,
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            memory: None,
            lag: Duration::from_millis(500),
        }
    }
}

/// Who says where the names of servers are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Name servers; empty means those of the system.
    pub servers: Vec<SocketAddr>,
    /// How long one question may take. Default 2 s.
    pub timeout: Duration,
    /// How long addresses are used after the last good answer. Default a day.
    pub hold: Duration,
}

impl Default for Resolver {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            hold: Duration::from_secs(24 * 60 * 60),
        }
    }
}
