//! Asking a server whether a request may come in.

use plimsoll_http::field::{self, Name};
use plimsoll_http::framing::Length;
use plimsoll_http::h1::encode::{self, Forward};
use plimsoll_http::method::Method;
use plimsoll_http::reason::Reason;

use crate::http::exchange::Exchange;
use crate::http::respond::{Answer, Said};
use crate::http::subrequest::{self, Call, Reply};
use crate::http::trust;
use crate::steps::ForwardAuth;

/// The longest body of a refusal that is passed on.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Asks; when the answer is a refusal, it stands in the scratch memory.
pub(crate) async fn ask(
    exchange: &mut Exchange<'_>,
    auth: &ForwardAuth,
) -> Result<(), Answer<'static>> {
    // Whatever goes wrong, nobody comes in.
    let closed = |detail| Answer {
        status: 503,
        retry_after: Some(1),
        ..Answer::to(Reason::DestinationUnavailable, detail)
    };
    if trust::comes_round(exchange) {
        return Err(Answer::to(Reason::ProxyLoopDetected, ""));
    }
    let plane = exchange.plane;
    let pool = plane.generation.pools.get(auth.pool);
    let pool = pool.ok_or_else(|| closed("nobody to ask"))?;
    let message = message(exchange, auth);
    let call = Call {
        method: Method::Get,
        message: &message,
        body_max: BODY_BYTES_MAX,
        digest: None,
    };
    let Some(reply) = subrequest::ask(plane, pool, call).await else {
        return Err(closed("no answer on whether the request may come in"));
    };
    match reply.head.status {
        200..=299 => {
            take_over(exchange, auth, &reply);
            Ok(())
        }
        // Nothing else is said of this request: a missing page is a question that was put wrongly.
        301..=303 | 307 | 308 | 401 | 403 if reply.is_whole => Err(pass_on(exchange, reply)),
        _ => Err(closed("no good answer on whether the request may come in")),
    }
}

/// The message that asks: the client's own fields, and what it asks for.
fn message(exchange: &Exchange<'_>, auth: &ForwardAuth) -> Vec<u8> {
    let seen = exchange.seen();
    let (path, query) = match auth.path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (&*auth.path, None),
    };
    let mut added = Vec::new();
    added.extend_from_slice(b"X-Forwarded-Method: ");
    added.extend_from_slice(seen.head.method_span.of(seen.bytes));
    added.extend_from_slice(b"\r\nX-Forwarded-Uri: ");
    added.extend_from_slice(seen.path());
    if let Some(query) = seen.query() {
        added.push(b'?');
        added.extend_from_slice(query);
    }
    added.extend_from_slice(b"\r\n");
    let forward = Forward {
        is_whole: false,
        is_plain: false,
        method: b"GET",
        path: path.as_bytes(),
        query: query.map(str::as_bytes),
        host: if seen.authority.is_empty() {
            b"localhost"
        } else {
            seen.authority
        },
        told: trust::told(exchange),
        certificate: trust::certificate(exchange),
        request_id: exchange.facts.id.as_bytes(),
        length: Length::Empty,
        max_forwards: None,
        is_body_here: true,
        upgrade: None,
        hide: None,
        edits: Some(&auth.hidden),
        added: &added,
    };
    let mut out = Vec::new();
    encode::request(seen.head, seen.bytes, &forward, &mut out);
    out
}

/// Notes the fields of the answer that become fields of the request.
fn take_over(exchange: &mut Exchange<'_>, auth: &ForwardAuth, reply: &Reply) {
    let out = &mut exchange.scratch.copied;
    for name in &auth.copy {
        for line in reply.head.fields.all_by_text(&reply.bytes, name.as_bytes()) {
            field::write_line(name.as_bytes(), line.value.of(&reply.bytes), out);
        }
    }
}

/// The refusal, as the server said it.
fn pass_on(exchange: &mut Exchange<'_>, reply: Reply) -> Answer<'static> {
    let fields = &mut exchange.scratch.fields;
    for line in reply.head.fields.iter() {
        let name = line.name_span.of(&reply.bytes);
        let is_ours = line.name.is_hop_by_hop()
            || matches!(line.name, Name::ContentLength | Name::Date | Name::Server)
            || field::is_internal(name);
        if !is_ours {
            field::write_line(name, line.value.of(&reply.bytes), fields);
        }
    }
    exchange.scratch.text = reply.body;
    Answer {
        status: reply.head.status,
        said: Said::Relayed,
        ..Answer::to(
            Reason::HttpRequestDenied,
            "refused by the server that was asked",
        )
    }
}
