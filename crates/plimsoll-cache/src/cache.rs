//! A cache: objects by their keys, as many as memory is given for, and more of them on disk.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll_http::head::RequestHead;
use quick_cache::sync::Cache as Map;
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tokio::sync::oneshot;

use crate::body::{Body, Reserved, Room};
use crate::disk::{self, Disk, Load, OnDisk};
use crate::flight::{Flights, Ticket};
use crate::object::Object;
use crate::purge::Selector;

/// Answers of one key that are for different requests: the oldest goes.
const VARIANTS_MAX: usize = 16;

/// For how long a key is remembered whose answer was not stored.
pub const PASS_FOR: Duration = Duration::from_secs(60);

/// What an entry takes that has no object.
const PASS_BYTES: u64 = 256;

/// How many shards there are at most: each has its share of the room, and an object must fit into one.
const SHARDS_MAX: u64 = 64;

/// What one cache keeps. Workers share it.
#[derive(Debug)]
pub struct Cache {
    /// Its name.
    pub name: Arc<str>,
    /// The longest body that it keeps.
    pub object_max: u64,
    /// What is being fetched for it.
    pub flights: Arc<Flights>,
    /// What it has done.
    pub stats: Stats,
    /// What is behind its memory.
    pub disk: Option<Disk>,
    map: Map<Box<[u8]>, Entry, Weigh>,
    /// Held while an entry is changed that was read before.
    changing: Mutex<()>,
    room: u64,
    /// What bodies take that are stored, come, or are still read.
    bodies: Room,
}

/// What a cache has done.
#[derive(Debug, Default)]
pub struct Stats {
    /// Objects that were stored.
    pub stored: AtomicU64,
    /// Objects that were purged.
    pub purged: AtomicU64,
}

#[derive(Clone, Debug)]
enum Entry {
    /// The newest first.
    Objects(Arc<[Arc<Object>]>),
    /// Whoever asks goes on to a server at once, until then.
    Passing(Duration),
}

/// What is stored for a request.
#[derive(Clone, Debug)]
pub enum Found {
    /// This, fresh or not.
    Object(Arc<Object>),
    /// Something for other requests, like this.
    Other(Arc<Object>),
    /// That it is not worth waiting for somebody else's answer.
    Passing,
    /// Nothing.
    Nothing,
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<Box<[u8]>, Entry> for Weigh {
    fn weight(&self, key: &Box<[u8]>, entry: &Entry) -> u64 {
        let entry = match entry {
            Entry::Objects(objects) => objects.iter().map(|object| object.size() as u64).sum(),
            Entry::Passing(_) => PASS_BYTES,
        };
        entry + key.len() as u64
    }
}

impl Cache {
    /// One that keeps `room` bytes at most, and no body above `object_max`.
    pub fn new(name: Arc<str>, room: u64, object_max: u64) -> Self {
        let shards = (room / (object_max.max(1) * 4)).clamp(1, SHARDS_MAX);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(usize::try_from(room / 16_384).unwrap_or(usize::MAX).max(64))
            .weight_capacity(room)
            .shards(usize::try_from(shards).unwrap_or(1))
            .build();
        let hasher = DefaultHashBuilder::default();
        let map = match options {
            Ok(options) => Map::with_options(
                options,
                Weigh,
                hasher,
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            Err(_) => Map::with_weighter(64, room, Weigh),
        };
        Self {
            name,
            object_max,
            flights: Arc::default(),
            stats: Stats::default(),
            disk: None,
            map,
            changing: Mutex::default(),
            room,
            bodies: Room::default(),
        }
    }

    /// What is stored for a request.
    pub fn find(&self, key: &[u8], request: &RequestHead, bytes: &[u8], now: Duration) -> Found {
        match self.map.get(key) {
            None => Found::Nothing,
            Some(Entry::Passing(until)) if now < until => Found::Passing,
            Some(Entry::Passing(_)) => Found::Nothing,
            Some(Entry::Objects(objects)) => {
                let mut fitting = objects
                    .iter()
                    .filter(|object| object.selection.matches(request, bytes));
                match (fitting.next(), objects.first()) {
                    (Some(object), _) => {
                        object.count_hit();
                        Found::Object(Arc::clone(object))
                    }
                    (None, Some(other)) => Found::Other(Arc::clone(other)),
                    (None, None) => Found::Nothing,
                }
            }
        }
    }

    /// What the disk has for a request that memory has nothing for.
    pub fn on_disk(
        &self,
        key: &[u8],
        request: (&RequestHead, &[u8]),
        now: Duration,
    ) -> Option<OnDisk> {
        self.disk.as_ref()?.tier()?.find(key, request, now)
    }

    /// Has what is on disk read into memory. Nothing is told where that fails, or there is too much to do.
    pub fn load(
        self: &Arc<Self>,
        on_disk: OnDisk,
        (key, ticket): (&[u8], Ticket),
        now: Duration,
    ) -> oneshot::Receiver<Arc<Object>> {
        let (reply, loaded) = oneshot::channel();
        if let Some(tier) = self.disk.as_ref().and_then(Disk::tier) {
            tier.load(Load {
                cache: Arc::clone(self),
                key: key.into(),
                on_disk,
                ticket: Some(ticket),
                now,
                reply: Some(reply),
            });
        }
        loaded
    }

    /// Takes note that the disk did not answer in time.
    pub fn note_slow(&self, now: Duration) {
        if let Some(tier) = self.disk.as_ref().and_then(Disk::tier) {
            tier.note_slow(now);
        }
    }

    /// Puts an object into memory that comes from disk, unless it was purged meanwhile.
    pub(crate) fn keep_loaded(&self, key: &[u8], object: Arc<Object>, ticket: &Ticket) {
        let _changing = self.changing();
        if !ticket.is_outdated() {
            self.place(key, object);
        }
    }

    /// Stores an object whose body is whole, in place of those for the same requests.
    pub fn insert(&self, key: &[u8], object: Arc<Object>) {
        if !object.body.is_whole() {
            return; // it is still being read
        }
        let _changing = self.changing();
        if let Some(disk) = &self.disk
            && let Some(tier) = disk.tier()
        {
            tier.write(key, &object, disk.place.limits);
        }
        self.place(key, object);
        self.stats.stored.fetch_add(1, Relaxed);
    }

    /// Counts the codings that were made of a body, where it is stored.
    pub fn recount(&self, key: &[u8], body: &Arc<Body>) {
        let _changing = self.changing();
        let Some(Entry::Objects(objects)) = self.map.peek(key) else {
            return;
        };
        let is_its = |object: &Arc<Object>| Arc::ptr_eq(&object.body, body);
        if objects.iter().any(is_its) {
            let recount = |object: &Arc<Object>| match is_its(object) {
                true => object.recounted().map(Arc::new),
                false => Some(Arc::clone(object)),
            };
            let objects = objects.iter().filter_map(recount).collect();
            self.map.insert(key.into(), Entry::Objects(objects));
        }
    }

    /// Takes room for what becomes of a body in a content coding: hardly more than the body has.
    pub fn reserve_coded(&self, length: u64) -> Option<Reserved> {
        let most = self.room.saturating_add(self.room / 4);
        self.bodies.reserve(length + length / 8 + 1024, most)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, key: &[u8], object: Arc<Object>) {
        let others = match self.map.peek(key) {
            Some(Entry::Objects(objects)) => objects,
            _ => Arc::from([]),
        };
        let kept = others
            .iter()
            .filter(|other| other.selection != object.selection);
        let objects: Vec<_> = std::iter::once(&object)
            .chain(kept)
            .take(VARIANTS_MAX)
            .cloned()
            .collect();
        self.map.insert(key.into(), Entry::Objects(objects.into()));
    }

    /// Takes room for a body of this length, or of a length that nobody knows; nothing where it is too long, or too much
    /// comes or is still read beside what is stored: a quarter of the room is for that.
    pub fn reserve(&self, length: Option<u64>) -> Option<Reserved> {
        let bytes = length.unwrap_or(self.object_max);
        let most = self.room.saturating_add(self.room / 4);
        let fits = bytes <= self.object_max;
        fits.then(|| self.bodies.reserve(bytes, most)).flatten()
    }

    /// Notes that the answer to `key` is not stored, unless something else is.
    pub fn pass(&self, key: &[u8], now: Duration) {
        let _changing = self.changing();
        if !matches!(self.map.peek(key), Some(Entry::Objects(_))) {
            self.map.insert(key.into(), Entry::Passing(now + PASS_FOR));
        }
    }

    /// Forgets what is stored for `key`; tells how many objects that was.
    pub fn remove(&self, key: &[u8]) -> usize {
        self.flights.outdate(|flight| flight.starts_with(key));
        let _changing = self.changing();
        if let Some(tier) = self.disk.as_ref().and_then(Disk::tier) {
            tier.remove(key);
        }
        match self.map.remove(key) {
            Some((_, Entry::Objects(objects))) => objects.len(),
            _ => 0,
        }
    }

    /// Forgets objects that `selector` takes, or counts them as stale; tells how many.
    pub fn purge(&self, kind: Purge, selector: &Selector<'_>) -> usize {
        // Of what is on its way nobody knows the tags: it is fetched again.
        self.flights.outdate(|key| selector.takes_key(key));
        let counted = RefCell::new(BTreeSet::new());
        let _changing = self.changing();
        self.map.retain(|key, entry| {
            let Entry::Objects(objects) = entry else {
                return true;
            };
            let fitting = || objects.iter().filter(|object| selector.takes(key, object));
            let ids = fitting().map(|object| disk::id(key, &object.selection));
            counted.borrow_mut().extend(ids);
            match kind {
                Purge::Soft => {
                    fitting().for_each(|object| object.expire());
                    true
                }
                // Answers to one URL go together: nobody means one coding of it.
                Purge::Hard => fitting().next().is_none(),
            }
        });
        let counted = counted.into_inner();
        let tier = self.disk.as_ref().and_then(Disk::tier);
        let on_disk = tier.map_or(0, |tier| tier.purge(kind, selector, &counted));
        let count = counted.len() + on_disk;
        self.stats.purged.fetch_add(count as u64, Relaxed);
        count
    }

    /// Objects that `selector` takes, `most` of them, and whether there are more. For those that are on disk alone this reads their
    /// files, and blocks.
    pub fn list(&self, selector: &Selector<'_>, most: usize, now: Duration) -> (Vec<Listed>, bool) {
        let mut all = Vec::new();
        for (key, entry) in self.map.iter() {
            let Entry::Objects(objects) = entry else {
                continue;
            };
            let fitting = objects.iter().filter(|object| selector.takes(&key, object));
            all.extend(fitting.map(|object| Listed {
                key: key.clone(),
                object: Arc::clone(object),
                length: object.body.so_far(),
                is_in_memory: true,
                is_on_disk: false,
            }));
            if all.len() > most {
                all.truncate(most);
                return (all, true);
            }
        }
        let tier = self.disk.as_ref().and_then(Disk::tier);
        let is_more = tier.is_some_and(|tier| tier.list(selector, most, now, &mut all));
        (all, is_more)
    }

    /// Bytes that are stored.
    pub fn size(&self) -> u64 {
        self.map.weight()
    }

    /// Keys that something is stored for.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Tells whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Bytes that may be stored.
    pub fn room(&self) -> u64 {
        self.room
    }
}

/// An object, and where it is.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What it is stored by.
    pub key: Box<[u8]>,
    /// Its body is not here where it is on disk alone.
    pub object: Arc<Object>,
    /// How long its body is.
    pub length: u64,
    /// Whether it is in memory.
    pub is_in_memory: bool,
    /// Whether it is on disk.
    pub is_on_disk: bool,
}

/// What becomes of what is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// It is forgotten.
    Hard,
    /// It is stale, and answers where that is allowed.
    Soft,
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_http::caching::{Selection, State, Terms};
    use plimsoll_http::h1::parse::{self, HeadLimits};
    use plimsoll_http::head::ResponseHead;

    const NOW: Duration = Duration::from_secs(1);

    fn request(lines: &str) -> (RequestHead, Vec<u8>) {
        let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n").into_bytes();
        let mut head = RequestHead::default();
        parse::request(&text, &HeadLimits::default(), &mut head).unwrap();
        (head, text)
    }

    fn object(vary: &str, lines: &str, length: usize) -> Arc<Object> {
        let bytes = format!("HTTP/1.1 200 OK\r\n{vary}\r\n").into_bytes();
        let mut head = ResponseHead::default();
        parse::response(&bytes, &mut head).unwrap();
        let (asked, asked_bytes) = request(lines);
        let selection = Selection::read((&head, &bytes), (&asked, &asked_bytes)).unwrap();
        let terms = Terms {
            lifetime: 10,
            while_revalidate: 10,
            ..Terms::default()
        };
        let mut object = Object::new(bytes, selection, terms, NOW).unwrap();
        object.body = {
            let room = Room::default().reserve(length as u64, u64::MAX).unwrap();
            Arc::new(Body::of(&vec![b'x'; length], room))
        };
        Arc::new(object)
    }

    fn cache(room: u64) -> Cache {
        Cache::new("c".into(), room, room / 8)
    }

    fn find(cache: &Cache, key: &str, lines: &str) -> Found {
        let (head, bytes) = request(lines);
        cache.find(key.as_bytes(), &head, &bytes, NOW)
    }

    #[test]
    fn answers_are_found_by_key_and_by_whom_they_are_for() {
        let cache = cache(1 << 20);
        assert!(matches!(find(&cache, "a", ""), Found::Nothing));
        cache.insert(b"a", object("Vary: X\r\n", "X: 1\r\n", 1));
        assert!(matches!(find(&cache, "a", "X: 1\r\n"), Found::Object(_)));
        assert!(matches!(find(&cache, "a", "X: 2\r\n"), Found::Other(_)));
        assert!(matches!(find(&cache, "b", "X: 1\r\n"), Found::Nothing));
        cache.insert(b"a", object("Vary: X\r\n", "X: 2\r\n", 2));
        for (lines, length) in [("X: 1\r\n", 1), ("X: 2\r\n", 2)] {
            let Found::Object(object) = find(&cache, "a", lines) else {
                panic!("nothing for {lines}");
            };
            assert_eq!(object.body.length(), Some(length));
        }
        // The same requests get the newest.
        cache.insert(b"a", object("Vary: X\r\n", "X: 1\r\n", 3));
        let Found::Object(newest) = find(&cache, "a", "X: 1\r\n") else {
            panic!("nothing");
        };
        assert_eq!(newest.body.length(), Some(3));
        assert_eq!(
            (cache.len(), cache.remove(b"a"), cache.remove(b"a")),
            (1, 2, 0)
        );
    }

    #[test]
    fn variants_of_one_key_are_bounded() {
        let cache = cache(1 << 20);
        for number in 0..100 {
            cache.insert(b"a", object("Vary: X\r\n", &format!("X: {number}\r\n"), 1));
        }
        let is_there = |number: i32| {
            matches!(
                find(&cache, "a", &format!("X: {number}\r\n")),
                Found::Object(_)
            )
        };
        let there: Vec<_> = (0..100).filter(|number| is_there(*number)).collect();
        assert_eq!(there, (84..100).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_not_worth_waiting_for_is_forgotten_in_time() {
        let cache = cache(1 << 20);
        cache.pass(b"a", NOW);
        let (head, bytes) = request("");
        let at = |now| cache.find(b"a", &head, &bytes, now);
        assert!(matches!(at(NOW), Found::Passing));
        assert!(matches!(at(NOW + PASS_FOR), Found::Nothing));
        cache.insert(b"a", object("", "", 1));
        cache.pass(b"a", NOW);
        assert!(matches!(at(NOW), Found::Object(_)));
    }

    #[test]
    fn bodies_on_their_way_are_bounded_too() {
        let cache = cache(800);
        assert!(cache.reserve(Some(101)).is_none());
        let held: Vec<_> = std::iter::from_fn(|| cache.reserve(Some(100))).collect();
        assert_eq!(held.len(), 10);
        drop(held);
        assert!(cache.reserve(None).is_some());
    }

    /// However many keys come, and how large: the room is kept to.
    #[test]
    fn churn_takes_no_more_than_the_room() {
        let cache = cache(1 << 20);
        for number in 0..20_000_usize {
            let length = (number * 7919) % 5000;
            cache.insert(format!("/{number}").as_bytes(), object("", "", length));
            assert!(cache.size() <= cache.room(), "{}", cache.size());
        }
        assert!(cache.size() > cache.room() / 2, "{}", cache.size());
        // Small ones take more than their bytes: they are bounded in number too.
        for number in 0..20_000_usize {
            cache.insert(format!("/s{number}").as_bytes(), object("", "", 0));
        }
        assert!(cache.len() < 2500, "{}", cache.len());
    }

    #[test]
    fn purges_forget_or_expire_what_fits() {
        let cache = cache(1 << 20);
        for key in ["http://h/a/1", "http://h/a/2", "http://h/b"] {
            cache.insert(key.as_bytes(), object("", "", 1));
        }
        let below = &Selector::Prefix(b"http://h/a/");
        assert_eq!(cache.purge(Purge::Soft, below), 2);
        let Found::Object(stale) = find(&cache, "http://h/a/1", "") else {
            panic!("nothing");
        };
        assert_eq!(stale.state(NOW), State::WhileRevalidating);
        assert_eq!(cache.purge(Purge::Hard, below), 2);
        assert_eq!(cache.purge(Purge::Hard, below), 0);
        assert!(matches!(find(&cache, "http://h/b", ""), Found::Object(_)));
    }
}
