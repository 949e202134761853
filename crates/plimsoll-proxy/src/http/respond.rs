//! Answers that this proxy makes itself. Like every other message they go through the framing
//! owner: a connection whose request was not read to its end is not used again.

use std::io::IoSlice;

use plimsoll_http::accept::Media;
use plimsoll_http::framing::Reuse;
use plimsoll_http::grpc;
use plimsoll_http::h1::encode;
use plimsoll_http::head::Version;
use plimsoll_http::method::Method;
use plimsoll_http::reason::Reason;
use plimsoll_net::stream::Then;

use crate::edits::Edits;
use crate::http::errors;
use crate::http::exchange::{Ending, Exchange};
use crate::http::flow::Writer;

/// An answer of our own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) reason: Reason,
    /// What to say to people; never bytes of the client's.
    pub(crate) detail: &'static str,
    /// The body.
    pub(crate) said: Said<'a>,
    /// After how many seconds to come back.
    pub(crate) retry_after: Option<u64>,
    /// The limit that the request is above.
    pub(crate) policy: Option<&'a str>,
    /// The methods that there are, for a request with another one.
    pub(crate) allow: &'static str,
}

/// The methods that servers are asked with.
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The body of an answer of our own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// The page for the status, in the form that the client likes.
    Page,
    /// A plain text.
    Text(&'a [u8]),
    /// What another server said: its text and its fields stand in the scratch memory.
    Relayed,
}

impl<'a> Answer<'a> {
    /// A plain text.
    pub(crate) fn with(text: &'a [u8]) -> Self {
        Self {
            status: 200,
            said: Said::Text(text),
            ..Answer::to(Reason::ProxyInternalResponse, "")
        }
    }
}

impl Answer<'static> {
    /// The answer that a reason calls for.
    pub(crate) fn to(reason: Reason, detail: &'static str) -> Self {
        Self {
            status: reason.status(),
            reason,
            detail,
            said: Said::Page,
            retry_after: (reason.status() == 503).then_some(1),
            policy: None,
            allow: METHODS,
        }
    }
}

/// Sends `answer` and tells how the connection goes on.
pub(crate) async fn respond(exchange: &mut Exchange<'_>, answer: Answer<'_>) -> Ending {
    exchange.facts.blame(answer.reason, answer.detail);
    exchange.facts.status = answer.status;
    // A request that breaks a rule ends its connection, however much of it has come by now.
    let is_refusal = answer.reason == Reason::HttpRequestError;
    let reuse = match is_refusal {
        true => Reuse::Close,
        false => exchange.reuse(),
    };
    write_head_and_body(exchange, &answer, reuse);
    let writer = exchange.writer(last(reuse));
    match writer
        .write(&mut [IoSlice::new(&exchange.scratch.response_out)])
        .await
    {
        Err(_) => Ending::Close,
        Ok(()) if is_refusal => Ending::Linger,
        Ok(()) => exchange.ending(reuse),
    }
}

/// What follows the last write of an answer.
pub(crate) fn last(reuse: Reuse) -> Then {
    match reuse {
        Reuse::Keep => Then::Open,
        Reuse::Close => Then::End,
    }
}

fn write_head_and_body(exchange: &mut Exchange<'_>, answer: &Answer<'_>, reuse: Reuse) {
    let has_head = exchange.facts.has_head;
    if answer.said == Said::Page
        && has_head
        && grpc::call(&exchange.scratch.head, exchange.bytes()).is_some()
    {
        return write_grpc(exchange, answer, reuse);
    }
    let (head, bytes) = (&exchange.scratch.head, exchange.inbound.filled());
    let media = match answer.said {
        Said::Page if has_head => Media::wanted(head, bytes),
        _ => Media::Plain,
    };
    let own = exchange.facts.own_page(answer.status);
    let own = own.filter(|_| answer.said == Said::Page);
    let is_hiding = exchange.facts.site.is_some_and(|site| site.hide.server);
    // The page is written behind the place of its head, and its length is known then.
    let page = &mut exchange.scratch.request_out;
    page.clear();
    match answer.said {
        Said::Text(text) => page.extend_from_slice(text),
        Said::Relayed => page.extend_from_slice(&exchange.scratch.text),
        Said::Page if let Some(own) = own => {
            let id = exchange.facts.id.as_bytes();
            own.page.load().write(answer.status, id, page);
        }
        Said::Page => errors::page(
            media,
            answer.status,
            if is_hiding { "" } else { answer.detail },
            exchange.facts.id.as_bytes(),
            page,
        ),
    }
    let fields = begin(exchange, answer.status);
    let (out, page) = (
        &mut exchange.scratch.response_out,
        &exchange.scratch.request_out,
    );
    if !matches!(answer.status, 204 | 304) {
        if !matches!(answer.said, Said::Relayed) {
            out.extend_from_slice(b"\r\nContent-Type: ");
            let media = own.map_or_else(|| media.content_type(), |own| own.media);
            out.extend_from_slice(media.as_bytes());
        }
        out.extend_from_slice(b"\r\nContent-Length: ");
        encode::decimal(page.len() as u64, out);
    }
    explain(exchange, answer, reuse);
    exchange.edit_answer(fields);
    let out = &mut exchange.scratch.response_out;
    let page = &exchange.scratch.request_out;
    out.extend_from_slice(b"\r\n");
    let bodiless = (has_head && exchange.scratch.head.method == Method::Head)
        || matches!(answer.status, 204 | 304);
    if !bodiless {
        out.extend_from_slice(page);
        exchange.facts.response_bytes.set(page.len() as u64);
    }
}

/// Answers a call of gRPC: with a status of its own, in an answer that HTTP calls good.
fn write_grpc(exchange: &mut Exchange<'_>, answer: &Answer<'_>, reuse: Reuse) {
    let is_hiding = exchange.facts.site.is_some_and(|site| site.hide.server);
    let fields = begin(exchange, 200);
    let out = &mut exchange.scratch.response_out;
    out.extend_from_slice(b"\r\nContent-Type: ");
    let kind = grpc::call(&exchange.scratch.head, exchange.inbound.filled());
    out.extend_from_slice(kind.unwrap_or_default());
    out.extend_from_slice(b"\r\nContent-Length: 0\r\nGrpc-Status: ");
    let status = grpc::status(answer.status, answer.reason);
    encode::decimal(u64::from(status), out);
    out.extend_from_slice(b"\r\nGrpc-Message: ");
    grpc::write_message(errors::phrase(answer.status), out);
    if !answer.detail.is_empty() && !is_hiding {
        grpc::write_message(": ", out);
        grpc::write_message(answer.detail, out);
    }
    explain(exchange, answer, reuse);
    exchange.edit_answer(fields);
    exchange.scratch.response_out.extend_from_slice(b"\r\n");
}

/// Writes how each answer of ours begins; tells where its fields do.
pub(crate) fn begin(exchange: &mut Exchange<'_>, status: u16) -> usize {
    let date = exchange.plane.http_date(exchange.facts.at);
    let out = &mut exchange.scratch.response_out;
    out.clear();
    out.extend_from_slice(b"HTTP/1.1 ");
    encode::decimal(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(errors::phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    let fields = out.len();
    out.extend_from_slice(b"Server: plimsoll\r\nDate: ");
    out.extend_from_slice(&date);
    fields
}

/// Writes why an answer is given, and how the connection goes on.
pub(crate) fn explain(exchange: &mut Exchange<'_>, answer: &Answer<'_>, reuse: Reuse) {
    let out = &mut exchange.scratch.response_out;
    advice(answer, out);
    if answer.reason != Reason::ProxyInternalResponse {
        out.extend_from_slice(b"\r\nCache-Control: no-store\r\nProxy-Status: plimsoll; error=");
        out.extend_from_slice(answer.reason.token().as_bytes());
    }
    out.extend_from_slice(b"\r\nX-Request-ID: ");
    out.extend_from_slice(exchange.facts.id.as_bytes());
    match (reuse, exchange.scratch.head.version) {
        (Reuse::Close, _) => out.extend_from_slice(b"\r\nConnection: close"),
        (Reuse::Keep, Version::Http10) => out.extend_from_slice(b"\r\nConnection: keep-alive"),
        (Reuse::Keep, Version::Http11 | Version::Http2) => {}
    }
    out.extend_from_slice(b"\r\n");
}

impl<'a> Exchange<'a> {
    /// Writes answers of our own to the client.
    pub(crate) fn writer(&self, then: Then) -> Writer<'a> {
        let of_site = self.facts.site.map(|site| site.timeouts.body);
        Writer {
            sink: self.client,
            timer: self.timer,
            patience: of_site.unwrap_or(self.listener.header_timeout),
            then,
        }
    }

    /// How the client's connection goes on after a whole answer.
    pub(crate) fn ending(&self, reuse: Reuse) -> Ending {
        match reuse {
            Reuse::Keep => Ending::Keep,
            Reuse::Close if self.has_arrived() => Ending::Close,
            Reuse::Close => Ending::Linger,
        }
    }

    /// Does to the fields of our own answer, which stand in its head from `start` on, what rules say.
    pub(crate) fn edit_answer(&mut self, start: usize) {
        let edits = self.facts.response_edits();
        let mut out = std::mem::take(&mut self.scratch.response_out);
        if let Some(fields) = edits.and_then(Edits::fields) {
            fields.change_lines(start, &mut out);
        }
        out.extend_from_slice(&self.scratch.fields);
        if let Some(edits) = edits {
            edits.write(&self.values(), &mut out);
        }
        self.scratch.response_out = out;
    }
}

/// What the client may do better, and when.
fn advice(answer: &Answer<'_>, out: &mut Vec<u8>) {
    if answer.status == 405 {
        out.extend_from_slice(b"\r\nAllow: ");
        out.extend_from_slice(answer.allow.as_bytes());
    }
    if let Some(seconds) = answer.retry_after {
        out.extend_from_slice(b"\r\nRetry-After: ");
        encode::decimal(seconds, out);
        if let Some(policy) = answer.policy {
            // As the HTTP API group drafts them (draft-ietf-httpapi-ratelimit-headers).
            out.extend_from_slice(b"\r\nRateLimit-Policy: ");
            out.extend_from_slice(policy.as_bytes());
            out.extend_from_slice(b"\r\nRateLimit: \"limit\";r=0;t=");
            encode::decimal(seconds, out);
        }
    }
}
