//! One worker's view of one generation. A worker has a current one; an exchange takes it when it begins and
//! keeps it to its end. When the last exchange of an older one has ended, that one is gone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use plimsoll_balance::Picker;
use plimsoll_balance::budget::Budget;
use plimsoll_balance::strain;
use plimsoll_config::model::Priority;
use plimsoll_http::date::HTTP_DATE_BYTES;
use plimsoll_net::clock;
use plimsoll_net::worker::Worker;
use plimsoll_observe::access_log::Record;
use plimsoll_observe::format::Format;
use plimsoll_observe::metrics::WorkerMetrics;
use plimsoll_observe::sink::Tap;

use crate::coder::Coders;
use crate::generation::{Generation, Pool};
use crate::hashing::Hashing;
use crate::http::hedge::Hedger;
use crate::http::line::Line;
use crate::http::throttle::Throttle;
use crate::sessions::Session;
use crate::shelf::Shelf;
use crate::station::Station;
use crate::strain::Lag;

/// An access log as a worker sees it.
#[derive(Debug)]
pub struct Log {
    /// How a line looks.
    pub format: Format,
    /// Where it goes.
    pub tap: Tap,
}

/// A log that planes share whose generations write to the same.
pub(crate) type SharedLog = Rc<RefCell<Log>>;

/// Gives memory that a thread does not use back to the system: all of it at once, or what has not
/// been used for a while.
pub type GiveBack = fn(at_once: bool);

/// The data plane of one worker, for one generation.
#[derive(Debug)]
pub struct Plane {
    /// Its sockets, timers and buffers.
    pub worker: Rc<Worker>,
    /// What it has whatever it serves.
    pub(crate) station: Rc<Station>,
    /// What it serves.
    pub generation: Arc<Generation>,
    /// What it counts.
    pub metrics: Arc<WorkerMetrics>,
    pub(crate) pickers: RefCell<Vec<Picker>>,
    /// What compresses, where nobody uses it.
    pub(crate) coders: Rc<Coders>,
    /// Files that it has at hand.
    pub(crate) shelf: Shelf,
    /// What each pool may try again.
    pub(crate) budgets: RefCell<Vec<Budget>>,
    /// How many requests each pool may have, where that is found out.
    pub(crate) throttles: Vec<Option<Rc<Throttle>>>,
    /// When second servers of each pool are asked, where they are.
    pub(crate) hedgers: Vec<Option<Rc<Hedger>>>,
    /// Who waits before each pool.
    pub(crate) lines: Vec<Rc<Line>>,
    /// Who waits for a password to be hashed.
    pub(crate) hashing: Rc<Hashing>,
    /// Itself, for what goes on beside a request.
    pub(crate) me: Weak<Self>,
    /// How late this worker comes to what it has to do.
    lag: Lag,
    pub(crate) logs: Vec<SharedLog>,
    /// Whether there is a newer one, so that nothing begins here any more.
    pub(crate) is_past: Cell<bool>,
    /// Whether what is still under way here ends now.
    pub(crate) is_over: Cell<bool>,
}

/// What a worker has for one pool.
#[derive(Clone)]
struct OfPool {
    picker: Picker,
    budget: Budget,
    throttle: Option<Rc<Throttle>>,
    hedger: Option<Rc<Hedger>>,
    line: Rc<Line>,
}

impl OfPool {
    fn new(pool: &Pool, worker: &Worker) -> Self {
        let count = worker.peers.count();
        let workers = u32::try_from(count).unwrap_or(u32::MAX);
        let share = u32::from(pool.retry.budget) * 10;
        let throttle = |range| Rc::new(Throttle::new(range, count));
        Self {
            picker: Picker::new(&pool.balancer, worker.index),
            budget: Budget::new(share, pool.retry.reserve.div_ceil(workers)),
            throttle: pool.adaptive.map(throttle),
            hedger: pool.hedge.map(Hedger::new).map(Rc::new),
            line: Rc::new(Line::new(pool.line.as_ref())),
        }
    }

    /// The same for the next generation: what was learnt, and who waits, stays where its settings do.
    fn succeed(self, before: &Pool, pool: &Pool, worker: &Worker) -> Self {
        let new = Self::new(pool, worker);
        let same = |is_same: bool| is_same.then_some(&self);
        let is_balanced_alike = Arc::ptr_eq(&before.balancer, &pool.balancer);
        let picker = same(is_balanced_alike).map(|old| old.picker.clone());
        let budget = same(before.retry == pool.retry).map(|old| old.budget.clone());
        let throttle = same(before.adaptive == pool.adaptive).map(|old| old.throttle.clone());
        let hedger = same(before.hedge == pool.hedge).map(|old| old.hedger.clone());
        let waits_alike =
            Line::settings(before.line.as_ref()) == Line::settings(pool.line.as_ref());
        let line = same(waits_alike).map(|old| Rc::clone(&old.line));
        Self {
            picker: picker.unwrap_or(new.picker),
            budget: budget.unwrap_or(new.budget),
            throttle: throttle.unwrap_or(new.throttle),
            hedger: hedger.unwrap_or(new.hedger),
            line: line.unwrap_or(new.line),
        }
    }
}

impl Plane {
    /// The first data plane of a worker, with one log a distinct access log of the generation.
    pub(crate) fn new(
        station: Rc<Station>,
        generation: Arc<Generation>,
        metrics: Arc<WorkerMetrics>,
        logs: Vec<SharedLog>,
    ) -> Rc<Self> {
        let pools = generation.pools.iter();
        let pools = pools.map(|pool| OfPool::new(pool, &station.worker));
        let pools = pools.collect();
        let hashing = Rc::new(Hashing::new(&generation.turns));
        Self::assemble(station, (generation, metrics), (pools, hashing, logs))
    }

    /// The next one.
    pub(crate) fn succeed(
        &self,
        generation: Arc<Generation>,
        metrics: Arc<WorkerMetrics>,
        logs: Vec<SharedLog>,
    ) -> Rc<Self> {
        let before = self.generation.pools.iter();
        let known: BTreeMap<&str, &Pool> = before.map(|pool| (&*pool.name, pool)).collect();
        let pools = generation.pools.iter().map(|pool| {
            let before = known.get(&*pool.name);
            let old = before.and_then(|before| Some((before, self.of_pool(before.index)?)));
            match old {
                Some((before, old)) => old.succeed(before, pool, &self.worker),
                None => OfPool::new(pool, &self.worker),
            }
        });
        let parts = (pools.collect(), Rc::clone(&self.hashing), logs);
        Self::assemble(Rc::clone(&self.station), (generation, metrics), parts)
    }

    fn of_pool(&self, pool: usize) -> Option<OfPool> {
        Some(OfPool {
            picker: self.pickers.borrow().get(pool)?.clone(),
            budget: self.budgets.borrow().get(pool)?.clone(),
            throttle: self.throttles.get(pool)?.clone(),
            hedger: self.hedgers.get(pool)?.clone(),
            line: self.lines.get(pool).map(Rc::clone)?,
        })
    }

    fn assemble(
        station: Rc<Station>,
        (generation, metrics): (Arc<Generation>, Arc<WorkerMetrics>),
        (pools, hashing, logs): (Vec<OfPool>, Rc<Hashing>, Vec<SharedLog>),
    ) -> Rc<Self> {
        let pools = pools.into_iter();
        let pools = pools.map(|of| ((of.picker, of.budget), (of.throttle, (of.hedger, of.line))));
        let (balance, rest): (Vec<_>, Vec<_>) = pools.unzip();
        let (pickers, budgets): (Vec<_>, Vec<_>) = balance.into_iter().unzip();
        let (throttles, rest): (Vec<_>, Vec<_>) = rest.into_iter().unzip();
        let (hedgers, lines) = rest.into_iter().unzip();
        Rc::new_cyclic(|me| Self {
            worker: Rc::clone(&station.worker),
            station,
            pickers: RefCell::new(pickers),
            coders: Rc::default(),
            shelf: Shelf::default(),
            budgets: RefCell::new(budgets),
            throttles,
            hedgers,
            lines,
            hashing,
            me: Weak::clone(me),
            lag: Lag::new(generation.overload),
            generation,
            metrics,
            logs,
            is_past: Cell::new(false),
            is_over: Cell::new(false),
        })
    }

    /// The time as balancing counts it.
    pub(crate) fn since_start(&self, at: Instant) -> Duration {
        self.station.since_start(at)
    }

    /// Who asks second servers of a pool, if anyone does.
    pub(crate) fn hedger(&self, pool: &Pool) -> Option<&Hedger> {
        self.hedgers.get(pool.index)?.as_deref()
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

    /// The wall clock at `at`, without asking for it.
    pub(crate) fn unix_time(&self, at: Instant) -> Duration {
        self.station.unix_time(at)
    }

    /// The date as HTTP writes it.
    pub(crate) fn http_date(&self, unix: Duration) -> [u8; HTTP_DATE_BYTES] {
        self.station.http_date(unix)
    }

    /// Tells whether anybody reads lines of these logs.
    pub(crate) fn is_logged(&self, logs: &[usize]) -> bool {
        !logs.is_empty() || self.station.tails.are_heard()
    }

    /// Writes a line to each of `logs`, and to whoever listens.
    pub(crate) fn log(&self, logs: &[usize], record: &Record<'_>) {
        let mut dates = self.station.dates.borrow_mut();
        if self.station.tails.are_heard() {
            self.station.tails.offer(record, &mut dates);
        }
        for log in logs {
            let Some(log) = self.logs.get(*log) else {
                continue;
            };
            let Log { format, tap } = &mut *log.borrow_mut();
            let dropped = tap.line(|out| format.write(record, &mut dates, out));
            self.metrics.totals.log_dropped.add(dropped);
        }
    }

    /// Takes note of how late this worker comes, and makes room where there is too little.
    pub(crate) fn tend(&self, late: Duration) {
        self.lag.note(late);
        self.make_room();
        self.station.give_back(self.generation.memory.strain() > 0);
        self.note_limits();
    }

    /// When connections or memory run out, clients that only wait make room: first after their next
    /// answer, at last at once.
    fn make_room(&self) {
        let connections = self.worker.peers.connections();
        let is_crowded = self.generation.gate.is_crowded(connections);
        let is_short = self.generation.memory.strain() > 0;
        self.station.crowded.set(is_crowded || is_short);
        if self.is_full() {
            self.worker.deadlines.wake_all();
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

    /// Goes on with what is under way here; nothing when all of that is to end, or `session` alone. Whoever ends it wakes timers,
    /// and what is under way has one.
    pub(crate) fn poll_unless_over<F: Future>(
        &self,
        session: &Session,
        work: Pin<&mut F>,
        context: &mut Context<'_>,
    ) -> Poll<Option<F::Output>> {
        match self.is_over.get() || session.is_dropped() {
            true => Poll::Ready(None),
            false => work.poll(context).map(Some),
        }
    }

    /// Hands log lines over.
    pub(crate) fn flush(&self) {
        for log in &self.logs {
            let dropped = log.borrow_mut().tap.flush();
            self.metrics.totals.log_dropped.add(dropped);
        }
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.flush();
    }
}
