//! QUIC: which server has the connection of a datagram that comes from a new address.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use plimsoll_balance::ServerIndex;
use plimsoll_balance::ids::IdTable;
use plimsoll_config::model;
use plimsoll_http::quic::{Packet, parse};

/// Ids that are remembered: 1 MiB a service.
const ENTRIES: usize = 128 * 1024;

/// The first byte of an id that says that nothing else in it tells the server.
const UNROUTABLE: u8 = 0b111;

/// The connections of a service.
#[derive(Debug)]
pub(crate) struct Connections {
    /// By what servers put into their ids, behind the first byte.
    servers: HashMap<Box<[u8]>, ServerIndex>,
    /// How long that is.
    len: usize,
    /// Ids that servers gave when connections began.
    given: Arc<IdTable>,
}

impl Connections {
    /// The ids that were `given` before are known.
    pub(crate) fn new(pool: Option<&model::Pool>, seed: u64, given: Option<&Self>) -> Self {
        let servers = pool.map(|pool| pool.servers.iter()).unwrap_or_default();
        let servers = servers.zip((0..).map(ServerIndex::new));
        let servers: HashMap<_, _> = servers
            .filter_map(|(server, index)| Some((server.quic_id.clone()?, index)))
            .collect();
        Self {
            // All have as many bytes.
            len: servers.keys().next().map_or(0, |id| id.len()),
            servers,
            given: match given {
                Some(before) => Arc::clone(&before.given),
                None => Arc::new(IdTable::new(ENTRIES, seed)),
            },
        }
    }

    /// The server that has the connection of a datagram, where that is to be seen.
    pub(super) fn server(&self, datagram: &[u8]) -> Option<ServerIndex> {
        let id = match parse(datagram)? {
            Packet::Long { destination, .. } => destination,
            Packet::Short(rest) => rest,
        };
        self.encoded(id).or_else(|| self.given.find(id))
    }

    /// The server that has put itself into the id that `bytes` begin with (draft-ietf-quic-load-balancers: three bits
    /// of rotation, five of length, and then the server).
    fn encoded(&self, bytes: &[u8]) -> Option<ServerIndex> {
        let (first, rest) = bytes.split_first()?;
        if first >> 5 == UNROUTABLE {
            return None;
        }
        self.servers.get(rest.get(..self.len)?).copied()
    }

    /// Notes the id by which a server wants to be spoken to, as it says while a connection begins.
    pub(super) fn learn(&self, datagram: &[u8], server: ServerIndex, now: Duration) {
        if let Some(Packet::Long { source, .. }) = parse(datagram) {
            self.given.note(source, server, now);
        }
    }
}
