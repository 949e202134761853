//! Client connections: accepted, handed to a worker, idle, busy, closed.
//!
//! A connection is one task. While it waits it holds a socket and a timer; when bytes arrive a
//! runner serves them, with [`server_h1::serve`](crate::http::server_h1::serve), until it waits again.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use plimsoll_balance::concurrency::Hold;
use plimsoll_http::forwarded::AddressText;
use plimsoll_net::accept::Accepted;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream;
use plimsoll_net::tls::Choose;
use plimsoll_net::turns::Turn;
use plimsoll_net::worker::ConnectionCount;
use plimsoll_observe::metrics::{ListenerMetrics, Totals};

use crate::acme;
use crate::door::Door;
use crate::gate;
use crate::generation::Listener;
use crate::handing::Relayed;
use crate::http::exchange::Facts;
use crate::http::h2;
use crate::plane::Plane;
use crate::proxy_protocol;
use crate::relay;
use crate::serving::Server;
use crate::sessions::Open;
use crate::tls::certificate::Certificate;

/// A client connection between two exchanges.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) timer: Timer,
    pub(crate) peer: SocketAddr,
    /// The address of the peer, as every request of its tells it.
    pub(crate) peer_text: AddressText,
    /// What it came in by.
    pub(crate) door: Rc<Door>,
    /// The number of that in the generation of its exchange.
    pub(crate) listener: usize,
    /// When the next request must have begun; for the first one, when its head must be there.
    pub(crate) deadline: Instant,
    /// Whether it has carried no request yet.
    pub(crate) is_new: bool,
    /// Whether no other process wants it.
    pub(crate) stays: bool,
    /// The certificate that the client has shown.
    pub(crate) certificate: Option<Rc<Certificate>>,
    /// The fingerprint of how it began TLS, where anything asks for it.
    pub(crate) fingerprint: Option<Rc<str>>,
    /// The header of the PROXY protocol that it came with, if that said more than who the client is.
    pub(crate) heard: Option<Rc<[u8]>>,
    /// What is told of it to whoever asks.
    pub(crate) session: Open,
    /// What it counts for; nothing for a stream, which its connection counts for.
    pub(crate) seats: Option<(ConnectionCount, Option<Box<Hold>>)>,
}

impl AsRef<Socket> for Connection {
    fn as_ref(&self) -> &Socket {
        &self.socket
    }
}

impl Connection {
    /// The connection after an exchange, with a new deadline.
    pub(crate) fn rested(mut self, since: Instant, deadline: Instant) -> Self {
        self.session.rest(since);
        self.is_new = false;
        self.deadline = deadline;
        self
    }

    /// What is known of what has begun on it now.
    pub(crate) fn begin(&self, plane: &Plane, started: Instant) -> Facts<'_> {
        self.session.begin(plane.generation.number, started);
        Facts::new(plane, &self.session, started)
    }

    /// A stream that the client has opened on this connection.
    pub(crate) fn stream(&self, plane: &Plane, socket: Socket) -> Self {
        let from = (&self.door, self.peer);
        let (on, since) = (self.session.number(), self.session.touched.get());
        Self {
            socket,
            timer: plane.worker.deadlines.timer(),
            session: plane.station.sessions.open(from, on, since),
            is_new: false,
            stays: true,
            certificate: self.certificate.clone(),
            fingerprint: self.fingerprint.clone(),
            heard: self.heard.clone(),
            seats: None,
            door: Rc::clone(&self.door),
            ..*self
        }
    }
}

impl<F: Future<Output = ()> + 'static> Server<F> {
    pub(crate) fn take_over(self: &Rc<Self>, accepted: Accepted) {
        match self.doors.find(accepted.door) {
            Some(door) => self.start(Socket::attach(accepted.socket), accepted.peer, door),
            None => self.keep_early(accepted),
        }
    }

    pub(crate) fn start(self: &Rc<Self>, socket: Socket, peer: SocketAddr, door: Rc<Door>) {
        let door = door.draw();
        let (plane, number) = door.view();
        let Some(at) = plane.generation.listeners.get(number) else {
            return;
        };
        plane.metrics.outcomes.connections.add(1);
        // Who the client is may not be known yet.
        let seat = match &*at.announced_by {
            [] => match admit(&plane, &door, peer) {
                Some(seat) => seat,
                None => return stream::reset_on_close(&socket),
            },
            networks if proxy_protocol::is_among(networks, peer.ip()) => None,
            _ => {
                count_unannounced(&door, peer, &"it is from elsewhere");
                return stream::reset_on_close(&socket);
            }
        };
        let socket = match &at.tls {
            Some(secure) => socket.with_tls(Arc::clone(secure) as Arc<dyn Choose>),
            None => socket,
        };
        let (worker, now) = (&self.station.worker, clock::now());
        let connection = Connection {
            session: self.station.sessions.open((&door, peer), 0, now),
            socket,
            timer: worker.deadlines.timer(),
            peer,
            peer_text: AddressText::new(peer.ip()),
            door,
            listener: number,
            deadline: now + at.header_timeout,
            is_new: true,
            stays: false,
            certificate: None,
            fingerprint: None,
            heard: None,
            seats: Some((worker.count_connection(), seat)),
        };
        let is_announced = !at.announced_by.is_empty();
        tokio::task::spawn_local(Rc::clone(self).live(connection, is_announced));
    }

    /// Has the peer of a new connection say whom it is from; false when it goes no further.
    async fn introduce(&self, connection: &mut Connection) -> bool {
        let (plane, number) = connection.door.view();
        connection.listener = number;
        if let Err(unknown) = proxy_protocol::hear(&plane, connection).await {
            count_unannounced(&connection.door, connection.peer, &unknown);
            return false;
        }
        let Some(seat) = admit(&plane, &connection.door, connection.peer) else {
            stream::reset_on_close(&connection.socket);
            return false;
        };
        if let Some((_, place)) = &mut connection.seats {
            *place = seat;
        }
        true
    }

    /// The life of a connection. Every waiting connection holds this future, so it is kept small.
    #[expect(
        clippy::manual_async_fn,
        reason = "an async fn stores its arguments twice"
    )]
    pub(crate) fn live(
        self: Rc<Self>,
        mut connection: Connection,
        is_announced: bool,
    ) -> impl Future<Output = ()> {
        async move {
            let _end = End::of(&connection.door, &self.station.totals);
            if is_announced && !Box::pin(self.introduce(&mut connection)).await {
                return;
            }
            let is_relayed = |_: &Plane, at: &Listener| at.relay.is_some();
            if connection.door.with(is_relayed).unwrap_or_default() {
                if connection.socket.is_secure()
                    && !Box::pin(self.shake_hands(&mut connection)).await
                {
                    return;
                }
                return Box::pin(relayed(connection, None)).await;
            }
            while let Some(mut inbound) = self.first_bytes(&connection).await {
                if inbound.is_empty() {
                    drop(inbound);
                    let leaving = connection.leaving().hand_on(connection.idle(), None);
                    if Box::pin(leaving).await {
                        return;
                    }
                    connection.stays = true;
                    continue;
                }
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
                    self.count_late_handshake(&connection.door);
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
        ready!(turn.poll(&self.station.worker.handshakes, context));
        stream::poll_handshake(socket, context)
    }

    /// Finds out which certificate the client has shown, before its first request.
    fn identify(&self, connection: &mut Connection) {
        if !connection.is_new {
            return;
        }
        let shown = |_: &Plane, at: &Listener| {
            let secure = at.tls.as_ref()?;
            Some(secure.certificate(&connection.socket).map(Rc::new))
        };
        if let Some(Some(certificate)) = connection.door.with(shown) {
            connection.certificate = certificate;
            connection.fingerprint = connection.socket.take_tls_note().map(Rc::from);
        }
    }

    /// Serves a client that has many requests at once on its connection.
    async fn many_at_once(self: &Rc<Self>, connection: Connection, inbound: Buffer) {
        let start = |stream: Connection, head, count| {
            let server = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let _end = (PanicWatch(Arc::clone(&server.station.totals)), count);
                server.runners.run((stream, head)).await;
            });
        };
        h2::serve(connection, inbound, start).await;
    }

    /// Nobody is to blame for most of these: scanners, and clients that do not trust a certificate.
    fn count_tls_failure(&self, connection: &Connection, error: &io::Error) {
        if let Some(metrics) = connection.door.metrics() {
            metrics.tls_failed.add(1);
        }
        tracing::debug!(client = %connection.peer, %error, "TLS failed");
    }

    /// Takes note of a client whose time was over before its turn came.
    fn count_late_handshake(&self, door: &Door) {
        if let Some(metrics) = door.metrics() {
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
            ready!(turn.poll(&self.station.worker.handshakes, context));
        }
        stream::poll_read(socket, context, inbound)
    }

    /// Reads the first bytes of a request; nothing when there will be none, and none of them when another process may have
    /// the connection. A connection that
    /// waits holds no buffer, and one that does not have to wait sets no timer.
    fn first_bytes(&self, connection: &Connection) -> impl Future<Output = Option<Buffer>> {
        let mut is_timed = false;
        let mut turn = Turn::default();
        poll_fn(move |context| {
            let mut inbound = self.station.worker.buffers.lend();
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
            let closes_idle = connection.door.closes_idle() && !connection.is_new;
            if closes_idle || connection.session.is_closed() {
                return Poll::Ready(None);
            }
            if connection.may_leave() {
                return Poll::Ready(Some(inbound));
            }
            if !std::mem::replace(&mut is_timed, true) {
                connection.timer.set(connection.deadline);
            }
            ready!(connection.timer.poll(context));
            if turn.is_waiting() {
                self.count_late_handshake(&connection.door);
            }
            Poll::Ready(None)
        })
    }
}

/// Passes the bytes of a connection on, to its end.
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn stores its arguments twice"
)]
pub(crate) fn relayed(
    mut connection: Connection,
    resumed: Option<Box<(Relayed, Socket)>>,
) -> impl Future<Output = ()> {
    async move {
        let (plane, number) = connection.door.view();
        connection.listener = number;
        let at = plane.generation.listeners.get(number);
        if let Some(relay) = at.and_then(|at| at.relay.as_ref()) {
            let mut relaying = pin!(relay::serve(&plane, &connection, relay, resumed));
            let session = &connection.session;
            let served =
                poll_fn(|context| plane.poll_unless_over(session, relaying.as_mut(), context));
            if served.await.is_none() {
                stream::reset_on_close(&connection.socket);
            }
        }
    }
}

/// Lets a client in, unless it has too many connections.
pub(crate) fn admit(plane: &Plane, door: &Door, peer: SocketAddr) -> Option<Option<Box<Hold>>> {
    let seat = gate::admit(plane, peer.ip());
    if let (None, Some(metrics)) = (&seat, door.metrics()) {
        metrics.refused.add(1);
    }
    seat
}

fn count_unannounced(door: &Door, peer: SocketAddr, why: &dyn fmt::Display) {
    if let Some(metrics) = door.metrics() {
        metrics.unannounced.add(1);
    }
    tracing::debug!(%peer, %why, "a connection does not say whom it is from");
}

/// Counts a connection from here on, and notes when it ended in a panic.
pub(crate) struct End {
    counted: Option<Arc<ListenerMetrics>>,
    _watch: PanicWatch,
}

impl End {
    pub(crate) fn of(door: &Door, totals: &Arc<Totals>) -> Self {
        let counted = door.metrics();
        if let Some(metrics) = &counted {
            metrics.accepted.add(1);
        }
        Self {
            counted,
            _watch: PanicWatch(Arc::clone(totals)),
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(metrics) = &self.counted {
            metrics.closed.add(1);
        }
    }
}

/// Notes a panic that ends what it is held by.
pub(crate) struct PanicWatch(pub(crate) Arc<Totals>);

impl Drop for PanicWatch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panics.add(1);
            tracing::error!("a connection ended in a panic");
        }
    }
}
