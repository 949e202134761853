//! Answering with what is stored: whole, in part, or with the word that the client has it already.

use std::cell::Cell;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plimsoll_cache::body::{Body, Piece};
use plimsoll_cache::object::Object;
use plimsoll_config::model::Way;
use plimsoll_http::caching::Told;
use plimsoll_http::conditional::{self, Validators, Verdict};
use plimsoll_http::framing::{Length, Reuse};
use plimsoll_http::h1::encode;
use plimsoll_http::method::Method;
use plimsoll_http::range::{self, Asked};
use plimsoll_net::clock;
use plimsoll_net::stream::Then;
use plimsoll_observe::metrics::CacheResult;

use crate::http::answer;
use crate::http::coded;
use crate::http::compress::Change;
use crate::http::dress::Dress;
use crate::http::errors;
use crate::http::exchange::{Ending, Exchange};
use crate::http::flow::{Coding, Fault, Writer};
use crate::http::pace::Toll;
use crate::seen::Seen;

/// What of an object its client gets.
#[derive(Debug)]
pub(crate) struct Selected {
    /// The status in place of the object's own.
    pub(crate) status: Option<u16>,
    pub(crate) length: Length,
    /// The bytes that are sent are of this.
    pub(crate) body: Arc<Body>,
    pub(crate) sent: Sent,
}

/// Which bytes of a body are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// These.
    Part(Range<u64>),
    /// All, in chunks, as nobody knows yet how many there are.
    Chunks,
}

impl Sent {
    /// How many bytes that are, as far as is known.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Part(part) => part.end - part.start,
            Self::Chunks => u64::MAX,
        }
    }
}

impl Selected {
    /// Decides it; appends lines that belong to it. The length of the body must be known.
    pub(crate) fn of(object: &Object, seen: &Seen<'_>, now: Duration, lines: &mut Vec<u8>) -> Self {
        let length = object.body.length().unwrap_or_default();
        Self::of_length(object, length, (seen, now), lines)
    }

    /// The same, of an object whose body has this length, however much of it is here.
    pub(crate) fn of_length(
        object: &Object,
        length: u64,
        (seen, now): (&Seen<'_>, Duration),
        lines: &mut Vec<u8>,
    ) -> Self {
        lines.extend_from_slice(b"Age: ");
        encode::decimal(u64::from(object.age(now)), lines);
        lines.extend_from_slice(b"\r\n");
        let (head, bytes) = object.head();
        let whole = Self::whole(object, length);
        match head.status {
            200 => {}
            204 => {
                return Self {
                    length: Length::Empty,
                    ..whole
                };
            }
            _ => return whole,
        }
        let line = |name: &[u8]| Some(head.fields.by_text(bytes, name)?.value.of(bytes));
        let validators = Validators {
            etag: line(b"etag"),
            modified: line(b"last-modified").and_then(conditional::date),
        };
        let (asked, asked_bytes) = (&seen.head.fields, seen.bytes);
        match conditional::evaluate(asked, asked_bytes, true, validators) {
            Verdict::NotModified => return whole.bodiless(304),
            Verdict::Failed => return whole.bodiless(412),
            Verdict::Proceed => {}
        }
        let wanted = asked.by_text(asked_bytes, b"range");
        let wanted = wanted.filter(|_| {
            let counts =
                conditional::range_counts(asked, asked_bytes, validators, seen.origin.unix);
            seen.head.method == Method::Get && counts
        });
        match wanted {
            Some(wanted) => whole.part(wanted.value.of(asked_bytes), lines),
            None => whole,
        }
    }

    fn whole(object: &Object, length: u64) -> Self {
        Self {
            status: None,
            length: Length::Exactly(length),
            body: Arc::clone(&object.body),
            sent: Sent::Part(0..length),
        }
    }

    fn bodiless(self, status: u16) -> Self {
        Self {
            status: Some(status),
            length: match status {
                304 => Length::Empty,
                _ => Length::Exactly(0),
            },
            sent: Sent::Part(0..0),
            ..self
        }
    }

    /// What `Range` asks for of the whole.
    fn part(self, wanted: &[u8], lines: &mut Vec<u8>) -> Self {
        let length = self.sent.bytes();
        match range::read(wanted, length) {
            Asked::Whole => self,
            Asked::Unsatisfiable => {
                lines.extend_from_slice(b"Content-Range: bytes */");
                encode::decimal(length, lines);
                lines.extend_from_slice(b"\r\n");
                self.bodiless(416)
            }
            // Several parts are rarely asked for: who does gets the whole, as is allowed.
            Asked::Parts(parts) => match parts.only() {
                None => self,
                Some(part) => {
                    lines.extend_from_slice(b"Content-Range: ");
                    range::content_range(&part, length, lines);
                    lines.extend_from_slice(b"\r\n");
                    Self {
                        status: Some(206),
                        length: Length::Exactly(part.end - part.start),
                        sent: Sent::Part(part),
                        ..self
                    }
                }
            },
        }
    }

    /// Status and phrase in place of the object's own.
    pub(crate) fn status_line(&self) -> Option<(u16, &'static str)> {
        self.status.map(|status| (status, errors::phrase(status)))
    }
}

/// Answers a request with an object; tells how the connection goes on.
pub(crate) async fn answer(exchange: &mut Exchange<'_>, object: &Arc<Object>) -> Ending {
    let reuse = exchange.reuse();
    let now = exchange.plane.since_start(clock::now());
    let mut fields = std::mem::take(&mut exchange.scratch.fields);
    let mut selected = Selected::of(object, &exchange.seen(), now, &mut fields);
    exchange.scratch.fields = fields;
    let change = change(exchange, object, &mut selected);
    write_head(exchange, object, (&selected, change.as_ref()), reuse);
    exchange.facts.status = selected.status.unwrap_or_else(|| object.head().0.status);
    let sent = match exchange.scratch.head.method {
        Method::Head => Sent::Part(0..0),
        _ => selected.sent,
    };
    let writer = exchange.writer(Then::Open);
    let toll = Toll {
        plane: exchange.plane,
        paces: &exchange.paces,
        way: Way::Down,
    };
    let moved = exchange.facts.response_bytes;
    moved.set(0);
    let out = &mut exchange.scratch.response_out;
    match bring(out, (&selected.body, sent), (writer, toll), moved).await {
        Ok(()) => exchange.ending(reuse),
        Err(fault) => answer::cut(&mut exchange.facts, &fault),
    }
}

/// In which coding the object is sent, and what is said of that.
fn change(
    exchange: &Exchange<'_>,
    object: &Arc<Object>,
    selected: &mut Selected,
) -> Option<Change> {
    let route = exchange.facts.route?;
    let place = coded::Place {
        plane: exchange.plane,
        cache: &route.caching.as_ref()?.keeping.cache,
        key: &exchange.scratch.key,
        object,
    };
    coded::choose(Some(route), &exchange.seen(), &place, selected)
}

/// Answers with an object that is no longer fresh, as no server can.
pub(crate) async fn answer_instead(exchange: &mut Exchange<'_>, object: &Arc<Object>) -> Ending {
    let now = exchange.plane.since_start(clock::now());
    exchange.facts.told = Some(Told {
        ttl: Some(object.left(now)),
        detail: Some("stale-if-error"),
        ..Told::default()
    });
    if let Some((_, result)) = &mut exchange.facts.cache {
        *result = CacheResult::StaleError;
    }
    answer(exchange, object).await
}

/// Writes the head of an answer with an object.
pub(crate) fn write_head(
    exchange: &mut Exchange<'_>,
    object: &Object,
    (selected, change): (&Selected, Option<&Change>),
    reuse: Reuse,
) {
    let scratch = &mut *exchange.scratch;
    let head = (&scratch.head, &scratch.target, exchange.authority);
    let dress = Dress {
        plane: exchange.plane,
        seen: Seen::new(head, exchange.inbound.filled(), &exchange.origin)
            .shown(exchange.certificate, exchange.fingerprint),
        facts: &exchange.facts,
        fields: &scratch.fields,
        carried: &exchange.redirects.carried,
        mark: None,
        upgrade: None,
        status: selected.status_line(),
        persists: reuse == Reuse::Keep,
        change,
    };
    let room = (&mut scratch.added, &mut scratch.response_out);
    dress.write(object.head(), selected.length, room);
}

/// Writes a head, and behind it what is sent of a body, as far as it comes.
pub(crate) async fn bring(
    head: &mut Vec<u8>,
    (body, sent): (&Body, Sent),
    (writer, toll): (Writer<'_>, Toll<'_>),
    moved: &Cell<u64>,
) -> Result<(), Fault> {
    let part = match sent {
        Sent::Part(part) => part,
        // Boxed, as what few answers need.
        Sent::Chunks => return Box::pin(coded::bring(head, body, (writer, toll), moved)).await,
    };
    let mut at = part.start;
    let first = next(body, at..part.end, writer, toll).await?;
    toll.pay(first.len()).await;
    writer
        .write_message(head, &first, None, Coding::Plain)
        .await?;
    at += first.len() as u64;
    moved.set(at - part.start);
    while at < part.end {
        let piece = next(body, at..part.end, writer, toll).await?;
        toll.pay(piece.len()).await;
        writer.write(&mut [IoSlice::new(&piece)]).await?;
        at += piece.len() as u64;
        moved.set(at - part.start);
    }
    Ok(())
}

/// The next piece of a part, waiting for it if it is still to come.
async fn next(
    body: &Body,
    part: Range<u64>,
    writer: Writer<'_>,
    toll: Toll<'_>,
) -> Result<Bytes, Fault> {
    if part.is_empty() {
        return Ok(Bytes::new());
    }
    let piece = take(body, part.start, writer).await?;
    let mut bytes = piece.ok_or(Fault::SourceGone)?;
    let left = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
    bytes.truncate(left.min(toll.piece()));
    Ok(bytes)
}

/// What is at `place`, waiting for it if it is still to come; nothing is the end.
pub(crate) async fn take(
    body: &Body,
    place: u64,
    writer: Writer<'_>,
) -> Result<Option<Bytes>, Fault> {
    let piece = match body.read(place) {
        Piece::Wait => {
            writer.timer.set(clock::now() + writer.patience);
            let next = writer.timer.limit(body.next(place)).await;
            next.map_err(|_| Fault::SourceLate)?
        }
        piece => piece,
    };
    match piece {
        Piece::Bytes(bytes) => Ok(Some(bytes)),
        Piece::End => Ok(None),
        Piece::Cut | Piece::Wait => Err(Fault::SourceGone),
    }
}
