//! Key sets at URLs: fetched before the start, again before they are too old, and when a token names a
//! key that is not there. What cannot be fetched or used changes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use plimsoll_config::model::Resolver;
use plimsoll_net::clock;
use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::key_set::KeySet;

use crate::fetch::{self, Fetcher};
use crate::watches::{Begun, First, Key, Watches, key};

/// How often a set is fetched at most because tokens name keys that it does not have: clients choose
/// what they name, and must not choose how often an issuer is asked.
const WISH_MIN: Duration = Duration::from_secs(10);

/// How long to wait after the first fetch that failed, and at most after others.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// When to fetch a set.
#[derive(Debug)]
struct Schedule {
    refresh: Duration,
    /// When the last fetch began.
    began: Instant,
    /// When the next one is due.
    next: Instant,
    /// How many in a row have failed.
    failures: u32,
}

impl Schedule {
    /// Due at once.
    fn new(refresh: Duration, now: Instant) -> Self {
        Self {
            refresh,
            began: now,
            next: now,
            failures: 0,
        }
    }

    /// When to fetch; `is_wished` tells whether a key is missing.
    fn due(&self, is_wished: bool) -> Instant {
        match is_wished {
            true => self.next.min(self.began + WISH_MIN),
            false => self.next,
        }
    }

    /// Notes that a fetch ended that began at `began`.
    fn note(&mut self, is_good: bool, (began, now): (Instant, Instant), random: u64) {
        self.began = began;
        let pause = match is_good {
            true => {
                self.failures = 0;
                fetch::sooner(self.refresh, 10, random)
            }
            false => {
                self.failures = self.failures.saturating_add(1);
                fetch::pause(self.failures, RETRY, random)
            }
        };
        self.next = now + pause;
    }
}

/// Why key sets of a generation can never be fetched.
pub(crate) fn unusable(generation: &Generation) -> impl Iterator<Item = String> {
    let named = generation
        .key_sets
        .iter()
        .filter_map(|set| set.source.ca.as_deref());
    let mut files: Vec<&str> = named.collect();
    files.sort_unstable();
    files.dedup();
    files.into_iter().filter_map(|ca| fetch::roots(ca).err())
}

/// The sets of a generation, each of which has a task.
pub(crate) fn wanted(generation: &Generation) -> Vec<Key> {
    generation.key_sets.iter().map(key).collect()
}

/// Begins to look after the sets of a generation that `known` says nothing of; who does that ends with what is
/// returned. Waits for the first fetches, but not for long.
pub(crate) async fn start(
    generation: &Generation,
    known: &Watches<Key>,
    settings: &Resolver,
) -> Begun<Key> {
    let mut fetcher = None;
    let watch = |set: &Arc<KeySet>, first| {
        let fetcher = fetcher.get_or_insert_with(|| Fetcher::new(settings));
        let watch = Watch {
            set: Arc::clone(set),
            fetcher: fetcher.clone(),
            schedule: Schedule::new(set.source.refresh, clock::now()),
            held: Vec::new(),
            told: None,
        };
        watch.run(first)
    };
    known.start(generation.key_sets.iter(), watch).await
}

/// Who looks after one set.
struct Watch {
    set: Arc<KeySet>,
    fetcher: Fetcher,
    schedule: Schedule,
    /// What was put in force last.
    held: Vec<u8>,
    /// What people were told is wrong with it.
    told: Option<String>,
}

impl Watch {
    async fn run(mut self, first: First) {
        let set = &*Arc::clone(&self.set);
        self.fetch(set).await;
        drop(first);
        loop {
            let due = self.schedule.due(set.wish.is_made());
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => self.fetch(set).await,
                () = set.wish.made() => {}
            }
        }
    }

    async fn fetch(&mut self, set: &KeySet) {
        // A wish that is made from now on may be for a key that this fetch comes too early for.
        set.wish.take();
        let began = clock::now();
        let fetched = self
            .fetcher
            .get(&set.source.url, set.source.ca.as_deref())
            .await;
        let outcome = fetched.and_then(|bytes| self.take(set, bytes));
        let outcome = outcome.map_err(fetch::bounded);
        let is_good = outcome.is_ok();
        let random = getrandom::u64().unwrap_or_default();
        self.schedule.note(is_good, (began, clock::now()), random);
        self.tell(set, outcome);
        set.material.note(is_good);
    }

    /// Puts a set in force; tells whether it is another one than before.
    fn take(&mut self, set: &KeySet, bytes: Vec<u8>) -> Result<bool, String> {
        if bytes.is_empty() {
            return Err("the answer is empty".to_owned());
        }
        set.material.take(bytes.clone(), None)?;
        let is_new = self.held != bytes;
        self.held = bytes;
        Ok(is_new)
    }

    fn tell(&mut self, set: &KeySet, outcome: Result<bool, String>) {
        let url = &*set.source.url.text;
        match outcome {
            Ok(is_new) => {
                if is_new {
                    tracing::info!(url, "a key set was fetched that is new");
                } else if self.told.is_some() {
                    tracing::info!(url, "a key set can be fetched again");
                }
                self.told = None;
            }
            Err(problem) if self.told.as_ref() == Some(&problem) => {}
            Err(problem) => {
                if set.material.taken.load(Relaxed) == 0 {
                    tracing::warn!(
                        url,
                        problem,
                        "a key set cannot be used; without it no token is let in"
                    );
                } else {
                    tracing::warn!(
                        url,
                        problem,
                        "a key set cannot be used; the last good one still counts"
                    );
                }
                self.told = Some(problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_set_is_fetched_before_it_is_too_old_and_ever_more_rarely_when_that_fails() {
        let now = clock::now();
        let mut schedule = Schedule::new(seconds(300), now);
        assert_eq!(schedule.due(false), now);
        let mut pause = |is_good, random| {
            schedule.note(is_good, (now, now), random);
            schedule.due(false) - now
        };
        assert_eq!(pause(true, 0), seconds(300));
        assert_eq!(pause(true, 1000), seconds(270));
        let pauses: Vec<u64> = (0..9).map(|_| pause(false, 0).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(false, 1000), seconds(30));
        assert_eq!(pause(true, 0), seconds(300));
        assert_eq!(pause(false, 1000), Duration::from_millis(500));
    }

    #[test]
    fn a_key_that_is_missing_brings_a_fetch_forward_but_not_too_often() {
        let began = clock::now();
        let ended = began + seconds(4);
        let mut schedule = Schedule::new(seconds(300), began);
        schedule.note(true, (began, ended), 0);
        assert_eq!(schedule.due(false), ended + seconds(300));
        assert_eq!(schedule.due(true), began + seconds(10));
        // Wishes never put off what is due anyway.
        schedule.note(false, (began, ended), 0);
        assert_eq!(schedule.due(true), ended + seconds(1));
        for _ in 0..9 {
            schedule.note(false, (began, ended), 0);
        }
        assert_eq!(schedule.due(false), ended + seconds(60));
        assert_eq!(schedule.due(true), began + seconds(10));
    }
}
