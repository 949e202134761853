//! Connections to servers, each of which carries many requests.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use plimsoll_http::h2::Limits;
use plimsoll_http::h2::connection::Role;
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::idle_pool::Berth;
use plimsoll_net::socket::Socket;
use plimsoll_net::worker::Worker;
use tokio::sync::Notify;

use super::LAST_WORDS;
use super::client_stream::ClientStream;
use super::wire::Wire;

/// Requests that one connection carries at once, if the server takes as many.
const STREAMS_MAX: u32 = 100;

/// What a server may do. Streams are cancelled by those who wait for them, and what it still sends on one that is
/// forgotten is an error: many are forgiven.
const LIMITS: Limits = Limits {
    streams: 0,
    head: 64 * 1024,
    stream_window: 256 * 1024,
    connection_window: 4 * 1024 * 1024,
    errors: 10_000,
};

/// The connections of one worker, by the number of the server.
#[derive(Debug, Default)]
pub(crate) struct Links {
    servers: RefCell<Vec<Option<Rc<Server>>>>,
}

/// Those to one server.
#[derive(Debug)]
struct Server {
    /// Held, so that no other server gets its number.
    berth: Arc<Berth>,
    links: RefCell<Vec<Rc<Link>>>,
    is_opening: Cell<bool>,
    /// Tells those who wait for one that they may look again.
    changed: Notify,
}

impl Server {
    fn new(berth: &Arc<Berth>) -> Self {
        Self {
            berth: Arc::clone(berth),
            links: RefCell::default(),
            is_opening: Cell::new(false),
            changed: Notify::new(),
        }
    }

    /// A stream of a connection that has room.
    fn stream(this: &Rc<Self>) -> Option<Socket> {
        let links = this.links.borrow();
        let link = links.iter().find(|link| link.has_room())?;
        Some(Lease::of(link, this).stream())
    }
}

/// One of them.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) wire: Rc<Wire<Socket>>,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    streams: Cell<u32>,
    /// When it had no streams any more.
    idle_since: Cell<Instant>,
    /// Whether it takes no more.
    is_leaving: Cell<bool>,
}

impl Link {
    fn has_room(&self) -> bool {
        let streams = self.streams.get();
        let is_there = || self.wire.with(|connection| connection.has_room(streams));
        !self.is_leaving.get() && streams < STREAMS_MAX && is_there()
    }
}

/// A place for one request on a connection.
#[derive(Debug)]
pub(super) struct Lease {
    link: Rc<Link>,
    server: Rc<Server>,
}

impl Lease {
    fn of(link: &Rc<Link>, server: &Rc<Server>) -> Self {
        link.streams.set(link.streams.get() + 1);
        Self {
            link: Rc::clone(link),
            server: Rc::clone(server),
        }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// What is read and written there.
    fn stream(self) -> Socket {
        Socket::of_stream(Box::new(ClientStream::new(self)))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let link = &self.link;
        link.streams.set(link.streams.get() - 1);
        if link.streams.get() == 0 {
            link.idle_since.set(clock::now());
        }
        self.server.changed.notify_one();
    }
}

/// How a server is reached.
pub(crate) enum Place {
    /// On this stream of a connection that was there.
    Stream(Socket),
    /// On a connection that is to be opened.
    Opening(Opening),
}

/// The right to open a connection, of which there is one at a time.
pub(crate) struct Opening {
    server: Rc<Server>,
    /// With others than these, it is for one request alone.
    epoch: u32,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.server.is_opening.set(false);
        self.server.changed.notify_waiters();
        self.server.changed.notify_one();
    }
}

impl Links {
    fn server(&self, berth: &Arc<Berth>) -> Rc<Server> {
        let mut servers = self.servers.borrow_mut();
        if servers.len() <= berth.number() {
            servers.resize_with(berth.number() + 1, || None);
        }
        let new = || Rc::new(Server::new(berth));
        match servers.get_mut(berth.number()) {
            Some(place) => Rc::clone(place.get_or_insert_with(new)),
            None => new(),
        }
    }

    /// A stream of a connection that has room.
    pub(crate) fn stream(&self, server: &Berth) -> Option<Socket> {
        let servers = self.servers.borrow();
        Server::stream(servers.get(server.number())?.as_ref()?)
    }

    /// Forgets servers that nobody knows any more.
    pub(crate) fn sweep(&self) {
        for place in self.servers.borrow_mut().iter_mut() {
            let is_left = |server: &Rc<Server>| {
                Rc::strong_count(server) == 1 && Arc::strong_count(&server.berth) == 1
            };
            if place.as_ref().is_some_and(is_left) {
                *place = None;
            }
        }
    }

    /// Finds a place for one request. While a connection is being opened, it is waited for.
    pub(crate) async fn place(&self, server: &Arc<Berth>) -> Place {
        let server = self.server(server);
        loop {
            let changed = server.changed.notified();
            if let Some(stream) = Server::stream(&server) {
                return Place::Stream(stream);
            }
            if !server.is_opening.replace(true) {
                return Place::Opening(Opening {
                    epoch: server.berth.epoch(),
                    server: Rc::clone(&server),
                });
            }
            changed.await;
        }
    }

    /// Uses no connection to a server for another request.
    pub(crate) fn forget(&self, server: &Berth) {
        let servers = self.servers.borrow();
        let known = servers.get(server.number()).and_then(Option::as_ref);
        for link in known
            .iter()
            .flat_map(|server| server.links.borrow().clone())
        {
            link.is_leaving.set(true);
        }
    }
}

impl Opening {
    /// Begins to speak HTTP/2 on `socket`, which is kept for others as long as it is not idle for
    /// `keep_for`; returns a stream of it.
    ///
    /// # Errors
    /// The server does not speak it.
    pub(crate) async fn open(
        self,
        worker: &Rc<Worker>,
        socket: Socket,
        keep_for: Duration,
    ) -> io::Result<Socket> {
        let scheme = match socket.is_secure() {
            true => "https",
            false => "http",
        };
        if socket.is_secure() && !socket.has_agreed_on(b"h2") {
            return Err(io::Error::other("it was not agreed on"));
        }
        let wire = Wire::new(socket, worker.buffers.lend(), Role::Client, LIMITS);
        // What the server says of itself is known before it gets a request; one that says something else gets none.
        let settled = poll_fn(|context| match wire.poll(context) {
            Poll::Ready(_) => Poll::Ready(Err(io::Error::other("it says something else"))),
            Poll::Pending if wire.with(|connection| connection.is_settled()) => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        });
        settled.await?;
        let link = Rc::new(Link {
            wire,
            scheme,
            streams: Cell::new(0),
            idle_since: Cell::new(clock::now()),
            is_leaving: Cell::new(self.epoch != self.server.berth.epoch()),
        });
        let server = Rc::clone(&self.server);
        server.links.borrow_mut().push(Rc::clone(&link));
        let stream = Lease::of(&link, &server).stream();
        let timer = worker.deadlines.timer();
        tokio::task::spawn_local(async move {
            serve(&server, &link, &timer, keep_for).await;
        });
        Ok(stream)
    }
}

/// Moves what is sent and received on a connection, until it has ended.
async fn serve(server: &Server, link: &Rc<Link>, timer: &Timer, keep_for: Duration) {
    let wire = &link.wire;
    timer.set(clock::now() + keep_for);
    poll_fn(|context| {
        loop {
            if wire.poll(context).is_ready() {
                return Poll::Ready(());
            }
            ready!(timer.poll(context));
            let idle_until = link.idle_since.get() + keep_for;
            let is_idle = link.streams.get() == 0;
            if is_idle && (link.is_leaving.get() || idle_until <= clock::now()) {
                return Poll::Ready(());
            }
            timer.set(idle_until.max(clock::now() + LAST_WORDS));
        }
    })
    .await;
    link.is_leaving.set(true);
    let is_other = |other: &Rc<Link>| !Rc::ptr_eq(other, link);
    server.links.borrow_mut().retain(is_other);
    wire.close(timer).await;
}
