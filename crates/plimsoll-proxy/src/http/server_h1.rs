//! Requests of one HTTP/1 client connection, one after the other.

use std::time::{Duration, Instant};

use plimsoll_http::h1::parse::{self, Attempts, Parsed};
use plimsoll_http::head::{RequestHead, Version};
use plimsoll_http::reason::Reason;
use plimsoll_http::request::Rejection;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::{clock, stream};
use plimsoll_observe::metrics::ListenerMetrics;

use crate::connection::Connection;
use crate::generation::Listener;
use crate::http::exchange::{Ending, Exchange, Scratch};
use crate::http::walk;
use crate::plane::Plane;

/// How long, and for how many bytes, a client may go on sending after the answer that closes its
/// connection. Closing at once would reset the connection, and the answer might be lost with it.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How a connection goes on after it was served.
pub(crate) enum Served {
    /// It waits for its next request.
    Rested(Connection),
    /// Its next request has begun, and is served by a newer plane.
    More((Connection, Buffer)),
    /// It has ended.
    Ended,
}

/// Serves what arrives on `connection`, of which `inbound` holds the first bytes.
pub(crate) async fn serve(plane: &Plane, connection: Connection, mut inbound: Buffer) -> Served {
    let generation = &*plane.generation;
    let Some(listener) = generation.listeners.get(connection.listener) else {
        return Served::Ended;
    };
    let metrics = plane.metrics.listener(connection.listener);
    // A stream is a part of a connection that is active.
    let _active = Active::new(metrics.filter(|_| !connection.socket.is_stream()));
    let mut scratch = ScratchLease::new(plane);
    let mut first = connection.is_new.then_some(connection.deadline);
    loop {
        let (client, timer) = (&connection.socket, &connection.timer);
        let arrival = read_head(
            plane,
            client,
            timer,
            listener,
            &mut inbound,
            &mut scratch.get().head,
            first,
        )
        .await;
        first = None;
        let (started, rejection) = match arrival {
            Arrival::Head { started } => {
                if client.is_stream() {
                    scratch.get().head.version = Version::Http2;
                }
                (started, None)
            }
            Arrival::Refused { started, rejection } => (started, Some(rejection)),
            Arrival::Gone => return Served::Ended,
        };
        let scratch = scratch.get();
        let mut exchange =
            Exchange::new(plane, listener, &connection, scratch, &mut inbound, started);
        let ending = match rejection {
            None => walk::walk(&mut exchange).await,
            Some(rejection) => walk::refuse(&mut exchange, rejection).await,
        };
        let ended = exchange.facts.ended;
        exchange.leave_the_next();
        drop(exchange);
        match ending {
            Ending::Keep => {}
            // The end of a stream is told apart from that of what it carries.
            Ending::Linger if client.is_stream() => return Served::Ended,
            Ending::Close => {
                stream::close(client);
                return Served::Ended;
            }
            Ending::Linger => {
                linger(client, timer, &mut inbound).await;
                return Served::Ended;
            }
            Ending::Reset => {
                stream::reset_on_close(client);
                return Served::Ended;
            }
        }
        if inbound.is_empty() {
            let since = ended.unwrap_or_else(clock::now);
            let rested = connection.rested(since, since + listener.idle_timeout);
            return Served::Rested(rested);
        }
        if plane.is_past.get() {
            let now = clock::now();
            let rested = connection.rested(now, now + listener.header_timeout);
            return Served::More((rested, inbound));
        }
    }
}

/// How a request begins, or does not.
enum Arrival {
    /// The head is in the buffer.
    Head { started: Instant },
    /// What is in the buffer is not a head.
    Refused {
        started: Instant,
        rejection: Rejection,
    },
    /// The client left, or never said anything.
    Gone,
}

/// Reads until a whole head is in `inbound`. The deadline is absolute: bytes do not move it.
async fn read_head(
    plane: &Plane,
    client: &Socket,
    timer: &Timer,
    listener: &Listener,
    inbound: &mut Buffer,
    head: &mut RequestHead,
    first: Option<Instant>,
) -> Arrival {
    let started = clock::now();
    let mut attempts = Attempts::default();
    let mut is_timed = false;
    loop {
        if !inbound.is_empty() && attempts.worthwhile(inbound.filled()) {
            match parse::request(inbound.filled(), &listener.limits, head) {
                Ok(Parsed::Complete) => return Arrival::Head { started },
                // A head that comes in pieces holds a buffer for as long as it takes.
                Ok(Parsed::Partial) if plane.is_out_of_memory() => {
                    return Arrival::Refused {
                        started,
                        rejection: walk::OVERLOADED,
                    };
                }
                Ok(Parsed::Partial) => {}
                Err(fault) => {
                    return Arrival::Refused {
                        started,
                        rejection: fault.into(),
                    };
                }
            }
        }
        let read = std::future::poll_fn(|context| {
            if let std::task::Poll::Ready(read) = stream::poll_read(client, context, inbound) {
                return std::task::Poll::Ready(Some(read));
            }
            if !std::mem::replace(&mut is_timed, true) {
                timer.set(first.unwrap_or(started + listener.header_timeout));
            }
            timer.poll(context).map(|_| None)
        });
        match read.await {
            Some(Ok(1..)) => {}
            Some(Ok(0) | Err(_)) => return Arrival::Gone,
            None if inbound.is_empty() => return Arrival::Gone,
            None => {
                let detail = "the request head took too long";
                let rejection = Rejection {
                    status: 408,
                    reason: Reason::ClientTimeout,
                    detail,
                };
                return Arrival::Refused { started, rejection };
            }
        }
    }
}

/// Ends our direction and reads on for a while, so that the client can read the answer.
async fn linger(client: &Socket, timer: &Timer, buffer: &mut Buffer) {
    stream::shutdown_write(client);
    timer.set(clock::now() + LINGER);
    let mut left = LINGER_BYTES_MAX;
    loop {
        buffer.clear();
        let read = std::future::poll_fn(|context| stream::poll_read(client, context, buffer));
        match timer.limit(read).await {
            Ok(Ok(read)) if read > 0 && read <= left => left -= read,
            _ => return,
        }
    }
}

/// Counts a connection as active for as long as an exchange is under way.
struct Active<'a>(Option<&'a ListenerMetrics>);

impl<'a> Active<'a> {
    fn new(metrics: Option<&'a ListenerMetrics>) -> Self {
        if let Some(metrics) = metrics {
            metrics.active.add(1);
        }
        Self(metrics)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if let Some(metrics) = self.0 {
            metrics.active.subtract(1);
        }
    }
}

/// Lends the memory of an exchange, and gives it back.
struct ScratchLease<'a> {
    plane: &'a Plane,
    /// Nothing only until it is asked for, and when it has gone back.
    scratch: Option<Box<Scratch>>,
}

impl<'a> ScratchLease<'a> {
    fn new(plane: &'a Plane) -> Self {
        let scratch = plane.station.scratch.borrow_mut().pop();
        Self { plane, scratch }
    }

    fn get(&mut self) -> &mut Scratch {
        self.scratch.get_or_insert_default()
    }
}

impl Drop for ScratchLease<'_> {
    fn drop(&mut self) {
        let scratch = self.scratch.take();
        self.plane.station.scratch.borrow_mut().extend(scratch);
    }
}
