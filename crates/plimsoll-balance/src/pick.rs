//! The interface: a worker's picker chooses a server and takes a slot on it.

use crate::algorithm::ring::Known;
use crate::algorithm::schedule::Schedule;
use crate::algorithm::walk::WHOLE_MAX;
use crate::algorithm::{Algorithm, least_connections, least_time, round_robin};
use crate::algorithm::{Table, first, random, two_choices};
use crate::eligible::{Eligibility, Rule};
use crate::hash::mix;
use crate::pool::{Pool, ServerIndex, Tier};
use crate::server::Slot;
use crate::tried::Tried;
use std::fmt;
use std::time::Duration;

/// What a choice depends on, besides the pool.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The hash of the request's key, from [`hash::of`](crate::hash::of). Read by
    /// [`Algorithm::Ring`] and [`Algorithm::Maglev`].
    pub key: u64,
    /// A number uniform over all 64-bit values, fresh for every call. Read by
    /// [`Algorithm::Random`] and [`Algorithm::TwoChoices`].
    pub random: u64,
    /// The time since any fixed start, the same for all workers. Read by
    /// [`Algorithm::LeastTime`].
    pub now: Duration,
    /// The servers this request was at before.
    pub tried: &'a Tried,
}

/// A question on its way through an algorithm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search<'a> {
    pub(crate) key: u64,
    pub(crate) random: u64,
    pub(crate) now: Duration,
    pub(crate) rule: Rule<'a>,
}

/// Why no server was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The pool is empty.
    NoServers,
    /// Every server is down, drains, or has weight 0.
    AllDown,
    /// The request was at every server that works.
    AllTried,
    /// A server that works and was not tried has no slot left: waiting helps.
    AllFull,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoServers => "the pool has no servers",
            Self::AllDown => "no server of the pool is up",
            Self::AllTried => "every server that is up was tried",
            Self::AllFull => "every server that is up has reached `max-connections`",
        })
    }
}

impl std::error::Error for Refusal {}

/// What one worker remembers between its picks from one pool. Never shared, so never locked.
#[derive(Clone, Debug)]
pub struct Picker {
    /// The running weights of round-robin by server index; empty for other algorithms.
    running: Box<[i64]>,
    /// By tier: the turns of round-robin, where a tier is too large for running weights.
    schedules: Box<[Schedule]>,
    /// By tier: what the servers of a ring have together.
    known: Box<[Known]>,
    /// Where the next scan starts, so that equal servers take turns.
    cursor: usize,
}

impl Picker {
    /// Creates the picker of worker number `worker` for `pool`.
    ///
    /// Each worker starts its turns elsewhere: else the first requests of all of them would meet
    /// on the first server.
    #[must_use]
    pub fn new(pool: &Pool, worker: usize) -> Self {
        let is_round_robin = pool.algorithm() == Algorithm::RoundRobin;
        let turns = if is_round_robin {
            pool.servers().len()
        } else {
            0
        };
        let schedule = |tier: &Tier| match tier.members.len() {
            WHOLE_MAX.. if is_round_robin => Schedule::new(pool, tier),
            _ => Schedule::default(),
        };
        let mut picker = Self {
            running: vec![0; turns].into_boxed_slice(),
            schedules: pool.tiers().iter().map(schedule).collect(),
            known: vec![Known::default(); pool.tiers().len()].into(),
            cursor: worker,
        };
        if is_round_robin {
            let none = Tried::new();
            for (rank, tier) in pool.tiers().iter().enumerate() {
                for _ in 0..worker {
                    picker.take_turn(pool, rank, tier, Rule::usual(&none));
                }
            }
        }
        picker
    }

    fn take_turn(
        &mut self,
        pool: &Pool,
        rank: usize,
        tier: &Tier,
        rule: Rule<'_>,
    ) -> Option<ServerIndex> {
        match self.schedules.get_mut(rank) {
            Some(schedule) if tier.members.len() >= WHOLE_MAX => schedule.choose(pool, rule),
            _ => round_robin::choose(&mut self.running, pool, tier, rule),
        }
    }

    /// Chooses a server of `pool` and takes a slot on it. Backups are asked only when no other
    /// server may be picked.
    ///
    /// `pool` is the one the picker was created for: with another, every answer is still
    /// eligible, but the shares are off.
    ///
    /// # Errors
    /// The reason why no server may be picked.
    pub fn pick<'pool>(
        &mut self,
        pool: &'pool Pool,
        ask: &Ask<'_>,
    ) -> Result<Slot<'pool>, Refusal> {
        let usual = Rule::usual(ask.tried).barring(pool.bars());
        // Keys keep to their servers, so a server that starts slowly takes some keys at first.
        let dice = if pool.algorithm().is_keyed() {
            ask.key
        } else {
            mix(ask.random)
        };
        if let Some(slot) = self.search(pool, ask, usual.with_dice(dice)) {
            return Ok(slot);
        }
        if let Some(slot) = self.search(pool, ask, usual) {
            return Ok(slot);
        }
        let last = pool.last_bars(ask.tried);
        if last != pool.bars()
            && let Some(slot) = self.search(pool, ask, usual.barring(last))
        {
            return Ok(slot);
        }
        Err(refusal(pool, usual.barring(last)))
    }

    fn search<'pool>(
        &mut self,
        pool: &'pool Pool,
        ask: &Ask<'_>,
        rule: Rule<'_>,
    ) -> Option<Slot<'pool>> {
        let search = Search {
            key: ask.key,
            random: ask.random,
            now: ask.now,
            rule,
        };
        for (rank, tier) in pool.tiers().iter().enumerate() {
            // A choice fails only when another worker took the server's last slot in between.
            // The bound makes the loop end even if slots come and go all the time.
            for _ in 0..=tier.members.len() {
                let Some(index) = self.choose(pool, rank, tier, &search) else {
                    break;
                };
                if let Some(slot) = pool
                    .server(index)
                    .and_then(|server| pool.slot(index, server))
                {
                    return Some(slot);
                }
            }
        }
        None
    }

    fn choose(
        &mut self,
        pool: &Pool,
        rank: usize,
        tier: &Tier,
        search: &Search<'_>,
    ) -> Option<ServerIndex> {
        match (&tier.table, pool.algorithm()) {
            (Table::Ring(ring), _) => ring.choose(self.known.get_mut(rank)?, pool, tier, search),
            (Table::Maglev(maglev), _) => maglev.choose(pool, tier, search),
            (Table::Weights(weights), Algorithm::TwoChoices) => {
                two_choices::choose(weights, pool, tier, search)
            }
            (Table::Weights(weights), _) => random::choose(weights, pool, tier, search),
            (Table::None, Algorithm::LeastConnections) => {
                least_connections::choose(&mut self.cursor, pool, tier, search)
            }
            (Table::None, Algorithm::LeastTime) => {
                least_time::choose(&mut self.cursor, pool, tier, search)
            }
            (Table::None, Algorithm::First) => first::choose(pool, tier, search),
            (Table::None, _) => self.take_turn(pool, rank, tier, search.rule),
        }
    }
}

#[cold]
fn refusal(pool: &Pool, rule: Rule<'_>) -> Refusal {
    let mut worst = Refusal::AllDown;
    for (index, server) in (0..).map(ServerIndex::new).zip(pool.servers()) {
        match rule.judge(index, server) {
            Eligibility::Down => {}
            Eligibility::Tried => worst = Refusal::AllTried,
            // Eligible: a slot came back after the pick, which found the server full.
            Eligibility::Full | Eligibility::Eligible => return Refusal::AllFull,
        }
    }
    if pool.servers().is_empty() {
        Refusal::NoServers
    } else {
        worst
    }
}
