//! Client connections: accepted, handed to a worker, idle, busy, closed.
//!
//! A connection is one task. While it waits it holds a socket and a timer; when bytes arrive it
//! runs [`server_h1::serve`] in a slot until it waits again.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use plimsoll_net::accept::{self, Accepted};
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::slots::Slots;
use plimsoll_net::worker::{ConnectionCount, Mail};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use crate::http::server_h1;
use crate::plane::Plane;

/// A client connection between two exchanges.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) timer: Timer,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: usize,
    /// When the head of the first request must be there: the time runs from the accept.
    pub(crate) first_deadline: Option<Instant>,
    _count: ConnectionCount,
}

impl Connection {
    /// The connection after an exchange.
    pub(crate) fn rested(mut self) -> Self {
        self.first_deadline = None;
        self
    }
}

/// Serves on `listeners` until told to drain, and then until the last connection has ended.
pub async fn run(plane: Rc<Plane>, listeners: Vec<TcpListener>, mailbox: mpsc::Receiver<Mail>) {
    let (drain, draining) = watch::channel(false);
    let server = Rc::new(Server {
        plane: Rc::clone(&plane),
        serve: server_h1::serve,
        slots: Slots::default(),
        draining,
    });
    tokio::task::spawn_local(Rc::clone(&plane).flush_logs());
    for (number, listener) in listeners.into_iter().enumerate() {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::task::spawn_local(
                Rc::clone(&server).listen(listener, number),
            )),
            Err(error) => tracing::error!(%error, "cannot watch a listener"),
        }
    }
    server.read_mail(mailbox, &drain).await;
    while server.plane.worker.own_connections() > 0 {
        tokio::time::sleep(DRAIN_CHECK).await;
    }
    plane.flush();
}

/// How often a draining worker looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// One worker's connections. `F` is the future of a busy connection, which only the compiler can
/// name.
struct Server<F> {
    plane: Rc<Plane>,
    serve: fn(Rc<Plane>, Connection) -> F,
    slots: Slots<F>,
    draining: watch::Receiver<bool>,
}

impl<F: Future<Output = Option<Connection>> + 'static> Server<F> {
    async fn listen(self: Rc<Self>, listener: tokio::net::TcpListener, number: usize) {
        let mut draining = self.draining.clone();
        loop {
            let accepted = tokio::select! {
                biased;
                accepted = accept::accept(&listener) => accepted,
                // What waits to be accepted is accepted first; then the listener is closed.
                _ = draining.wait_for(|draining| *draining) => return,
            };
            let (stream, peer) = accepted;
            if let Some(stream) = self.plane.worker.hand_over(stream, peer, number) {
                self.start(stream, peer, number);
            }
        }
    }

    async fn read_mail(
        self: &Rc<Self>,
        mut mailbox: mpsc::Receiver<Mail>,
        drain: &watch::Sender<bool>,
    ) {
        while let Some(mail) = mailbox.recv().await {
            match mail {
                Mail::Connection(accepted) => self.take_over(accepted),
                Mail::Lend { server, reply } => self.plane.worker.lend_idle(server, reply),
                Mail::Drain => {
                    self.plane.draining.set(true);
                    drain.send_replace(true);
                    return;
                }
            }
        }
    }

    fn take_over(self: &Rc<Self>, accepted: Accepted) {
        match TcpStream::from_std(accepted.socket) {
            Ok(stream) => self.start(stream, accepted.peer, accepted.listener),
            Err(error) => tracing::warn!(%error, "cannot watch a connection"),
        }
    }

    fn start(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr, listener: usize) {
        let worker = &self.plane.worker;
        let timeout = self
            .plane
            .generation
            .listeners
            .get(listener)
            .map_or(Duration::ZERO, |l| l.header_timeout);
        let connection = Connection {
            stream,
            timer: worker.deadlines.timer(),
            peer,
            listener,
            first_deadline: Some(clock::now() + timeout),
            _count: worker.count_connection(),
        };
        tokio::task::spawn_local(Rc::clone(self).live(connection));
    }

    /// The life of a connection.
    async fn live(self: Rc<Self>, mut connection: Connection) {
        let _end = End {
            plane: Rc::clone(&self.plane),
            listener: connection.listener,
        }
        .begin();
        let mut draining = self.draining.clone();
        loop {
            if self.wait(&connection, &mut draining).await.is_err() {
                return;
            }
            match self
                .slots
                .place((self.serve)(Rc::clone(&self.plane), connection))
                .await
            {
                Some(rested) => connection = rested,
                None => return,
            }
        }
    }

    /// Waits for the first byte of a request.
    async fn wait(
        &self,
        connection: &Connection,
        draining: &mut watch::Receiver<bool>,
    ) -> io::Result<()> {
        let idle = || {
            self.plane
                .generation
                .listeners
                .get(connection.listener)
                .map(|l| clock::now() + l.idle_timeout)
        };
        if let Some(deadline) = connection.first_deadline.or_else(idle) {
            connection.timer.set(deadline);
        }
        let late = || Err(io::ErrorKind::TimedOut.into());
        let readable = poll_fn(|context| connection.stream.poll_read_ready(context));
        let readable = connection.timer.limit(readable);
        if connection.first_deadline.is_some() {
            // A new connection may bring a request while we drain; it gets its answer.
            return readable.await.unwrap_or_else(|_| late());
        }
        tokio::select! {
            biased;
            readable = readable => readable.unwrap_or_else(|_| late()),
            _ = draining.wait_for(|draining| *draining) => late(),
        }
    }
}

/// Counts a connection, and notes when it ended in a panic.
struct End {
    plane: Rc<Plane>,
    listener: usize,
}

impl End {
    fn begin(self) -> Self {
        if let Some(metrics) = self.plane.metrics.listeners.get(self.listener) {
            metrics.accepted.add(1);
        }
        self
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(metrics) = self.plane.metrics.listeners.get(self.listener) {
            metrics.closed.add(1);
        }
        if std::thread::panicking() {
            self.plane.metrics.panics.add(1);
            tracing::error!("a connection ended in a panic");
        }
    }
}
