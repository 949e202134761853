//! The servers of one configuration and the tables derived from them.

use crate::algorithm::{Algorithm, Table};
use crate::eligible::is_eligible;
use crate::server::{Server, ServerSpec, Slot, State};
use crate::tried::Tried;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The place of a server in its pool, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerIndex(u32);

impl ServerIndex {
    /// Names the server at `position`.
    #[must_use]
    pub const fn new(position: u32) -> Self {
        Self(position)
    }

    /// Returns the position, for a table the caller keeps per server.
    #[must_use]
    #[inline]
    pub const fn position(self) -> usize {
        self.0 as usize
    }
}

/// A set of servers and how to choose among them. Immutable but for the servers' own counters;
/// shared by all workers.
#[derive(Debug)]
pub struct Pool {
    algorithm: Algorithm,
    servers: Box<[Server]>,
    tiers: [Tier; 2],
}

/// The servers of equal rank: all that are no backup, or all that are.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) members: Box<[ServerIndex]>,
    pub(crate) table: Table,
}

impl Pool {
    /// Builds a pool of `specs`, with every table the algorithm needs.
    ///
    /// # Cost
    /// Hash tables take time and memory: a ring 12 KiB for each unit of weight and at most 12 MiB
    /// (a few more when thousands of light servers keep their one point), Maglev 4 bytes an
    /// entry, 65,537 entries up to 655 servers.
    #[must_use]
    pub fn new(specs: Vec<ServerSpec>, algorithm: Algorithm) -> Self {
        Self::with_states(specs, algorithm, &BTreeMap::new())
    }

    /// Builds the pool of the next configuration. Servers that keep their name keep their
    /// requests in flight, latency and standing.
    #[must_use]
    pub fn succeed(&self, specs: Vec<ServerSpec>, algorithm: Algorithm) -> Self {
        let states = self
            .servers
            .iter()
            .map(|server| (&**server.name(), server.state()))
            .collect();
        Self::with_states(specs, algorithm, &states)
    }

    fn with_states(
        specs: Vec<ServerSpec>,
        algorithm: Algorithm,
        states: &BTreeMap<&str, &Arc<State>>,
    ) -> Self {
        let build = |spec: ServerSpec| {
            let state = states.get(&*spec.name).map(|&state| Arc::clone(state));
            Server::new(spec, state.unwrap_or_default())
        };
        let servers: Box<[Server]> = specs.into_iter().map(build).collect();
        let tiers = [false, true].map(|backup| {
            let members: Box<[_]> = (0..)
                .map(ServerIndex)
                .zip(&servers)
                .filter(|(_, server)| server.is_backup() == backup)
                .collect();
            let table = Table::build(algorithm, &members);
            Tier {
                members: members.iter().map(|&(index, _)| index).collect(),
                table,
            }
        });
        Self {
            algorithm,
            servers,
            tiers,
        }
    }

    /// Returns how servers are chosen.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the servers, in the order of the configuration.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Returns the server at `index`, if `index` belongs to this pool.
    #[must_use]
    #[inline]
    pub fn server(&self, index: ServerIndex) -> Option<&Server> {
        self.servers.get(index.position())
    }

    /// Takes a slot on the server at `index` if it may be picked: for a request that already has
    /// its server, as a sticky one.
    #[inline]
    pub fn acquire(&self, index: ServerIndex, tried: &Tried) -> Option<Slot<'_>> {
        let server = self.server(index)?;
        if !is_eligible(index, server, tried) {
            return None;
        }
        server.acquire(index)
    }

    /// Returns the tiers in the order in which they are asked.
    pub(crate) fn tiers(&self) -> &[Tier; 2] {
        &self.tiers
    }

    /// Returns the eligible ones among `indices`, in their order.
    #[inline]
    pub(crate) fn eligible<'a>(
        &'a self,
        indices: impl IntoIterator<Item = &'a ServerIndex> + 'a,
        tried: &'a Tried,
    ) -> impl Iterator<Item = (ServerIndex, &'a Server)> + 'a {
        indices
            .into_iter()
            .filter_map(|&index| Some((index, self.server(index)?)))
            .filter(|&(index, server)| is_eligible(index, server, tried))
    }
}
