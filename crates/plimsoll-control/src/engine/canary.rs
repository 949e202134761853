//! Serving a part of what comes under another configuration, and the rest as before, until it is decided which one
//! takes all. What both have is one: limits, caches, the standing of servers. Nobody listens anew for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_balance::canary::Share;
use plimsoll_config::model::Config;
use plimsoll_net::clock;
use plimsoll_observe::outcomes::Tally;

use super::{Engine, Refusal};
use crate::checks;
use crate::difference;
use crate::launch::{Running, prepare};

/// What is tried, beside what is served.
#[derive(Debug)]
pub struct Tried {
    /// What is tried.
    pub running: Arc<Running>,
    /// How much of what comes it takes.
    pub share: Share,
    /// When it is decided at last.
    pub until: Instant,
    /// What had come of what is served when this began.
    before: Tally,
}

impl Tried {
    /// What has come since this began of what `now` serves, and of what is tried.
    pub fn outcomes(&self, now: &Running) -> (Tally, Tally) {
        (now.tally().since(&self.before), self.running.tally())
    }
}

impl Engine {
    /// What is tried now, if anything is.
    pub fn tried(&self) -> Option<Arc<Tried>> {
        self.tried.load_full()
    }

    /// All that is served: what takes what comes, and what is tried.
    pub(crate) fn all(&self) -> impl Iterator<Item = Arc<Running>> {
        let tried = self.tried().map(|tried| Arc::clone(&tried.running));
        std::iter::once(self.now()).chain(tried)
    }

    /// Serves a part of what comes under `config`, until that is decided.
    ///
    /// # Errors
    /// Why it cannot be; then nothing has changed.
    pub(crate) async fn try_part(
        self: &Arc<Self>,
        config: &Config,
        share: Share,
        time: Duration,
    ) -> Result<Arc<Tried>, Refusal> {
        let mut tasks = self.turn.lock().await;
        let before = self.now();
        before.allows(config)?;
        has_the_same_sockets(&before.generation.config, config)?;
        let mut prepared = prepare(config, &tasks.house, Some(&before)).await?;
        let has_other_doors = !prepared.generation.has_the_doors_of(&before.generation);
        if has_other_doors || prepared.next.iter().any(|next| !next.needs_no_sockets()) {
            return Err(Refusal::Whole("how a listener is listened on".to_owned()));
        }
        self.goes_on()?;
        let running = prepared.running(&before.peers, self.start, Some(&before));
        let tried = Arc::new(Tried {
            running: Arc::new(running),
            share,
            until: clock::now() + time,
            before: before.tally(),
        });
        let next = std::mem::take(&mut prepared.next);
        tasks.house.number = prepared.generation.number;
        self.tried.store(Some(Arc::clone(&tried)));
        self.note_logs();
        checks::begin(&mut tasks.checks, self, (&tried.running, &before));
        tasks.tried = Some(prepared.beside);
        match tasks.crew.try_part(next, share).await {
            true => Ok(tried),
            false => Err(Refusal::Gone),
        }
    }

    /// Serves everything under what is tried.
    ///
    /// # Errors
    /// Why it cannot be; then nothing has changed.
    pub(crate) async fn take_all(self: &Arc<Self>) -> Result<(), Refusal> {
        let mut tasks = self.turn.lock().await;
        self.goes_on()?;
        let Some((tried, beside)) = self.tried().zip(tasks.tried.take()) else {
            return Err(Refusal::Gone);
        };
        if !tasks.crew.decide(true).await {
            return Err(Refusal::Gone);
        }
        let before = self.now();
        // Checks find it in one of the two at any moment.
        self.now.store(Arc::clone(&tried.running));
        self.tried.store(None);
        self.look_after(&mut tasks, beside, &before).await;
        Ok(())
    }

    /// Serves nothing any more under what is tried, but what has begun there.
    pub(crate) async fn take_back(self: &Arc<Self>) {
        let mut tasks = self.turn.lock().await;
        tasks.tried = None;
        if let Some(tried) = self.tried.swap(None) {
            tasks.crew.decide(false).await;
            self.note_logs();
            checks::change(&mut tasks.checks, self, Some(&tried.running));
            tasks.forget_servers(&tried.running, &self.now()).await;
            self.end_oldest(&mut tasks, &tried.running).await;
        }
    }
}

/// A part of what comes to a socket can go elsewhere, but not of what comes to one that only one of two has.
fn has_the_same_sockets(before: &Config, config: &Config) -> Result<(), Refusal> {
    if before.workers != config.workers {
        return Err(Refusal::Whole("`workers`".to_owned()));
    }
    let differences = difference::between(before, config);
    let mut listeners = differences.iter().filter(|one| one.kind == "listener");
    let other = listeners.next();
    other.map_or(Ok(()), |other| {
        Err(Refusal::Whole(format!("listener {}", other.name)))
    })
}
