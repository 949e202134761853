//! Changes of servers while they serve: taken out, brought back, given more or less.

use plimsoll_balance::{Server, ServerIndex, Wish};
use plimsoll_control::launch::Running;
use plimsoll_net::clock;
use plimsoll_proxy::generation::Pool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::view::{count_serving, is_serving};

/// What is to be done with servers of a pool. Nothing is said means that nothing changes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// Which servers, by name.
    pub servers: Vec<String>,
    /// What is wanted of them.
    pub state: Option<State>,
    /// How much of their weight they get, in percent.
    pub share_percent: Option<u8>,
    /// Whether more than half of those that serve may go at once.
    pub force: bool,
}

/// What is wanted of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It serves.
    Ready,
    /// It takes no new clients, and serves those that belong to it.
    Drain,
    /// It takes nothing new.
    Maintenance,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadChange {
    /// Nothing says which servers.
    #[error("say which servers, by name")]
    NoServer,
    /// Nothing says what.
    #[error("say what to change: `state` or `share_percent`")]
    Nothing,
    /// There is no such share.
    #[error("a share is 0 to 100 percent")]
    Share,
    /// There is no such pool.
    #[error("there is no pool `{0}`")]
    Pool(String),
    /// There is no such server.
    #[error("pool `{0}` has no server `{1}`")]
    Server(String, String),
    /// Too few servers would be left.
    #[error(
        "this takes {0} of the {1} servers that serve away, more than half: say `force` if that is meant"
    )]
    TooMany(usize, usize),
}

impl Change {
    /// Carries it out in the pool called `name`.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub(crate) fn carry_out(&self, running: &Running, name: &str) -> Result<(), BadChange> {
        let mut pools = running.generation.pools.iter();
        let pool = pools.find(|pool| *pool.name == *name);
        let pool = pool.ok_or_else(|| BadChange::Pool(name.to_owned()))?;
        let servers = self.servers_of(pool)?;
        self.check(pool, &servers)?;
        let now = running.since_start(clock::now());
        for (index, server) in servers {
            if let Some(state) = self.state {
                server.set_wish(state.wish());
            }
            if let Some(percent) = self.share_percent {
                pool.balancer.set_portion(index, percent, now);
            }
            tracing::info!(
                pool = &*pool.name,
                server = &**server.name(),
                standing = server.standing().word(),
                share_percent = server.share_percent(),
                "an operator changed a server"
            );
        }
        Ok(())
    }

    fn servers_of<'a>(&self, pool: &'a Pool) -> Result<Vec<(ServerIndex, &'a Server)>, BadChange> {
        let find = |wanted: &String| {
            let mut servers = (0..).map(ServerIndex::new).zip(pool.balancer.servers());
            let found = servers.find(|(_, server)| **server.name() == **wanted);
            found.ok_or_else(|| BadChange::Server(pool.name.to_string(), wanted.clone()))
        };
        match self.servers.as_slice() {
            [] => Err(BadChange::NoServer),
            servers => servers.iter().map(find).collect(),
        }
    }

    /// Refuses what nobody can have meant.
    fn check(&self, pool: &Pool, servers: &[(ServerIndex, &Server)]) -> Result<(), BadChange> {
        if self.state.is_none() && self.share_percent.is_none() {
            return Err(BadChange::Nothing);
        }
        if self.share_percent.is_some_and(|percent| percent > 100) {
            return Err(BadChange::Share);
        }
        let takes_away = matches!(self.state, Some(State::Drain | State::Maintenance))
            || self.share_percent == Some(0);
        let going = servers
            .iter()
            .filter(|(_, server)| is_serving(server))
            .count();
        let serving = count_serving(pool);
        match takes_away && !self.force && going * 2 > serving {
            true => Err(BadChange::TooMany(going, serving)),
            false => Ok(()),
        }
    }
}

impl State {
    fn wish(self) -> Wish {
        match self {
            Self::Ready => Wish::Serve,
            Self::Drain => Wish::Drain,
            Self::Maintenance => Wish::Maintain,
        }
    }
}
