//! Objects in slices: a server is asked for parts of equal size, each is stored by itself, and answers are put
//! together from them, so that an object may be as large as it likes and nobody fetches more of it than is wanted.
//!
//! All slices of an answer are of one state of the object: they agree in its length and its validator.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use plimsoll_cache::body::Body;
use plimsoll_cache::cache::{Found, Purge};
use plimsoll_cache::flight::{Landing, Ticket, Turn};
use plimsoll_cache::object::Object;
use plimsoll_cache::purge::Selector;
use plimsoll_config::model::Way;
use plimsoll_http::caching::{self, Asked, Forwarded, State, Told};
use plimsoll_http::framing::Length;
use plimsoll_http::method::Method;
use plimsoll_http::{conditional, field, range};
use plimsoll_net::clock;
use plimsoll_net::stream::Then;
use plimsoll_observe::metrics::CacheResult;

use crate::caching::Caching;
use crate::generation::Pool;
use crate::http::answer;
use crate::http::compress::Change;
use crate::http::exchange::{Ending, Exchange};
use crate::http::flow::Fault;
use crate::http::lookup::DISK_PATIENCE;
use crate::http::pace::Toll;
use crate::http::store::{self, Filling};
use crate::http::stored::{self, Selected, Sent};
use crate::http::subrequest::{self, Call, Reply};
use crate::http::upstream_h1;

/// How often an answer is begun anew because its object has changed.
const BEGINNINGS_MAX: u32 = 2;

/// Why there is no slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    /// The object is another one than it was.
    Changed,
    /// The server gives no slices of it that can be kept, or none now.
    NotSliced,
}

/// What all slices of an object agree in.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    length: u64,
    /// Its strong entity tag, or when it was changed last.
    validator: Vec<u8>,
}

impl Whole {
    /// That of a slice, whose head says which part it is.
    fn of(slice: &Object) -> Option<Self> {
        let (head, bytes) = slice.head();
        let line = |name: &[u8]| Some(head.fields.by_text(bytes, name)?.value.of(bytes));
        let (_, length) = range::read_content_range(line(b"content-range")?)?;
        let is_strong = |tag: &&[u8]| !tag.starts_with(b"W/");
        let changed = || line(b"last-modified").filter(|date| conditional::date(date).is_some());
        let validator = line(b"etag").filter(is_strong).or_else(changed)?;
        Some(Self {
            length,
            validator: validator.to_vec(),
        })
    }
}

/// Where the slices of one object come from.
struct Source<'a, 'x> {
    pool: &'x Pool,
    caching: &'a Caching,
    key: &'x [u8],
    size: u64,
    /// Whether a server was asked.
    has_asked: bool,
}

/// Answers a request from slices; nothing where it has to be answered as usual.
pub(crate) async fn answer<'a>(
    exchange: &mut Exchange<'a>,
    pool: &Pool,
    (caching, key, size): (&'a Caching, &[u8], u64),
) -> Option<Ending> {
    let mut source = Source {
        pool,
        caching,
        key,
        size,
        has_asked: false,
    };
    for _ in 0..BEGINNINGS_MAX {
        match source.begin(exchange).await {
            Ok((selected, slices)) => return Some(source.serve(exchange, selected, slices).await),
            Err(Missing::Changed) => source.forget(),
            Err(Missing::NotSliced) => return None,
        }
    }
    None
}

/// The slices that an answer begins with: the first of the object, whose head it has, and the first of what is sent.
struct Slices {
    head: Arc<Object>,
    first: (u64, Arc<Object>),
    whole: Whole,
    /// Lines that belong to what was selected.
    lines: Vec<u8>,
}

impl<'a> Source<'a, '_> {
    async fn begin(&mut self, exchange: &mut Exchange<'a>) -> Result<(Selected, Slices), Missing> {
        let head = self.slice(exchange, 0, None).await?;
        let whole = Whole::of(&head).ok_or(Missing::NotSliced)?;
        let now = exchange.plane.since_start(clock::now());
        let mut lines = Vec::new();
        let selected =
            Selected::of_length(&head, whole.length, (&exchange.seen(), now), &mut lines);
        let number = match &selected.sent {
            Sent::Part(part) => part.start / self.size,
            Sent::Chunks => 0,
        };
        let first = match number {
            0 => Arc::clone(&head),
            _ => self.slice(exchange, number, Some(&whole)).await?,
        };
        let slices = Slices {
            head,
            first: (number, first),
            whole,
            lines,
        };
        Ok((selected, slices))
    }

    /// Sends what was selected, slice after slice.
    async fn serve(
        &mut self,
        exchange: &mut Exchange<'a>,
        mut selected: Selected,
        slices: Slices,
    ) -> Ending {
        let reuse = exchange.reuse();
        selected.status = selected.status.or(Some(200));
        self.note(exchange, &slices.head);
        exchange.scratch.fields.extend_from_slice(&slices.lines);
        // What each slice says of itself is not said of the whole.
        let change = Change {
            lines: Vec::new(),
            over: b"Content-Range: \r\n".to_vec(),
            coder: None,
        };
        stored::write_head(exchange, &slices.head, (&selected, Some(&change)), reuse);
        exchange.facts.status = selected.status.unwrap_or(200);
        let Sent::Part(part) = selected.sent else {
            return exchange.ending(reuse);
        };
        match self.bring(exchange, part, slices).await {
            Ok(()) => exchange.ending(reuse),
            Err(fault) => answer::cut(&mut exchange.facts, &fault),
        }
    }

    async fn bring(
        &mut self,
        exchange: &mut Exchange<'a>,
        part: Range<u64>,
        slices: Slices,
    ) -> Result<(), Fault> {
        let (mut number, mut slice) = slices.first;
        let mut at = part.start;
        let mut out = std::mem::take(&mut exchange.scratch.response_out);
        exchange.facts.response_bytes.set(0);
        loop {
            let begin = number * self.size;
            let end = part.end.min(begin + self.size);
            let sent = Sent::Part(at - begin..end - begin);
            let moved = Cell::new(0);
            let toll = Toll {
                plane: exchange.plane,
                paces: &exchange.paces,
                way: Way::Down,
            };
            let writer = exchange.writer(Then::Open);
            let brought =
                stored::bring(&mut out, (&slice.body, sent), (writer, toll), &moved).await;
            let bytes = exchange.facts.response_bytes;
            bytes.set(bytes.get() + moved.get());
            brought?;
            if end >= part.end {
                break;
            }
            out.clear();
            (at, number) = (end, number + 1);
            let next = self.slice(exchange, number, Some(&slices.whole)).await;
            slice = next.map_err(|missing| {
                if missing == Missing::Changed {
                    self.forget();
                }
                Fault::SourceGone
            })?;
        }
        exchange.scratch.response_out = out;
        Ok(())
    }

    fn note(&self, exchange: &mut Exchange<'_>, head: &Object) {
        let now = exchange.plane.since_start(clock::now());
        let (told, result) = match self.has_asked {
            true => (
                Told {
                    forwarded: Some(Forwarded::UriMiss),
                    is_stored: true,
                    ..Told::default()
                },
                CacheResult::Miss,
            ),
            false => (
                Told {
                    ttl: Some(head.left(now)),
                    ..Told::default()
                },
                CacheResult::Hit,
            ),
        };
        exchange.facts.told = Some(told);
        exchange.facts.cache = Some((self.caching.number, result));
    }

    /// Forgets all slices, which are of an object that is another one now.
    fn forget(&self) {
        let mut start = self.key.to_vec();
        start.extend_from_slice(b"\0/");
        let cache = &self.caching.keeping.cache;
        cache.purge(Purge::Hard, &Selector::Prefix(&start));
    }

    fn key_of(&self, number: u64) -> Vec<u8> {
        let mut key = self.key.to_vec();
        key.extend_from_slice(format!("\0/{}/{number}", self.size).as_bytes());
        key
    }

    /// A slice, from the store or from a server.
    async fn slice(
        &mut self,
        exchange: &mut Exchange<'a>,
        number: u64,
        whole: Option<&Whole>,
    ) -> Result<Arc<Object>, Missing> {
        let key = self.key_of(number);
        let fits =
            |slice: &Object| whole.is_none_or(|whole| Whole::of(slice).as_ref() == Some(whole));
        if let Some(slice) = self.stored(exchange, &key)?.filter(|slice| fits(slice)) {
            return Ok(slice);
        }
        let cache = &self.caching.keeping.cache;
        let ticket = match cache.flights.join(&key) {
            Turn::Mine(ticket) => Some(ticket),
            Turn::Theirs(flight) => {
                let until = clock::now() + self.caching.keeping.wait;
                exchange.timer.set(exchange.soonest(until));
                let landing = exchange.timer.limit(flight.landing()).await;
                match landing {
                    Ok(Landing::Stored(slice) | Landing::Loaded(slice)) if fits(&slice) => {
                        return Ok(slice);
                    }
                    _ => None,
                }
            }
        };
        // It may have come meanwhile, or be on disk.
        let now = exchange.plane.since_start(clock::now());
        let request = (&exchange.scratch.head, exchange.bytes());
        let on_disk = cache.on_disk(&key, request, now);
        let ticket = match (on_disk, ticket) {
            (Some(on_disk), Some(ticket)) => {
                let loaded = cache.load(on_disk, (&key, ticket), now);
                exchange
                    .timer
                    .set(exchange.soonest(clock::now() + DISK_PATIENCE));
                let loaded = exchange.timer.limit(loaded).await;
                if let Ok(Ok(slice)) = loaded
                    && slice.state(now) == State::Fresh
                    && fits(&slice)
                {
                    return Ok(slice);
                }
                None
            }
            (_, ticket) => ticket,
        };
        self.fetch(exchange, (number, &key), whole, ticket).await
    }

    /// What memory has; an error where it has the word that there are no slices.
    fn stored(&self, exchange: &Exchange<'_>, key: &[u8]) -> Result<Option<Arc<Object>>, Missing> {
        let now = exchange.plane.since_start(clock::now());
        let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
        match self.caching.keeping.cache.find(key, head, bytes, now) {
            Found::Object(slice) if slice.state(now) == State::Fresh => Ok(Some(slice)),
            Found::Passing => Err(Missing::NotSliced),
            _ => Ok(None),
        }
    }

    async fn fetch(
        &mut self,
        exchange: &mut Exchange<'a>,
        (number, key): (u64, &[u8]),
        whole: Option<&Whole>,
        ticket: Option<Ticket>,
    ) -> Result<Arc<Object>, Missing> {
        self.has_asked = true;
        let message = self.message(exchange, number, whole);
        let call = Call {
            method: Method::Get,
            message: &message,
            body_max: usize::try_from(self.size).unwrap_or(usize::MAX),
            digest: None,
        };
        let reply = subrequest::ask(exchange.plane, self.pool, call).await;
        let reply = reply.ok_or(Missing::NotSliced)?;
        let status = reply.head.status;
        let slice = self.kept(exchange, reply, number);
        let cache = &self.caching.keeping.cache;
        let Some(slice) = slice else {
            return Err(match whole {
                Some(_) if status == 200 => Missing::Changed,
                _ => {
                    if status < 500 && number == 0 {
                        // The next ones who ask do so as usual at once.
                        cache.pass(key, exchange.plane.since_start(clock::now()));
                    }
                    Missing::NotSliced
                }
            });
        };
        if whole.is_some_and(|whole| Whole::of(&slice).as_ref() != Some(whole)) {
            return Err(Missing::Changed);
        }
        if !ticket.as_ref().is_some_and(Ticket::is_outdated) {
            cache.insert(key, Arc::clone(&slice));
        }
        if let Some(ticket) = ticket {
            ticket.tell(Landing::Stored(Arc::clone(&slice)));
        }
        Ok(slice)
    }

    /// The request for a slice: of the same state of the object as those that are here.
    fn message(&self, exchange: &mut Exchange<'a>, number: u64, whole: Option<&Whole>) -> Vec<u8> {
        let begin = number * self.size;
        let wanted = format!("bytes={begin}-{}", begin + self.size - 1);
        let mut lines = Vec::new();
        field::write_line(b"Range", wanted.as_bytes(), &mut lines);
        if let Some(whole) = whole {
            field::write_line(b"If-Range", &whole.validator, &mut lines);
        }
        let filling = Filling::new(exchange, self.caching, (Vec::new(), None, None));
        exchange.cached.filling = Some(filling.asking(lines));
        upstream_h1::encode_head(exchange, b"cache", None, Length::Empty);
        exchange.cached.filling = None;
        exchange.scratch.request_out.clone()
    }

    /// What is stored of a reply; nothing if it is not the slice that was asked for, or must not be.
    fn kept(&self, exchange: &Exchange<'_>, mut reply: Reply, number: u64) -> Option<Arc<Object>> {
        let begin = number * self.size;
        let line = reply.head.fields.by_text(&reply.bytes, b"content-range")?;
        let (part, length) = range::read_content_range(line.value.of(&reply.bytes))?;
        let expected = begin..length.min(begin + self.size);
        let is_it = reply.head.status == 206 && part == expected && reply.is_whole;
        if !is_it || reply.body.len() as u64 != part.end - part.start {
            return None;
        }
        // Whether it may be kept is a matter of the whole.
        reply.head.status = 200;
        let asked = Asked {
            head: &exchange.scratch.head,
            bytes: exchange.bytes(),
            now: exchange.plane.unix_time(clock::now()).as_secs(),
            delay: u32::try_from(reply.took.as_secs()).unwrap_or(caching::SECONDS_MAX),
            is_coded_here: exchange.facts.codes(),
        };
        let keeping = &self.caching.keeping;
        let answer = (&reply.head, &*reply.bytes);
        let mut object = store::kept_as(asked, answer, (exchange.plane, keeping)).ok()?;
        let is_fresh = object.left(object.came) > 0 && !object.terms.is_checked;
        Whole::of(&object).filter(|_| is_fresh)?;
        let room = keeping.cache.reserve(Some(reply.body.len() as u64))?;
        object.body = Arc::new(Body::of(&reply.body, room));
        Some(Arc::new(object))
    }
}
