//! A configuration that a part of the connections is served under: the form of it that people and machines get.

use plimsoll_control::engine::Engine;
use plimsoll_control::reload::canary::Outcome;
use plimsoll_net::clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What serves a part of the connections, until it is decided.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CanaryView {
    /// The number of the configuration.
    pub generation: u64,
    /// How much it takes of the connections.
    pub percent: u8,
    /// In how many seconds it is decided at last.
    pub seconds_left: u64,
    /// How it goes there.
    pub new: Outcome,
    /// How it goes in the same time under the configuration that takes the rest.
    pub before: Outcome,
}

impl CanaryView {
    pub(crate) fn of(engine: &Engine) -> Option<Self> {
        let tried = engine.tried()?;
        let (before, new) = tried.outcomes(&engine.now());
        let left = tried.until.saturating_duration_since(clock::now());
        Some(Self {
            generation: tried.running.generation.number,
            percent: tried.share.percent(),
            seconds_left: left.as_secs(),
            new: Outcome::from(&new),
            before: Outcome::from(&before),
        })
    }
}
