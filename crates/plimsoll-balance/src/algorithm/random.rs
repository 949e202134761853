//! Weighted random choice.

use crate::hash::{mix, scale};
use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};
use crate::server::Server;

/// How often to draw from the table before looking at every server. While half of the weight is
/// eligible, one pick in 16 needs the second way.
const DRAWS: u64 = 4;

/// The running sum of the weights, so that a draw costs a binary search and not a scan.
#[derive(Debug)]
pub(crate) struct Weights {
    /// For each server with a weight: the sum of the weights up to and with its own.
    upto: Box<[(u64, ServerIndex)]>,
    total: u64,
}

impl Weights {
    pub(crate) fn build(members: &[(ServerIndex, &Server)]) -> Self {
        let mut total = 0;
        let weighted = members.iter().filter(|(_, server)| server.weight() > 0);
        let sum = |&(index, server): &(ServerIndex, &Server)| {
            total += u64::from(server.weight());
            (total, index)
        };
        let upto = weighted.map(sum).collect();
        Self { upto, total }
    }

    fn draw(&self, random: u64) -> Option<ServerIndex> {
        let point = scale(random, self.total);
        let position = self.upto.partition_point(|&(upto, _)| upto <= point);
        self.upto.get(position).map(|&(_, index)| index)
    }
}

pub(crate) fn choose(
    weights: &Weights,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
) -> Option<ServerIndex> {
    draw_except(None, search.random, weights, pool, tier, search)
}

/// Draws an eligible server other than `excluded`, each with the chance of its weight.
///
/// Drawing again after a miss and scanning the eligible ones give the same chances, so their
/// mixture does too.
pub(crate) fn draw_except(
    excluded: Option<ServerIndex>,
    random: u64,
    weights: &Weights,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
) -> Option<ServerIndex> {
    for draw in 0..DRAWS {
        let random = if draw == 0 {
            random
        } else {
            mix(random.wrapping_add(draw))
        };
        let index = weights.draw(random)?;
        let server = pool.server(index)?;
        if Some(index) != excluded && search.rule.admits(index, server) {
            return Some(index);
        }
    }
    scan(
        excluded,
        mix(random.wrapping_add(DRAWS)),
        pool,
        tier,
        search,
    )
}

fn scan(
    excluded: Option<ServerIndex>,
    random: u64,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
) -> Option<ServerIndex> {
    let candidates = || {
        pool.admitted(&tier.members, search.rule)
            .filter(|&(index, _)| Some(index) != excluded)
    };
    let total: u64 = candidates()
        .map(|(_, server)| u64::from(server.weight()))
        .sum();
    let mut left = scale(random, total);
    let mut last = None;
    for (index, server) in candidates() {
        last = Some(index);
        match left.checked_sub(u64::from(server.weight())) {
            Some(rest) => left = rest,
            None => break,
        }
    }
    last // the last one seen, if the others became ineligible between the two passes
}
