//! What a worker has open: connections of clients, streams on them, and what they are passed on as. Whoever serves one
//! writes down in it where it goes; whoever wants to know asks the worker, between two turns of its own.
//!
//! A request costs a few stores, and the memory of one that has ended is used again.

pub mod list;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Instant;

use crate::door::Door;
use crate::generation::{Pool, Route, Site};

/// What is open on one worker.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    all: RefCell<Vec<Rc<Session>>>,
    free: Rc<RefCell<Vec<usize>>>,
    /// How many there ever were.
    count: Cell<u64>,
}

impl Sessions {
    /// Takes note of what a client has opened by a door; `on` is the number of its connection where it is a stream, or 0.
    pub(crate) fn open(&self, from: (&Rc<Door>, SocketAddr), on: u64, now: Instant) -> Open {
        let free = self.free.borrow_mut().pop();
        let known = free.and_then(|place| self.all.borrow().get(place).map(Rc::clone));
        let session = known.unwrap_or_else(|| self.make(now));
        self.count.set(self.count.get() + 1);
        session.open(self.count.get(), from, on, now);
        Open {
            session,
            free: Rc::clone(&self.free),
        }
    }

    fn make(&self, now: Instant) -> Rc<Session> {
        let mut all = self.all.borrow_mut();
        let session = Rc::new(Session {
            place: all.len(),
            ..Session::new(now)
        });
        all.push(Rc::clone(&session));
        session
    }

    /// Those from `place` on, at most `count`; nothing when there are none.
    fn some(&self, place: usize, count: usize) -> Option<Vec<Rc<Session>>> {
        let all = self.all.borrow();
        let rest = all.get(place..).filter(|rest| !rest.is_empty())?;
        Some(rest.iter().take(count).map(Rc::clone).collect())
    }
}

/// What is open, until this is dropped.
#[derive(Debug)]
pub(crate) struct Open {
    session: Rc<Session>,
    free: Rc<RefCell<Vec<usize>>>,
}

impl Open {
    /// What is written down of it, for whoever watches it while another one has it.
    pub(crate) fn watch(&self) -> Rc<Session> {
        Rc::clone(&self.session)
    }
}

impl Deref for Open {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.session.number.set(0);
        self.session.door.take();
        self.free.borrow_mut().push(self.session.place);
    }
}

/// How far something that is open has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The client has asked for nothing yet.
    New,
    /// It waits for a request.
    Idle,
    /// A request is under way, and has got to no server.
    Request,
    /// A server is asked.
    Server,
    /// Bytes move both ways.
    Tunnel,
    /// It carries streams, which are told of one by one.
    Streams,
}

/// What is written down of something that is open.
#[derive(Debug)]
pub(crate) struct Session {
    /// Where it stands among those of its worker.
    place: usize,
    /// What tells it from all others of its worker; 0 where nothing is open.
    number: Cell<u64>,
    /// The connection that it is a stream of, or 0.
    on: Cell<u64>,
    door: RefCell<Option<Rc<Door>>>,
    peer: Cell<Option<SocketAddr>>,
    began: Cell<Instant>,
    /// When it was last known to move.
    pub(crate) touched: Cell<Instant>,
    state: Cell<State>,
    /// The configuration that decides, and what it leads to, by number.
    generation: Cell<u64>,
    site: Cell<Option<u32>>,
    route: Cell<Option<u32>>,
    pool: Cell<Option<u32>>,
    server: Cell<Option<u32>>,
    /// Requests.
    exchanges: Cell<u64>,
    /// Bytes of bodies, from and to the client, of requests before this one.
    before: Cell<(u64, u64)>,
    /// Those of this one.
    pub(crate) up: Cell<u64>,
    pub(crate) down: Cell<u64>,
    is_closed: Cell<bool>,
}

impl Session {
    /// One that nobody asks for.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            place: 0,
            number: Cell::new(0),
            on: Cell::new(0),
            door: RefCell::default(),
            peer: Cell::new(None),
            began: Cell::new(now),
            touched: Cell::new(now),
            state: Cell::new(State::New),
            generation: Cell::new(0),
            site: Cell::new(None),
            route: Cell::new(None),
            pool: Cell::new(None),
            server: Cell::new(None),
            exchanges: Cell::new(0),
            before: Cell::new((0, 0)),
            up: Cell::new(0),
            down: Cell::new(0),
            is_closed: Cell::new(false),
        }
    }

    fn open(&self, number: u64, (door, peer): (&Rc<Door>, SocketAddr), on: u64, now: Instant) {
        self.number.set(number);
        self.on.set(on);
        self.door.replace(Some(Rc::clone(door)));
        self.peer.set(Some(peer));
        self.began.set(now);
        self.touched.set(now);
        self.state.set(State::New);
        self.exchanges.set(0);
        self.before.set((0, 0));
        self.is_closed.set(false);
        self.lead_nowhere();
    }

    /// What tells it from all others of its worker.
    pub(crate) fn number(&self) -> u64 {
        self.number.get()
    }

    /// Somebody has said who the client is.
    pub(crate) fn is_from(&self, peer: SocketAddr) {
        self.peer.set(Some(peer));
    }

    /// A request has begun, under configuration `generation`.
    pub(crate) fn begin(&self, generation: u64, now: Instant) {
        self.generation.set(generation);
        if self.on.get() > 0 {
            self.began.set(now); // a stream has one request, and begins with it
        }
        self.exchanges.set(self.exchanges.get() + 1);
        self.state.set(State::Request);
        self.touched.set(now);
        self.lead_nowhere();
    }

    /// It waits for the next one.
    pub(crate) fn rest(&self, now: Instant) {
        self.state.set(State::Idle);
        self.touched.set(now);
        self.lead_nowhere();
    }

    fn lead_nowhere(&self) {
        let (up, down) = self.before.get();
        self.before
            .set((up + self.up.take(), down + self.down.take()));
        self.site.set(None);
        self.route.set(None);
        self.pool.set(None);
        self.server.set(None);
    }

    /// Bytes move both ways from now on.
    pub(crate) fn becomes_tunnel(&self) {
        self.state.set(State::Tunnel);
    }

    /// It carries streams from now on.
    pub(crate) fn carries_streams(&self) {
        self.state.set(State::Streams);
    }

    pub(crate) fn enter(&self, site: Option<&Site>) {
        self.site.set(site.and_then(|site| number(site.index)));
    }

    pub(crate) fn take(&self, route: &Route) {
        self.route.set(number(route.number));
    }

    pub(crate) fn go_to(&self, pool: &Pool) {
        self.pool.set(number(pool.index));
    }

    /// The server of this position in its pool is asked.
    pub(crate) fn ask(&self, server: usize) {
        self.server.set(number(server));
        self.state.set(State::Server);
    }

    /// Tells whether somebody wants it to end.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.get()
    }

    /// Tells whether nothing more is done for it. A tunnel ends by itself, and is logged.
    pub(crate) fn is_dropped(&self) -> bool {
        self.is_closed() && self.state.get() != State::Tunnel
    }
}

fn number(index: usize) -> Option<u32> {
    u32::try_from(index).ok()
}
