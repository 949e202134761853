//! The less loaded of two random servers: nearly the balance of looking at all of them, at the
//! price of looking at two, and workers that know the same loads do not all run to one server.

use super::random::{Weights, draw_except};
use crate::hash::mix;
use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};
use crate::server::Server;

/// Both are drawn by weight, and the load counts per weight. On equal terms the first draw wins,
/// so an idle pool follows the weights exactly; with `load + 1`, as in least-connections, the
/// heavier one would win every time.
pub(crate) fn choose(
    weights: &Weights,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
) -> Option<ServerIndex> {
    let one = draw_except(None, search.random, weights, pool, tier, search)?;
    let random = mix(!search.random);
    let Some(other) = draw_except(Some(one), random, weights, pool, tier, search) else {
        return Some(one);
    };
    let (first, second) = (pool.server(one)?, pool.server(other)?);
    Some(if is_less_loaded(second, first) {
        other
    } else {
        one
    })
}

/// Compares load / weight without a division.
fn is_less_loaded(a: &Server, b: &Server) -> bool {
    let cross = |x: &Server, y: &Server| u64::from(x.in_flight()) * u64::from(y.weight());
    cross(a, b) < cross(b, a)
}
