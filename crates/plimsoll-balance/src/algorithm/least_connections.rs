//! The fewest requests in flight for its weight, counting the one to be placed.

use super::walk::least;
use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};

pub(crate) fn choose(
    cursor: &mut usize,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
) -> Option<ServerIndex> {
    // Compares (load + 1) / weight without a division: both products fit, 33 bits by 32.
    let less = |&(load, weight): &(u64, u64), &(best, of): &(u64, u64)| load * of < best * weight;
    least(cursor, pool, tier, search, less, |server| {
        (
            u64::from(server.in_flight()) + 1,
            u64::from(server.weight()),
        )
    })
}
