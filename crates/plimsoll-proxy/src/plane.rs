//! What the tasks of one worker share: the generation, the counters, the logs, the pickers.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_balance::Picker;
use plimsoll_balance::budget::Budget;
use plimsoll_balance::strain;
use plimsoll_config::model::Priority;
use plimsoll_http::date::{HTTP_DATE_BYTES, http_date};
use plimsoll_net::clock;
use plimsoll_net::datagrams::Batch;
use plimsoll_net::worker::Worker;
use plimsoll_observe::access_log::{Dates, Record};
use plimsoll_observe::format::Format;
use plimsoll_observe::metrics::WorkerMetrics;
use plimsoll_observe::sink::Tap;
use tokio::time::MissedTickBehavior;

use crate::generation::{Generation, Pool};
use crate::hashing::Hashing;
use crate::http::exchange::Scratch;
use crate::http::h2::Links;
use crate::http::hedge::Hedger;
use crate::http::line::{self, Line};
use crate::http::throttle::Throttle;
use crate::shelf::Shelf;
use crate::strain::Lag;

/// How often log lines leave a worker that has little to say, and lines of requests are looked at.
const TEND: Duration = Duration::from_millis(100);

/// How often memory that is not used is given back to the system.
const GIVE_BACK: Duration = Duration::from_secs(1);

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

/// Gives memory that a thread does not use back to the system: all of it at once, or what has not
/// been used for a while.
pub type GiveBack = fn(at_once: bool);

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
    /// Files that it has at hand.
    pub(crate) shelf: Shelf,
    /// What each pool may try again.
    pub(crate) budgets: RefCell<Vec<Budget>>,
    /// How many requests each pool may have, where that is found out.
    pub(crate) throttles: Vec<Option<Throttle>>,
    /// When second servers of each pool are asked, where they are.
    pub(crate) hedgers: Vec<Option<Hedger>>,
    /// Who waits before each pool.
    pub(crate) lines: Vec<Line>,
    /// Connections to servers that carry many requests at once.
    pub(crate) links: Links,
    /// Who waits for a password to be hashed.
    pub(crate) hashing: Hashing,
    /// Room for datagrams on their way.
    pub(crate) batch: RefCell<Batch>,
    /// Itself, for what goes on beside a request.
    pub(crate) me: Weak<Self>,
    /// How many copies of requests are under way.
    pub(crate) copies: Cell<usize>,
    pub(crate) draining: Cell<bool>,
    /// How late this worker comes to what it has to do.
    lag: Lag,
    /// Whether there are nearly as many client connections as there may be, or little memory.
    pub(crate) crowded: Cell<bool>,
    #[expect(clippy::vec_box, reason = "every request moves one out and in again")]
    pub(crate) scratch: RefCell<Vec<Box<Scratch>>>,
    start: Instant,
    give_back: GiveBack,
    gave_back: Cell<Instant>,
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
        give_back: GiveBack,
    ) -> Rc<Self> {
        let pickers = generation
            .pools
            .iter()
            .map(|pool| Picker::new(&pool.balancer, worker.index))
            .collect();
        let workers = u32::try_from(worker.peers.count()).unwrap_or(u32::MAX);
        let throttle = |pool: &Pool| {
            let count = worker.peers.count();
            pool.adaptive.map(|range| Throttle::new(range, count))
        };
        let throttles = generation.pools.iter().map(throttle).collect();
        let budget = |pool: &Pool| {
            let share = u32::from(pool.retry.budget) * 10;
            Budget::new(share, pool.retry.reserve.div_ceil(workers))
        };
        let budgets = generation.pools.iter().map(budget).collect();
        let hedger = |pool: &Pool| pool.hedge.map(Hedger::new);
        let hedgers = generation.pools.iter().map(hedger).collect();
        let lines = generation
            .pools
            .iter()
            .map(|pool| Line::new(pool.line.as_ref()))
            .collect();
        Rc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            batch: RefCell::default(),
            copies: Cell::new(0),
            shelf: Shelf::default(),
            lag: Lag::new(generation.overload),
            links: Links::default(),
            hashing: Hashing::new(&generation.turns),
            generation,
            metrics,
            pickers: RefCell::new(pickers),
            budgets: RefCell::new(budgets),
            throttles,
            hedgers,
            lines,
            draining: Cell::new(false),
            crowded: Cell::new(false),
            scratch: RefCell::default(),
            start,
            give_back,
            gave_back: Cell::new(start),
            logs: RefCell::new(logs),
            dates: RefCell::default(),
            date: Cell::new((0, http_date(0))),
            wall: Cell::new((start, clock::unix_time())),
            worker,
        })
    }

    /// The time as balancing counts it.
    pub(crate) fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// Who asks second servers of a pool, if anyone does.
    pub(crate) fn hedger(&self, pool: &Pool) -> Option<&Hedger> {
        self.hedgers.get(pool.index)?.as_ref()
    }

    /// Counts a request for a pool, which earns it a part of a retry.
    pub(crate) fn note_request(&self, pool: usize, at: Instant) {
        if let Some(budget) = self.budgets.borrow_mut().get_mut(pool) {
            budget.note_request(self.since_start(at));
        }
    }

    /// Spends a retry of a pool, if it has one.
    pub(crate) fn may_retry(&self, pool: usize) -> bool {
        let now = self.since_start(clock::now());
        let mut budgets = self.budgets.borrow_mut();
        let may = budgets
            .get_mut(pool)
            .is_some_and(|budget| budget.try_retry(now));
        if !may && let Some(metrics) = self.metrics.pools.get(pool) {
            metrics.retries_refused.add(1);
        }
        may
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
            self.metrics.totals.log_dropped.add(dropped);
        }
    }

    /// Hands log lines over and looks after those who wait, again and again.
    pub(crate) async fn tend(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TEND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = ticks.tick().await;
            let late = clock::now().saturating_duration_since(due.into_std());
            self.lag.note(late);
            let micros = u64::try_from(late.as_micros());
            self.metrics.totals.lag.set(micros.unwrap_or(u64::MAX));
            let waiting = self.worker.handshakes.waiting();
            self.metrics.totals.handshakes_waiting.set(waiting as u64);
            self.make_room();
            self.give_back();
            self.note_limits();
            line::tend(&self);
            self.flush();
        }
    }

    /// When connections or memory run out, clients that only wait make room: first after their next
    /// answer, at last at once.
    fn make_room(&self) {
        let connections = self.worker.peers.connections();
        let is_crowded = self.generation.gate.is_crowded(connections);
        self.crowded
            .set(is_crowded || self.generation.memory.strain() > 0);
        if self.is_full() {
            self.worker.deadlines.wake_all();
        }
    }

    /// Gives memory back to the system: now and then, and all there is when there is too little.
    fn give_back(&self) {
        let now = clock::now();
        let is_short = self.generation.memory.strain() > 0;
        if is_short {
            self.worker.buffers.forget_free();
        }
        if is_short || now.duration_since(self.gave_back.get()) >= GIVE_BACK {
            (self.give_back)(is_short);
            self.gave_back.set(now);
        }
    }

    /// Tells whether no further connection is accepted now.
    pub(crate) fn is_full(&self) -> bool {
        let connections = self.worker.peers.connections();
        self.generation.gate.is_full(connections) || self.is_out_of_memory()
    }

    /// Tells whether nothing new may begin for want of memory.
    pub(crate) fn is_out_of_memory(&self) -> bool {
        self.reckon_memory();
        self.generation.memory.is_out()
    }

    /// Tells whether a request is refused because there is too little memory or time for all.
    pub(crate) fn refuses(&self, priority: Priority) -> bool {
        self.reckon_memory();
        let strain = self.lag.strain().max(self.generation.memory.strain());
        let refuses = strain > 0 && strain::refuses(strain, priority as u8, self.worker.random());
        if refuses {
            self.metrics.totals.overload_refused.add(1);
        }
        refuses
    }

    fn reckon_memory(&self) {
        let made = self.worker.buffers.count_made();
        if made > 0 {
            self.generation.memory.note_buffers(made);
        }
    }

    /// Writes down what the limits are that follow the times of answers.
    fn note_limits(&self) {
        for (throttle, metrics) in self.throttles.iter().zip(&self.metrics.pools) {
            if let Some(throttle) = throttle {
                metrics.concurrency_limit.set(throttle.limit().into());
            }
        }
    }

    /// Tells whether connections end with their answers.
    pub(crate) fn keeps_nobody(&self) -> bool {
        self.draining.get() || self.crowded.get()
    }

    pub(crate) fn flush(&self) {
        for log in self.logs.borrow_mut().iter_mut() {
            self.metrics.totals.log_dropped.add(log.tap.flush());
        }
    }
}
