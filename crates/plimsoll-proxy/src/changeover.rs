//! How a worker goes over to the next generation, in one step of its own: nothing is served in between.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_balance::canary::Share;
use plimsoll_net::accept::{self, Accepted};
use plimsoll_net::clock;
use plimsoll_observe::metrics::WorkerMetrics;
use tokio::sync::{mpsc, oneshot};

use crate::connection::Server;
use crate::door::{Pier, Post};
use crate::generation::Generation;
use crate::handing::{Handed, Heir};
use crate::http::line;
use crate::plane::{Log, Plane, SharedLog};
use crate::sessions::list::{Listed, Which};
use crate::tail::Tail;

/// What a worker needs for a generation, and has not got.
#[derive(Debug)]
pub struct Next {
    /// The generation.
    pub generation: Arc<Generation>,
    /// Where it is counted.
    pub metrics: Arc<WorkerMetrics>,
    /// How many workers accept connections: the first ones.
    pub workers: usize,
    /// Sockets of listeners that the worker has not got yet, by number and slot.
    pub listeners: Vec<(usize, usize, TcpListener)>,
    /// Which listeners have other sockets than before.
    pub rebound: Vec<usize>,
    /// Sockets for ports that have none yet, by number.
    pub ports: Vec<(usize, Quay)>,
    /// Its access logs, by number.
    pub logs: Vec<LogPlace>,
}

impl Next {
    /// Tells whether the worker has all sockets already.
    pub fn needs_no_sockets(&self) -> bool {
        self.listeners.is_empty() && self.ports.is_empty() && self.rebound.is_empty()
    }
}

/// A socket for datagrams of one worker, and those of all workers: the kernel spreads clients over those that
/// are open, so that none is closed before the last flow of any has ended.
#[derive(Debug)]
pub struct Quay {
    /// The worker's own.
    pub socket: UdpSocket,
    /// All.
    pub all: Arc<[UdpSocket]>,
}

/// Where an access log comes from.
#[derive(Debug)]
pub enum LogPlace {
    /// It is opened now.
    New(Log),
    /// The generation before has it, under this number.
    Kept(usize),
}

/// What workers are told to do about generations.
#[derive(Debug)]
pub enum Order {
    /// To serve the next one from now on.
    Change(Box<Next>, oneshot::Sender<()>),
    /// To serve a part of what comes under the next one, which listens where the current one does.
    Try(Box<Next>, Share, oneshot::Sender<()>),
    /// To serve all under the one that is tried, or nothing any more.
    Decide {
        /// Whether it is all.
        takes_all: bool,
        /// To be told when it is done.
        done: oneshot::Sender<()>,
    },
    /// To tell what is open.
    Look(Arc<Which>, oneshot::Sender<Listed>),
    /// To end that, at most so many; answers with how many there were.
    Close(Arc<Which>, usize, oneshot::Sender<usize>),
    /// To say what is logged to somebody more.
    Listen(Arc<Tail>, oneshot::Sender<()>),
    /// To end what is still under way in this one, and in those before.
    End(u64),
    /// To serve what is under way, and nothing that comes to these addresses, nor datagrams: another process does.
    Leave(Arc<[SocketAddr]>, Option<Heir>),
    /// To go on with a connection of the process before.
    Adopt(Box<Handed>),
}

/// The planes of one worker.
#[derive(Debug)]
pub(crate) struct Planes {
    current: RefCell<Rc<Plane>>,
    /// The one that is tried: a part of what comes begins there.
    tried: RefCell<Option<Rc<Plane>>>,
    past: RefCell<Vec<Weak<Plane>>>,
}

impl Planes {
    pub(crate) fn new(first: Rc<Plane>) -> Self {
        Self {
            current: RefCell::new(first),
            tried: RefCell::default(),
            past: RefCell::default(),
        }
    }

    /// The one for what begins now.
    pub(crate) fn current(&self) -> Rc<Plane> {
        Rc::clone(&self.current.borrow())
    }

    /// Those where something is still under way.
    fn past(&self) -> Vec<Rc<Plane>> {
        let mut past = self.past.borrow_mut();
        past.retain(|plane| plane.strong_count() > 0);
        past.iter().filter_map(Weak::upgrade).collect()
    }

    /// Looks at the generations in which anything is under way.
    pub(crate) fn with_all(&self, look: impl FnOnce(&[&Generation])) {
        let planes: Vec<_> = self.open().chain(self.past()).collect();
        let all: Vec<&Generation> = planes.iter().map(|plane| &*plane.generation).collect();
        look(&all);
    }

    fn change(&self, next: Rc<Plane>) {
        self.leave(&self.current.replace(next));
    }

    /// Begins nothing there any more.
    fn leave(&self, plane: &Rc<Plane>) {
        plane.is_past.set(true);
        self.past.borrow_mut().push(Rc::downgrade(plane));
    }

    /// Those where something may begin.
    fn open(&self) -> impl Iterator<Item = Rc<Plane>> {
        let tried = self.tried.borrow().as_ref().map(Rc::clone);
        std::iter::once(self.current()).chain(tried)
    }

    /// Calls one who waits for the pool with this number.
    pub(crate) fn call(&self, pool: u64) {
        self.open().any(|plane| line::call(&plane, pool));
    }

    /// Looks after those who wait, and hands log lines over.
    pub(crate) fn tend(&self, late: Duration) {
        self.open().for_each(|plane| plane.tend(late));
        for plane in self.open().chain(self.past()) {
            line::tend(&plane);
            plane.flush();
        }
    }

    pub(crate) fn flush(&self) {
        self.open()
            .chain(self.past())
            .for_each(|plane| plane.flush());
    }

    /// Ends what is under way in generation `number`, and in those before.
    fn end(&self, number: u64) {
        let past = self.past();
        let over = past
            .iter()
            .filter(|plane| plane.generation.number <= number);
        over.for_each(|plane| plane.is_over.set(true));
    }
}

impl<F: Future<Output = ()> + 'static> Server<F> {
    /// Does what the control thread says, until that is gone.
    pub(crate) async fn follow(self: Rc<Self>, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Change(next, done) => {
                    self.change(*next);
                    let _ = done.send(()); // whoever asked may have gone
                }
                Order::Try(next, share, done) => {
                    self.try_part(*next, share);
                    let _ = done.send(());
                }
                Order::Decide { takes_all, done } => {
                    self.decide(takes_all);
                    let _ = done.send(());
                }
                Order::End(number) => self.planes.end(number),
                Order::Leave(addresses, heir) => {
                    self.station.heir.replace(heir);
                    self.leave(&addresses);
                }
                Order::Adopt(handed) => self.adopt(*handed),
                Order::Look(which, reply) => {
                    tokio::task::spawn_local(Rc::clone(&self).tell(which, reply));
                    continue; // it changes nothing that anybody waits for
                }
                Order::Listen(tail, done) => {
                    self.station.tails.add(tail);
                    let _ = done.send(()); // whoever asked may have gone
                    continue;
                }
                Order::Close(which, most, reply) => {
                    tokio::task::spawn_local(Rc::clone(&self).close(which, most, reply));
                    continue; // who does that wakes them
                }
            }
            self.station.worker.deadlines.wake_all();
        }
    }

    /// Tells what is open.
    async fn tell(self: Rc<Self>, which: Arc<Which>, reply: oneshot::Sender<Listed>) {
        let worker = self.station.worker.index;
        let sessions = &self.station.sessions;
        let _ = reply.send(sessions.list(worker, &self.planes, &which).await); // or nobody waits
    }

    /// Ends what `which` means.
    async fn close(self: Rc<Self>, which: Arc<Which>, most: usize, reply: oneshot::Sender<usize>) {
        let worker = &self.station.worker;
        let (sessions, planes) = (&self.station.sessions, &self.planes);
        let count = sessions.close(worker.index, planes, (&which, most)).await;
        worker.deadlines.wake_all();
        let _ = reply.send(count); // or nobody waits
    }

    fn change(self: &Rc<Self>, next: Next) {
        let before = self.planes.current();
        let logs = logs(next.logs, &before);
        let plane = before.succeed(next.generation, next.metrics, logs);
        self.doors.lead_to(&plane);
        let index = self.station.worker.index;
        self.station.retired.set(index >= next.workers);
        self.lead_posts(&plane, next.workers, &next.rebound);
        self.open(&plane, next.listeners);
        self.open_ports(&plane, next.ports);
        self.planes.change(plane);
        for (accepted, _) in self.early.take() {
            self.take_over(accepted);
        }
    }

    fn try_part(&self, next: Next, share: Share) {
        let before = self.planes.current();
        let logs = logs(next.logs, &before);
        let plane = before.succeed(next.generation, next.metrics, logs);
        self.doors.open_beside(&plane, share);
        self.planes.tried.replace(Some(plane));
    }

    fn decide(self: &Rc<Self>, takes_all: bool) {
        let Some(tried) = self.planes.tried.take() else {
            return;
        };
        self.doors.close_beside();
        if !takes_all {
            return self.planes.leave(&tried);
        }
        self.doors.lead_to(&tried);
        for post in &*self.posts.borrow() {
            post.lead_to(post.door()); // on other terms, maybe
        }
        self.open_ports(&tried, Vec::new());
        self.planes.change(tried);
    }

    fn leave(&self, addresses: &[SocketAddr]) {
        self.station.leaving.set(true);
        self.posts.borrow_mut().retain(|post| {
            match addresses.contains(&post.address) {
                true => post.release(),
                false => post.close(),
            }
            false
        });
    }

    /// Has sockets lead to the doors of `plane`. One that leads to none, or has another one in its place, accepts
    /// who is connected already, and no more; one that another worker of so many has now is left to that.
    fn lead_posts(&self, plane: &Plane, workers: usize, rebound: &[usize]) {
        let listeners = &plane.generation.listeners;
        let index = self.station.worker.index;
        self.posts.borrow_mut().retain(|post| {
            let number = listeners.iter().position(|at| at.address == post.address);
            let at = number.and_then(|number| listeners.get(number));
            if let Some(door) = at.and_then(|at| self.doors.find(at.door)) {
                post.lead_to(door);
            }
            let is_kept = number.is_some_and(|number| !rebound.contains(&number));
            if !is_kept {
                post.close();
            } else if !post.belongs_to(index, workers) {
                post.release();
            }
            !post.is_closing() && !post.is_released()
        });
    }

    /// Listens on new sockets.
    pub(crate) fn open(self: &Rc<Self>, plane: &Plane, sockets: Vec<(usize, usize, TcpListener)>) {
        for (number, slot, socket) in sockets {
            let at = plane.generation.listeners.get(number);
            let Some((at, door)) = at.and_then(|at| Some((at, self.doors.find(at.door)?))) else {
                continue;
            };
            match accept::Listener::new(socket) {
                Ok(listener) => {
                    // One that another process had opened may have had other terms.
                    listener.set_terms(&at.terms());
                    let post = Rc::new(Post::new((at.address, slot), listener, door));
                    self.posts.borrow_mut().push(Rc::clone(&post));
                    self.listening.set(self.listening.get() + 1);
                    tokio::task::spawn_local(Rc::clone(self).listen(post));
                }
                Err(error) => tracing::error!(%error, "cannot watch a listener"),
            }
        }
    }

    /// The same for ports.
    pub(crate) fn open_ports(self: &Rc<Self>, plane: &Rc<Plane>, sockets: Vec<(usize, Quay)>) {
        let ports = &plane.generation.ports;
        self.piers.borrow_mut().retain(|pier| {
            let number = ports.iter().position(|at| at.address == pier.address);
            let kept = number.filter(|number| !sockets.iter().any(|(new, _)| new == number));
            pier.lead_to(plane, kept);
            if pier.is_closing() {
                self.left_piers.borrow_mut().push(Rc::downgrade(pier));
            }
            !pier.is_closing()
        });
        for (number, quay) in sockets {
            let Some(at) = ports.get(number) else {
                continue;
            };
            // Flows from before may be under way, whose socket it is.
            if let Some(pier) = self.left_pier(at.address) {
                pier.lead_to(plane, Some(number));
                self.piers.borrow_mut().push(pier);
                continue;
            }
            let pier = Rc::new(Pier::new(at.address, plane, number));
            self.piers.borrow_mut().push(Rc::clone(&pier));
            self.listening.set(self.listening.get() + 1);
            tokio::task::spawn_local(Rc::clone(self).relay_datagrams(quay, pier));
        }
    }

    /// The pier at an address that was left, if something is still under way there.
    fn left_pier(&self, address: SocketAddr) -> Option<Rc<Pier>> {
        let mut left = self.left_piers.borrow_mut();
        left.retain(|pier| pier.strong_count() > 0);
        let at = |pier: &Weak<Pier>| pier.upgrade().is_some_and(|pier| pier.address == address);
        let at = left.iter().position(at)?;
        left.swap_remove(at).upgrade()
    }

    /// Looks after all that waits for a time, again and again.
    pub(crate) async fn tend(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(TEND);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (worker, totals) = (&self.station.worker, &self.station.totals);
        loop {
            let due = ticks.tick().await;
            let late = clock::now().saturating_duration_since(due.into_std());
            let micros = u64::try_from(late.as_micros());
            totals.lag.set(micros.unwrap_or(u64::MAX));
            totals.turns.add(1);
            totals
                .handshakes_waiting
                .set(worker.handshakes.waiting() as u64);
            self.planes.tend(late);
            self.station.tails.tend();
            self.tend_early();
        }
    }

    /// A connection that another worker has accepted by a door that is not here yet: it is served when it is.
    pub(crate) fn keep_early(&self, accepted: Accepted) {
        let mut early = self.early.take();
        if early.len() < EARLY_MAX {
            early.push((accepted, clock::now()));
        }
        self.early.set(early);
    }

    /// Gives up connections whose door has not come.
    fn tend_early(&self) {
        let mut early = self.early.take();
        early.retain(|(_, since)| since.elapsed() < EARLY_PATIENCE);
        self.early.set(early);
    }
}

/// How often log lines leave a worker that has little to say, and lines of requests are looked at.
const TEND: Duration = Duration::from_millis(100);

/// Connections that may be here before their door is.
const EARLY_MAX: usize = 1024;

/// How long they wait: the door may have been closed, too.
const EARLY_PATIENCE: Duration = Duration::from_secs(5);

/// The logs of the next plane.
pub(crate) fn logs(places: Vec<LogPlace>, before: &Plane) -> Vec<SharedLog> {
    let logs = places.into_iter().filter_map(|place| match place {
        LogPlace::New(log) => Some(Rc::new(RefCell::new(log))),
        LogPlace::Kept(number) => before.logs.get(number).map(Rc::clone),
    });
    logs.collect()
}
