//! A request of our own to a server of a pool, whose answer is small and read whole.

use std::future::poll_fn;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use plimsoll_balance::{Ask, Outcome, Slot, Tried};
use plimsoll_http::framing::{Framing, Reuse};
use plimsoll_http::h1::parse::{self, Attempts, Parsed};
use plimsoll_http::head::ResponseHead;
use plimsoll_http::method::Method;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream::Then;
use plimsoll_net::{clock, stream};

use crate::events;
use crate::generation::{Pool, Server};
use crate::http::acquire::{self, Upstream};
use crate::http::flow::Writer;
use crate::http::line;
use crate::http::mirror::Digest;
use crate::plane::Plane;
use crate::proxy_protocol;

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: ResponseHead,
    /// The bytes of the head.
    pub(crate) bytes: Vec<u8>,
    /// As much of the body as was asked for.
    pub(crate) body: Vec<u8>,
    /// Whether that is all of it.
    pub(crate) is_whole: bool,
    /// How long the head took.
    pub(crate) took: Duration,
}

/// What is asked.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// The message, whole.
    pub(crate) message: &'a [u8],
    /// How much of the answer's body is kept.
    pub(crate) body_max: usize,
    /// What sees all of the body; without it, what is longer than is kept is left.
    pub(crate) digest: Option<&'a mut Digest>,
}

/// Servers that are asked for one answer.
const SERVERS_MAX: usize = 4;

/// Has a server of `pool` answer: another one when the first cannot be reached, all within the time
/// that one may take; nothing when none does.
pub(crate) async fn ask(plane: &Plane, pool: &Pool, mut call: Call<'_>) -> Option<Reply> {
    let deadline = clock::now() + pool.timeouts.response;
    let timer = plane.worker.deadlines.timer();
    let mut tried = Tried::new();
    for _ in 0..SERVERS_MAX {
        let slot = pick(plane, pool, &tried)?;
        tried.insert(slot.index());
        let server = pool.servers.get(slot.index().position())?;
        let reply = ask_server(plane, pool, server, (&timer, deadline), &mut call).await;
        account(plane, pool, slot, reply.as_ref());
        if reply.is_some() || call.method != Method::Get || clock::now() >= deadline {
            return reply;
        }
    }
    None
}

/// Counts what came of asking a server, teaches the pool, and gives its slot back.
fn account(plane: &Plane, pool: &Pool, slot: Slot<'_>, reply: Option<&Reply>) {
    let verdict = match reply.map(|reply| reply.head.status) {
        None => Outcome::Failed,
        Some(502..=504) => Outcome::GatewayError,
        Some(500..) => Outcome::ServerError,
        Some(_) => Outcome::Served,
    };
    if let (Some(reply), Some(metrics)) = (
        reply,
        plane.metrics.server(pool.index, slot.index().position()),
    ) {
        metrics.requests.count(reply.head.status);
    }
    let latency = reply.map(|reply| reply.took);
    if let Some(change) = slot.release(verdict, latency, plane.since_start(clock::now())) {
        events::tell(plane, pool, change);
    }
    line::call_next(plane, pool);
}

async fn ask_server(
    plane: &Plane,
    pool: &Pool,
    server: &Server,
    (timer, deadline): (&Timer, Instant),
    call: &mut Call<'_>,
) -> Option<Reply> {
    let epoch = server.berth.epoch();
    let upstream = |socket, is_reused| Upstream {
        socket,
        is_reused,
        epoch,
    };
    // A kept connection may have died; then a new one is used.
    let kept = plane.worker.idle.take(&server.berth, clock::now());
    if let Some(socket) = kept {
        let kept = upstream(socket, true);
        let reply = converse(plane, pool, server, (kept, timer, deadline), call).await;
        if reply.is_some() || call.method != Method::Get || clock::now() >= deadline {
            return reply;
        }
    }
    let new = upstream(dial(pool, server, timer, deadline).await?, false);
    converse(plane, pool, server, (new, timer, deadline), call).await
}

fn pick<'a>(plane: &Plane, pool: &'a Pool, tried: &Tried) -> Option<Slot<'a>> {
    let ask = Ask {
        key: 0,
        random: plane.worker.random(),
        now: plane.since_start(clock::now()),
        tried,
    };
    let mut pickers = plane.pickers.borrow_mut();
    pickers.get_mut(pool.index)?.pick(&pool.balancer, &ask).ok()
}

async fn dial(pool: &Pool, server: &Server, timer: &Timer, deadline: Instant) -> Option<Socket> {
    timer.set(deadline.min(clock::now() + pool.timeouts.connect));
    let first_words = pool.proxy_protocol.map(proxy_protocol::tell_own);
    let dialled = acquire::dial(
        pool,
        server,
        None,
        first_words.as_deref().unwrap_or_default(),
    );
    timer.limit(dialled).await.ok()?.ok()
}

async fn converse(
    plane: &Plane,
    pool: &Pool,
    server: &Server,
    (upstream, timer, deadline): (Upstream, &Timer, Instant),
    call: &mut Call<'_>,
) -> Option<Reply> {
    let socket = &upstream.socket;
    let sent = clock::now();
    let writer = Writer {
        sink: socket,
        timer,
        patience: deadline.saturating_duration_since(sent),
        then: Then::Open,
    };
    writer.write(&mut [IoSlice::new(call.message)]).await.ok()?;
    timer.set(deadline);
    let mut buffer = plane.worker.buffers.lend();
    let mut head = ResponseHead::default();
    timer
        .limit(final_head(socket, &mut buffer, &mut head))
        .await
        .ok()??;
    let took = clock::now().duration_since(sent);
    let bytes = buffer.filled().get(..head.len)?.to_vec();
    let mut framing = Framing::of_response(&head, buffer.filled(), call.method).ok()?;
    buffer.take(head.len);
    let mut body = Vec::new();
    // What an attempt before has seen does not count.
    if let Some(digest) = &mut call.digest {
        **digest = Digest::default();
    }
    let reading = read_body(socket, &mut buffer, &mut framing, &mut body, call);
    let is_whole = timer.limit(reading).await.ok()??;
    if is_whole && framing.reuse() == Reuse::Keep && buffer.is_empty() {
        upstream.put_back(plane, pool, server);
    } else {
        upstream.end();
    }
    Some(Reply {
        head,
        bytes,
        body,
        is_whole,
        took,
    })
}

/// Reads heads until one that is final.
async fn final_head(socket: &Socket, buffer: &mut Buffer, head: &mut ResponseHead) -> Option<()> {
    let mut attempts = Attempts::default();
    loop {
        if !buffer.is_empty() && attempts.worthwhile(buffer.filled()) {
            match parse::response(buffer.filled(), head).ok()? {
                Parsed::Complete if head.status == 101 => return None,
                Parsed::Complete if head.status >= 200 => return Some(()),
                Parsed::Complete => {
                    buffer.take(head.len);
                    buffer.compact();
                    attempts = Attempts::default();
                    continue;
                }
                Parsed::Partial => {}
            }
        }
        read(socket, buffer).await.filter(|read| *read > 0)?;
    }
}

/// Reads a body; tells whether it came to its end.
async fn read_body(
    socket: &Socket,
    buffer: &mut Buffer,
    framing: &mut Framing,
    body: &mut Vec<u8>,
    call: &mut Call<'_>,
) -> Option<bool> {
    loop {
        let decoded = framing.decode(buffer.filled_mut()).ok()?;
        let data = buffer.filled().get(..decoded.data)?;
        if let Some(digest) = &mut call.digest {
            digest.body(data);
        }
        let room = call.body_max.saturating_sub(body.len());
        let kept = data.get(..room.min(data.len()))?;
        body.extend_from_slice(kept);
        if kept.len() < data.len() && call.digest.is_none() {
            return Some(false);
        }
        buffer.take(decoded.consumed);
        buffer.compact();
        if framing.is_complete() {
            return Some(true);
        }
        if read(socket, buffer).await? == 0 {
            framing.end_of_input().ok()?;
            return Some(true);
        }
    }
}

async fn read(socket: &Socket, buffer: &mut Buffer) -> Option<usize> {
    poll_fn(|context| stream::poll_read(socket, context, buffer))
        .await
        .ok()
}
