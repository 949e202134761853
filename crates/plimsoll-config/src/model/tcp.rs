//! Connections that are relayed as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AccessLog, ClientCertificate, Internal, KeyPair, Place, SocketOptions};

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
    /// Where its log goes; empty means off.
    pub log: Vec<AccessLog>,
    /// Where the connections go, by index into [`Config::pools`](super::Config::pools).
    pub pool: usize,
    /// Where it is written.
    pub place: Place,
}
