//! The server that should answer first: expected latency x (requests in flight + 1) / weight.

use super::walk::least;
use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};
use crate::server::Server;
use std::time::Duration;

/// What a server costs that has requests in flight and has never answered: more than any that
/// has. One request goes there to learn; the others wait for what it shows.
const UNKNOWN_SECONDS: f32 = 1e6;

pub(crate) fn choose(
    cursor: &mut usize,
    pool: &Pool,
    tier: &Tier,
    search: &Search<'_>,
) -> Option<ServerIndex> {
    let less = |cost: &f64, best: &f64| cost < best;
    least(cursor, pool, tier, search, less, |server| {
        cost(server, search.now)
    })
}

fn cost(server: &Server, now: Duration) -> f64 {
    let in_flight = server.in_flight();
    let seconds = match server.latency_seconds(now) {
        Some(seconds) => seconds,
        None if in_flight == 0 => 0.0,
        None => UNKNOWN_SECONDS,
    };
    f64::from(seconds) * (f64::from(in_flight) + 1.0) / f64::from(server.weight())
}
