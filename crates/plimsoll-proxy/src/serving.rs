//! What a worker does: it serves connections until it is told to drain, and then until the last one has ended.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_net::accept::Accepted;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::runners::{Desk, Runners};
use plimsoll_net::worker::{Mail, Worker};
use tokio::sync::mpsc;

use crate::changeover::{LogPlace, Next, Order, Planes};
use crate::connection::Connection;
use crate::door::{Doors, Pier, Post};
use crate::http::server_h1::{self, Served};
use crate::plane::{GiveBack, Plane};
use crate::station::Station;

/// A connection with the first bytes of its next request.
type Busy = (Connection, Buffer);

/// What a worker is given when it starts.
#[derive(Debug)]
pub struct Start {
    /// What it serves first.
    pub first: Next,
    /// What it is to serve after that.
    pub orders: mpsc::Receiver<Order>,
    /// The same for all workers: balancing compares times over them.
    pub began: Instant,
    /// Who gives memory back to the system.
    pub give_back: GiveBack,
}

/// Serves until told to drain, and then until the last connection has ended.
pub async fn run(worker: Rc<Worker>, start: Start, mailbox: mpsc::Receiver<Mail>) {
    let Next {
        generation,
        metrics,
        listeners,
        ports,
        logs,
        ..
    } = start.first;
    let totals = Arc::clone(&metrics.totals);
    let station = Station::new(worker, totals, start.began, start.give_back);
    let station = Rc::new(station);
    let logs = logs.into_iter().filter_map(|place| match place {
        LogPlace::New(log) => Some(Rc::new(RefCell::new(log))),
        LogPlace::Kept(_) => None,
    });
    let plane = Plane::new(Rc::clone(&station), generation, metrics, logs.collect());
    let server = Rc::new(Server {
        station,
        planes: Planes::new(Rc::clone(&plane)),
        doors: Doors::default(),
        posts: RefCell::default(),
        piers: RefCell::default(),
        left_piers: RefCell::default(),
        early: Cell::default(),
        runners: Runners::new(runner),
        listening: Cell::new(0),
    });
    server.doors.lead_to(&plane);
    server.open(&plane, listeners);
    server.open_ports(&plane, ports);
    drop(plane);
    tokio::task::spawn_local(Rc::clone(&server).tend());
    tokio::task::spawn_local(Rc::clone(&server).follow(start.orders));
    server.read_mail(mailbox).await;
    server.planes.flush();
}

/// Serves one busy connection after the other.
async fn runner(desk: Rc<Desk<Busy, Option<Connection>>>) {
    loop {
        let (mut connection, mut inbound) = desk.next().await;
        let rested = loop {
            let (plane, number) = connection.door.view();
            connection.listener = number;
            let session = connection.session.watch();
            let mut serving = pin!(server_h1::serve(&plane, connection, inbound));
            let served =
                poll_fn(|context| plane.poll_unless_over(&session, serving.as_mut(), context));
            match served.await {
                Some(Served::Rested(connection)) => break Some(connection),
                Some(Served::More(busy)) => (connection, inbound) = busy,
                Some(Served::Ended) | None => break None,
            }
        };
        desk.done(rested);
    }
}

/// How often a draining worker looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// One worker's connections. `F` is the future of a runner, which only the compiler can name.
pub(crate) struct Server<F> {
    pub(crate) station: Rc<Station>,
    pub(crate) planes: Planes,
    pub(crate) doors: Doors,
    /// The addresses that are open.
    pub(crate) posts: RefCell<Vec<Rc<Post>>>,
    pub(crate) piers: RefCell<Vec<Rc<Pier>>>,
    /// Those that were left, where something may be under way.
    pub(crate) left_piers: RefCell<Vec<Weak<Pier>>>,
    /// Connections whose door is not here yet.
    pub(crate) early: Cell<Vec<(Accepted, Instant)>>,
    pub(crate) runners: Runners<Busy, Option<Connection>, F>,
    /// Addresses that somebody may still come in by.
    pub(crate) listening: Cell<usize>,
}

impl<F: Future<Output = ()> + 'static> Server<F> {
    /// Tells whether a drain has come to its end.
    fn is_done(&self) -> bool {
        self.listening.get() == 0 && self.station.worker.own_connections() == 0
    }

    async fn read_mail(self: &Rc<Self>, mut mailbox: mpsc::Receiver<Mail>) {
        while let Some(mail) = mailbox.recv().await {
            match mail {
                Mail::Connection(accepted) => self.take_over(accepted),
                Mail::Lend { server, reply } => self.station.worker.lend_idle(&server, reply),
                Mail::Room { pool } => self.planes.call(pool),
                Mail::Forget { server } => {
                    self.station.worker.idle.forget(&server);
                    self.station.links.forget(&server);
                }
                Mail::Drain => {
                    self.station.draining.set(true);
                    self.station.worker.deadlines.wake_all();
                    break;
                }
            }
        }
        // Until the last exchange has ended, there is mail from workers that are not done.
        loop {
            let patience = tokio::time::timeout(DRAIN_CHECK, mailbox.recv());
            match patience.await {
                Ok(Some(Mail::Connection(accepted))) => self.take_over(accepted),
                Ok(Some(Mail::Room { pool })) => self.planes.call(pool),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) if self.is_done() => return,
                Err(_) => {}
            }
        }
    }
}
