//! Client connections: accepted, handed to a worker, idle, busy, closed.
//!
//! A connection is one task. While it waits it holds a socket and a timer; when bytes arrive a
//! runner serves them, with [`server_h1::serve`], until it waits again.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use plimsoll_balance::concurrency::Hold;
use plimsoll_http::forwarded::AddressText;
use plimsoll_net::accept::{self, Accepted};
use plimsoll_net::buffer::Buffer;
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::runners::{Desk, Runners};
use plimsoll_net::socket::Socket;
use plimsoll_net::stream;
use plimsoll_net::tls::Choose;
use plimsoll_net::turns::Turn;
use plimsoll_net::worker::{ConnectionCount, Mail};
use tokio::sync::mpsc;

use crate::acme;
use crate::datagrams;
use crate::gate;
use crate::http::{h2, line, server_h1};
use crate::plane::Plane;
use crate::proxy_protocol;
use crate::relay;
use crate::tls::certificate::Certificate;

/// A client connection between two exchanges.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) timer: Timer,
    pub(crate) peer: SocketAddr,
    /// The address of the peer, as every request of its tells it.
    pub(crate) peer_text: AddressText,
    pub(crate) listener: usize,
    /// When the next request must have begun; for the first one, when its head must be there.
    pub(crate) deadline: Instant,
    /// Whether it has carried no request yet.
    pub(crate) is_new: bool,
    /// The certificate that the client has shown.
    pub(crate) certificate: Option<Rc<Certificate>>,
    /// The fingerprint of how it began TLS, where anything asks for it.
    pub(crate) fingerprint: Option<Rc<str>>,
    /// The header of the PROXY protocol that it came with, if that said more than who the client is.
    pub(crate) heard: Option<Rc<[u8]>>,
    /// What it counts for; nothing for a stream, which its connection counts for.
    seats: Option<(ConnectionCount, Option<Box<Hold>>)>,
}

impl AsRef<Socket> for Connection {
    fn as_ref(&self) -> &Socket {
        &self.socket
    }
}

impl Connection {
    /// The connection after an exchange, with a new deadline.
    pub(crate) fn rested(mut self, deadline: Instant) -> Self {
        self.is_new = false;
        self.deadline = deadline;
        self
    }

    /// A stream that the client has opened on this connection.
    pub(crate) fn stream(&self, plane: &Plane, socket: Socket) -> Self {
        Self {
            socket,
            timer: plane.worker.deadlines.timer(),
            is_new: false,
            certificate: self.certificate.clone(),
            fingerprint: self.fingerprint.clone(),
            heard: self.heard.clone(),
            seats: None,
            ..*self
        }
    }
}

/// A connection with the first bytes of its next request.
type Busy = (Connection, Buffer);

/// Serves on `listeners` until told to drain, and then until the last connection has ended.
pub async fn run(
    plane: Rc<Plane>,
    (listeners, ports): (Vec<TcpListener>, Vec<UdpSocket>),
    mailbox: mpsc::Receiver<Mail>,
) {
    let own = Rc::clone(&plane);
    let server = Rc::new(Server {
        plane,
        runners: Runners::new(move |desk| runner(Rc::clone(&own), desk)),
        listening: Cell::new(0),
    });
    tokio::task::spawn_local(Rc::clone(&server.plane).tend());
    for (number, listener) in listeners.into_iter().enumerate() {
        match accept::Listener::new(listener) {
            Ok(listener) => {
                server.listening.set(server.listening.get() + 1);
                tokio::task::spawn_local(Rc::clone(&server).listen(listener, number));
            }
            Err(error) => tracing::error!(%error, "cannot watch a listener"),
        }
    }
    for (number, socket) in ports.into_iter().enumerate() {
        server.listening.set(server.listening.get() + 1);
        tokio::task::spawn_local(Rc::clone(&server).relay_datagrams(socket, number));
    }
    server.read_mail(mailbox).await;
    server.plane.flush();
}

/// Serves one busy connection after the other.
async fn runner(plane: Rc<Plane>, desk: Rc<Desk<Busy, Option<Connection>>>) {
    loop {
        let (connection, inbound) = desk.next().await;
        desk.done(server_h1::serve(&plane, connection, inbound).await);
    }
}

/// How long to accept nothing when there are as many connections as there may be.
const FULL_PAUSE: Duration = Duration::from_millis(10);

/// How often a draining worker looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// One worker's connections. `F` is the future of a runner, which only the compiler can name.
struct Server<F> {
    plane: Rc<Plane>,
    runners: Runners<Busy, Option<Connection>, F>,
    /// Listeners that are open.
    listening: Cell<usize>,
}

impl<F: Future<Output = ()> + 'static> Server<F> {
    async fn listen(self: Rc<Self>, listener: accept::Listener, number: usize) {
        // Not set before the drain, which wakes all timers: so a waiting listener hears of it.
        let timer = self.plane.worker.deadlines.timer();
        let mut is_closing = false;
        loop {
            if self.plane.is_full() && !self.plane.draining.get() {
                tokio::time::sleep(FULL_PAUSE).await; // clients wait in the backlog
                continue;
            }
            let accepted = poll_fn(|context| {
                if let Poll::Ready(accepted) = listener.poll_accept(context) {
                    return Poll::Ready(Some(accepted));
                }
                if self.plane.draining.get() && !std::mem::replace(&mut is_closing, true) {
                    // Who is connected already is still served.
                    listener.stop_deferring();
                    timer.set(clock::now() + accept::LATE_ARRIVALS);
                }
                timer.poll(context).map(|_| None)
            });
            match accepted.await {
                None => break,
                Some(Ok((socket, peer))) => {
                    if let Some(socket) = self.plane.worker.hand_over(socket, peer, number) {
                        self.start(socket, peer, number);
                    }
                }
                Some(Err(error)) => accept::recover(&error).await,
            }
        }
        self.listening.set(self.listening.get() - 1);
    }

    /// Relays what comes to a port. A panic ends the flows that it has, and not the port.
    async fn relay_datagrams(self: Rc<Self>, socket: UdpSocket, number: usize) {
        loop {
            let (server, again) = (Rc::clone(&self), socket.try_clone());
            let relay = tokio::task::spawn_local(async move {
                let _watch = PanicWatch(&server.plane);
                let served = datagrams::serve(&server.plane, again?, number);
                served.await
            });
            match relay.await {
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    tracing::error!(%error, "cannot relay datagrams");
                    break;
                }
                Err(_) => {} // it has been counted and said
            }
        }
        self.listening.set(self.listening.get() - 1);
    }

    /// Tells whether a drain has come to its end.
    fn is_done(&self) -> bool {
        self.listening.get() == 0 && self.plane.worker.own_connections() == 0
    }

    async fn read_mail(self: &Rc<Self>, mut mailbox: mpsc::Receiver<Mail>) {
        while let Some(mail) = mailbox.recv().await {
            match mail {
                Mail::Connection(accepted) => self.take_over(accepted),
                Mail::Lend { server, reply } => self.plane.worker.lend_idle(server, reply),
                Mail::Room { pool } => line::call_here(&self.plane, pool),
                Mail::Forget { server } => {
                    self.plane.worker.idle.forget(server);
                    self.plane.links.forget(server);
                }
                Mail::Drain => {
                    self.plane.draining.set(true);
                    self.plane.worker.deadlines.wake_all();
                    break;
                }
            }
        }
        // Until the last exchange has ended, there is mail from workers that are not done.
        loop {
            let patience = tokio::time::timeout(DRAIN_CHECK, mailbox.recv());
            match patience.await {
                Ok(Some(Mail::Connection(accepted))) => self.take_over(accepted),
                Ok(Some(Mail::Room { pool })) => line::call_here(&self.plane, pool),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(_) if self.is_done() => return,
                Err(_) => {}
            }
        }
    }

    fn take_over(self: &Rc<Self>, accepted: Accepted) {
        self.start(
            Socket::attach(accepted.socket),
            accepted.peer,
            accepted.listener,
        );
    }

    fn start(self: &Rc<Self>, socket: Socket, peer: SocketAddr, listener: usize) {
        let worker = &self.plane.worker;
        let at = self.plane.generation.listeners.get(listener);
        let announced_by = at.map_or(&[][..], |at| &at.announced_by);
        // Who the client is may not be known yet.
        let seat = match announced_by {
            [] => match self.admit(peer, listener) {
                Some(seat) => seat,
                None => return stream::reset_on_close(&socket),
            },
            networks if proxy_protocol::is_among(networks, peer.ip()) => None,
            _ => {
                self.count_unannounced(listener, peer, &"it is from elsewhere");
                return stream::reset_on_close(&socket);
            }
        };
        let timeout = at.map_or(Duration::ZERO, |at| at.header_timeout);
        let socket = match at.and_then(|at| at.tls.as_ref()) {
            Some(secure) => socket.with_tls(Arc::clone(secure) as Arc<dyn Choose>),
            None => socket,
        };
        let connection = Connection {
            socket,
            timer: worker.deadlines.timer(),
            peer,
            peer_text: AddressText::new(peer.ip()),
            listener,
            deadline: clock::now() + timeout,
            is_new: true,
            certificate: None,
            fingerprint: None,
            heard: None,
            seats: Some((worker.count_connection(), seat)),
        };
        tokio::task::spawn_local(Rc::clone(self).live(connection));
    }

    /// Lets a client in, unless it has too many connections.
    fn admit(&self, peer: SocketAddr, listener: usize) -> Option<Option<Box<Hold>>> {
        let seat = gate::admit(&self.plane, peer.ip());
        if let (None, Some(metrics)) = (&seat, self.plane.metrics.listener(listener)) {
            metrics.refused.add(1);
        }
        seat
    }

    /// Has the peer of a new connection say whom it is from; false when it goes no further.
    async fn introduce(&self, connection: &mut Connection) -> bool {
        if let Err(unknown) = proxy_protocol::hear(&self.plane, connection).await {
            self.count_unannounced(connection.listener, connection.peer, &unknown);
            return false;
        }
        let Some(seat) = self.admit(connection.peer, connection.listener) else {
            stream::reset_on_close(&connection.socket);
            return false;
        };
        if let Some((_, place)) = &mut connection.seats {
            *place = seat;
        }
        true
    }

    fn count_unannounced(&self, listener: usize, peer: SocketAddr, why: &dyn fmt::Display) {
        if let Some(metrics) = self.plane.metrics.listener(listener) {
            metrics.unannounced.add(1);
        }
        tracing::debug!(%peer, %why, "a connection does not say whom it is from");
    }

    /// Tells whether connections begin with whom they are from.
    fn is_announced(&self, listener: usize) -> bool {
        let at = self.plane.generation.listeners.get(listener);
        at.is_some_and(|at| !at.announced_by.is_empty())
    }

    /// The life of a connection. Every waiting connection holds this future, so it is kept small.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn stores its arguments twice"
    )]
    fn live(self: Rc<Self>, mut connection: Connection) -> impl Future<Output = ()> {
        async move {
            let _end = End::of(&self.plane, connection.listener);
            if self.is_announced(connection.listener)
                && !Box::pin(self.introduce(&mut connection)).await
            {
                return;
            }
            let at = self.plane.generation.listeners.get(connection.listener);
            if let Some(relay) = at.and_then(|at| at.relay.as_ref()) {
                if connection.socket.is_secure()
                    && !Box::pin(self.shake_hands(&mut connection)).await
                {
                    return;
                }
                return Box::pin(relay::serve(&self.plane, &connection, relay)).await;
            }
            while let Some(mut inbound) = self.first_bytes(&connection).await {
                // Whoever asked only who we are has been told, and was not checked as clients are.
                if connection.socket.has_agreed_on(acme::PROTOCOL) {
                    return;
                }
                self.identify(&mut connection);
                if connection.is_new && h2::may_be_spoken(&inbound) {
                    // Boxed: those who begin so, and no further, are rare.
                    Box::pin(h2::hear(&connection, &mut inbound)).await;
                }
                if connection.is_new && h2::is_spoken(&inbound) {
                    return Box::pin(self.many_at_once(connection, inbound)).await;
                }
                match self.runners.run((connection, inbound)).await {
                    Some(rested) => connection = rested,
                    None => return,
                }
            }
            stream::close(&connection.socket);
        }
    }

    /// Agrees with a client on TLS before anything is done for it; false when it goes no further.
    async fn shake_hands(&self, connection: &mut Connection) -> bool {
        let mut turn = Turn::default();
        let socket = &connection.socket;
        connection.timer.set(connection.deadline);
        let agreed = poll_fn(|context| {
            if let Poll::Ready(agreed) = self.poll_handshake(socket, &mut turn, context) {
                return Poll::Ready(Some(agreed));
            }
            ready!(connection.timer.poll(context));
            Poll::Ready(None)
        });
        match agreed.await {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                if error.kind() == ErrorKind::InvalidData {
                    self.count_tls_failure(connection, &error);
                }
                return false;
            }
            None => {
                if turn.is_waiting() {
                    self.count_late_handshake(connection.listener);
                }
                return false;
            }
        }
        self.identify(connection);
        // Whoever asked only who we are has been told.
        !connection.socket.has_agreed_on(acme::PROTOCOL)
    }

    fn poll_handshake(
        &self,
        socket: &Socket,
        turn: &mut Turn,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(turn.poll(&self.plane.worker.handshakes, context));
        stream::poll_handshake(socket, context)
    }

    /// Finds out which certificate the client has shown, before its first request.
    fn identify(&self, connection: &mut Connection) {
        let at = self.plane.generation.listeners.get(connection.listener);
        if let Some(secure) = at.and_then(|at| at.tls.as_ref())
            && connection.is_new
        {
            connection.certificate = secure.certificate(&connection.socket).map(Rc::new);
            connection.fingerprint = connection.socket.take_tls_note().map(Rc::from);
        }
    }

    /// Serves a client that has many requests at once on its connection.
    async fn many_at_once(self: &Rc<Self>, connection: Connection, inbound: Buffer) {
        let start = |stream: Connection, head, count| {
            let server = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let _end = (PanicWatch(&server.plane), count);
                server.runners.run((stream, head)).await;
            });
        };
        h2::serve(&self.plane, connection, inbound, start).await;
    }

    /// Nobody is to blame for most of these: scanners, and clients that do not trust a certificate.
    fn count_tls_failure(&self, connection: &Connection, error: &io::Error) {
        if let Some(metrics) = self.plane.metrics.listener(connection.listener) {
            metrics.tls_failed.add(1);
        }
        tracing::debug!(client = %connection.peer, %error, "TLS failed");
    }

    /// Takes note of a client whose time was over before its turn came.
    fn count_late_handshake(&self, listener: usize) {
        if let Some(metrics) = self.plane.metrics.listener(listener) {
            metrics.tls_late.add(1);
        }
    }

    /// Reads what comes next. A handshake goes on in its turn, so that many of them keep nobody waiting
    /// who is done with his.
    fn poll_read(
        &self,
        socket: &Socket,
        turn: &mut Turn,
        context: &mut Context<'_>,
        inbound: &mut Buffer,
    ) -> Poll<io::Result<usize>> {
        if socket.is_handshaking() {
            ready!(turn.poll(&self.plane.worker.handshakes, context));
        }
        stream::poll_read(socket, context, inbound)
    }

    /// Reads the first bytes of a request; nothing when there will be none. A connection that
    /// waits holds no buffer, and one that does not have to wait sets no timer.
    fn first_bytes(&self, connection: &Connection) -> impl Future<Output = Option<Buffer>> {
        let mut is_timed = false;
        let mut turn = Turn::default();
        poll_fn(move |context| {
            let mut inbound = self.plane.worker.buffers.lend();
            match self.poll_read(&connection.socket, &mut turn, context, &mut inbound) {
                Poll::Ready(Ok(1..)) => return Poll::Ready(Some(inbound)),
                Poll::Ready(Err(error)) if error.kind() == ErrorKind::InvalidData => {
                    self.count_tls_failure(connection, &error);
                    return Poll::Ready(None);
                }
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => {}
            }
            // A new connection may bring its first request while we drain; it gets its answer.
            if self.plane.keeps_nobody() && !connection.is_new {
                return Poll::Ready(None);
            }
            if !std::mem::replace(&mut is_timed, true) {
                connection.timer.set(connection.deadline);
            }
            ready!(connection.timer.poll(context));
            if turn.is_waiting() {
                self.count_late_handshake(connection.listener);
            }
            Poll::Ready(None)
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
        if let Some(metrics) = plane.metrics.listener(listener) {
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
        if let Some(metrics) = self.plane.metrics.listener(self.listener) {
            metrics.closed.add(1);
        }
        drop(PanicWatch(&self.plane));
    }
}

/// Notes a panic that ends what it is held by.
struct PanicWatch<'a>(&'a Plane);

impl Drop for PanicWatch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.metrics.totals.panics.add(1);
            tracing::error!("a connection ended in a panic");
        }
    }
}
