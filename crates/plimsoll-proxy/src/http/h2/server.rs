//! Requests of one HTTP/2 client connection, many at once.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::ext::Protocol;
use h2::server::{Builder, SendResponse};
use http::{Request, Response, StatusCode};
use plimsoll_http::h1::parse::HeadLimits;
use plimsoll_http::h2::meter::Meter;
use plimsoll_http::h2::request::{self, BadRequest};
use plimsoll_http::h2::text;
use plimsoll_http::method::Method;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::clock;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream;
use plimsoll_observe::metrics::ListenerMetrics;

use super::inbound::Inbound;
use super::server_stream::ServerStream;
use super::wire::{Transport, Wire};
use super::{LAST_WORDS, PIECES_BUDGET, RESET_KNOWN_FOR, RESETS_KNOWN, SEND_BYTES_MAX};
use crate::connection::Connection;
use crate::generation::Listener;
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
const ERRORS_MAX: usize = 500;

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
    plane: &Rc<Plane>,
    connection: Connection,
    inbound: Buffer,
    start: impl Fn(Connection, Buffer, StreamCount),
) {
    let Some(listener) = plane.generation.listeners.get(connection.listener) else {
        return;
    };
    let wire = Wire::new(
        connection,
        inbound,
        Meter::of_client(),
        &plane.worker.buffers,
    );
    let timer = &wire.owner.timer;
    timer.set(wire.owner.deadline);
    let handshake = builder(&listener.limits).handshake(Transport(Rc::clone(&wire)));
    let Ok(Ok(mut h2)) = timer.limit(handshake).await else {
        return;
    };
    let streams = Rc::new(Streams::new(plane, wire.owner.listener));
    let mut is_leaving = false;
    loop {
        let is_asked_to_leave = || !is_leaving && (plane.keeps_nobody() || streams.is_worn());
        let event = poll_fn(|context| {
            let event = poll_event(context, &mut h2, &wire, &streams);
            match event {
                Poll::Pending if is_asked_to_leave() => Poll::Ready(Event::Leave),
                event => event,
            }
        });
        match event.await {
            Event::Opened(request, respond) => {
                if let Some((stream, head)) = begin(plane, &wire, request, respond) {
                    start(stream, head, streams.count());
                }
            }
            Event::Closed => break,
            Event::Excess => {
                send_away(&mut h2, &wire).await;
                break;
            }
            // A client that was told to leave has had time for it.
            Event::Late if is_leaving && streams.idle_since().is_some() => break,
            Event::Late if !is_leaving && streams.idle_until(listener) > clock::now() => {
                timer.set(streams.idle_until(listener));
            }
            Event::Late | Event::Leave => {
                if !std::mem::replace(&mut is_leaving, true) {
                    h2.graceful_shutdown();
                }
                timer.set(clock::now() + LAST_WORDS);
            }
        }
    }
    stream::close(&wire.owner.socket);
}

/// What happens on a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is returned to"
)]
enum Event {
    /// The client has opened a stream.
    Opened(Request<RecvStream>, SendResponse<Bytes>),
    /// The connection has ended.
    Closed,
    /// The client asks for too much work.
    Excess,
    /// It is time to look whether the connection is idle.
    Late,
    /// The connection is to end once what it carries is done.
    Leave,
}

/// Does all that can be done on a connection now; what was written is sent once nothing is left.
fn poll_event(
    context: &mut Context<'_>,
    h2: &mut h2::server::Connection<Transport<Connection>, Bytes>,
    wire: &Wire<Connection>,
    streams: &Streams,
) -> Poll<Event> {
    wire.gather();
    // As long as too much is under way, nothing new is begun.
    let opened = match streams.are_too_many(context) {
        true => h2.poll_closed(context).map(|_| None),
        false => h2.poll_accept(context),
    };
    match opened {
        Poll::Ready(Some(Ok((request, respond)))) => {
            return Poll::Ready(Event::Opened(request, respond));
        }
        Poll::Ready(Some(Err(error))) => {
            tracing::debug!(client = %wire.owner.peer, %error, "HTTP/2 failed");
            return Poll::Ready(Event::Closed);
        }
        Poll::Ready(None) => return Poll::Ready(Event::Closed),
        Poll::Pending => {}
    }
    match wire.poll_send(context) {
        Poll::Ready(Err(_)) => Poll::Ready(Event::Closed),
        _ if wire.is_excessive() => Poll::Ready(Event::Excess),
        _ => {
            let late = wire.owner.timer.poll(context);
            late.map(|_| Event::Late)
        }
    }
}

/// Tells a client that asks for too much that it does.
async fn send_away(
    h2: &mut h2::server::Connection<Transport<Connection>, Bytes>,
    wire: &Wire<Connection>,
) {
    let connection = &wire.owner;
    tracing::debug!(client = %connection.peer, "too much work was asked for");
    h2.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM);
    connection.timer.set(clock::now() + LAST_WORDS);
    let closed = poll_fn(|context| h2.poll_closed(context));
    let _told = connection.timer.limit(closed).await; // or it does not listen
}

/// What a client may do, and what we keep of it.
fn builder(limits: &HeadLimits) -> Builder {
    let mut builder = Builder::new();
    // A field counts for more than it has (RFC 9113 §6.5.2).
    let head = limits.head + limits.fields * 32;
    builder
        .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BYTES_MAX)
        .data_frame_budget(PIECES_BUDGET)
        .max_concurrent_reset_streams(RESETS_KNOWN)
        .reset_stream_duration(RESET_KNOWN_FOR)
        .max_local_error_reset_streams(Some(ERRORS_MAX))
        .enable_connect_protocol();
    builder
}

/// Makes of a request what one on a connection of its own would be; refuses it where there is no such
/// thing.
fn begin(
    plane: &Plane,
    wire: &Rc<Wire<Connection>>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Option<(Connection, Buffer)> {
    let (request, body) = request.into_parts();
    let has_body = !body.is_end_stream();
    let mut head = plane.worker.buffers.lend();
    let protocol = request.extensions.get::<Protocol>();
    let is_coded = protocol.is_none() && text::is_coded(has_body, &request.headers);
    let written = match protocol.map(Protocol::as_str) {
        None => request::write(&request, is_coded, head.room()),
        Some("websocket") => {
            let key = [plane.worker.random(), plane.worker.random()].map(u64::to_ne_bytes);
            let key = key.as_flattened().try_into().unwrap_or_default();
            request::write_websocket(&request, &key, head.room())
        }
        Some(_) => Err(BadRequest::Malformed("a protocol that is not known")),
    };
    match written {
        Ok(length) => head.add(length),
        Err(BadRequest::Malformed(why)) => {
            tracing::debug!(client = %wire.owner.peer, why, "malformed request");
            respond.send_reset(h2::Reason::PROTOCOL_ERROR);
            return None;
        }
        Err(BadRequest::TooLarge) => {
            let mut answer = Response::new(());
            *answer.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            let _told = respond.send_response(answer, true); // or the client has left
            return None;
        }
    }
    let mut inbound = Inbound::new(has_body.then_some(body), is_coded);
    if protocol.is_none() {
        inbound.read_ahead(&mut head);
    }
    let method = Method::from_token(request.method.as_str().as_bytes());
    let stream = ServerStream::new(wire, method, inbound, respond);
    let socket = Socket::of_stream(Box::new(stream));
    Some((wire.owner.stream(plane, socket), head))
}

/// The streams of one connection.
struct Streams {
    plane: Rc<Plane>,
    listener: usize,
    /// Requests under way, also those whose client does not wait any more.
    under_way: Cell<u32>,
    total: Cell<u64>,
    /// When the last one ended.
    ended: Cell<Instant>,
    /// Who waits for one to end.
    waiting: Cell<Option<Waker>>,
}

impl Streams {
    fn new(plane: &Rc<Plane>, listener: usize) -> Self {
        Self {
            plane: Rc::clone(plane),
            listener,
            under_way: Cell::new(0),
            total: Cell::new(0),
            ended: Cell::new(clock::now()),
            waiting: Cell::new(None),
        }
    }

    /// Counts one more for as long as the guard lives. While there are any, the connection is active.
    fn count(self: &Rc<Self>) -> StreamCount {
        let before = self.under_way.get();
        self.under_way.set(before + 1);
        self.total.set(self.total.get() + 1);
        if let (0, Some(metrics)) = (before, self.metrics()) {
            metrics.active.add(1);
        }
        StreamCount(Rc::clone(self))
    }

    /// Tells whether as many are under way as may be; wakes who asked when that changes.
    fn are_too_many(&self, context: &Context<'_>) -> bool {
        let are = self.under_way.get() >= STREAMS_MAX;
        if are {
            self.waiting.set(Some(context.waker().clone()));
        }
        are
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
    fn idle_until(&self, listener: &Listener) -> Instant {
        self.idle_since().unwrap_or_else(clock::now) + listener.idle_timeout
    }

    fn metrics(&self) -> Option<&ListenerMetrics> {
        self.plane.metrics.listeners.get(self.listener)
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
            if let Some(metrics) = self.0.metrics() {
                metrics.active.subtract(1);
            }
        }
        if let Some(waiting) = self.0.waiting.take() {
            waiting.wake();
        }
    }
}
