//! Looking after servers beside the traffic: those that were ejected are tried again in time, and
//! those that come back take a growing share.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_net::clock;
use plimsoll_proxy::events;

use crate::engine::Engine;

/// How often pools are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Looks after the servers of `engine` for ever.
pub(crate) async fn watch(engine: Arc<Engine>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for running in engine.all() {
            let now = running.since_start(clock::now());
            for pool in &running.generation.pools {
                for change in pool.balancer.tick(now) {
                    events::describe(pool, change);
                }
            }
        }
    }
}
