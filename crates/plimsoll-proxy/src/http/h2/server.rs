//! Requests of one HTTP/2 client connection, many at once.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use plimsoll_http::h1::parse::HeadLimits;
use plimsoll_http::h2::Limits;
use plimsoll_http::h2::connection::Role;
use plimsoll_http::h2::request::{Asked, Follows};
use plimsoll_net::buffer::Buffer;
use plimsoll_net::clock;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream;
use plimsoll_observe::metrics::ListenerMetrics;

use super::LAST_WORDS;
use super::server_stream::ServerStream;
use super::wire::{Happened, Wire};
use crate::connection::Connection;
use crate::door::Door;
use crate::plane::Plane;

/// How a client that speaks HTTP/2 begins (RFC 9113 §3.4); no method of HTTP/1 is called so.
const PREFACE_START: &[u8] = b"PRI * HTTP/2.0";

/// Streams that a client may have open at once; each costs memory for a request.
const STREAMS_MAX: u32 = 100;

/// Streams after which a connection is ended, gracefully: so memory and load are spread anew.
const STREAMS_TOTAL: u64 = 100_000;

/// What a client may send before we have read it: on one stream, and on all together.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Streams that we have to reset because they break rules, before the client is told to stop.
const ERRORS_MAX: u32 = 500;

/// Tells whether a client that began like this speaks HTTP/2.
pub(crate) fn is_spoken(inbound: &Buffer) -> bool {
    inbound.filled().starts_with(PREFACE_START)
}

/// Tells whether more has to come before that can be told.
pub(crate) fn may_be_spoken(inbound: &Buffer) -> bool {
    let said = inbound.filled();
    said.len() < PREFACE_START.len() && PREFACE_START.starts_with(said)
}

/// Reads until it can be told what a new client speaks, or there is nothing more.
pub(crate) async fn hear(connection: &Connection, inbound: &mut Buffer) {
    connection.timer.set(connection.deadline);
    while may_be_spoken(inbound) {
        let read = poll_fn(|context| stream::poll_read(&connection.socket, context, inbound));
        match connection.timer.limit(read).await {
            Ok(Ok(1..)) => {}
            _ => return, // who reads on finds the same
        }
    }
}

/// Serves what arrives on `connection`, of which `inbound` holds the first bytes, until it ends. Each
/// request is given to `start`, as the first one of a connection of its own.
pub(crate) async fn serve(
    connection: Connection,
    inbound: Buffer,
    start: impl Fn(Connection, Buffer, StreamCount),
) {
    let door = Rc::clone(&connection.door);
    let Some(limits) = door.with(|_, listener| limits(&listener.limits)) else {
        return;
    };
    let wire = Wire::new(connection, inbound, Role::Server, limits);
    wire.owner.session.carries_streams();
    let timer = &wire.owner.timer;
    timer.set(wire.owner.deadline);
    let streams = Rc::new(Streams::new(&door));
    let mut is_leaving = false;
    loop {
        let session = &wire.owner.session;
        let is_asked_to_leave =
            || !is_leaving && (door.keeps_nobody() || streams.is_worn() || session.is_closed());
        let event = poll_fn(|context| {
            let event = poll_event(context, &wire);
            match event {
                Poll::Pending if is_asked_to_leave() => Poll::Ready(Event::Leave),
                event => event,
            }
        });
        match event.await {
            Event::Opened(id, asked) => {
                let (stream, head) = begin(&door.plane(), &wire, id, asked);
                start(stream, head, streams.count());
            }
            Event::Ended => break,
            Event::Late if !wire.with(|state| state.is_settled()) => break,
            // A client that was told to leave has had time for it.
            Event::Late if is_leaving && streams.idle_since().is_some() => break,
            Event::Late if !is_leaving && streams.idle_until(&door) > clock::now() => {
                timer.set(streams.idle_until(&door));
            }
            Event::Late | Event::Leave => {
                if !std::mem::replace(&mut is_leaving, true) {
                    wire.with(|state| state.leave());
                }
                timer.set(clock::now() + LAST_WORDS);
            }
        }
    }
    wire.close(timer).await;
}

/// What happens on a connection.
enum Event {
    /// The client has opened a stream.
    Opened(u32, Asked),
    /// The connection has ended.
    Ended,
    /// It is time to look whether the connection is idle.
    Late,
    /// The connection is to end once what it carries is done.
    Leave,
}

/// Does all that can be done on a connection now.
fn poll_event(context: &mut Context<'_>, wire: &Wire<Connection>) -> Poll<Event> {
    match wire.poll(context) {
        Poll::Ready(Happened::Opened(id, asked)) => Poll::Ready(Event::Opened(id, asked)),
        Poll::Ready(Happened::Ended) => Poll::Ready(Event::Ended),
        Poll::Pending => wire.owner.timer.poll(context).map(|_| Event::Late),
    }
}

/// What a client may do.
fn limits(limits: &HeadLimits) -> Limits {
    // A field counts for more than it has (RFC 9113 §6.5.2).
    let head = limits.head + limits.fields * 32;
    Limits {
        streams: STREAMS_MAX,
        head: u32::try_from(head).unwrap_or(u32::MAX),
        stream_window: STREAM_WINDOW,
        connection_window: CONNECTION_WINDOW,
        errors: ERRORS_MAX,
    }
}

/// Makes of a request what one on a connection of its own would be.
fn begin(
    plane: &Plane,
    wire: &Rc<Wire<Connection>>,
    id: u32,
    asked: Asked,
) -> (Connection, Buffer) {
    let mut head = plane.worker.buffers.lend();
    let key = match asked.follows {
        Follows::WebSocket => [plane.worker.random(), plane.worker.random()].map(u64::to_ne_bytes),
        Follows::Said | Follows::Coded => [[0; 8]; 2],
    };
    let key = key.as_flattened().try_into().unwrap_or_default();
    wire.with(|state| {
        let text = state.head(asked.follows, key);
        if let Some(room) = head.room().get_mut(..text.len()) {
            room.copy_from_slice(text);
            head.add(text.len());
        }
    });
    let stream = ServerStream {
        wire: Rc::clone(wire),
        id,
    };
    let socket = Socket::of_stream(Box::new(stream));
    if asked.follows != Follows::WebSocket {
        // What is here already goes with it: a request that is here as a whole can be sent a second time. Who reads on
        // finds the same end or error.
        let mut context = Context::from_waker(Waker::noop());
        let _here = stream::poll_read(&socket, &mut context, &mut head);
    }
    (wire.owner.stream(plane, socket), head)
}

/// The streams of one connection.
struct Streams {
    counted: Option<Arc<ListenerMetrics>>,
    /// Requests under way, also those whose client does not wait any more.
    under_way: Cell<u32>,
    total: Cell<u64>,
    /// When the last one ended.
    ended: Cell<Instant>,
}

impl Streams {
    fn new(door: &Door) -> Self {
        Self {
            counted: door.metrics(),
            under_way: Cell::new(0),
            total: Cell::new(0),
            ended: Cell::new(clock::now()),
        }
    }

    /// Counts one more for as long as the guard lives. While there are any, the connection is active.
    fn count(self: &Rc<Self>) -> StreamCount {
        let before = self.under_way.get();
        self.under_way.set(before + 1);
        self.total.set(self.total.get() + 1);
        if let (0, Some(metrics)) = (before, &self.counted) {
            metrics.active.add(1);
        }
        StreamCount(Rc::clone(self))
    }

    /// Tells whether there were as many as one connection may have.
    fn is_worn(&self) -> bool {
        self.total.get() >= STREAMS_TOTAL
    }

    /// Since when there are none.
    fn idle_since(&self) -> Option<Instant> {
        (self.under_way.get() == 0).then(|| self.ended.get())
    }

    /// How long the connection may go on without another one.
    fn idle_until(&self, door: &Door) -> Instant {
        let patience = door.with(|_, listener| listener.idle_timeout);
        self.idle_since().unwrap_or_else(clock::now) + patience.unwrap_or_default()
    }
}

/// A stream that counts.
pub(crate) struct StreamCount(Rc<Streams>);

impl Drop for StreamCount {
    fn drop(&mut self) {
        let left = self.0.under_way.get() - 1;
        self.0.under_way.set(left);
        if left == 0 {
            self.0.ended.set(clock::now());
            if let Some(metrics) = &self.0.counted {
                metrics.active.subtract(1);
            }
        }
    }
}
