//! What a cache has for a request: an answer, or the right to fetch one for all who ask.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_balance::hash;
use plimsoll_cache::cache::{Found, Purge};
use plimsoll_cache::disk::OnDisk;
use plimsoll_cache::flight::{Flight, Landing, Ticket, Turn};
use plimsoll_cache::object::Object;
use plimsoll_cache::purge::Selector;
use plimsoll_http::caching::{Directives, Forwarded, State, Told, key};
use plimsoll_http::field::Name;
use plimsoll_http::framing::Length;
use plimsoll_http::head::RequestHead;
use plimsoll_http::method::Method;
use plimsoll_http::reason::Reason;
use plimsoll_net::clock;
use plimsoll_observe::metrics::CacheResult;

use crate::caching::{Caching, Keeping};
use crate::generation::{Action, Pool, Route};
use crate::http::attempt;
use crate::http::exchange::{Ending, Exchange};
use crate::http::internal::Elsewhere;
use crate::http::respond::{Answer, respond};
use crate::http::store::Filling;
use crate::http::{refresh, slices, stored};

/// How often a request looks again that waited for an answer which was not for it.
const LOOKS_MAX: u32 = 3;

/// How long a request waits for a disk before it goes to a server.
pub(crate) const DISK_PATIENCE: Duration = Duration::from_secs(1);

/// How a request goes on.
enum Way {
    /// It is answered with this.
    Serve(Arc<Object>, Told, CacheResult),
    /// Only what is stored was wanted, and nothing is.
    Refuse,
    /// A server is asked.
    Ask(Told, CacheResult),
}

/// Answers from the cache of the route, or has a server of `pool` answer.
///
/// # Errors
/// The server answered that the request goes on elsewhere.
pub(crate) async fn answer<'a>(
    exchange: &mut Exchange<'a>,
    pool: &'a Pool,
    caching: &'a Caching,
) -> Result<Ending, Elsewhere> {
    if let Some(size) = caching.keeping.slice
        && is_sliced(exchange)
    {
        let mut key = Vec::new();
        write_key_of(exchange, (pool, caching), &mut key);
        // Boxed, as what few requests need.
        let sliced = slices::answer(exchange, pool, (caching, &key, size));
        if let Some(ending) = Box::pin(sliced).await {
            return Ok(ending);
        }
    }
    let way = find(exchange, pool, caching).await;
    match way {
        Way::Serve(object, told, result) => {
            note(exchange, caching, told, result);
            Ok(stored::answer(exchange, &object).await)
        }
        Way::Refuse => {
            let detail = "only a stored answer was wanted, and there is none";
            let answer = Answer {
                status: 504,
                ..Answer::to(Reason::ProxyInternalResponse, detail)
            };
            Ok(respond(exchange, answer).await)
        }
        Way::Ask(told, result) => {
            note(exchange, caching, told, result);
            let outcome = attempt::with_retries(exchange, pool).await;
            exchange.cached.filling = None;
            outcome
        }
    }
}

/// Tells whether a request is one that is answered from slices.
fn is_sliced(exchange: &Exchange<'_>) -> bool {
    let head = &exchange.scratch.head;
    let asked = Directives::read(&head.fields, exchange.bytes()).0;
    let is_private = head.fields.first(Name::Authorization).is_some();
    part_of(exchange, &asked) == Part::Both && !asked.only_if_cached && !is_private
}

/// Notes what the cache did, for the client, the log and the metrics.
fn note(exchange: &mut Exchange<'_>, caching: &Caching, told: Told, result: CacheResult) {
    exchange.facts.told = Some(told);
    exchange.facts.cache = Some((caching.number, result));
}

/// What a request may have from a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is there, and what comes may be stored.
    Both,
    /// What is there.
    Read,
    /// Nothing, for this reason.
    Nothing(Forwarded),
}

fn part_of(exchange: &Exchange<'_>, asked: &Directives) -> Part {
    let has_body = exchange
        .framing
        .as_ref()
        .is_none_or(|framing| framing.length() != Length::Empty);
    let has_more = has_body || exchange.upgrade.is_some();
    part(&exchange.scratch.head, exchange.bytes(), has_more, asked)
}

/// Decides it; `has_more` tells whether there is more to the request than its head.
pub(crate) fn part(head: &RequestHead, bytes: &[u8], has_more: bool, asked: &Directives) -> Part {
    if !matches!(head.method, Method::Get | Method::Head) {
        return Part::Nothing(Forwarded::Method);
    }
    let is_unkeyed = head.fields.iter().any(|line| {
        let name = line.name_span.of(bytes);
        key::is_unkeyed(name)
            || name.eq_ignore_ascii_case(b"if-match")
            || name.eq_ignore_ascii_case(b"if-unmodified-since")
    });
    if has_more || is_unkeyed {
        return Part::Nothing(Forwarded::Bypass);
    }
    match head.method == Method::Get && !asked.no_store {
        true => Part::Both,
        false => Part::Read,
    }
}

async fn find<'a>(exchange: &mut Exchange<'a>, pool: &Pool, caching: &'a Caching) -> Way {
    let asked = Directives::read(&exchange.scratch.head.fields, exchange.bytes()).0;
    let part = part_of(exchange, &asked);
    if let Part::Nothing(why) = part {
        return ask(why, CacheResult::Bypass);
    }
    let mut key = std::mem::take(&mut exchange.scratch.key);
    write_key_of(exchange, (pool, caching), &mut key);
    let mut search = Search {
        caching,
        key,
        part,
        is_only_stored: asked.only_if_cached,
        looks: 0,
        disk: Disk::Unasked,
    };
    let way = loop {
        match search.look(exchange, pool) {
            Look::Found(way) => break way,
            // Boxed: a wait is rare, and its future would be moved with each request.
            Look::Wait(flight, why) => {
                if let Some(way) = Box::pin(search.wait(exchange, &flight, why)).await {
                    break way;
                }
            }
            Look::Load(on_disk, ticket) => {
                Box::pin(search.load(exchange, on_disk, ticket)).await;
            }
        }
    };
    exchange.scratch.key = search.key;
    way
}

/// What comes of looking once.
enum Look {
    /// How the request goes on.
    Found(Way),
    /// Somebody fetches it.
    Wait(Arc<Flight>, Forwarded),
    /// It is on disk, and this request reads it for all.
    Load(OnDisk, Ticket),
}

/// What the disk had for a request.
enum Disk {
    /// Nobody has asked.
    Unasked,
    /// This.
    Had(Arc<Object>),
    /// Nothing that could be read.
    Nothing,
}

/// A request looking for its answer.
struct Search<'a> {
    caching: &'a Caching,
    key: Vec<u8>,
    part: Part,
    is_only_stored: bool,
    looks: u32,
    disk: Disk,
}

impl<'a> Search<'a> {
    /// Looks once.
    fn look(&mut self, exchange: &mut Exchange<'a>, pool: &Pool) -> Look {
        let cache = &*self.caching.keeping.cache;
        let (why, result, stale, other) = match self.stored(exchange) {
            Found::Object(object) => match object.state(now(exchange)) {
                State::Fresh => return Look::Found(self.hit(exchange, object, CacheResult::Hit)),
                State::WhileRevalidating => {
                    refresh::begin(exchange, pool, self.caching, (&self.key, &object));
                    return Look::Found(self.hit(exchange, object, CacheResult::Stale));
                }
                _ => (Forwarded::Stale, CacheResult::Expired, Some(object), None),
            },
            Found::Other(other) => (Forwarded::VaryMiss, CacheResult::Miss, None, Some(other)),
            Found::Passing => {
                self.looks = LOOKS_MAX;
                (Forwarded::UriMiss, CacheResult::Miss, None, None)
            }
            Found::Nothing => (Forwarded::UriMiss, CacheResult::Miss, None, None),
        };
        let on_disk = match (&stale, self.looks < LOOKS_MAX) {
            (None, true) => self.on_disk(exchange),
            _ => None,
        };
        if let Some(on_disk) = on_disk {
            let flight = self.flight_key(exchange, other.as_deref());
            return match cache.flights.join(&flight) {
                Turn::Mine(ticket) => Look::Load(on_disk, ticket),
                Turn::Theirs(flight) => {
                    self.looks += 1;
                    Look::Wait(flight, why)
                }
            };
        }
        if self.is_only_stored {
            return Look::Found(Way::Refuse);
        }
        if self.part == Part::Read {
            return Look::Found(ask(why, result));
        }
        // Those who have to say who they are get nobody else's answer, and nobody waits for theirs.
        let is_private = exchange
            .scratch
            .head
            .fields
            .first(Name::Authorization)
            .is_some();
        let is_asked_each_time = stale
            .as_ref()
            .is_some_and(|stale| stale.terms.lifetime == 0 || stale.terms.is_checked);
        if self.looks >= LOOKS_MAX || is_private || is_asked_each_time {
            self.fill(exchange, None, stale);
            return Look::Found(ask(why, result));
        }
        self.looks += 1;
        match cache
            .flights
            .join(&self.flight_key(exchange, other.as_deref()))
        {
            Turn::Mine(ticket) => match self.stored(exchange) {
                // It was stored while this one was looking.
                Found::Object(object) if object.state(now(exchange)) == State::Fresh => {
                    Look::Found(self.hit(exchange, object, CacheResult::Hit))
                }
                _ => {
                    self.fill(exchange, Some(ticket), stale);
                    Look::Found(ask(why, result))
                }
            },
            Turn::Theirs(flight) => Look::Wait(flight, why),
        }
    }

    fn stored(&self, exchange: &Exchange<'_>) -> Found {
        let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
        let cache = &self.caching.keeping.cache;
        match (
            cache.find(&self.key, head, bytes, now(exchange)),
            &self.disk,
        ) {
            // It may still be coming, or have been too much for the memory.
            (Found::Nothing | Found::Other(_), Disk::Had(object)) => {
                Found::Object(Arc::clone(object))
            }
            (found, _) => found,
        }
    }

    /// What the disk has, if it has not been asked yet.
    fn on_disk(&self, exchange: &Exchange<'_>) -> Option<OnDisk> {
        let Disk::Unasked = self.disk else {
            return None;
        };
        let request = (&exchange.scratch.head, exchange.bytes());
        let cache = &self.caching.keeping.cache;
        cache.on_disk(&self.key, request, now(exchange))
    }

    /// Reads what is on disk.
    async fn load(&mut self, exchange: &mut Exchange<'a>, on_disk: OnDisk, ticket: Ticket) {
        let cache = &self.caching.keeping.cache;
        let now = exchange.plane.since_start(clock::now());
        let loaded = cache.load(on_disk, (&self.key, ticket), now);
        let until = clock::now() + DISK_PATIENCE;
        exchange.timer.set(exchange.soonest(until));
        self.disk = match exchange.timer.limit(loaded).await {
            Ok(Ok(object)) => Disk::Had(object),
            Ok(Err(_)) => Disk::Nothing,
            Err(_) => {
                cache.note_slow(now);
                Disk::Nothing
            }
        };
    }

    fn hit(&self, exchange: &Exchange<'_>, object: Arc<Object>, result: CacheResult) -> Way {
        let told = Told {
            ttl: Some(object.left(now(exchange))),
            detail: matches!(self.disk, Disk::Had(_)).then_some("disk"),
            ..Told::default()
        };
        Way::Serve(object, told, result)
    }

    /// Waits for what is being fetched; nothing when this request has to look again.
    async fn wait(
        &mut self,
        exchange: &mut Exchange<'a>,
        flight: &Flight,
        why: Forwarded,
    ) -> Option<Way> {
        let until = clock::now() + self.caching.keeping.wait;
        exchange.timer.set(exchange.soonest(until));
        let landing = exchange.timer.limit(flight.landing()).await;
        match landing {
            Ok(Landing::Stored(object)) => {
                let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
                let is_ours = object.selection.matches(head, bytes);
                let told = Told {
                    forwarded: Some(why),
                    is_collapsed: true,
                    ..Told::default()
                };
                is_ours.then_some(Way::Serve(object, told, CacheResult::Collapsed))
            }
            Ok(Landing::Loaded(object)) => {
                let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
                let is_ours = object.selection.matches(head, bytes);
                is_ours.then(|| {
                    self.disk = Disk::Had(Arc::clone(&object));
                    self.hit(exchange, object, CacheResult::Hit)
                })
            }
            Ok(Landing::Failed) => None,
            Ok(Landing::Unstorable) | Err(_) => Some(ask(why, CacheResult::Miss)),
        }
    }

    /// What a fetch is known by: requests that differ in what the answer varies by do not wait for each other.
    fn flight_key(&self, exchange: &Exchange<'_>, other: Option<&Object>) -> Vec<u8> {
        let mut key = self.key.clone();
        if let Some(other) = other {
            let selection = other.selection.of(&exchange.scratch.head, exchange.bytes());
            for value in selection.values() {
                key.push(0);
                key.extend_from_slice(value);
            }
        }
        key
    }

    fn fill(
        &mut self,
        exchange: &mut Exchange<'a>,
        ticket: Option<Ticket>,
        stale: Option<Arc<Object>>,
    ) {
        let parts = (self.key.clone(), ticket, stale);
        exchange.cached.filling = Some(Filling::new(exchange, self.caching, parts));
    }
}

fn now(exchange: &Exchange<'_>) -> Duration {
    exchange.plane.since_start(exchange.facts.started)
}

fn ask(why: Forwarded, result: CacheResult) -> Way {
    let told = Told {
        forwarded: Some(why),
        ..Told::default()
    };
    Way::Ask(told, result)
}

/// Writes what an answer is stored by: the URL, and what else decides what is answered.
fn write_key_of(exchange: &Exchange<'_>, (pool, caching): (&Pool, &Caching), out: &mut Vec<u8>) {
    out.clear();
    write_key(exchange, (&pool.name, caching), out);
    let parts = &caching.keeping.parts;
    parts.write_fields(&exchange.scratch.head, exchange.bytes(), out);
    if exchange.is_rewritten {
        let rewritten = &exchange.scratch.rewritten;
        out.push(0);
        out.extend_from_slice(rewritten.path());
        parts.write_query(rewritten.query().or(Some(b"")), out);
    }
}

fn write_key(exchange: &Exchange<'_>, (pool, caching): (&str, &Caching), out: &mut Vec<u8>) {
    let bytes = exchange.bytes();
    let (target, origin) = (&exchange.scratch.target, &exchange.origin);
    let query = target.query.map(|query| query.of(bytes));
    let authority = exchange.authority.of(bytes);
    let parts = &caching.keeping.parts;
    let path_and_query = (target.path(bytes), query);
    key::write(origin.scheme, authority, path_and_query, parts, out);
    out.push(0);
    out.extend_from_slice(&hash::with_seed(pool.as_bytes(), caching.identity).to_le_bytes());
    out.extend_from_slice(&exchange.listener.address.port().to_le_bytes());
}

/// What is stored for the URL of a request that may change what is there.
#[derive(Debug)]
pub(crate) struct Outdated {
    keeping: Arc<Keeping>,
    key: Vec<u8>,
}

impl Outdated {
    /// Forgets it.
    pub(crate) fn forget(&self) {
        match self.keeping.parts.has_fields() || self.keeping.slice.is_some() {
            // It may be stored for other fields than those of this request, or in slices.
            true => drop(
                self.keeping
                    .cache
                    .purge(Purge::Hard, &Selector::Prefix(&self.key)),
            ),
            false => drop(self.keeping.cache.remove(&self.key)),
        }
    }
}

/// Finds what a request outdates if it succeeds (RFC 9111 §4.4): nearly always nothing.
pub(crate) fn outdated(exchange: &Exchange<'_>) -> Vec<Outdated> {
    let method = exchange.scratch.head.method;
    let is_safe = matches!(
        method,
        Method::Get | Method::Head | Method::Options | Method::Trace
    );
    let mut all = Vec::new();
    let Some(site) = exchange.facts.site.filter(|site| !is_safe && site.caches) else {
        return all;
    };
    let path = exchange.seen().path();
    for route in site.routes.iter().filter(|route| route.path.takes(path)) {
        outdated_of(exchange, route, &mut all);
    }
    all
}

fn outdated_of(exchange: &Exchange<'_>, route: &Route, all: &mut Vec<Outdated>) {
    let Some(caching) = &route.caching else {
        return;
    };
    let pools = &exchange.plane.generation.pools;
    let numbers: Vec<usize> = match &route.action {
        Action::Proxy(pool) => vec![*pool],
        Action::Split(split) => split.ends.iter().map(|(_, pool)| *pool).collect(),
        Action::Respond { .. } | Action::Redirect { .. } | Action::Files(_) => Vec::new(),
    };
    for pool in numbers.iter().filter_map(|number| pools.get(*number)) {
        let mut plain = Vec::new();
        write_key(exchange, (&pool.name, caching), &mut plain);
        let rewritten = exchange.is_rewritten.then(|| {
            let mut key = Vec::new();
            write_key_of(exchange, (pool, caching), &mut key);
            key
        });
        let keys = std::iter::once(plain).chain(rewritten);
        all.extend(keys.map(|key| Outdated {
            keeping: Arc::clone(&caching.keeping),
            key,
        }));
    }
}
