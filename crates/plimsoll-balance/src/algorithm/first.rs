//! The first server with room, in the order of the configuration: fills one before the next.

use crate::pick::Ask;
use crate::pool::{Pool, ServerIndex, Tier};

pub(crate) fn choose(pool: &Pool, tier: &Tier, ask: &Ask<'_>) -> Option<ServerIndex> {
    pool.eligible(&tier.members, ask.tried)
        .next()
        .map(|(index, _)| index)
}
