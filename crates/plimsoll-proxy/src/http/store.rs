//! An answer on its way into a cache.

use std::sync::Arc;
use std::time::Instant;

use plimsoll_cache::body::{Body, Reserved};
use plimsoll_cache::flight::{Landing, Ticket};
use plimsoll_cache::object::Object;
use plimsoll_http::caching::{self, Asked, Directives, Refusal, Selection, Terms};
use plimsoll_http::framing::Length;
use plimsoll_http::h1::parse::{self, Parsed};
use plimsoll_http::head::{RequestHead, ResponseHead};
use plimsoll_net::clock;
use plimsoll_net::socket::Socket;

use crate::caching::{Caching, Keeping, TAGS};
use crate::http::coded::Place;
use crate::http::exchange::Exchange;
use crate::http::pace::Pace;
use crate::plane::Plane;

/// The most words of one answer, and the longest.
const TAGS_MAX: usize = 256;
const TAG_BYTES_MAX: usize = 256;

/// What a request fetches for a cache. Dropped before its end, nothing is stored.
#[derive(Debug)]
pub(crate) struct Filling<'a> {
    pub(crate) plane: &'a Plane,
    pub(crate) client: &'a Socket,
    pub(crate) paces: Vec<Pace<'a>>,
    caching: &'a Caching,
    key: Vec<u8>,
    /// Those who wait for it; nothing where nobody does.
    ticket: Option<Ticket>,
    /// What is stored and no longer fresh, of which the server is asked whether it still holds.
    stale: Option<Arc<Object>>,
    began: Instant,
    /// Whether answers get content codings here, and not from servers.
    is_coded_here: bool,
    /// Lines that say which part is asked for; nearly always the whole is.
    part: Vec<u8>,
    /// What it becomes.
    object: Option<Arc<Object>>,
}

/// What becomes of an answer.
#[derive(Debug)]
pub(crate) enum Fate {
    /// It is for its client alone.
    Passed,
    /// It is stored as it comes, and its client gets it from there.
    Shared(Arc<Object>),
    /// It is stored when it turns out not to be too long.
    Copied,
}

impl<'a> Filling<'a> {
    pub(crate) fn new(
        exchange: &Exchange<'a>,
        caching: &'a Caching,
        (key, ticket, stale): (Vec<u8>, Option<Ticket>, Option<Arc<Object>>),
    ) -> Self {
        Self {
            plane: exchange.plane,
            client: exchange.client,
            paces: exchange.paces.clone(),
            caching,
            key,
            ticket,
            stale,
            began: clock::now(),
            is_coded_here: exchange.facts.codes(),
            part: Vec::new(),
            object: None,
        }
    }

    /// The same, with lines of its own that say which part is asked for.
    pub(crate) fn asking(mut self, part: Vec<u8>) -> Self {
        self.part = part;
        self
    }

    /// Tells whether the whole answer is asked for, or a part of our own, whatever the client asked for.
    pub(crate) fn wants_whole(&self) -> bool {
        self.ticket.is_some() || self.stale.is_some() || !self.part.is_empty()
    }

    /// Tells whether the answer is asked for without a content coding.
    pub(crate) fn wants_plain(&self) -> bool {
        self.is_coded_here
    }

    /// Room for as much as may be stored of an answer whose length nobody knows, beside what is stored of it.
    pub(crate) fn room_for_copy(&self) -> Option<Reserved> {
        self.caching.keeping.cache.reserve(None)
    }

    /// Where an object of it is stored.
    pub(crate) fn place<'p>(&'p self, object: &'p Arc<Object>) -> Place<'p> {
        Place {
            plane: self.plane,
            cache: &self.caching.keeping.cache,
            key: &self.key,
            object,
        }
    }

    /// Appends what asks the server whether what is stored still holds.
    pub(crate) fn write_conditions(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.part);
        if let Some(stale) = &self.stale {
            write_conditions(stale, out);
        }
    }

    /// What answers in place of an error, if that is allowed.
    pub(crate) fn instead_of_error(&self) -> Option<&Arc<Object>> {
        let now = self.plane.since_start(clock::now());
        self.stale
            .as_ref()
            .filter(|stale| stale.answers_errors(now))
    }

    /// Tells whether something is stored that never answers without its server, however far that is.
    pub(crate) fn must_ask(&self) -> bool {
        self.stale.as_ref().is_some_and(|stale| {
            let (head, bytes) = stale.head();
            let said = Directives::targeted(&head.fields, bytes);
            let said = said.unwrap_or_else(|| Directives::read(&head.fields, bytes).0);
            !said.allows_stale()
        })
    }

    /// Tells whether an answer is an error that something is stored in place of.
    pub(crate) fn replaces(&self, status: u16) -> bool {
        matches!(status, 500 | 502..=504) && self.instead_of_error().is_some()
    }

    /// Takes an answer whose head has come: decides whether it is stored.
    pub(crate) fn begin(
        &mut self,
        request: (&RequestHead, &[u8]),
        answer: (&ResponseHead, &[u8]),
        length: Length,
    ) -> Fate {
        let status = answer.0.status;
        let declared = match length {
            Length::Exactly(length) => Some(length),
            Length::Empty => Some(0),
            Length::Chunked | Length::UntilClose => None,
        };
        let room = self.caching.keeping.cache.reserve(declared);
        // What ends with its connection may have been cut off, and nobody could tell.
        let Some(room) = room.filter(|_| length != Length::UntilClose) else {
            self.refuse(status);
            return Fate::Passed;
        };
        let kept = kept_as(
            self.asked(request),
            answer,
            (self.plane, &self.caching.keeping),
        );
        let Ok(mut object) = kept else {
            self.refuse(status);
            return Fate::Passed;
        };
        object.body = Arc::new(Body::new(declared, room));
        let object = Arc::new(object);
        self.object = Some(Arc::clone(&object));
        match declared {
            Some(_) if self.is_for_others(&object) => {
                self.tell(&object);
                Fate::Shared(object)
            }
            Some(_) => Fate::Shared(object),
            None => Fate::Copied,
        }
    }

    /// Takes a confirmation that what is stored still holds; nothing when it is none that was asked for.
    pub(crate) fn confirm(
        &mut self,
        request: (&RequestHead, &[u8]),
        answer: (&ResponseHead, &[u8]),
    ) -> Option<Arc<Object>> {
        if answer.0.status != 304 {
            return None;
        }
        let stale = self.stale.take()?;
        let object = Arc::new(confirmed(
            &stale,
            self.asked(request),
            answer,
            (self.plane, &self.caching.keeping),
        )?);
        if self.is_for_others(&object) {
            self.tell(&object);
        }
        self.caching
            .keeping
            .cache
            .insert(&self.key, Arc::clone(&object));
        Some(object)
    }

    /// The body that is being stored.
    pub(crate) fn body(&self) -> Option<&Body> {
        self.object.as_deref().map(|object| &*object.body)
    }

    /// Takes note that the answer came to its end; tells whether it is stored.
    pub(crate) fn complete(&mut self) -> bool {
        let Some(object) = self.object.take().filter(|object| object.body.end()) else {
            return false;
        };
        let ticket = self.ticket.take();
        if ticket.as_ref().is_some_and(Ticket::is_outdated) {
            return false;
        }
        self.caching
            .keeping
            .cache
            .insert(&self.key, Arc::clone(&object));
        if let Some(ticket) = ticket {
            // What is not fresh is of use to those who ask the server about it, and to nobody who waits.
            ticket.tell(match self.is_for_others(&object) {
                true => Landing::Stored(object),
                false => Landing::Unstorable,
            });
        }
        true
    }

    /// Nothing is stored. Unless that is for an error, nobody waits for the next answer of its kind.
    fn refuse(&mut self, status: u16) {
        let cache = &self.caching.keeping.cache;
        if status < 500 {
            if self.stale.is_some() {
                cache.remove(&self.key);
            }
            if self.ticket.is_some() {
                cache.pass(&self.key, self.plane.since_start(clock::now()));
            }
        }
        if let Some(ticket) = self.ticket.take() {
            ticket.tell(Landing::Unstorable);
        }
    }

    /// Tells those who wait that what is stored answers them in place of an error.
    pub(crate) fn tell_stale(&self) {
        if let Some(stale) = &self.stale {
            self.tell(stale);
        }
    }

    fn tell(&self, object: &Arc<Object>) {
        if let Some(ticket) = &self.ticket {
            ticket.tell(Landing::Stored(Arc::clone(object)));
        }
    }

    fn is_for_others(&self, object: &Object) -> bool {
        object.left(object.came) > 0 && !object.terms.is_checked
    }

    fn asked<'r>(&self, (head, bytes): (&'r RequestHead, &'r [u8])) -> Asked<'r> {
        let delay = clock::now().saturating_duration_since(self.began).as_secs();
        Asked {
            head,
            bytes,
            now: self.plane.unix_time(clock::now()).as_secs(),
            delay: u32::try_from(delay).unwrap_or(caching::SECONDS_MAX),
            is_coded_here: self.is_coded_here,
        }
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        if let Some(object) = &self.object {
            object.body.cut();
        }
    }
}

/// Appends what asks a server whether an object still holds.
pub(crate) fn write_conditions(stale: &Object, out: &mut Vec<u8>) {
    let (head, bytes) = stale.head();
    let conditions = [
        (&b"etag"[..], &b"If-None-Match"[..]),
        (b"last-modified", b"If-Modified-Since"),
    ];
    for (validator, condition) in conditions {
        if let Some(line) = head.fields.by_text(bytes, validator) {
            plimsoll_http::field::write_line(condition, line.value.of(bytes), out);
        }
    }
}

/// What is stored of an answer, with no body yet.
///
/// # Errors
/// Why it is not.
pub(crate) fn kept_as(
    asked: Asked<'_>,
    answer: (&ResponseHead, &[u8]),
    (plane, keeping): (&Plane, &Keeping),
) -> Result<Object, Refusal> {
    let (terms, selection) = caching::judge(asked, answer, &keeping.policy)?;
    let now = clock::now();
    let date = plane.http_date(plane.unix_time(now));
    let mut text = Vec::new();
    caching::stored(answer.0, answer.1, (&date, &tag_fields()), &mut text);
    let object = Object::new(text, selection, terms, plane.since_start(now));
    let mut object = object.ok_or(Refusal::Status)?;
    object.tags = tags(answer);
    Ok(object)
}

/// What is stored, brought up to date with the answer that it still holds.
pub(crate) fn confirmed(
    stale: &Object,
    asked: Asked<'_>,
    (answer, bytes): (&ResponseHead, &[u8]),
    (plane, keeping): (&Plane, &Keeping),
) -> Option<Object> {
    let now = clock::now();
    let date = plane.http_date(plane.unix_time(now));
    let mut text = Vec::new();
    caching::merged(
        stale.head(),
        (answer, bytes),
        (&date, &tag_fields()),
        &mut text,
    );
    let mut head = ResponseHead::default();
    if parse::response(&text, &mut head) != Ok(Parsed::Complete) {
        return None;
    }
    let judged = caching::judge(asked, (&head, &text), &keeping.policy);
    let (terms, selection) = judged.or_else(|refusal| kept(refusal, stale)).ok()?;
    let mut object = Object::new(text, selection, terms, plane.since_start(now))?;
    object = object.with_body(Arc::clone(&stale.body));
    let tags = tags((answer, bytes));
    object.tags = if tags.is_empty() {
        stale.tags.clone()
    } else {
        tags
    };
    Some(object)
}

/// An answer that holds and is not fresh for any time answers this once, and is asked about again.
fn kept(refusal: Refusal, stale: &Object) -> Result<(Terms, Selection), Refusal> {
    match refusal {
        Refusal::NoFreshness => Ok((Terms::default(), stale.selection.clone())),
        refusal => Err(refusal),
    }
}

fn tag_fields() -> [&'static [u8]; 2] {
    TAGS.map(str::as_bytes)
}

/// The words by which an answer can be purged: parted by blanks or commas.
fn tags((head, bytes): (&ResponseHead, &[u8])) -> Box<[Box<[u8]>]> {
    let lines = tag_fields()
        .into_iter()
        .flat_map(|name| head.fields.all_by_text(bytes, name));
    let values = lines.flat_map(|line| line.value.of(bytes).split(|byte| b" \t,".contains(byte)));
    let words = values.filter(|word| (1..=TAG_BYTES_MAX).contains(&word.len()));
    words.take(TAGS_MAX).map(Box::from).collect()
}
