//! Ways past the servers that several algorithms share.

use crate::hash::{mix, scale};
use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};
use crate::server::Server;

/// A tier with more servers than this is not looked at as a whole.
pub(crate) const WHOLE_MAX: usize = 64;

/// How many servers of a larger tier are looked at. Two would do (Mitzenmacher, "The Power of Two
/// Choices", 2001); with these the waits are close to those of looking at all.
const SAMPLE: u64 = 5;

/// Returns the eligible server of least cost; of a large tier, the best of some random ones. Among
/// equal ones of a small tier, the next after the last that was taken, so that they take turns.
#[inline]
pub(super) fn least<C>(
    cursor: &mut usize,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
    less: impl Fn(&C, &C) -> bool,
    cost: impl Fn(&Server) -> C,
) -> Option<ServerIndex> {
    let count = tier.members.len();
    if count > WHOLE_MAX {
        let drawn = (0..SAMPLE).filter_map(|step| {
            let at = scale(mix(search.random.wrapping_add(step)), count as u64);
            tier.members.get(usize::try_from(at).ok()?)
        });
        if let Some((_, index)) = best(drawn, pool, search, &less, &cost) {
            return Some(index);
        }
    }
    let start = *cursor % count.max(1);
    let (before, after) = tier.members.split_at(start);
    let (turn, index) = best(after.iter().chain(before), pool, search, less, cost)?;
    *cursor = (start + turn + 1) % count;
    Some(index)
}

/// Returns the eligible one of least cost, the first of equal ones, and its place among `indices`.
#[inline]
fn best<'i, C>(
    indices: impl Iterator<Item = &'i ServerIndex>,
    pool: &Pool,
    search: &Search<'_>,
    less: impl Fn(&C, &C) -> bool,
    cost: impl Fn(&Server) -> C,
) -> Option<(usize, ServerIndex)> {
    let mut best: Option<(usize, ServerIndex, C)> = None;
    for (turn, &index) in indices.enumerate() {
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
    best.map(|(turn, index, _)| (turn, index))
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
