//! Connections that are relayed as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AccessLog, ClientCertificate, Host, Internal, KeyPair, Place, SocketOptions};

/// Addresses whose connections go to servers of a pool, byte by byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpService {
    /// The first address as written; the `site` of log lines.
    pub name: Arc<str>,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Certificates and keys.
    pub tls: Vec<KeyPair>,
    /// The certificate that we issue ourselves; without any at all, clients come without TLS.
    pub internal: Option<Internal>,
    /// Which certificates clients show; `None` means none.
    pub client_certificate: Option<ClientCertificate>,
    /// Who says in the PROXY protocol whom a connection is from; empty means that they come without.
    pub proxy_protocol: Vec<IpNet>,
    /// What the system does for its connections. Default nothing.
    pub socket: SocketOptions,
    /// How long a client may take to say so. Default 10 s.
    pub header: Duration,
    /// How long neither end may say anything. Default 1 h.
    pub idle: Duration,
    /// How long a connection may last at all; `None` means for ever, the default.
    pub lifetime: Option<Duration>,
    /// How long a client may take to say what the rules ask for. Default 5 s.
    pub detect: Duration,
    /// Where its log goes; empty means off.
    pub log: Vec<AccessLog>,
    /// Which pool a connection goes to by what its client says first; the first match wins.
    pub rules: Vec<TcpRule>,
    /// Where the connections go that no rule takes, by index into
    /// [`Config::pools`](super::Config::pools); `None` means that they are refused.
    pub pool: Option<usize>,
    /// Where it is written.
    pub place: Place,
}

/// Connections that go to one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpRule {
    /// What their clients say first: one of these, all of one kind.
    pub openings: Vec<Opening>,
    /// The pool, by index into [`Config::pools`](super::Config::pools).
    pub pool: usize,
    /// Where it is written.
    pub place: Place,
}

/// What a client may say first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Opening {
    /// A ClientHello that asks for this name.
    Name(Host),
    /// A ClientHello that offers this protocol (RFC 7301).
    Offer(Box<str>),
    /// The beginning of this protocol.
    Speech(Spoken),
}

/// A protocol that is told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Spoken {
    /// HTTP/1, or HTTP/2 without TLS.
    Http,
    /// TLS.
    Tls,
    /// SSH.
    Ssh,
    /// PostgreSQL.
    Postgres,
    /// MySQL, whose server speaks first.
    Mysql,
    /// Redis.
    Redis,
}

impl Spoken {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::Http,
        Self::Tls,
        Self::Ssh,
        Self::Postgres,
        Self::Mysql,
        Self::Redis,
    ];

    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Ssh => "ssh",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
        }
    }
}
