//! Datagrams, which pass as they are: from clients to servers of a pool and back.
//!
//! A port of a worker is one task, and all its flows are rows of a table (`balance/flows.rs`). In each turn it takes
//! what has come from clients, in one batch, and then what servers have answered, and sends that in batches, too.

mod flow;
mod former;
mod held;
mod quic;
mod search;
mod table;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ipnet::IpNet;
use plimsoll_balance::flows::FlowId;
use plimsoll_net::clock;
use plimsoll_net::datagrams::{self, Batch, Watch};
use plimsoll_net::deadline::Timer;
use plimsoll_net::listener::TooLong;
use tokio::sync::oneshot;

use crate::door::Pier;
use crate::plane::Plane;
use flow::Key;
use former::Former;
pub(crate) use quic::Connections;
use table::{Rest, Table};

/// What is done with the datagrams of a service.
#[derive(Debug)]
pub(crate) struct Service {
    /// Its name in logs.
    pub(crate) name: Arc<str>,
    /// The number of the pool that they go to.
    pub(crate) pool: usize,
    /// How long neither end of a flow may say anything.
    pub(crate) idle: Duration,
    /// How many answers each datagram gets; nothing means that they are not counted.
    pub(crate) responses: Option<u32>,
    /// How many flows one port of one worker may have.
    pub(crate) flows: usize,
    /// Whose connections keep their servers, where they are QUIC.
    pub(crate) quic: Option<Connections>,
    /// Who says whom each datagram is from; nobody means that they come without that being said.
    pub(crate) announced_by: Vec<IpNet>,
    /// Its logs, by number in the worker's list.
    pub(crate) logs: Vec<usize>,
}

impl Service {
    /// What becomes of datagrams that are too long for the path.
    pub(crate) fn too_long(&self) -> TooLong {
        match self.quic {
            Some(_) => TooLong::Lost,
            None => TooLong::Fragmented,
        }
    }
}

/// Turns until others on the worker have theirs.
const TURNS: usize = 4;

/// How long nothing is looked at while there are no flows.
const NOTHING_DUE: Duration = Duration::from_secs(3600);

/// A port of one worker, over generations. Flows of several planes may be under way: the current one reads, and
/// hands those before it what is theirs.
#[derive(Debug)]
pub(crate) struct Shared {
    port: datagrams::Port,
    pier: Rc<Pier>,
    former: RefCell<Vec<Rc<Former>>>,
}

impl Shared {
    /// # Errors
    /// The reactor cannot watch the socket.
    pub(crate) fn new(socket: &UdpSocket, pier: &Rc<Pier>) -> io::Result<Rc<Self>> {
        Ok(Rc::new(Self {
            port: datagrams::Port::new(socket.try_clone()?)?,
            pier: Rc::clone(pier),
            former: RefCell::default(),
        }))
    }

    /// Whose flow it is of those before; nobody's if it is to begin now.
    fn former(&self, key: &Key) -> Option<Rc<Former>> {
        let former = self.former.borrow();
        let mut former = former.iter().rev();
        former.find(|former| former.has(key)).map(Rc::clone)
    }
}

/// Relays what comes to a port until told to drain, and then until its last flow has ended. When there is a
/// newer plane, it says that with `stepped_back`, lets that one read, and goes on with the flows that it has.
///
/// # Errors
/// It cannot begin, for want of descriptors.
pub(crate) async fn serve(
    shared: &Rc<Shared>,
    stepped_back: oneshot::Sender<()>,
) -> io::Result<()> {
    let (plane, number) = shared.pier.view();
    let Some(table) = Table::new(&plane, shared, number) else {
        return Ok(());
    };
    let mut relay = Relay {
        shared: Rc::clone(shared),
        plane: &plane,
        stepped_back: Some(stepped_back),
        former: None,
        watch: Watch::new()?,
        names: Vec::new(),
        timer: plane.worker.deadlines.timer(),
        is_timed: false,
        table,
    };
    poll_fn(|context| relay.poll(context, &mut plane.station.batch.borrow_mut())).await;
    Ok(())
}

/// A port with its flows.
struct Relay<'a> {
    shared: Rc<Shared>,
    plane: &'a Plane,
    /// Whom to tell when another one reads.
    stepped_back: Option<oneshot::Sender<()>>,
    /// What others read for it, when it reads no more.
    former: Option<Rc<Former>>,
    watch: Watch,
    /// Flows that have answers.
    names: Vec<u64>,
    timer: Timer,
    /// Whether the timer is set for a flow that was there.
    is_timed: bool,
    table: Table<'a>,
}

impl Drop for Relay<'_> {
    fn drop(&mut self) {
        if let Some(own) = &self.former {
            let is_other = |other: &Rc<Former>| !Rc::ptr_eq(other, own);
            self.shared.former.borrow_mut().retain(is_other);
            // Whoever reads may have nothing more to read for.
            self.plane.worker.deadlines.wake_all();
        }
    }
}

impl Relay<'_> {
    /// Ready when it is done.
    fn poll(&mut self, context: &mut Context<'_>, batch: &mut Batch) -> Poll<()> {
        self.step_back();
        if self.plane.is_over.get() {
            self.table.end_all();
            return Poll::Ready(());
        }
        for _ in 0..TURNS {
            let came = self.poll_clients(context, batch);
            let answered = self.poll_servers(context, batch);
            if came.is_pending() && answered.is_pending() {
                return self.poll_end(context);
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Lets the next plane read, if there is one that has the port.
    fn step_back(&mut self) {
        if !self.plane.is_past.get() || self.shared.pier.is_closing() {
            return;
        }
        if let Some(stepped_back) = self.stepped_back.take() {
            let former = Rc::new(Former::new(self.table.keys()));
            self.table.note_ends(&former);
            self.shared.former.borrow_mut().push(Rc::clone(&former));
            self.former = Some(former);
            let _ = stepped_back.send(()); // else the worker ends
        }
    }

    /// Takes what clients have sent: a batch, or what another one has read.
    fn poll_clients(&mut self, context: &mut Context<'_>, batch: &mut Batch) -> Poll<()> {
        if let Some(former) = &self.former {
            let (datagram, bytes) = ready!(former.poll_next(context));
            self.table.begin_turn();
            self.table.take(&self.watch, &datagram, &bytes);
            former.done(bytes);
            return Poll::Ready(());
        }
        if self.plane.station.leaving.get() {
            return Poll::Pending; // another process reads
        }
        match ready!(self.shared.port.poll_receive(context, batch)) {
            Ok(()) => {
                self.table.begin_turn();
                for (datagram, bytes) in batch.iter() {
                    self.table.take(&self.watch, datagram, bytes);
                }
                batch.clear();
            }
            Err(error) => tracing::debug!(%error, "cannot receive datagrams"),
        }
        Poll::Ready(())
    }

    /// Takes what servers have answered, and sends it to the clients.
    fn poll_servers(&mut self, context: &mut Context<'_>, batch: &mut Batch) -> Poll<()> {
        self.names.clear();
        if let Err(error) = ready!(self.watch.poll(context, &mut self.names)) {
            tracing::debug!(%error, "cannot watch the flows of a port");
            return Poll::Ready(());
        }
        self.table.begin_turn();
        for name in &self.names {
            let id = FlowId::from_u64(*name);
            self.table.collect(&self.watch, id, batch);
            if batch.is_full() {
                self.table.answer(&self.shared.port, batch);
            }
        }
        self.table.answer(&self.shared.port, batch);
        Poll::Ready(())
    }

    /// Tells whether there is nothing more to wait for.
    fn is_done(&self) -> bool {
        let reads = self.former.is_none();
        let is_needed = reads && !self.shared.former.borrow().is_empty();
        let station = &self.plane.station;
        let is_leaving = station.draining.get() || station.leaving.get();
        let is_last = self.shared.pier.is_closing() || is_leaving;
        (!reads || is_last) && !is_needed && self.table.is_empty()
    }

    /// Ends flows that are idle; ready when there is nothing left to do.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_done() {
                return Poll::Ready(());
            }
            if !self.is_timed
                && let Some(due) = self.table.next_end()
            {
                self.timer.set(due);
                self.is_timed = true;
            }
            ready!(self.timer.poll(context));
            self.is_timed = false;
            self.timer.set(clock::now() + NOTHING_DUE);
            if self.table.end_idle() == Rest::There {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}
