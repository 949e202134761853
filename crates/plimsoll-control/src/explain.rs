//! What a configuration would do, without serving it: for `trace`, for replays, for checks.

use plimsoll_config::model::Config;
use plimsoll_net::clock;
use plimsoll_proxy::compile::{Machine, compile};
use plimsoll_proxy::generation::Generation;
pub use plimsoll_proxy::stock::{Query, Stock, Stored};
use plimsoll_proxy::trace;
pub use plimsoll_proxy::trace::{Candidate, Line, Outcome, Question, Trace};

use crate::expiry;
use crate::materials::{self, Issue, Loaded};

/// A configuration that requests are explained by.
#[derive(Debug)]
pub struct Rules(Generation);

impl Rules {
    /// Compiles a configuration. Servers are nowhere, and files that rules read are empty.
    pub fn new(config: &Config) -> Self {
        let machine = Machine {
            number: 1,
            name: String::new(),
            seed: 0,
            workers: 1,
            capacity: 1,
            connections_max: 1,
            sessions: std::sync::Arc::default(),
            before: None,
        };
        let (generation, _) = compile(config, |_| Ok(Box::default()), machine);
        Self(generation)
    }

    /// Reads the files that rules read.
    ///
    /// # Errors
    /// Those that cannot be used, and why; the others are read.
    pub fn load(&self) -> Result<(), Vec<String>> {
        let Loaded {
            problems, degraded, ..
        } = materials::load(&self.0, Issue::No);
        let problems: Vec<String> = problems.into_iter().chain(degraded).collect();
        match problems.is_empty() {
            true => Ok(()),
            false => Err(problems),
        }
    }

    /// The directories of caches that cannot be used, and why.
    pub fn unusable_disks(&self) -> Vec<String> {
        let checked = self.0.caches.iter().map(|keeping| keeping.check());
        let bad = checked.filter_map(Result::err);
        bad.map(|bad| bad.to_string()).collect()
    }

    /// What is to be said of certificates that were read: which have expired, or will soon, or lack what
    /// clients insist on.
    pub fn expiring(&self) -> Vec<String> {
        expiry::warnings(&self.0, clock::unix_time().as_secs())
    }

    /// What becomes of a request.
    pub fn explain(&self, question: &Question) -> Trace {
        trace::explain(&self.0, question)
    }
}
