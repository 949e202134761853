//! One request and its answer on one HTTP/1 connection to a server.
//!
//! The request's body may still be on its way up while the answer comes down: a server may answer
//! early, and a client may send and receive at once.

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Instant;

use plimsoll_config::model::Way;
use plimsoll_http::cookie::Hide;
use plimsoll_http::framing::{Framing, Length, Reuse};
use plimsoll_http::h1::encode::{self, Forward};
use plimsoll_http::reason::Reason;
use plimsoll_http::request;
use plimsoll_net::stream::Then;

use crate::edits::Edits;
use crate::generation::Server;
use crate::http::acquire::Upstream;
use crate::http::answer::{Answer, Keep};
use crate::http::attempt::Terms;
use crate::http::exchange::{Ending, Exchange};
use crate::http::failure::{Failure, Sent};
use crate::http::flow::{Coding, Copies, Fault, Flow, Sink, Writer, ended};
use crate::http::pace::Toll;
use crate::http::store::Filling;
use crate::http::trust;
use crate::http::upload::{Progress, Upload, send_rest};
use crate::seen::Seen;

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
    let (plane, client, timer) = (exchange.plane, exchange.client, exchange.timer);
    let scratch = &mut *exchange.scratch;
    let unread = || Failure::downstream(Reason::ProxyInternalError, "");
    let request = exchange.framing.as_mut().ok_or_else(unread)?;
    let head = (&scratch.head, &scratch.target, exchange.authority);
    let (site, paces) = (exchange.facts.site, &*exchange.paces);
    let toll = |way| Toll { plane, paces, way };
    let patience = site.map_or(terms.response_timeout, |site| site.timeouts.body);
    let uploaded = exchange.facts.request_bytes;
    let (persists, has_more) = (request.peer_allows() == Reuse::Keep, !request.is_complete());
    let held = exchange.body.as_ref().filter(|held| held.is_spilled());
    let mut rest = (has_more || held.is_some()).then(|| plane.worker.buffers.lend());
    let progress = &Cell::new(Progress::at_first(rest.is_some()));
    let outcome = {
        let flow = rest.as_mut().map(|buffer| Flow {
            source: client,
            sink: Sink::Socket(&upstream.socket),
            coding: Coding::of(request.length(), exchange.facts.request_edits()),
            framing: request,
            buffer,
            timer,
            patience,
            moved: uploaded,
            limit: site.and_then(|site| site.limits.body),
            min_rate: site.map_or(0, |site| site.limits.min_rate),
            pipes: &plane.worker.pipes,
            toll: toll(Way::Up),
            copies: Copies::default(),
            coder: None,
        });
        let mut flow = pin!(flow.map(|flow| send_rest(held, flow)));
        let as_dyn = |flow| flow as Pin<&mut dyn Future<Output = _>>;
        let flow = flow.as_mut().as_pin_mut().map(as_dyn);
        let answer = Answer {
            door: exchange.door,
            plane,
            client,
            server: &upstream.socket,
            timer,
            response: &mut scratch.response,
            out: &mut scratch.response_out,
            digest: exchange.pair.as_ref().map(|pair| &pair.ours),
            cached: &mut exchange.cached,
            added: &mut scratch.added,
            fields: &scratch.fields,
            redirects: &mut exchange.redirects,
            delivery: &mut exchange.delivery,
            seen: Seen::new(head, exchange.inbound.filled(), &exchange.origin)
                .shown(exchange.certificate, exchange.fingerprint),
            facts: &mut exchange.facts,
            patience,
            terms,
            persists,
            sent,
            upgrade: exchange.upgrade,
            uploaded,
            toll: toll(Way::Down),
        };
        answer.pass_on(&mut Upload { flow, progress }).await
    };
    if has_more {
        exchange.behind = rest;
    }
    outcome.map(|(ending, keep)| match progress.get() {
        Progress::Sent => (ending, keep),
        _ => (end(request, ending), Keep::No),
    })
}

/// Where the request was not read to its end, the client was told that this is the last answer; what
/// it still sends is not looked at.
fn end(request: &Framing, ending: Ending) -> Ending {
    match ending {
        _ if request.is_complete() => ending,
        Ending::Keep | Ending::Close => Ending::Linger,
        cut => cut,
    }
}

/// Writes the head on `upstream`, and what came of the body with it.
pub(crate) async fn send(
    exchange: &mut Exchange<'_>,
    server: &Server,
    upstream: &Upstream,
    terms: &Terms<'_>,
) -> Result<(), Failure> {
    let length = exchange
        .framing
        .as_ref()
        .map_or(Length::Empty, Framing::length);
    let hide = terms.bond.and_then(|bond| bond.sticky.hide());
    encode_head(exchange, server.name.as_bytes(), hide, length);
    let mut out = std::mem::take(&mut exchange.scratch.request_out);
    let Some(framing) = &exchange.framing else {
        return Err(Failure::downstream(Reason::ProxyInternalError, ""));
    };
    let data = exchange.body_so_far();
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
    let coding = Coding::of(framing.length(), exchange.facts.request_edits());
    let end = ended(framing).filter(|_| !exchange.is_spilled());
    let written = writer.write_message(&mut out, data, end, coding).await;
    exchange.scratch.request_out = out;
    written.map_err(|fault| match fault {
        Fault::SinkLate => Failure::upstream(Reason::ConnectionWriteTimeout, "", Sent::Unanswered),
        Fault::SinkGone { written: 0 } => {
            Failure::upstream(Reason::ConnectionTerminated, "", Sent::Nothing)
        }
        _ => Failure::upstream(Reason::ConnectionTerminated, "", Sent::Unanswered),
    })
}

/// Writes the head of the request as the server receives it.
pub(crate) fn encode_head(
    exchange: &mut Exchange<'_>,
    server: &[u8],
    hide: Option<Hide<'_>>,
    length: Length,
) {
    let mut out = std::mem::take(&mut exchange.scratch.request_out);
    let mut added = std::mem::take(&mut exchange.scratch.added);
    let mut text = std::mem::take(&mut exchange.scratch.text);
    let edits = exchange.facts.route.map(|route| &route.request);
    added.clear();
    text.clear();
    if let Some(edits) = edits {
        edits.write(&exchange.values(), &mut added);
        added.extend_from_slice(&exchange.scratch.copied);
        edits.write_host(&exchange.values(), &mut text);
    }
    let filling = exchange.cached.filling.as_ref();
    if let Some(filling) = filling {
        filling.write_conditions(&mut added);
    }
    let is_whole = filling.is_some_and(Filling::wants_whole);
    let is_plain = filling.is_some_and(Filling::wants_plain);
    let bytes = exchange.inbound.filled();
    let scratch = &*exchange.scratch;
    let asked_host = exchange.authority.of(bytes);
    // Only HTTP/1.0 comes without a host, and HTTP/1.1 must not go without one.
    let host = [&*text, asked_host]
        .into_iter()
        .find(|host| !host.is_empty());
    let (path, query) = match exchange.is_rewritten {
        true => (scratch.rewritten.path(), scratch.rewritten.query()),
        false => {
            let query = scratch.target.query.map(|query| query.of(bytes));
            (scratch.target.path(bytes), query)
        }
    };
    let forward = Forward {
        is_whole,
        is_plain,
        method: scratch.head.method_span.of(bytes),
        path,
        query,
        host: host.unwrap_or(server),
        told: trust::told(exchange),
        certificate: trust::certificate(exchange),
        request_id: exchange.facts.id.as_bytes(),
        length,
        max_forwards: request::max_forwards(&scratch.head, bytes)
            .map(|hops| hops.saturating_sub(1)),
        is_body_here: exchange.body.is_some(),
        upgrade: exchange.upgrade.map(|upgrade| upgrade.protocol(bytes)),
        hide,
        edits: edits.and_then(Edits::fields),
        added: &added,
    };
    out.clear();
    let aliases = encode::request(&scratch.head, bytes, &forward, &mut out);
    let scratch = &mut *exchange.scratch;
    (scratch.added, scratch.text, scratch.request_out) = (added, text, out);
    exchange.facts.aliases_dropped = aliases;
}
