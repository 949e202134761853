//! What a worker has whatever it serves: all planes that it ever has share it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_http::date::{HTTP_DATE_BYTES, http_date};
use plimsoll_net::clock;
use plimsoll_net::datagrams::Batch;
use plimsoll_net::worker::Worker;
use plimsoll_observe::access_log::Dates;
use plimsoll_observe::metrics::Totals;

use crate::handing::Heir;
use crate::http::exchange::Scratch;
use crate::http::h2::Links;
use crate::plane::GiveBack;
use crate::sessions::Sessions;
use crate::tail::Tails;

/// How often memory that is not used is given back to the system.
const GIVE_BACK: Duration = Duration::from_secs(1);

/// How long the wall clock is reckoned from the monotonic one: a step of the wall clock is seen
/// this late.
const WALL_AGE_MAX: Duration = Duration::from_millis(100);

/// What outlives generations on one worker.
#[derive(Debug)]
pub(crate) struct Station {
    /// Its sockets, timers and buffers.
    pub(crate) worker: Rc<Worker>,
    /// What it counts whatever it serves.
    pub(crate) totals: Arc<Totals>,
    /// Connections to servers that carry many requests at once.
    pub(crate) links: Links,
    /// Room for datagrams on their way.
    pub(crate) batch: RefCell<Batch>,
    /// How many copies of requests are under way.
    pub(crate) copies: Cell<usize>,
    pub(crate) draining: Cell<bool>,
    /// Whether another process serves what begins now.
    pub(crate) leaving: Cell<bool>,
    /// Where connections are offered that it can go on with.
    pub(crate) heir: RefCell<Option<Heir>>,
    /// Whether there are fewer workers now, so that this one only finishes what it has.
    pub(crate) retired: Cell<bool>,
    /// Whether there are nearly as many client connections as there may be, or little memory.
    pub(crate) crowded: Cell<bool>,
    #[expect(clippy::vec_box, reason = "every request moves one out and in again")]
    pub(crate) scratch: RefCell<Vec<Box<Scratch>>>,
    pub(crate) dates: RefCell<Dates>,
    /// What is open.
    pub(crate) sessions: Sessions,
    /// Who listens to what is logged.
    pub(crate) tails: Tails,
    start: Instant,
    give_back: GiveBack,
    gave_back: Cell<Instant>,
    date: Cell<(u64, [u8; HTTP_DATE_BYTES])>,
    wall: Cell<(Instant, Duration)>,
}

impl Station {
    /// `start` is the same for all workers: balancing compares times over them.
    pub(crate) fn new(
        worker: Rc<Worker>,
        totals: Arc<Totals>,
        start: Instant,
        give_back: GiveBack,
    ) -> Self {
        Self {
            worker,
            totals,
            links: Links::default(),
            batch: RefCell::default(),
            copies: Cell::new(0),
            draining: Cell::new(false),
            leaving: Cell::new(false),
            heir: RefCell::default(),
            retired: Cell::new(false),
            crowded: Cell::new(false),
            scratch: RefCell::default(),
            dates: RefCell::default(),
            sessions: Sessions::default(),
            tails: Tails::default(),
            start,
            give_back,
            gave_back: Cell::new(start),
            date: Cell::new((0, http_date(0))),
            wall: Cell::new((start, clock::unix_time())),
        }
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

    /// Tells whether connections end with their answers.
    pub(crate) fn keeps_nobody(&self) -> bool {
        self.leaving.get() || self.retired.get() || self.closes_idle()
    }

    /// Tells whether connections end that wait for a request. One could be on its way: who only leaves waits for it.
    pub(crate) fn closes_idle(&self) -> bool {
        self.draining.get() || self.crowded.get()
    }

    /// Gives memory back to the system: now and then, and all there is when there is too little.
    pub(crate) fn give_back(&self, is_short: bool) {
        let now = clock::now();
        if is_short {
            self.worker.buffers.forget_free();
        }
        if is_short || now.duration_since(self.gave_back.get()) >= GIVE_BACK {
            (self.give_back)(is_short);
            self.links.sweep();
            self.gave_back.set(now);
        }
    }
}
