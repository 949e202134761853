//! What the tasks of one worker share: the generation, the counters, the logs, the pickers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_balance::Picker;
use plimsoll_http::date::{HTTP_DATE_BYTES, http_date};
use plimsoll_net::clock;
use plimsoll_net::worker::Worker;
use plimsoll_observe::access_log::{Dates, Record};
use plimsoll_observe::format::Format;
use plimsoll_observe::metrics::WorkerMetrics;
use plimsoll_observe::sink::Tap;

use crate::generation::Generation;
use crate::http::exchange::Scratch;

/// How often log lines leave a worker that has little to say.
const FLUSH: Duration = Duration::from_millis(100);

/// How long the wall clock is reckoned from the monotonic one: a step of the wall clock is seen
/// this late.
const WALL_AGE_MAX: Duration = Duration::from_millis(100);

/// An access log as a worker sees it.
#[derive(Debug)]
pub struct Log {
    /// How a line looks.
    pub format: Format,
    /// Where it goes.
    pub tap: Tap,
}

/// The data plane of one worker.
#[derive(Debug)]
pub struct Plane {
    /// Its sockets, timers and buffers.
    pub worker: Rc<Worker>,
    /// What it serves.
    pub generation: Arc<Generation>,
    /// What it counts.
    pub metrics: Arc<WorkerMetrics>,
    pub(crate) pickers: RefCell<Vec<Picker>>,
    pub(crate) draining: Cell<bool>,
    pub(crate) scratch: RefCell<Vec<Scratch>>,
    start: Instant,
    logs: RefCell<Vec<Log>>,
    dates: RefCell<Dates>,
    date: Cell<(u64, [u8; HTTP_DATE_BYTES])>,
    wall: Cell<(Instant, Duration)>,
}

impl Plane {
    /// The data plane of `worker`, with one log a distinct access log of the generation.
    ///
    /// `start` is the same for all workers: balancing compares times over them.
    pub fn new(
        worker: Rc<Worker>,
        generation: Arc<Generation>,
        metrics: Arc<WorkerMetrics>,
        logs: Vec<Log>,
        start: Instant,
    ) -> Rc<Self> {
        let pickers = generation
            .pools
            .iter()
            .map(|pool| Picker::new(&pool.balancer, worker.index))
            .collect();
        Rc::new(Self {
            worker,
            generation,
            metrics,
            pickers: RefCell::new(pickers),
            draining: Cell::new(false),
            scratch: RefCell::default(),
            start,
            logs: RefCell::new(logs),
            dates: RefCell::default(),
            date: Cell::new((0, http_date(0))),
            wall: Cell::new((start, clock::unix_time())),
        })
    }

    /// The time as balancing counts it.
    pub(crate) fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// The wall clock at `at`, without asking for it: it is read once a tick.
    pub(crate) fn unix_time(&self, at: Instant) -> Duration {
        let (then, unix) = self.wall.get();
        let ahead = at.saturating_duration_since(then);
        if ahead < WALL_AGE_MAX {
            return unix + ahead;
        }
        let unix = clock::unix_time();
        self.wall.set((at, unix));
        unix
    }

    /// The date as HTTP writes it, made once a second.
    pub(crate) fn http_date(&self, unix: Duration) -> [u8; HTTP_DATE_BYTES] {
        let second = unix.as_secs();
        let (made, date) = self.date.get();
        if made == second {
            return date;
        }
        let date = http_date(second);
        self.date.set((second, date));
        date
    }

    /// Writes a line to each of `logs`.
    pub(crate) fn log(&self, logs: &[usize], record: &Record<'_>) {
        let mut all = self.logs.borrow_mut();
        let mut dates = self.dates.borrow_mut();
        for log in logs {
            let Some(log) = all.get_mut(*log) else {
                continue;
            };
            let dropped = log
                .tap
                .line(|out| log.format.write(record, &mut dates, out));
            self.metrics.log_dropped.add(dropped);
        }
    }

    /// Hands log lines over, again and again.
    pub(crate) async fn flush_logs(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(FLUSH);
        loop {
            ticks.tick().await;
            self.flush();
        }
    }

    pub(crate) fn flush(&self) {
        for log in self.logs.borrow_mut().iter_mut() {
            self.metrics.log_dropped.add(log.tap.flush());
        }
    }
}
