//! Waiting while every server of a pool is full.
//!
//! Each worker has its own line for each pool, and writes how many wait on a board that all
//! workers read. Whoever gives a place back calls one who waits: on its own worker, or on another
//! in proportion to how many wait there. One who is called asks for a server like everyone else,
//! and calls the next one when there is room for more.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use plimsoll_balance::Tried;
use plimsoll_balance::ceiling::Ceiling;
use plimsoll_balance::queue::{Queue, Settings, Ticket};
use plimsoll_config::model::{self, Priority};
use plimsoll_http::reason::Reason;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::worker::Mail;
use plimsoll_net::{clock, stream};

use crate::generation::Pool;
use crate::http::exchange::{Exchange, Facts};
use crate::http::select::{Pick, select};
use crate::http::throttle::Throttle;
use crate::plane::Plane;
use crate::proxy_protocol::For;

/// What a pool's queue may be, and how many wait, by worker.
#[derive(Debug)]
pub struct Board {
    settings: model::Queue,
    waiting: Arc<[AtomicU32]>,
}

impl Board {
    pub(crate) fn new(settings: model::Queue, workers: usize) -> Self {
        let waiting = (0..workers).map(|_| AtomicU32::new(0)).collect();
        Self { settings, waiting }
    }

    /// The same under other settings: those who wait go on waiting.
    pub(crate) fn succeed(&self, settings: model::Queue) -> Self {
        let waiting = Arc::clone(&self.waiting);
        Self { settings, waiting }
    }

    /// How many wait, over all workers.
    pub fn waiting(&self) -> u32 {
        self.waiting.iter().map(|count| count.load(SeqCst)).sum()
    }

    /// A worker that someone waits at: the more wait there, the likelier.
    fn draw(&self, random: u64) -> Option<usize> {
        let total = self.waiting();
        let mut at = u32::try_from(random % u64::from(total.max(1))).unwrap_or_default();
        let mut counts = self.waiting.iter().map(|count| count.load(SeqCst));
        counts.position(|count| {
            let is_here = at < count;
            at = at.saturating_sub(count);
            is_here
        })
    }
}

/// The line of one worker before one pool.
#[derive(Debug)]
pub(crate) struct Line {
    queue: RefCell<Queue<Rc<Waiter>>>,
    /// How many were called and have not asked for a server yet.
    called: Cell<u32>,
}

#[derive(Debug, Default)]
struct Waiter {
    called: Cell<Option<Call>>,
    waker: RefCell<Option<Waker>>,
}

/// What one who waits is told.
#[derive(Clone, Copy, Debug)]
enum Call {
    /// To ask for a server again.
    Try {
        /// Whether more come than can be served.
        is_crowded: bool,
    },
    /// To leave: one of higher priority takes the place.
    GiveWay,
}

impl Line {
    pub(crate) fn new(board: Option<&Board>) -> Self {
        let patience = board.map_or(Duration::ZERO, |board| board.settings.timeout);
        // The board bounds the length over all workers.
        let settings = Settings::new(usize::MAX, patience);
        Self {
            queue: RefCell::new(Queue::new(settings)),
            called: Cell::new(0),
        }
    }

    /// What lines are made with.
    pub(crate) fn settings(board: Option<&Board>) -> Option<model::Queue> {
        board.map(|board| board.settings)
    }

    /// Tells whether someone was here first.
    fn is_busy(&self) -> bool {
        self.called.get() > 0 || !self.queue.borrow().is_empty()
    }

    /// Tells whether more come than can be served.
    fn is_crowded(&self) -> bool {
        self.queue.borrow().is_standing()
    }

    /// Calls the next one; false when nobody waits here.
    fn call(&self, now: Duration) -> bool {
        let is_crowded = self.is_crowded();
        let Some((waiter, _)) = self.queue.borrow_mut().pop(now) else {
            return false;
        };
        self.called.set(self.called.get() + 1);
        waiter.call(Call::Try { is_crowded });
        true
    }

    /// Has one leave who waits with a lower priority; false when there is none.
    fn displace(&self, priority: Priority) -> bool {
        let Some(waiter) = self.queue.borrow_mut().displace(priority as u8) else {
            return false;
        };
        self.called.set(self.called.get() + 1);
        waiter.call(Call::GiveWay);
        true
    }
}

impl Waiter {
    fn call(&self, call: Call) {
        self.called.set(Some(call));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Call> {
        if let Some(call) = self.called.get() {
            return Poll::Ready(call);
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Tells whether someone waits for `pool` on this worker.
pub(crate) fn is_busy(plane: &Plane, pool: &Pool) -> bool {
    plane
        .lines
        .get(pool.index)
        .is_some_and(|line| line.is_busy())
}

/// Calls someone who waits for `pool`, after a place was given back.
pub(crate) fn call_next(plane: &Plane, pool: &Pool) {
    let Some(board) = &pool.line else { return };
    let Some(worker) = board.draw(plane.worker.random()) else {
        return;
    };
    if worker == plane.worker.index {
        call_here(plane, pool.index);
    } else if plane
        .worker
        .peers
        .send(worker, Mail::Room { pool: pool.id })
        .is_err()
    {
        call_here(plane, pool.index); // its mailbox is full, so it has other things to do
    }
}

/// Calls someone who waits on this worker for the pool with this number in all generations; false when nobody does.
pub(crate) fn call(plane: &Plane, id: u64) -> bool {
    let mut pools = plane.generation.pools.iter();
    let pool = pools.find(|pool| pool.id == id);
    pool.is_some_and(|pool| call_here(plane, pool.index))
}

/// Calls someone who waits on this worker; false when nobody does.
fn call_here(plane: &Plane, pool: usize) -> bool {
    let line = plane.lines.get(pool);
    line.is_some_and(|line| line.call(plane.since_start(clock::now())))
}

/// Looks after the lines of this worker: when there is room that nobody gave back (a server came
/// up), someone is called.
pub(crate) fn tend(plane: &Plane) {
    for (pool, line) in plane.generation.pools.iter().zip(&plane.lines) {
        let waits = !line.queue.borrow().is_empty();
        if waits && line.called.get() == 0 && has_room(plane, pool) {
            line.call(plane.since_start(clock::now()));
        }
    }
}

/// Tells whether another request could go on from here.
fn has_room(plane: &Plane, pool: &Pool) -> bool {
    let throttle = plane.throttles.get(pool.index).and_then(Option::as_deref);
    throttle.is_none_or(Throttle::has_room)
        && pool.ceiling.as_ref().is_none_or(Ceiling::has_room)
        && pool.balancer.has_room()
}

/// A place in the line, left when it is dropped.
struct Place<'a> {
    plane: &'a Plane,
    pool: &'a Pool,
    line: &'a Line,
    count: &'a AtomicU32,
    ticket: Ticket,
    waiter: Rc<Waiter>,
}

impl<'a> Place<'a> {
    /// Goes to the end of the line, if it is not too long.
    fn take(plane: &'a Plane, pool: &'a Pool, line: &'a Line, priority: Priority) -> Option<Self> {
        let board = pool.line.as_ref()?;
        let count = board.waiting.get(plane.worker.index)?;
        let waiter = Rc::new(Waiter::default());
        let now = plane.since_start(clock::now());
        let pushed = line
            .queue
            .borrow_mut()
            .push(Rc::clone(&waiter), priority as u8, now);
        let Ok(ticket) = pushed else { return None };
        count.fetch_add(1, SeqCst);
        let place = Self {
            plane,
            pool,
            line,
            count,
            ticket,
            waiter,
        };
        if board.waiting() > board.settings.length {
            if !line.displace(priority) {
                return None; // the place is left again
            }
            count.fetch_sub(1, SeqCst); // who gives way does not count from now on
        }
        Some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let call = self.waiter.called.get();
        if !matches!(call, Some(Call::GiveWay)) {
            self.count.fetch_sub(1, SeqCst);
        }
        if call.is_some() {
            self.line.called.set(self.line.called.get() - 1);
        } else {
            self.line.queue.borrow_mut().remove(self.ticket);
        }
        // Whoever left after being called, or took one place of several, passes the call on.
        if call.is_some() && has_room(self.plane, self.pool) {
            call_next(self.plane, self.pool);
        }
    }
}

/// What is said of a request whose client waits no longer.
pub(crate) const OVERDUE: &str = "the client's deadline has passed";

/// Why nobody served one who waited.
pub(crate) struct Turned {
    pub(crate) reason: Reason,
    pub(crate) detail: &'static str,
}

/// Someone who needs a server: a request, or a connection that is relayed.
pub(crate) trait Seeker<'a> {
    fn plane(&self) -> &'a Plane;

    fn client(&self) -> &'a Socket;

    fn timer(&self) -> &'a Timer;

    /// The earlier of `at` and the end of the client's own patience.
    fn soonest(&self, at: Instant) -> Instant;

    /// Tells whether the client has stopped waiting.
    fn is_overdue(&self) -> bool;

    fn priority(&self) -> Priority;

    /// Picks a server that was not tried yet, without waiting.
    fn select(&self, pool: &'a Pool, tried: &Tried) -> Result<Pick<'a>, Reason>;

    /// What is known of it.
    fn facts(&mut self) -> &mut Facts<'a>;

    /// Whom a connection for it is from.
    fn whom(&self) -> For<'_>;
}

impl<'a> Seeker<'a> for Exchange<'a> {
    fn plane(&self) -> &'a Plane {
        self.plane
    }

    fn client(&self) -> &'a Socket {
        self.client
    }

    fn timer(&self) -> &'a Timer {
        self.timer
    }

    fn soonest(&self, at: Instant) -> Instant {
        self.soonest(at)
    }

    fn is_overdue(&self) -> bool {
        self.is_overdue()
    }

    fn priority(&self) -> Priority {
        let route = self.facts.route;
        route.map_or_else(Priority::default, |route| route.priority)
    }

    fn select(&self, pool: &'a Pool, tried: &Tried) -> Result<Pick<'a>, Reason> {
        select(self, pool, tried)
    }

    fn facts(&mut self) -> &mut Facts<'a> {
        &mut self.facts
    }

    fn whom(&self) -> For<'_> {
        For {
            client: self.client,
            peer: self.peer,
            secure: self.listener.tls.as_deref(),
            certificate: self.certificate,
            heard: self.heard,
            name: None,
            // With the server HTTP/1.1 is spoken, whatever the client speaks.
            is_relayed: false,
            id: self.facts.id.as_bytes(),
        }
    }
}

/// Picks a server, in turn when all of them are full.
pub(crate) async fn select_in_turn<'a>(
    seeker: &mut impl Seeker<'a>,
    pool: &'a Pool,
    tried: &Tried,
) -> Result<Pick<'a>, Turned> {
    let turned = |reason, detail| Turned { reason, detail };
    if seeker.is_overdue() {
        return Err(turned(Reason::HttpResponseTimeout, OVERDUE));
    }
    let plane = seeker.plane();
    let line = plane.lines.get(pool.index).filter(|_| pool.line.is_some());
    let is_first = line.is_none_or(|line| !line.is_busy());
    let refusal = match seeker.select(pool, tried) {
        Ok(pick) if is_first => return Ok(pick),
        Ok(pick) => {
            drop(pick); // it belongs to those who wait
            Reason::ConnectionLimitReached
        }
        Err(reason) => reason,
    };
    let (Some(line), Reason::ConnectionLimitReached) = (line, refusal) else {
        return Err(turned(refusal, ""));
    };
    let began = clock::now();
    let deadline = began
        + pool
            .line
            .as_ref()
            .map_or(Duration::ZERO, |board| board.settings.timeout);
    seeker.timer().set(seeker.soonest(deadline));
    let priority = seeker.priority();
    let outcome = loop {
        let was_empty = !line.is_busy();
        let Some(place) = Place::take(plane, pool, line, priority) else {
            let detail = match line.is_crowded() {
                true => "for long there have been more requests than the servers can take",
                false => "the queue is full",
            };
            break Err(turned(refusal, detail));
        };
        // A place may have come free between the look and the line; nobody would call.
        if was_empty && let Ok(pick) = seeker.select(pool, tried) {
            break Ok(pick);
        }
        match wait(seeker.client(), seeker.timer(), &place.waiter).await {
            Waited::Called(Call::GiveWay) => break Err(turned(refusal, "gave way in the queue")),
            // It may still read an answer. Where many wait for long, it has likely given up.
            Waited::Called(Call::Try { is_crowded: true })
                if stream::has_ended(seeker.client()) =>
            {
                break Err(turned(Reason::ClientAborted, "left the queue"));
            }
            Waited::Called(Call::Try { .. }) => {}
            Waited::TooLong if seeker.is_overdue() => {
                break Err(turned(Reason::HttpResponseTimeout, OVERDUE));
            }
            Waited::TooLong => break Err(turned(refusal, "waited too long in the queue")),
            Waited::Left => break Err(turned(Reason::ClientAborted, "left the queue")),
        }
        match seeker.select(pool, tried) {
            Ok(pick) => break Ok(pick),
            Err(Reason::ConnectionLimitReached) => {} // another worker was faster
            Err(reason) => break Err(turned(reason, "")),
        }
    };
    let waited = clock::now().duration_since(began);
    seeker.facts().note_wait(waited);
    outcome
}

enum Waited {
    Called(Call),
    TooLong,
    Left,
}

async fn wait(client: &Socket, timer: &Timer, waiter: &Waiter) -> Waited {
    let mut left = pin!(client.broken());
    let waited = poll_fn(|context| match waiter.poll(context) {
        Poll::Ready(call) => Poll::Ready(Waited::Called(call)),
        Poll::Pending => left.as_mut().poll(context).map(|()| Waited::Left),
    });
    timer.limit(waited).await.unwrap_or(Waited::TooLong)
}
