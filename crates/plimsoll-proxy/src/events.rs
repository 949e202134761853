//! What is told of servers: to people, and to the metrics.

use std::time::{Duration, Instant};

use plimsoll_balance::{Change, Event, Outcome, ServerIndex, Slot};
use plimsoll_http::reason::Reason;

use crate::generation::Pool;
use crate::plane::Plane;

/// Teaches a pool how it went with a server that is kept, and how long it took to answer, where it did.
pub(crate) fn teach(
    plane: &Plane,
    pool: &Pool,
    slot: &Slot<'_>,
    (outcome, took): (Outcome, Option<Duration>),
    now: Instant,
) {
    if let Some(change) = slot.teach(outcome, took, plane.since_start(now)) {
        tell(plane, pool, change);
    }
}

/// Counts an attempt to have a server answer that failed.
pub(crate) fn count_failure(plane: &Plane, pool: &Pool, server: ServerIndex, reason: Reason) {
    if let Some(metrics) = plane.metrics.server(pool.index, server.position()) {
        metrics.count_error(reason);
    }
}

/// Tells of a change that a request brought about.
pub(crate) fn tell(plane: &Plane, pool: &Pool, change: Change) {
    if let Event::Ejected(..) = change.event
        && let Some(metrics) = plane.metrics.server(pool.index, change.server.position())
    {
        metrics.ejections.add(1);
    }
    describe(pool, change);
}

/// Writes the event for a change.
pub fn describe(pool: &Pool, change: Change) {
    let server = pool.servers.get(change.server.position());
    let (pool, server) = (&*pool.name, server.map_or("", |server| &*server.name));
    match change.event {
        Event::Ejected(fault, rest) => {
            tracing::warn!(pool, server, why = fault.word(), rest = ?rest, "server ejected");
        }
        Event::Spared(fault) => {
            let why = fault.word();
            tracing::debug!(pool, server, why, "server not ejected: too many are");
        }
        Event::OnTrial => tracing::info!(pool, server, "server tried again"),
        Event::Readmitted => tracing::info!(pool, server, "server readmitted"),
    }
}
