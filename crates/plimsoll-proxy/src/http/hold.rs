//! Reading the body of a request before anything is done with it: to find its route, or so that a
//! slow client keeps no server busy.

use std::future::poll_fn;
use std::io::IoSlice;
use std::time::Duration;

use plimsoll_http::reason::Reason;
use plimsoll_net::stream::Then;
use plimsoll_net::{clock, stream};

use crate::condition::Body;
use crate::http::attempt::Failure;
use crate::http::exchange::Exchange;
use crate::http::flow::{Fault, RATE_GRACE, Writer};
use crate::http::upload::client_failure;

/// What of a body has been read before its turn.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
}

impl Exchange<'_> {
    /// What has come of the body.
    pub(crate) fn body_so_far(&self) -> &[u8] {
        if let Some(held) = &self.body {
            return &held.bytes;
        }
        let start = self.scratch.head.len;
        self.bytes()
            .get(start..start + self.first.data)
            .unwrap_or_default()
    }

    /// The body as routes see it.
    pub(crate) fn body_seen(&self) -> Body<'_> {
        match self.has_arrived() {
            true => Body::Whole(self.body_so_far()),
            false => Body::Part(self.body_so_far()),
        }
    }
}

/// Reads the body until it has ended, or until more than `most` bytes of it are here.
///
/// # Errors
/// The client sent no body, or none that is accepted.
pub(crate) async fn hold(exchange: &mut Exchange<'_>, most: usize) -> Result<(), Failure> {
    if exchange.has_arrived() {
        return Ok(());
    }
    invite(exchange).await?;
    if exchange.body.is_none() {
        let bytes = exchange.body_so_far().to_vec();
        exchange.body = Some(Held { bytes });
    }
    let outcome = read(exchange, most).await;
    exchange.came_whole = exchange.has_arrived();
    let read = exchange.body_so_far().len() as u64;
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

async fn read(exchange: &mut Exchange<'_>, most: usize) -> Result<(), Fault> {
    let limits = exchange.facts.site.map(|site| site.limits);
    let (body_max, min_rate) = limits.map_or((None, 0), |limits| (limits.body, limits.min_rate));
    let (patience, began) = (patience(exchange), clock::now());
    let (client, timer) = (exchange.client, exchange.timer);
    let (Some(framing), Some(held)) = (&mut exchange.framing, &mut exchange.body) else {
        return Ok(());
    };
    let mut buffer = exchange.plane.worker.buffers.lend();
    while !framing.is_complete() && held.bytes.len() <= most {
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
        held.bytes.extend_from_slice(data);
        buffer.take(decoded.consumed);
        buffer.compact();
        if body_max.is_some_and(|most| held.bytes.len() as u64 > most) {
            return Err(Fault::TooLarge);
        }
        let age = clock::now().duration_since(began);
        let due = age.as_secs().saturating_mul(u64::from(min_rate));
        if age > RATE_GRACE && (held.bytes.len() as u64) < due {
            return Err(Fault::SourceSlow);
        }
    }
    if framing.is_complete() && !buffer.is_empty() {
        exchange.behind = Some(buffer);
    }
    Ok(())
}
