//! What is told of servers: to people, and to the metrics.

use plimsoll_balance::{Change, Event};

use crate::generation::Pool;
use crate::plane::Plane;

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
