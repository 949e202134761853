//! Client connections: accepted, handed to a worker, idle, busy, closed.
//!
//! A connection is one task. While it waits it holds a socket and a timer; when bytes arrive a
//! runner serves them, with [`server_h1::serve`], until it waits again.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use plimsoll_balance::concurrency::Hold;
use plimsoll_http::forwarded::AddressText;
use plimsoll_net::accept::Accepted;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::runners::{Desk, Runners};
use plimsoll_net::socket::Socket;
use plimsoll_net::stream;
use plimsoll_net::tls::Choose;
use plimsoll_net::turns::Turn;
use plimsoll_net::worker::{ConnectionCount, Mail, Worker};
use plimsoll_observe::metrics::{ListenerMetrics, Totals};
use tokio::sync::mpsc;

use crate::acme;
use crate::changeover::{LogPlace, Next, Order, Planes};
use crate::door::{Door, Doors, Pier, Post};
use crate::gate;
use crate::generation::Listener;
use crate::handing::{self, Handed, Relayed, Request, Stage};
use crate::http::exchange::Facts;
use crate::http::server_h1::Served;
use crate::http::{h2, server_h1, switch};
use crate::plane::{GiveBack, Plane};
use crate::proxy_protocol;
use crate::relay;
use crate::sessions::Open;
use crate::station::Station;
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
    seats: Option<(ConnectionCount, Option<Box<Hold>>)>,
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

    /// What is known of what begins on it now.
    pub(crate) fn begin(&self, plane: &Plane) -> Facts<'_> {
        let now = clock::now();
        self.session.begin(plane.generation.number, now);
        Facts::new(plane, &self.session, now)
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
    runners: Runners<Busy, Option<Connection>, F>,
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

    /// Goes on with a connection that another process has left, as if it had been here all the time. It counts for its
    /// client, but is not refused any more.
    pub(crate) fn adopt(self: &Rc<Self>, handed: Handed) {
        let Handed {
            state,
            client,
            server,
        } = handed;
        let generation = Arc::clone(&self.planes.current().generation);
        let mut listeners = generation.listeners.iter();
        let at = listeners.find(|at| at.address == state.listener);
        let Some(door) = at.and_then(|at| self.doors.find(at.door)) else {
            return;
        };
        let (plane, listener) = door.view();
        let worker = &self.station.worker;
        let seat = admit(&plane, &door, state.peer).flatten();
        let mut connection = Connection {
            session: self
                .station
                .sessions
                .open((&door, state.peer), 0, clock::now()),
            socket: Socket::new(client.into()),
            timer: worker.deadlines.timer(),
            peer: state.peer,
            peer_text: AddressText::new(state.peer.ip()),
            door,
            listener,
            deadline: clock::now(),
            is_new: false,
            stays: false,
            certificate: None,
            fingerprint: None,
            heard: handing::heard(&state),
            seats: Some((worker.count_connection(), seat)),
        };
        match (state.stage, server) {
            (Stage::Idle { left, is_new }, _) => {
                connection.deadline += left;
                connection.is_new = is_new;
                tokio::task::spawn_local(Rc::clone(self).live(connection, false));
            }
            (Stage::Relayed(relayed), Some(server)) => {
                let server = Socket::new(server.into());
                tokio::task::spawn_local(Rc::clone(self).resume(connection, relayed, server));
            }
            (Stage::Switched(relayed, request), Some(server)) => {
                let server = Socket::new(server.into());
                let serving = Rc::clone(self).go_on(connection, (relayed, request), server);
                tokio::task::spawn_local(serving);
            }
            (_, None) => {}
        }
    }

    /// The same for one that has left HTTP.
    async fn go_on(
        self: Rc<Self>,
        mut connection: Connection,
        of: (Relayed, Box<Request>),
        server: Socket,
    ) {
        let _end = End::of(&connection.door, &self.station.totals);
        let (plane, number) = connection.door.view();
        connection.listener = number;
        let session = &connection.session;
        let mut serving = pin!(switch::resume(&plane, &connection, of, &server));
        let served = poll_fn(|context| plane.poll_unless_over(session, serving.as_mut(), context));
        if served.await.is_none() {
            stream::reset_on_close(&connection.socket);
        }
    }

    /// The life of a connection that was relayed by another process.
    async fn resume(self: Rc<Self>, connection: Connection, relayed: Relayed, server: Socket) {
        let _end = End::of(&connection.door, &self.station.totals);
        let resumed = Box::new((relayed, server));
        self::relayed(connection, Some(resumed)).await;
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
    fn live(
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
fn relayed(
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
fn admit(plane: &Plane, door: &Door, peer: SocketAddr) -> Option<Option<Box<Hold>>> {
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
struct End {
    counted: Option<Arc<ListenerMetrics>>,
    _watch: PanicWatch,
}

impl End {
    fn of(door: &Door, totals: &Arc<Totals>) -> Self {
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
