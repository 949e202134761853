//! One request and its answer on one HTTP/1 connection to a server.
//!
//! The request's body may still be on its way up while the answer comes down: a server may answer
//! early, and a client may send and receive at once.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Instant;

use plimsoll_config::model::Way;
use plimsoll_http::framing::Reuse;
use plimsoll_http::h1::encode::{self, Forward};
use plimsoll_http::reason::Reason;
use plimsoll_http::request;
use plimsoll_net::stream::Then;

use crate::generation::Server;
use crate::http::acquire::Upstream;
use crate::http::answer::{Answer, Keep};
use crate::http::attempt::{Failure, Sent, Terms};
use crate::http::exchange::{Ending, Exchange};
use crate::http::flow::{Coding, Fault, Flow, Writer};
use crate::http::pace::Toll;
use crate::http::upload::{Progress, Upload};

/// Passes the answer on that comes on `upstream` to what was sent there at `sent`, and what is
/// left of the request.
///
/// # Errors
/// Nothing of the final answer was passed on: the caller may try again, or answer itself.
pub(crate) async fn receive(
    exchange: &mut Exchange<'_>,
    upstream: &Upstream,
    terms: &Terms<'_>,
    sent: Instant,
) -> Result<(Ending, Keep), Failure> {
    let Exchange {
        plane,
        client,
        timer,
        scratch,
        behind,
        framing,
        first,
        facts,
        paces,
        ..
    } = exchange;
    let Some(request) = framing.as_mut() else {
        return Err(Failure::downstream(Reason::ProxyInternalError, ""));
    };
    let (site, toll) = (facts.site, |way| Toll { plane, paces, way });
    let patience = site.map_or(terms.response_timeout, |site| site.timeouts.body);
    let uploaded = Cell::new(first.data as u64);
    let persists = request.peer_allows() == Reuse::Keep;
    let mut rest = (!request.is_complete()).then(|| plane.worker.buffers.lend());
    let progress = Cell::new(Progress::at_first(rest.is_some()));
    let outcome = {
        let flow = rest.as_mut().map(|buffer| Flow {
            source: client,
            sink: &upstream.socket,
            coding: Coding::of(request.length()),
            framing: request,
            buffer,
            timer,
            patience,
            moved: &uploaded,
            limit: site.and_then(|site| site.limits.body),
            min_rate: site.map_or(0, |site| site.limits.min_rate),
            pipes: &plane.worker.pipes,
            toll: toll(Way::Up),
        });
        let mut flow = pin!(flow.map(Flow::run));
        let flow = flow.as_mut().as_pin_mut();
        let flow = flow.map(|flow| flow as Pin<&mut dyn Future<Output = _>>);
        let answer = Answer {
            plane,
            client,
            server: &upstream.socket,
            timer,
            head: &scratch.head,
            response: &mut scratch.response,
            out: &mut scratch.response_out,
            facts,
            patience,
            terms,
            persists,
            sent,
            toll: toll(Way::Down),
        };
        let progress = &progress;
        answer.pass_on(&mut Upload { flow, progress }).await
    };
    facts.request_bytes.set(uploaded.get());
    let (ending, keep) = outcome?;
    *behind = rest;
    if request.is_complete() {
        return Ok((ending, keep));
    }
    // The client was told that this is the last answer; what it still sends is not looked at.
    let ending = match ending {
        Ending::Keep | Ending::Close => Ending::Linger,
        cut => cut,
    };
    Ok((ending, Keep::No))
}

/// Writes the head on `upstream`, and what came of the body with it.
pub(crate) async fn send(
    exchange: &mut Exchange<'_>,
    server: &Server,
    upstream: &Upstream,
    terms: &Terms<'_>,
) -> Result<(), Failure> {
    let bytes = exchange.inbound.filled();
    let scratch = &mut *exchange.scratch;
    let Some(framing) = &exchange.framing else {
        return Err(Failure::downstream(Reason::ProxyInternalError, ""));
    };
    let host = exchange.authority.of(bytes);
    let forward = Forward {
        // Only HTTP/1.0 comes without a host, and HTTP/1.1 must not go without one.
        host: if host.is_empty() {
            server.name.as_bytes()
        } else {
            host
        },
        client: &exchange.peer_text,
        scheme: "http",
        request_id: &exchange.facts.id,
        length: framing.length(),
        max_forwards: request::max_forwards(&scratch.head, bytes)
            .map(|hops| hops.saturating_sub(1)),
        hide: terms.bond.and_then(|bond| bond.sticky.hide()),
    };
    let out = &mut scratch.request_out;
    out.clear();
    let aliases = encode::request(&scratch.head, bytes, &scratch.target, &forward, out);
    exchange.facts.aliases_dropped = aliases;
    let data = bytes
        .get(scratch.head.len..scratch.head.len + exchange.first.data)
        .unwrap_or_default();
    let toll = Toll {
        plane: exchange.plane,
        paces: &exchange.paces,
        way: Way::Up,
    };
    toll.pay(data.len()).await;
    let writer = Writer {
        sink: &upstream.socket,
        timer: exchange.timer,
        patience: terms.response_timeout,
        then: Then::Open,
    };
    let written = writer
        .write_message(out, data, framing, Coding::of(framing.length()))
        .await;
    written.map_err(|fault| match fault {
        Fault::SinkLate => Failure::upstream(Reason::ConnectionWriteTimeout, "", Sent::Unanswered),
        Fault::SinkGone { written: 0 } => {
            Failure::upstream(Reason::ConnectionTerminated, "", Sent::Nothing)
        }
        _ => Failure::upstream(Reason::ConnectionTerminated, "", Sent::Unanswered),
    })
}
