//! The servers of one configuration and the tables derived from them.

use crate::algorithm::{Algorithm, Table};
use crate::care::Rules;
use crate::eligible::{Eligibility, Rule};
use crate::server::{Server, ServerSpec, Slot, State};
use crate::standing::Bars;
use crate::tried::Tried;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// The place of a server in its pool, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServerIndex(pub(crate) u32);

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
    tiers: Box<[Tier]>,
    pub(crate) rules: Rules,
    /// How many servers rest.
    pub(crate) ejected: AtomicU32,
    /// Whether so few servers are well that false alarms are suspected.
    pub(crate) is_desperate: AtomicBool,
    /// When the interval of the outlier rule ends, in milliseconds.
    pub(crate) interval_ends: AtomicU64,
}

/// The servers of equal rank.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) members: Box<[ServerIndex]>,
    pub(crate) table: Table,
}

impl Pool {
    /// Builds a pool of `specs`, with every table the algorithm needs.
    ///
    /// # Cost
    /// Hash tables take time and memory: a ring 8 KiB for each unit of weight and at most 8 MiB
    /// (a few more when thousands of light servers keep their one point), and at most a 32nd of that
    /// for its index; Maglev 4 bytes an entry, 65,537 entries up to 655 servers.
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
        let mut ranks: Vec<u8> = servers.iter().map(Server::tier).collect();
        ranks.sort_unstable();
        ranks.dedup();
        let tier = |rank: u8| {
            let members: Box<[_]> = (0..)
                .map(ServerIndex)
                .zip(&servers)
                .filter(|(_, server)| server.tier() == rank)
                .collect();
            let table = Table::build(algorithm, &members);
            Tier {
                members: members.iter().map(|&(index, _)| index).collect(),
                table,
            }
        };
        let tiers = ranks.into_iter().map(tier).collect();
        let ejected = servers
            .iter()
            .filter(|server| server.bars().meets(Bars::EJECTED))
            .count();
        Self {
            algorithm,
            servers,
            tiers,
            rules: Rules::default(),
            ejected: AtomicU32::new(u32::try_from(ejected).unwrap_or(u32::MAX)),
            is_desperate: AtomicBool::new(false),
            interval_ends: AtomicU64::new(0),
        }
    }

    /// Tells whether a pool that is made of these is the same.
    #[must_use]
    pub fn is_made_of(&self, specs: &[ServerSpec], algorithm: Algorithm, rules: &Rules) -> bool {
        let servers = self.servers.iter().map(Server::spec);
        self.algorithm == algorithm && self.rules == *rules && servers.eq(specs)
    }

    /// The same pool, under `rules`.
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
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

    /// Takes a slot on the server at `index` for a client that belongs to it: it may be about to
    /// leave, and it need not have its full share yet.
    ///
    /// # Errors
    /// Why the server may not be had.
    pub fn acquire(&self, index: ServerIndex, tried: &Tried) -> Result<Slot<'_>, Eligibility> {
        self.acquire_under(index, Rule::usual(tried).barring(Bars::STICKY))
    }

    /// The same, although the server may be down or resting.
    ///
    /// # Errors
    /// Why the server may not be had.
    pub fn acquire_anyway(
        &self,
        index: ServerIndex,
        tried: &Tried,
    ) -> Result<Slot<'_>, Eligibility> {
        self.acquire_under(index, Rule::usual(tried).barring(Bars::MAINTENANCE))
    }

    /// A slot for what is under way on a server already, however many it has and whatever it may have now; nothing when
    /// there is no such server.
    pub fn resume(&self, index: ServerIndex) -> Option<Slot<'_>> {
        let server = self.server(index)?;
        server.enter_anyway();
        Some(Slot {
            pool: self,
            server,
            index,
        })
    }

    fn acquire_under(&self, index: ServerIndex, rule: Rule<'_>) -> Result<Slot<'_>, Eligibility> {
        let server = self.server(index).ok_or(Eligibility::Down)?;
        match rule.judge(index, server) {
            Eligibility::Eligible => self.slot(index, server).ok_or(Eligibility::Full),
            refusal => Err(refusal),
        }
    }

    #[inline]
    pub(crate) fn slot<'a>(&'a self, index: ServerIndex, server: &'a Server) -> Option<Slot<'a>> {
        // Made only when entered: a slot that is dropped gives a place back.
        server.enter().then(|| Slot {
            pool: self,
            server,
            index,
        })
    }

    /// Tells whether a server could be picked now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let none = Tried::new();
        let rule = Rule::usual(&none).barring(self.last_bars(&none));
        let mut servers = (0..).map(ServerIndex).zip(&self.servers);
        servers.any(|(index, server)| rule.admits(index, server))
    }

    /// Tells whether a server is there that requests may go to, full or not.
    #[must_use]
    pub fn has_eligible(&self) -> bool {
        let none = Tried::new();
        let rule = Rule::usual(&none).barring(self.last_bars(&none));
        let mut servers = (0..).map(ServerIndex).zip(&self.servers);
        servers.any(|(index, server)| {
            let verdict = rule.judge(index, server);
            matches!(verdict, Eligibility::Eligible | Eligibility::Full)
        })
    }

    /// Tells whether a server other than the one at `index` could be picked after `tried`.
    #[must_use]
    pub fn has_another(&self, index: ServerIndex, tried: &Tried) -> bool {
        let rule = Rule::usual(tried).barring(self.bars());
        let mut servers = (0..).map(ServerIndex).zip(&self.servers);
        servers.any(|(other, server)| other != index && rule.admits(other, server))
    }

    /// Returns the tiers in the order in which they are asked.
    pub(crate) fn tiers(&self) -> &[Tier] {
        &self.tiers
    }

    /// Tells what keeps requests away as long as a server can be found.
    #[inline]
    pub(crate) fn bars(&self) -> Bars {
        if self.is_desperate.load(Relaxed) {
            Bars::CERTAIN
        } else {
            Bars::ALL
        }
    }

    /// Tells what keeps requests away that were at `tried` and found no server: where none is well,
    /// those that may be are asked. One that is well and full has room again soon, and what does not
    /// fit into it must not meet those that rest.
    pub(crate) fn last_bars(&self, tried: &Tried) -> Bars {
        let well = Rule::usual(tried).barring(Bars::ALL.or(Bars::TRIAL));
        let is_well = |(index, server)| {
            let found = well.judge(index, server);
            matches!(found, Eligibility::Eligible | Eligibility::Full)
        };
        let mut servers = (0..).map(ServerIndex).zip(&self.servers);
        if self.rules.fail_open.is_some() && !servers.any(is_well) {
            Bars::CERTAIN
        } else {
            self.bars()
        }
    }

    /// Returns the ones among `indices` that `rule` admits, in their order.
    #[inline]
    pub(crate) fn admitted<'a>(
        &'a self,
        indices: impl IntoIterator<Item = &'a ServerIndex> + 'a,
        rule: Rule<'a>,
    ) -> impl Iterator<Item = (ServerIndex, &'a Server)> + 'a {
        indices
            .into_iter()
            .filter_map(|&index| Some((index, self.server(index)?)))
            .filter(move |&(index, server)| rule.admits(index, server))
    }
}
