//! How to choose among eligible servers. Each file below is one way, and only the choice.

pub(crate) mod first;
pub(crate) mod least_connections;
pub(crate) mod least_time;
mod maglev;
pub(crate) mod random;
pub(crate) mod ring;
pub(crate) mod round_robin;
pub(crate) mod schedule;
pub(crate) mod two_choices;
pub(crate) mod walk;

use crate::pool::ServerIndex;
use crate::server::Server;
use maglev::Maglev;
use random::Weights;
use ring::Ring;

/// How a pool chooses a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// In turns, a server of weight 3 three times in its round and not in a row.
    #[default]
    RoundRobin,
    /// At random, in proportion to the weights.
    Random,
    /// The less loaded of two random ones.
    TwoChoices,
    /// The one with the fewest requests in flight for its weight; of more than 64 servers, the best
    /// of some random ones.
    LeastConnections,
    /// The one that should answer first, by its latency and its requests in flight; of more than
    /// 64 servers, the best of some random ones.
    LeastTime,
    /// The first that has room, in the order of the configuration.
    First,
    /// By the key, on a consistent-hash ring with bounded load.
    Ring,
    /// By the key, in a Maglev table.
    Maglev,
}

impl Algorithm {
    /// Tells whether equal keys go to the same server.
    pub(crate) fn is_keyed(self) -> bool {
        matches!(self, Self::Ring | Self::Maglev)
    }
}

/// What an algorithm computes once per configuration.
#[derive(Debug)]
pub(crate) enum Table {
    None,
    Weights(Weights),
    Ring(Ring),
    Maglev(Maglev),
}

impl Table {
    pub(crate) fn build(algorithm: Algorithm, members: &[(ServerIndex, &Server)]) -> Self {
        match algorithm {
            Algorithm::Random | Algorithm::TwoChoices => Self::Weights(Weights::build(members)),
            Algorithm::Ring => Self::Ring(Ring::build(&by_name(members))),
            Algorithm::Maglev => Self::Maglev(Maglev::build(&by_name(members))),
            Algorithm::RoundRobin
            | Algorithm::LeastConnections
            | Algorithm::LeastTime
            | Algorithm::First => Self::None,
        }
    }
}

/// Returns the members with a weight, by name: a table must not depend on their order in the file.
fn by_name<'a>(members: &[(ServerIndex, &'a Server)]) -> Vec<(ServerIndex, &'a Server)> {
    let mut sorted: Vec<_> = members
        .iter()
        .copied()
        .filter(|(_, server)| server.weight() > 0)
        .collect();
    sorted.sort_by(|(_, a), (_, b)| a.name().cmp(b.name()));
    sorted
}
