//! Client connections: accepted, handed to a worker, idle, busy, closed.
//!
//! A connection is one task. While it waits it holds a socket and a timer; when bytes arrive a
//! runner serves them, with [`server_h1::serve`], until it waits again.

use std::future::{Future, poll_fn};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use plimsoll_net::accept::{self, Accepted};
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::runners::{Desk, Runners};
use plimsoll_net::worker::{ConnectionCount, Mail};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::http::server_h1;
use crate::plane::Plane;

/// A client connection between two exchanges.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    pub(crate) timer: Timer,
    pub(crate) peer: SocketAddr,
    pub(crate) listener: usize,
    /// When the next request must have begun; for the first one, when its head must be there.
    pub(crate) deadline: Instant,
    /// Whether it has carried no request yet.
    pub(crate) is_new: bool,
    _count: ConnectionCount,
}

impl Connection {
    /// The connection after an exchange, with a new deadline.
    pub(crate) fn rested(mut self, deadline: Instant) -> Self {
        self.is_new = false;
        self.deadline = deadline;
        self
    }
}

/// Serves on `listeners` until told to drain, and then until the last connection has ended.
pub async fn run(plane: Rc<Plane>, listeners: Vec<TcpListener>, mailbox: mpsc::Receiver<Mail>) {
    let own = Rc::clone(&plane);
    let server = Rc::new(Server {
        plane,
        runners: Runners::new(move |desk| runner(Rc::clone(&own), desk)),
    });
    tokio::task::spawn_local(Rc::clone(&server.plane).flush_logs());
    for (number, listener) in listeners.into_iter().enumerate() {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => drop(tokio::task::spawn_local(
                Rc::clone(&server).listen(listener, number),
            )),
            Err(error) => tracing::error!(%error, "cannot watch a listener"),
        }
    }
    server.read_mail(mailbox).await;
    while server.plane.worker.own_connections() > 0 {
        tokio::time::sleep(DRAIN_CHECK).await;
    }
    server.plane.flush();
}

/// Serves one busy connection after the other.
async fn runner(plane: Rc<Plane>, desk: Rc<Desk<Connection, Option<Connection>>>) {
    loop {
        let connection = desk.next().await;
        desk.done(server_h1::serve(&plane, connection).await);
    }
}

/// How often a draining worker looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// One worker's connections. `F` is the future of a runner, which only the compiler can name.
struct Server<F> {
    plane: Rc<Plane>,
    runners: Runners<Connection, Option<Connection>, F>,
}

impl<F: Future<Output = ()> + 'static> Server<F> {
    async fn listen(self: Rc<Self>, listener: tokio::net::TcpListener, number: usize) {
        let timer = self.plane.worker.deadlines.timer();
        loop {
            let accepted = poll_fn(|context| match accept::poll_accept(&listener, context) {
                // What waits to be accepted is accepted first; then the listener is closed.
                Poll::Pending if self.plane.draining.get() => Poll::Ready(None),
                // The timer is never set: it is how a drain wakes those who wait.
                Poll::Pending => timer.poll(context).map(|_| None),
                Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
            });
            match accepted.await {
                None => return,
                Some(Ok((stream, peer))) => {
                    if let Some(stream) = self.plane.worker.hand_over(stream, peer, number) {
                        self.start(stream, peer, number);
                    }
                }
                Some(Err(error)) => accept::recover(&error).await,
            }
        }
    }

    async fn read_mail(self: &Rc<Self>, mut mailbox: mpsc::Receiver<Mail>) {
        while let Some(mail) = mailbox.recv().await {
            match mail {
                Mail::Connection(accepted) => self.take_over(accepted),
                Mail::Lend { server, reply } => self.plane.worker.lend_idle(server, reply),
                Mail::Drain => {
                    self.plane.draining.set(true);
                    self.plane.worker.deadlines.wake_all();
                    break;
                }
            }
        }
        // What was on its way here when the drain began is still served.
        while let Ok(mail) = mailbox.try_recv() {
            if let Mail::Connection(accepted) = mail {
                self.take_over(accepted);
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
            deadline: clock::now() + timeout,
            is_new: true,
            _count: worker.count_connection(),
        };
        tokio::task::spawn_local(Rc::clone(self).live(connection));
    }

    /// The life of a connection. Every waiting connection holds this future, so it is kept small.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn stores its arguments twice"
    )]
    fn live(self: Rc<Self>, mut connection: Connection) -> impl Future<Output = ()> {
        async move {
            let _end = End::of(&self.plane, connection.listener);
            while self.is_readable(&connection).await {
                match self.runners.run(connection).await {
                    Some(rested) => connection = rested,
                    None => return,
                }
            }
        }
    }

    /// Waits for the first byte of a request; false when there will be none.
    fn is_readable(&self, connection: &Connection) -> impl Future<Output = bool> {
        connection.timer.set(connection.deadline);
        poll_fn(|context| match connection.stream.poll_read_ready(context) {
            Poll::Ready(readable) => Poll::Ready(readable.is_ok()),
            // A new connection may bring a request while we drain; it gets its answer.
            Poll::Pending if self.plane.draining.get() && !connection.is_new => Poll::Ready(false),
            Poll::Pending => connection.timer.poll(context).map(|_| false),
        })
    }
}

/// Counts a connection from here on, and notes when it ended in a panic.
struct End {
    plane: Rc<Plane>,
    listener: usize,
}

impl End {
    fn of(plane: &Rc<Plane>, listener: usize) -> Self {
        if let Some(metrics) = plane.metrics.listeners.get(listener) {
            metrics.accepted.add(1);
        }
        Self {
            plane: Rc::clone(plane),
            listener,
        }
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
