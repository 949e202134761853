//! Reading the body of a request before anything is done with it: to find its route, or so that a
//! slow client keeps no server busy. It waits in memory, and what is more on disk.

use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::Buffer;
use plimsoll_http::reason::Reason;
use plimsoll_net::stream::Then;
use plimsoll_net::{clock, stream};

use crate::condition::Body;
use crate::http::exchange::Exchange;
use crate::http::failure::Failure;
use crate::http::flow::{Fault, Flow, RATE_GRACE, Writer, ended};
use crate::http::upload::client_failure;
use crate::spool::{Spool, SpoolFile};

/// So much goes to the disk at once.
const PIECE_BYTES: usize = 64 * 1024;

/// What of a body has been read before its turn.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The first of it.
    bytes: Vec<u8>,
    /// What comes after that.
    spilled: Option<Spilled>,
}

/// A part of a body for which there is no memory.
#[derive(Debug)]
struct Spilled {
    file: SpoolFile,
    /// What comes after the file.
    tail: Vec<u8>,
    /// Whether the file takes no more.
    is_full: bool,
}

impl Held {
    fn len(&self) -> u64 {
        let spilled = self.spilled.as_ref();
        let spilled = spilled.map_or(0, |spilled| spilled.file.len() + spilled.tail.len() as u64);
        self.bytes.len() as u64 + spilled
    }

    /// Tells whether a part of it is on disk.
    pub(crate) fn is_spilled(&self) -> bool {
        self.spilled.is_some()
    }

    /// Tells whether more of the body is to wait.
    fn has_room(&self, room: Buffer) -> bool {
        match &self.spilled {
            Some(spilled) => !spilled.is_full,
            None => room.disk > 0 || self.bytes.len() <= room.memory as usize,
        }
    }

    async fn take(&mut self, data: &[u8], room: Buffer, spool: Option<&Arc<Spool>>) {
        let spilled = match (&mut self.spilled, spool) {
            (Some(spilled), _) => spilled,
            (none, Some(spool)) if room.disk > 0 && self.bytes.len() > room.memory as usize => none
                .insert(Spilled {
                    file: SpoolFile::new(spool, room.disk),
                    tail: Vec::new(),
                    is_full: false,
                }),
            _ => return self.bytes.extend_from_slice(data),
        };
        spilled.tail.extend_from_slice(data);
        if spilled.tail.len() >= PIECE_BYTES {
            let piece = std::mem::take(&mut spilled.tail);
            if let Err(tail) = Box::pin(spilled.file.append(piece)).await {
                (spilled.tail, spilled.is_full) = (tail, true);
            }
        }
    }

    /// Sends what is not in the first part, the way the rest of the body goes.
    pub(crate) async fn send_spilled(&self, flow: &Flow<'_>) -> Result<(), Fault> {
        let Some(spilled) = &self.spilled else {
            return Ok(());
        };
        let mut at = 0;
        while at < spilled.file.len() {
            let piece = spilled.file.read(at).await.map_err(|_| Fault::Spool)?;
            at += piece.len() as u64;
            flow.put(&piece, None).await?;
        }
        flow.put(&spilled.tail, ended(flow.framing)).await
    }
}

impl Exchange<'_> {
    /// What has come of the body, but for what is on disk.
    pub(crate) fn body_so_far(&self) -> &[u8] {
        if let Some(held) = &self.body {
            return &held.bytes;
        }
        let start = self.scratch.head.len;
        self.bytes()
            .get(start..start + self.first.data)
            .unwrap_or_default()
    }

    /// Tells whether a part of what has come is on disk.
    pub(crate) fn is_spilled(&self) -> bool {
        let held = self.body.as_ref();
        held.is_some_and(Held::is_spilled)
    }

    /// The body as routes see it.
    pub(crate) fn body_seen(&self) -> Body<'_> {
        match self.has_arrived() && !self.is_spilled() {
            true => Body::Whole(self.body_so_far()),
            false => Body::Part(self.body_so_far()),
        }
    }
}

/// Reads the body until it has ended, or until there is no room for more of it.
///
/// # Errors
/// The client sent no body, or none that is accepted.
pub(crate) async fn hold(exchange: &mut Exchange<'_>, room: Buffer) -> Result<(), Failure> {
    if exchange.has_arrived() {
        return Ok(());
    }
    invite(exchange).await?;
    if exchange.body.is_none() {
        let bytes = exchange.body_so_far().to_vec();
        exchange.body = Some(Held {
            bytes,
            spilled: None,
        });
    }
    let outcome = read(exchange, room).await;
    exchange.came_whole = exchange.has_arrived();
    let read = exchange.body.as_ref().map_or(0, Held::len);
    exchange.facts.request_bytes.set(read);
    outcome.map_err(|fault| client_failure(&fault))
}

/// Tells a client that waits with its body to send it.
async fn invite(exchange: &mut Exchange<'_>) -> Result<(), Failure> {
    if !std::mem::take(&mut exchange.expects_continue) || exchange.first.data > 0 {
        return Ok(());
    }
    let writer = Writer {
        sink: exchange.client,
        timer: exchange.timer,
        patience: patience(exchange),
        then: Then::Open,
    };
    let invitation = IoSlice::new(b"HTTP/1.1 100 Continue\r\n\r\n");
    let written = writer.write(&mut [invitation]).await;
    written.map_err(|_| Failure::downstream(Reason::ClientAborted, ""))
}

fn patience(exchange: &Exchange<'_>) -> Duration {
    exchange
        .facts
        .site
        .map_or(exchange.listener.header_timeout, |site| site.timeouts.body)
}

async fn read(exchange: &mut Exchange<'_>, room: Buffer) -> Result<(), Fault> {
    let spool = exchange.plane.generation.spool.as_ref();
    let limits = exchange.facts.site.map(|site| site.limits);
    let (body_max, min_rate) = limits.map_or((None, 0), |limits| (limits.body, limits.min_rate));
    let (patience, began) = (patience(exchange), clock::now());
    let (client, timer) = (exchange.client, exchange.timer);
    let (Some(framing), Some(held)) = (&mut exchange.framing, &mut exchange.body) else {
        return Ok(());
    };
    let mut buffer = exchange.plane.worker.buffers.lend();
    while !framing.is_complete() && held.has_room(room) {
        timer.set(clock::now() + patience);
        let read = poll_fn(|context| stream::poll_read(client, context, &mut buffer));
        match timer.limit(read).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0) | Err(_)) => return Err(Fault::SourceGone),
            Err(_) => return Err(Fault::SourceLate),
        }
        let decoded = framing.decode(buffer.filled_mut());
        let decoded = decoded.map_err(|_| Fault::SourceMalformed)?;
        let data = buffer.filled().get(..decoded.data).unwrap_or_default();
        held.take(data, room, spool).await;
        buffer.take(decoded.consumed);
        buffer.compact();
        if body_max.is_some_and(|most| held.len() > most) {
            return Err(Fault::TooLarge);
        }
        let age = clock::now().duration_since(began);
        let due = age.as_secs().saturating_mul(u64::from(min_rate));
        if age > RATE_GRACE && held.len() < due {
            return Err(Fault::SourceSlow);
        }
    }
    if framing.is_complete() && !buffer.is_empty() {
        exchange.behind = Some(buffer);
    }
    Ok(())
}
