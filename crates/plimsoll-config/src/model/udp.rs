//! Datagrams that are relayed as they are.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AccessLog, Place};

/// Addresses whose datagrams go to servers of a pool, by flows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UdpService {
    /// The first address as written; the `site` of log lines.
    pub name: Arc<str>,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Who says in the PROXY protocol whom each datagram is from; empty means that they come without.
    pub proxy_protocol: Vec<IpNet>,
    /// How long neither end of a flow may say anything. Default 30 s.
    pub idle: Duration,
    /// How many answers each datagram gets, after which a flow is over; `None` means that they are not counted,
    /// the default.
    pub responses: Option<u32>,
    /// How many flows there may be at once, over all workers. Default 65,536.
    pub flows: NonZeroU32,
    /// Whether they are QUIC, whose connections keep their servers when clients move. Default false.
    pub quic: bool,
    /// Where its log goes; empty means off.
    pub log: Vec<AccessLog>,
    /// Where the flows go, by index into [`Config::pools`](super::Config::pools).
    pub pool: usize,
    /// Where it is written.
    pub place: Place,
}
