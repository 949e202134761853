//! Connections to servers, each of which carries many requests.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use plimsoll_http::h2::meter::Meter;
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::worker::Worker;
use tokio::sync::Notify;

use super::client_stream::ClientStream;
use super::inbound::{Inbound, gone};
use super::wire::{Transport, Wire};
use super::{LAST_WORDS, PIECES_BUDGET, RESET_KNOWN_FOR, RESETS_KNOWN, SEND_BYTES_MAX};

/// Requests that one connection carries at once, if the server takes as many.
const STREAMS_MAX: u32 = 100;

/// What a server may send before we have passed it on: on one stream, and on all together.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// The largest head of an answer, as HTTP/2 counts (RFC 9113 §6.5.2).
const HEAD_BYTES_MAX: u32 = 64 * 1024;

/// Errors that a connection may have in all its life: many streams are cancelled by those who wait for
/// them, and what a server still sends on one that is forgotten is an error.
const ERRORS_MAX: usize = 10_000;

/// The connections of one worker, by the number of the server.
#[derive(Debug, Default)]
pub(crate) struct Links {
    servers: RefCell<Vec<Rc<Server>>>,
}

/// Those to one server.
#[derive(Debug, Default)]
struct Server {
    links: RefCell<Vec<Rc<Link>>>,
    is_opening: Cell<bool>,
    /// Tells those who wait for one that they may look again.
    changed: Notify,
}

impl Server {
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
    wire: Rc<Wire<Socket>>,
    sender: SendRequest<Bytes>,
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
        let most = self.sender.current_max_send_streams();
        let most = u32::try_from(most).unwrap_or(u32::MAX).min(STREAMS_MAX);
        !self.is_leaving.get() && self.last_stream().is_none() && self.streams.get() < most
    }

    /// The last stream that the server will look at, if it leaves.
    pub(super) fn last_stream(&self) -> Option<u32> {
        self.wire.last_stream()
    }

    /// Makes a body known that comes on this connection.
    pub(super) fn receive(&self, body: Inbound) -> Rc<RefCell<Inbound>> {
        self.wire.receive(body)
    }

    pub(super) fn takes_websocket(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    pub(super) fn send(
        &self,
        request: Request<()>,
        is_all: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // Each stream has a handle of its own: one that waits to be opened holds up no other.
        let mut sender = self.sender.clone();
        sender.send_request(request, is_all)
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
pub(crate) struct Opening(Rc<Server>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.is_opening.set(false);
        self.0.changed.notify_waiters();
        self.0.changed.notify_one();
    }
}

impl Links {
    fn server(&self, number: usize) -> Rc<Server> {
        let mut servers = self.servers.borrow_mut();
        if servers.len() <= number {
            servers.resize_with(number + 1, Rc::default);
        }
        servers.get(number).map(Rc::clone).unwrap_or_default()
    }

    /// A stream of a connection that has room.
    pub(crate) fn stream(&self, server: usize) -> Option<Socket> {
        Server::stream(&self.server(server))
    }

    /// Finds a place for one request. While a connection is being opened, it is waited for.
    pub(crate) async fn place(&self, server: usize) -> Place {
        let server = self.server(server);
        loop {
            let changed = server.changed.notified();
            if let Some(stream) = Server::stream(&server) {
                return Place::Stream(stream);
            }
            if !server.is_opening.replace(true) {
                return Place::Opening(Opening(Rc::clone(&server)));
            }
            changed.await;
        }
    }

    /// Uses no connection to a server for another request.
    pub(crate) fn forget(&self, server: usize) {
        for link in self.server(server).links.borrow().iter() {
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
        let wire = Wire::new(
            socket,
            worker.buffers.lend(),
            Meter::default(),
            &worker.buffers,
        );
        let mut handshake = Box::pin(builder().handshake(Transport(Rc::clone(&wire))));
        let shaken = poll_fn(|context| {
            let shaken = handshake.as_mut().poll(context);
            match wire.poll_send(context) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => shaken.map_err(gone),
            }
        });
        let (sender, mut connection) = shaken.await?;
        let below = Rc::clone(&wire);
        let mut is_over = move |context: &mut Context<'_>| {
            let has_ended = Pin::new(&mut connection).poll(context).is_ready();
            below.gather();
            let sent = below.poll_send(context);
            has_ended || matches!(sent, Poll::Ready(Err(_)))
        };
        // What the server says of itself is known before it gets a request; one that says something else
        // gets none.
        let settled = poll_fn(|context| match is_over(context) || wire.is_excessive() {
            true => Poll::Ready(Err(io::Error::other("it says something else"))),
            false if wire.is_settled() => Poll::Ready(Ok(())),
            false => Poll::Pending,
        });
        settled.await?;
        let link = Rc::new(Link {
            wire,
            sender,
            scheme,
            streams: Cell::new(0),
            idle_since: Cell::new(clock::now()),
            is_leaving: Cell::new(false),
        });
        let server = Rc::clone(&self.0);
        server.links.borrow_mut().push(Rc::clone(&link));
        let stream = Lease::of(&link, &server).stream();
        let timer = worker.deadlines.timer();
        tokio::task::spawn_local(async move {
            serve(&server, link, &timer, keep_for, is_over).await;
        });
        Ok(stream)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .max_header_list_size(HEAD_BYTES_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .data_frame_budget(PIECES_BUDGET)
        .max_concurrent_reset_streams(RESETS_KNOWN)
        .reset_stream_duration(RESET_KNOWN_FOR)
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .max_send_buffer_size(SEND_BYTES_MAX);
    builder
}

/// Moves what is sent and received on a connection, until it has ended. `is_over` does what can be done
/// now, and tells whether it has.
async fn serve(
    server: &Server,
    link: Rc<Link>,
    timer: &Timer,
    keep_for: Duration,
    mut is_over: impl FnMut(&mut Context<'_>) -> bool,
) {
    let wire = Rc::clone(&link.wire);
    timer.set(clock::now() + keep_for);
    poll_fn(|context| {
        loop {
            if is_over(context) || wire.is_excessive() {
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
    server
        .links
        .borrow_mut()
        .retain(|other| !Rc::ptr_eq(other, &link));
    drop(link);
    // Without a handle the library says goodbye.
    timer.set(clock::now() + LAST_WORDS);
    let said = poll_fn(|context| match is_over(context) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    });
    let _heard = timer.limit(said).await;
    plimsoll_net::stream::close(&wire.owner);
}
