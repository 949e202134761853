//! How the system treats connections, and from where those to servers are made.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What the system is asked to do for connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOptions {
    /// How long a connection may be silent before the peer is asked whether it is there; `None` means
    /// that it is not asked.
    pub keepalive: Option<Duration>,
    /// How long what was sent may stay unacknowledged; `None` means as long as the system waits.
    pub user_timeout: Option<Duration>,
    /// Whether clients that were here before may send with their first packet (RFC 7413).
    pub fast_open: bool,
    /// Whether a connection may use several paths (RFC 8684).
    pub multipath: bool,
}

/// From where connections to servers are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Wherever the system says.
    #[default]
    System,
    /// These addresses in turn, where the server has one of their kind.
    Addresses(Vec<IpAddr>),
    /// The address of the client: the server sees it as if nobody stood between.
    Client,
}
