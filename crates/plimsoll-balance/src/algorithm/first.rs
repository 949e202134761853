//! The first server with room, in the order of the configuration: fills one before the next.

use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};

pub(crate) fn choose(pool: &Pool, tier: &Tier, search: &Search<'_>) -> Option<ServerIndex> {
    pool.admitted(&tier.members, search.rule)
        .next()
        .map(|(index, _)| index)
}
