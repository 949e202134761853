//! Datagrams, which pass as they are: from clients to servers of a pool and back.
//!
//! A port of a worker is one task, and all its flows are rows of a table (`balance/flows.rs`). In each turn it takes
//! what has come from clients, in one batch, and then what servers have answered, and sends that in batches, too.

mod flow;
mod held;
mod quic;
mod search;
mod table;

use std::future::poll_fn;
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ipnet::IpNet;
use plimsoll_balance::flows::FlowId;
use plimsoll_net::clock;
use plimsoll_net::datagrams::{self, Batch, Watch};
use plimsoll_net::deadline::Timer;
use plimsoll_net::listener::TooLong;

use crate::plane::Plane;
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

/// Relays what comes to `socket` until told to drain, and then until its last flow has ended.
///
/// # Errors
/// It cannot begin, for want of descriptors.
pub(crate) async fn serve(plane: &Plane, socket: UdpSocket, number: usize) -> io::Result<()> {
    let Some(table) = Table::new(plane, number) else {
        return Ok(());
    };
    let mut relay = Relay {
        port: datagrams::Port::new(socket)?,
        watch: Watch::new()?,
        names: Vec::new(),
        timer: plane.worker.deadlines.timer(),
        is_timed: false,
        table,
    };
    poll_fn(|context| relay.poll(context, &mut plane.batch.borrow_mut())).await;
    Ok(())
}

/// A port with its flows.
struct Relay<'a> {
    port: datagrams::Port,
    watch: Watch,
    /// Flows that have answers.
    names: Vec<u64>,
    timer: Timer,
    /// Whether the timer is set for a flow that was there.
    is_timed: bool,
    table: Table<'a>,
}

impl Relay<'_> {
    /// Ready when it is done.
    fn poll(&mut self, context: &mut Context<'_>, batch: &mut Batch) -> Poll<()> {
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

    /// Takes a batch of what clients have sent.
    fn poll_clients(&mut self, context: &mut Context<'_>, batch: &mut Batch) -> Poll<()> {
        match ready!(self.port.poll_receive(context, batch)) {
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
                self.table.answer(&self.port, batch);
            }
        }
        self.table.answer(&self.port, batch);
        Poll::Ready(())
    }

    /// Ends flows that are idle; ready when there is nothing left to do.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.table.is_done() {
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
