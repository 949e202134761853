//! Smooth weighted round-robin, as in NGINX: weights 5, 1, 1 give `a a b a c a a`.
//!
//! At each turn every server gains its weight, the one with the most is taken and loses what all
//! gained. A server that is not eligible neither gains nor loses, so its share is spread over the
//! others in proportion and it does not catch up with a burst when it comes back.

use crate::eligible::Rule;
use crate::pool::{Pool, ServerIndex, Tier};

pub(crate) fn choose(
    running: &mut [i64],
    pool: &Pool,
    tier: &Tier,
    rule: Rule<'_>,
) -> Option<ServerIndex> {
    let mut total = 0;
    let mut best: Option<(ServerIndex, i64)> = None;
    for (index, server) in pool.admitted(&tier.members, rule) {
        let Some(value) = running.get_mut(index.position()) else {
            continue;
        };
        let weight = i64::from(server.weight());
        *value += weight;
        total += weight;
        if best.is_none_or(|(_, most)| *value > most) {
            best = Some((index, *value));
        }
    }
    let (index, _) = best?;
    if let Some(value) = running.get_mut(index.position()) {
        *value -= total;
    }
    Some(index)
}
