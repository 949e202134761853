//! Two ways past the servers that several algorithms share.

use crate::hash::mix;
use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};
use crate::server::Server;

/// Returns the eligible server of least cost. Among equal ones, the next after the last that was
/// taken, so that they take turns.
#[inline]
pub(super) fn in_turn<C>(
    cursor: &mut usize,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
    less: impl Fn(&C, &C) -> bool,
    cost: impl Fn(&Server) -> C,
) -> Option<ServerIndex> {
    let count = tier.members.len();
    let start = *cursor % count.max(1);
    let (before, after) = tier.members.split_at(start);
    let mut best: Option<(usize, ServerIndex, C)> = None;
    for (turn, &index) in after.iter().chain(before).enumerate() {
        let Some(server) = pool.server(index) else {
            continue;
        };
        if !search.rule.admits(index, server) {
            continue;
        }
        let cost = cost(server);
        if best.as_ref().is_none_or(|(_, _, least)| less(&cost, least)) {
            best = Some((turn, index, cost));
        }
    }
    let (turn, index, _) = best?;
    *cursor = (start + turn + 1) % count;
    Some(index)
}

/// How far a key looks for an eligible server in a hash table, per server of the pool.
const STEPS_PER_SERVER: usize = 8;

/// Returns the first of `owners` that is eligible and `within` its bound; else the first eligible.
///
/// A key whose server is not eligible thus goes to the next one in the table, and no other key
/// moves. After a bounded number of steps (most of a large pool is down or full) the eligible
/// server with the highest hash of key and name takes it, which also moves no other key.
pub(super) fn along(
    owners: impl Iterator<Item = ServerIndex>,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
    within: impl Fn(&Server) -> bool,
) -> Option<ServerIndex> {
    let mut fallback = None;
    let mut last = None;
    for index in owners.take(tier.members.len().saturating_mul(STEPS_PER_SERVER)) {
        if last == Some(index) {
            continue;
        }
        last = Some(index);
        let server = pool.server(index)?;
        if !search.rule.admits(index, server) {
            continue;
        }
        if within(server) {
            return Some(index);
        }
        fallback.get_or_insert(index);
    }
    fallback.or_else(|| {
        pool.admitted(&tier.members, search.rule)
            .max_by_key(|(_, server)| (mix(server.name_hash() ^ search.key), server.name()))
            .map(|(index, _)| index)
    })
}
