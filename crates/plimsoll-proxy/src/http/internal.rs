//! Internal redirects: a server answers that another route of the site is to answer.

use plimsoll_http::chunked::Decoded;
use plimsoll_http::field::{Name, write_line};
use plimsoll_http::framing::Framing;
use plimsoll_http::h1::parse::{self, HeadLimits, Parsed};
use plimsoll_http::head::{RequestHead, ResponseHead, Span, Version};
use plimsoll_http::method::Method;
use plimsoll_http::reason::Reason;
use plimsoll_http::request;
use plimsoll_http::target::Target;
use plimsoll_net::buffer::Buffer;

use crate::http::exchange::{Ending, Exchange};
use crate::http::hold::Held;
use crate::http::respond::Answer;

/// How often one request may be sent on.
const REDIRECTS_MAX: u32 = 10;

/// The field that says where to.
const FIELD: &[u8] = b"x-accel-redirect";

/// Fields that speak of what is sent, not of who sends it.
const CARRIED: [&[u8]; 6] = [
    b"cache-control",
    b"content-disposition",
    b"content-language",
    b"content-type",
    b"expires",
    b"set-cookie",
];

/// Where an answer sends its request.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// Path and query.
    target: Vec<u8>,
    /// Lines that go with the answer that comes from there.
    fields: Vec<u8>,
}

impl Elsewhere {
    /// Reads it from an answer; nothing when the answer is one to pass on.
    pub(crate) fn of(response: &ResponseHead, bytes: &[u8]) -> Option<Self> {
        let target = response.fields.by_text(bytes, FIELD)?;
        let mut fields = Vec::new();
        for line in response.fields.iter() {
            let (name, value) = (line.name_span.of(bytes), line.value.of(bytes));
            if CARRIED.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                write_line(name, value, &mut fields);
            }
        }
        Some(Self {
            target: target.value.of(bytes).to_vec(),
            fields,
        })
    }
}

/// Where servers sent a request.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    /// What the client asked for.
    asked: Option<Box<Asked>>,
    /// What the last answer said.
    pub(crate) next: Option<Elsewhere>,
    /// Lines that go with the answer that is passed on, in place of its own.
    pub(crate) carried: Vec<u8>,
}

/// What the client asked for, while something else is asked for in its place.
#[derive(Debug)]
pub(crate) struct Asked {
    head: RequestHead,
    target: Target,
    authority: Span,
    inbound: Buffer,
    framing: Option<Framing>,
    first: Decoded,
    body: Option<Held>,
    redirects: u32,
}

/// Makes the request one for what a server's answer named.
pub(crate) fn enter(
    exchange: &mut Exchange<'_>,
    elsewhere: Elsewhere,
) -> Result<(), Answer<'static>> {
    let bad = |detail| Answer {
        status: 502,
        ..Answer::to(Reason::HttpProtocolError, detail)
    };
    let mut buffer = exchange.plane.worker.buffers.lend();
    let text = head(exchange, &elsewhere.target);
    let room = buffer.room().get_mut(..text.len());
    room.ok_or_else(|| bad("the head of the redirected request is too long"))?
        .copy_from_slice(&text);
    buffer.add(text.len());
    let (mut head, mut target) = (RequestHead::default(), Target::default());
    let malformed = "the server named no path to go on with";
    let parsed = parse::request(buffer.filled(), &HeadLimits::default(), &mut head);
    if parsed != Ok(Parsed::Complete) || !elsewhere.target.starts_with(b"/") {
        return Err(bad(malformed));
    }
    let sound = request::check(&head, buffer.filled(), &mut target);
    let sound = sound.map_err(|_| bad(malformed))?;
    head.version = exchange.scratch.head.version;
    let asked = Asked {
        head: std::mem::replace(&mut exchange.scratch.head, head),
        target: std::mem::replace(&mut exchange.scratch.target, target),
        authority: std::mem::replace(&mut exchange.authority, sound.authority),
        inbound: std::mem::replace(exchange.inbound, buffer),
        framing: exchange.framing.replace(sound.framing),
        first: std::mem::take(&mut exchange.first),
        body: exchange.body.take(),
        redirects: 1,
    };
    match &mut exchange.redirects.asked {
        Some(first) if first.redirects == REDIRECTS_MAX => {
            let detail = "servers send the request on and on";
            return Err(Answer::to(Reason::ProxyLoopDetected, detail));
        }
        Some(first) => first.redirects += 1,
        None => exchange.redirects.asked = Some(Box::new(asked)),
    }
    exchange.origin.is_inside = true;
    exchange.is_rewritten = false;
    exchange.came_whole = true;
    exchange.expects_continue = false;
    exchange.upgrade = None;
    exchange.mirrors.clear();
    exchange.redirects.carried = elsewhere.fields;
    Ok(())
}

/// The head of a request for `target` that says everything else as the client did.
fn head(exchange: &Exchange<'_>, target: &[u8]) -> Vec<u8> {
    let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
    let mut text = Vec::with_capacity(head.len + target.len());
    text.extend_from_slice(match head.method {
        Method::Head => b"HEAD ",
        _ => b"GET ",
    });
    text.extend_from_slice(target);
    text.extend_from_slice(b" ");
    text.extend_from_slice(match head.version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 | Version::Http2 => b"HTTP/1.1",
    });
    text.extend_from_slice(b"\r\n");
    for line in head.fields.iter() {
        let (name, value) = (line.name_span.of(bytes), line.value.of(bytes));
        let speaks_of_body = match line.name {
            Name::ContentLength | Name::TransferEncoding | Name::Trailer | Name::Expect => true,
            _ => name
                .get(..8)
                .is_some_and(|start| start.eq_ignore_ascii_case(b"content-")),
        };
        if !speaks_of_body {
            write_line(name, value, &mut text);
        }
    }
    if !exchange.has_arrived() {
        // What is left of the body belongs to nobody now.
        write_line(b"Connection", b"close", &mut text);
    }
    text.extend_from_slice(b"\r\n");
    text
}

/// Makes the request the client's own again, to be logged and left behind.
pub(crate) fn leave(exchange: &mut Exchange<'_>, ending: Ending) -> Ending {
    let Some(asked) = exchange.redirects.asked.take() else {
        return ending;
    };
    exchange.scratch.head = asked.head;
    exchange.scratch.target = asked.target;
    exchange.authority = asked.authority;
    *exchange.inbound = asked.inbound;
    exchange.framing = asked.framing;
    exchange.first = asked.first;
    exchange.body = asked.body;
    match ending {
        Ending::Keep | Ending::Close if !exchange.has_arrived() => Ending::Linger,
        ending => ending,
    }
}
