//! Workers that do not come to their next turn: one thing keeps them, and everything else there waits.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use plimsoll_net::clock;

use crate::engine::Engine;

/// How often workers are looked at.
const TICK: Duration = Duration::from_millis(250);

/// How long one thing may keep a worker before people are told.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was seen of workers that did not go on.
#[derive(Debug, Default)]
pub struct Stalls {
    /// How often one did not for a second.
    pub seen: AtomicU64,
    /// For how long one does not now, in milliseconds.
    now: AtomicU64,
}

impl Stalls {
    /// For how long a worker does not go on now; 0 when all do.
    pub fn now(&self) -> Duration {
        Duration::from_millis(self.now.load(Relaxed))
    }
}

/// A worker as it was seen last.
#[derive(Debug)]
struct Seen {
    turns: u64,
    since: Instant,
    is_told: bool,
}

/// What is to be told of a worker.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// It does not go on.
    Stuck,
    /// It goes on, after so long.
    Free(Duration),
}

impl Seen {
    fn new(now: Instant) -> Self {
        Self {
            turns: 0,
            since: now,
            is_told: false,
        }
    }

    /// Takes note of how many turns it has had by now.
    fn look(&mut self, turns: u64, now: Instant) -> Option<News> {
        let still = now.saturating_duration_since(self.since);
        if turns != self.turns {
            let was_told = self.is_told;
            *self = Self {
                turns,
                ..Self::new(now)
            };
            return was_told.then_some(News::Free(still));
        }
        let is_news = still >= PATIENCE && !self.is_told;
        self.is_told |= is_news;
        is_news.then_some(News::Stuck)
    }

    /// For how long it does not go on, if that was told.
    fn stuck_for(&self, now: Instant) -> Duration {
        match self.is_told {
            true => now.saturating_duration_since(self.since),
            false => Duration::ZERO,
        }
    }
}

/// Looks at the workers of `engine` until they drain.
pub(crate) async fn watch(engine: Arc<Engine>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut all: Vec<Seen> = Vec::new();
    while !engine.is_draining() {
        ticks.tick().await;
        let now = clock::now();
        let running = engine.now();
        all.resize_with(running.metrics.len(), || Seen::new(now));
        let mut longest = Duration::ZERO;
        for (worker, (seen, metrics)) in all.iter_mut().zip(&running.metrics).enumerate() {
            if let Some(news) = seen.look(metrics.totals.turns.value(), now) {
                tell(&engine.stalls, worker, &news);
            }
            longest = longest.max(seen.stuck_for(now));
        }
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        engine.stalls.now.store(longest, Relaxed);
    }
}

fn tell(stalls: &Stalls, worker: usize, news: &News) {
    match news {
        News::Stuck => {
            stalls.seen.fetch_add(1, Relaxed);
            let (state, place) = thread(worker).unwrap_or_default();
            tracing::error!(
                worker,
                state,
                place,
                "a worker has not gone on for a second; all that it serves waits"
            );
        }
        News::Free(after) => tracing::warn!(worker, ?after, "the worker goes on"),
    }
}

/// What the kernel knows of a worker's thread: its state (`R` runs, `S` and `D` wait, `T` and `t` are stopped) and where in
/// the kernel it is (proc_pid_stat(5), proc_pid_wchan(5)).
fn thread(worker: usize) -> Option<(String, String)> {
    let name = format!("worker-{worker}");
    let mut tasks = fs::read_dir("/proc/self/task").ok()?.flatten();
    let is_it = |path: &std::path::Path| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let task = tasks.find(|task| is_it(&task.path()))?.path();
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    let (_, after) = stat.rsplit_once(") ")?;
    let state = after.chars().next()?.to_string();
    let place = fs::read_to_string(task.join("wchan")).unwrap_or_default();
    Some((state, place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_told_of_once_and_again_when_it_goes_on() {
        let start = clock::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut seen = Seen::new(start);
        assert_eq!(seen.look(1, at(250)), None);
        assert_eq!(seen.look(1, at(1_000)), None);
        assert_eq!(seen.stuck_for(at(1_000)), Duration::ZERO);
        assert_eq!(seen.look(1, at(1_250)), Some(News::Stuck));
        assert_eq!(seen.look(1, at(2_000)), None);
        assert_eq!(seen.stuck_for(at(2_250)), Duration::from_secs(2));
        let free = News::Free(Duration::from_secs(3));
        assert_eq!(seen.look(2, at(3_250)), Some(free));
        assert_eq!(seen.look(3, at(3_500)), None);
        assert_eq!(seen.stuck_for(at(3_500)), Duration::ZERO);
    }
}
