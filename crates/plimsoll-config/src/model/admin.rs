//! Where people and machines ask a running Plimsoll, and change it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The admin listeners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Admin {
    /// Where they listen; `None` means the usual places, and an empty list nowhere.
    pub listen: Option<Vec<AdminAddress>>,
    /// A file with the word that whoever comes over an address has to know to change anything.
    pub token: Option<Arc<str>>,
}

/// Where an admin listener is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminAddress {
    /// On an address: whoever reaches it may look.
    Ip(SocketAddr),
    /// On a Unix socket: whoever may open it may change things, too.
    Socket(PathBuf),
}

/// What addresses of sockets begin with.
pub const SOCKET: &str = "unix:";

impl fmt::Display for AdminAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(out),
            Self::Socket(path) => write!(out, "{SOCKET}{}", path.display()),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = std::net::AddrParseError;

    /// Reads what stands after `--running`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(SOCKET) {
            Some(path) => Ok(Self::Socket(path.into())),
            None => text.parse().map(Self::Ip),
        }
    }
}
