//! Looks at everything once a second, for all who watch.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll_control::engine::Engine;
use plimsoll_control::launch::Running;
use plimsoll_net::clock;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::canary::CanaryView;
use crate::snapshot::Snapshot;
use crate::view::{Process, View};

/// How often everything is looked at.
const PACE: Duration = Duration::from_secs(1);

/// How many seconds are remembered.
const MEMORY: usize = 300;

/// What is remembered of a second.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Point {
    /// When it ended, in seconds since 1970.
    pub now: u64,
    /// Requests.
    pub request_rate: f64,
    /// Of these, with a status of 500 or more.
    pub error_rate: f64,
    /// What half of them took at most; nothing when there were none.
    pub p50: Option<f64>,
    /// What 99 of 100 took at most.
    pub p99: Option<f64>,
    /// Client connections.
    pub connections: usize,
}

/// What was seen last, and before.
#[derive(Debug)]
pub(crate) struct Sampler {
    process: Process,
    last: Mutex<Snapshot>,
    history: Mutex<VecDeque<Point>>,
    view: watch::Sender<Arc<View>>,
}

impl Sampler {
    pub(crate) fn new(engine: &Engine) -> Self {
        let running = &engine.now();
        let process = Process {
            node: rustix::system::uname()
                .nodename()
                .to_string_lossy()
                .into_owned(),
            started: clock::unix_time().as_secs(),
        };
        let last = take(running);
        let first = View::between(running, &process, (&last, &last), process.started);
        let sampler = Self {
            process,
            last: Mutex::new(last),
            history: Mutex::default(),
            view: watch::Sender::new(Arc::new(first)),
        };
        sampler.look(engine);
        sampler
    }

    /// Looks again and again, for ever.
    pub(crate) async fn run(&self, engine: &Engine) {
        let mut ticks = tokio::time::interval(PACE);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            self.look(engine);
        }
    }

    fn look(&self, engine: &Engine) {
        let after = take(&engine.now());
        let view = self.show(engine, &after);
        *self.last() = after;
        self.remember(&view);
    }

    /// Shows what has just been changed, without waiting for the next second.
    pub(crate) fn show_now(&self, engine: &Engine) {
        self.show(engine, &take(&engine.now()));
    }

    fn show(&self, engine: &Engine, after: &Snapshot) -> Arc<View> {
        let now = clock::unix_time().as_secs();
        let running = &engine.now();
        let mut view = View::between(running, &self.process, (&self.last(), after), now);
        view.canary = CanaryView::of(engine);
        let view = Arc::new(view);
        self.view.send_replace(Arc::clone(&view));
        view
    }

    fn last(&self) -> MutexGuard<'_, Snapshot> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, view: &View) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if history.len() == MEMORY {
            history.pop_front();
        }
        history.push_back(Point {
            now: view.now,
            request_rate: view.traffic.request_rate,
            error_rate: view.traffic.error_rate,
            p50: view.traffic.p50,
            p99: view.traffic.p99,
            connections: view.connections,
        });
    }

    /// What was seen last.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// What was seen last, and from then on.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// What the last minutes were like, the oldest second first.
    pub(crate) fn history(&self) -> Vec<Point> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.iter().copied().collect()
    }
}

fn take(running: &Running) -> Snapshot {
    Snapshot::take(&running.generation, &running.metrics, clock::now())
}
