//! What is on disk, as far as memory knows it: whom each file is for, what it can be purged by, and which goes first.

use std::collections::BTreeSet;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use plimsoll_http::caching::Selection;
use plimsoll_http::head::RequestHead;
use slab::Slab;
use xxhash_rust::xxh3::xxh3_64;

use crate::disk::file::{self, Id};
use crate::purge::Selector;

/// What a record takes beside its key, its tags and the names that its answer varies by, about: itself, and its places in the
/// table and in the order.
const RECORD_BYTES: u64 = 192;

/// The longest key and the most tags that are kept track of: what has more is not written.
pub(super) const KEY_BYTES_MAX: usize = 2048;
pub(super) const TAGS_MAX: usize = 64;

/// Files take whole blocks of a disk.
const DISK_BLOCK_BYTES: u64 = 4096;

/// A file.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) key: Box<[u8]>,
    pub(super) id: Id,
    /// What its answer varies by.
    names: Box<[Box<[u8]>]>,
    /// Checksums of the words that it can be purged by.
    tags: Box<[u64]>,
    /// What it takes on disk.
    bytes: u64,
    /// When it came or got a second chance, in milliseconds since 1970: the least goes first.
    stamp: u64,
    /// Whether it has answered since.
    is_used: bool,
    /// Which of all writes it is of.
    turn: u64,
    /// Whether it has been written: nothing is read of it before.
    is_written: bool,
    /// Whether it was purged so that it still answers where a stale one may.
    is_purged: bool,
}

/// A file that answers a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) id: Id,
    /// Whether it was purged since it was written.
    pub(super) is_purged: bool,
}

impl Record {
    /// That of a file of this length; nothing where it would take too much memory.
    pub(super) fn new(
        (key, selection): (&[u8], &Selection),
        tags: &[Box<[u8]>],
        length: u64,
        came: u64,
    ) -> Option<Self> {
        let fits = key.len() <= KEY_BYTES_MAX && tags.len() <= TAGS_MAX;
        fits.then(|| Self {
            key: key.into(),
            id: file::id(key, selection),
            names: selection.names().into(),
            tags: tags.iter().map(|tag| xxh3_64(tag)).collect(),
            bytes: length.next_multiple_of(DISK_BLOCK_BYTES),
            stamp: came,
            is_used: false,
            turn: 0,
            is_written: false,
            is_purged: false,
        })
    }

    /// The same, purged or not.
    pub(super) fn purged(self, is_purged: bool) -> Self {
        Self { is_purged, ..self }
    }

    /// Tells whether it was purged since it was written.
    pub(super) fn is_purged(&self) -> bool {
        self.is_purged
    }

    /// What it takes of memory.
    fn memory(&self) -> u64 {
        let names = self.names.iter().map(|name| name.len() + 32).sum::<usize>();
        RECORD_BYTES + (self.key.len() + self.tags.len() * 8 + names) as u64
    }

    pub(super) fn is(&self, selector: &Selector<'_>) -> bool {
        match selector {
            Selector::Tag(tag) => self.tags.contains(&xxh3_64(tag)),
            of_keys => of_keys.takes_key(&self.key),
        }
    }
}

/// How much is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of files, each counted in whole blocks.
    pub bytes: u64,
    /// Bytes of memory that keeping track of them takes.
    pub memory: u64,
    /// How many files there are.
    pub files: usize,
}

/// All files.
#[derive(Debug, Default)]
pub(super) struct Index {
    hasher: DefaultHashBuilder,
    records: Slab<Record>,
    /// Places of records, by their keys.
    places: HashTable<usize>,
    /// Places of records, by when they go.
    order: BTreeSet<(u64, usize)>,
    bytes: u64,
    memory: u64,
    /// Counts what is written.
    turn: u64,
    /// The last stamp that was given.
    latest: u64,
}

impl Index {
    /// How much there is.
    pub(super) fn size(&self) -> Size {
        Size {
            bytes: self.bytes,
            memory: self.memory,
            files: self.records.len(),
        }
    }

    /// The file that answers a request for `key`.
    pub(super) fn find(
        &mut self,
        key: &[u8],
        request: &RequestHead,
        bytes: &[u8],
    ) -> Option<Found> {
        let Self {
            records, places, ..
        } = self;
        let mut of_key = places.iter_hash(self.hasher.hash_one(key)).copied();
        let place = of_key.find(|place| {
            records.get(*place).is_some_and(|record| {
                *record.key == *key
                    && record.is_written
                    && (record.names.is_empty()
                        || file::id(key, &Selection::by(&record.names, request, bytes))
                            == record.id)
            })
        });
        let record = records.get_mut(place?)?;
        record.is_used = true;
        Some(Found {
            id: record.id,
            is_purged: record.is_purged,
        })
    }

    /// Takes a record of what is about to be written, in place of one for the same requests; tells which time that is.
    pub(super) fn begin(&mut self, record: Record) -> u64 {
        self.take(&record.key, record.id);
        self.turn += 1;
        let turn = self.turn;
        let stamp = self.stamp(record.stamp);
        self.put(Record {
            turn,
            stamp,
            ..record
        });
        turn
    }

    /// A place at the end of the order, for what came or was of use now: also within one millisecond, order is kept.
    fn stamp(&mut self, now: u64) -> u64 {
        self.latest = now.max(self.latest + 1);
        self.latest
    }

    /// Takes note that a file was written; tells whether that still is the one that is wanted.
    pub(super) fn finish(&mut self, key: &[u8], id: Id, turn: u64) -> bool {
        let record = self.place(key, id).and_then(|at| self.records.get_mut(at));
        let record = record.filter(|record| record.turn == turn);
        record.map(|record| record.is_written = true).is_some()
    }

    /// Tells whether there is a record of this file.
    pub(super) fn has(&self, record: &Record) -> bool {
        self.place(&record.key, record.id).is_some()
    }

    /// Takes a record of a file that was found there, unless there is one that is newer; tells whether it did.
    pub(super) fn add(&mut self, record: Record) -> bool {
        let is_new = !self.has(&record);
        if is_new {
            self.put(Record {
                is_written: true,
                ..record
            });
        }
        is_new
    }

    /// Forgets a file; tells whether there was one.
    pub(super) fn take(&mut self, key: &[u8], id: Id) -> bool {
        let place = self.place(key, id);
        place.map(|place| self.drop_at(place)).is_some()
    }

    /// Forgets the file that goes first, unless that has been of use lately: then it gets a second chance, as one of `now`.
    pub(super) fn evict(&mut self, now: u64) -> Option<Record> {
        // Each of them at most once: their marks are gone then.
        for _ in 0..=self.records.len() {
            let (stamp, place) = *self.order.first()?;
            let record = self.records.get_mut(place)?;
            if !std::mem::take(&mut record.is_used) {
                return Some(self.drop_at(place));
            }
            self.order.remove(&(stamp, place));
            let stamp = self.stamp(now);
            self.order.insert((stamp, place));
            self.records.get_mut(place)?.stamp = stamp;
        }
        None
    }

    /// The files that `selector` takes, and with each of them those of the same key if they go.
    pub(super) fn select(&self, selector: &Selector<'_>, with_key: bool) -> Vec<Record> {
        let taken = || {
            self.records
                .iter()
                .filter(|(_, record)| record.is(selector))
        };
        if !with_key {
            return taken().map(|(_, record)| record.clone()).collect();
        }
        let keys: BTreeSet<&[u8]> = taken().map(|(_, record)| &*record.key).collect();
        let of_keys = self.records.iter().map(|(_, record)| record);
        of_keys
            .filter(|record| keys.contains(&*record.key))
            .cloned()
            .collect()
    }

    /// The ids of the files of one key.
    pub(super) fn of_key(&self, key: &[u8]) -> Vec<Id> {
        let places = self.places.iter_hash(self.hasher.hash_one(key));
        let records = places.filter_map(|place| self.records.get(*place));
        records
            .filter(|record| *record.key == *key)
            .map(|record| record.id)
            .collect()
    }

    /// Takes note that files were purged so that they still answer where stale ones may.
    pub(super) fn expire(&mut self, records: &[Record]) {
        for record in records {
            let place = self.place(&record.key, record.id);
            if let Some(record) = place.and_then(|place| self.records.get_mut(place)) {
                record.is_purged = true;
            }
        }
    }

    fn place(&self, key: &[u8], id: Id) -> Option<usize> {
        let found = self.places.find(self.hasher.hash_one(key), |place| {
            let record = self.records.get(*place);
            record.is_some_and(|record| record.id == id && *record.key == *key)
        });
        found.copied()
    }

    fn put(&mut self, record: Record) {
        let Self {
            hasher, records, ..
        } = self;
        self.bytes += record.bytes;
        self.memory += record.memory();
        let (hash, stamp) = (hasher.hash_one(&record.key), record.stamp);
        let place = records.insert(record);
        self.order.insert((stamp, place));
        self.places.insert_unique(hash, place, |place| {
            records
                .get(*place)
                .map_or(0, |record| hasher.hash_one(&record.key))
        });
    }

    fn drop_at(&mut self, place: usize) -> Record {
        let record = self.records.remove(place);
        let hash = self.hasher.hash_one(&record.key);
        if let Ok(entry) = self.places.find_entry(hash, |other| *other == place) {
            entry.remove();
        }
        self.order.remove(&(record.stamp, place));
        self.bytes -= record.bytes;
        self.memory -= record.memory();
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_http::h1::parse::{self, HeadLimits};

    fn selection(name: &str, value: &str) -> Selection {
        let names =
            [(name, value)].map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()));
        Selection::of_parts(
            names
                .into_iter()
                .filter(|(name, _): &(Box<[u8]>, Box<[u8]>)| !name.is_empty()),
        )
    }

    fn record(key: &str, by: (&str, &str), came: u64) -> Record {
        let tags = [Box::from(key.as_bytes()), Box::from(&b"all"[..])];
        let selection = selection(by.0, by.1);
        Record::new((key.as_bytes(), &selection), &tags, 5000, came).unwrap()
    }

    fn write(index: &mut Index, record: Record) {
        let (key, id) = (record.key.clone(), record.id);
        let turn = index.begin(record);
        assert!(index.finish(&key, id, turn));
    }

    fn find(index: &mut Index, key: &str, lines: &str) -> Option<Id> {
        let text = format!("GET / HTTP/1.1\r\n{lines}\r\n");
        let mut head = RequestHead::default();
        parse::request(text.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
        index
            .find(key.as_bytes(), &head, text.as_bytes())
            .map(|found| found.id)
    }

    #[test]
    fn files_answer_whom_they_are_for_once_they_are_written() {
        let mut index = Index::default();
        let turn = index.begin(record("a", ("", ""), 1));
        assert_eq!(find(&mut index, "a", ""), None);
        let id = record("a", ("", ""), 1).id;
        assert!(!index.finish(b"a", id, turn - 1) && index.finish(b"a", id, turn));
        assert_eq!(
            (find(&mut index, "a", ""), find(&mut index, "b", "")),
            (Some(id), None)
        );
        for value in ["1", "2"] {
            write(&mut index, record("b", ("x", &format!(",{value}")), 1));
        }
        assert_ne!(
            find(&mut index, "b", "X: 1\r\n"),
            find(&mut index, "b", "X: 2\r\n")
        );
        assert_eq!(
            (find(&mut index, "b", "X: 3\r\n"), index.size().files),
            (None, 3)
        );
        assert_eq!(
            (index.size().bytes, index.of_key(b"b").len()),
            (3 * 8192, 2)
        );
    }

    #[test]
    fn what_is_new_takes_the_place_of_what_was_found_and_not_the_other_way_round() {
        let mut index = Index::default();
        assert!(index.add(record("a", ("", ""), 1)));
        let turn = index.begin(record("a", ("", ""), 2));
        assert!(!index.add(record("a", ("", ""), 1)));
        assert!(index.finish(b"a", record("a", ("", ""), 2).id, turn));
        assert_eq!((index.size().files, index.size().bytes), (1, 8192));
    }

    #[test]
    fn the_oldest_goes_first_unless_it_is_of_use() {
        let mut index = Index::default();
        for (key, came) in [("c", 3), ("a", 1), ("b", 2)] {
            assert!(index.add(record(key, ("", ""), came)));
        }
        assert!(find(&mut index, "a", "").is_some());
        let gone: Vec<_> = std::iter::from_fn(|| index.evict(9))
            .map(|record| String::from_utf8(record.key.into()).unwrap())
            .collect();
        assert_eq!(gone, ["b", "c", "a"]);
        assert_eq!(index.size(), Size::default());
        assert!(index.order.is_empty() && index.places.is_empty());
    }

    #[test]
    fn files_are_selected_by_url_prefix_and_tag() {
        let mut index = Index::default();
        for key in ["http://h/a/1", "http://h/a/2", "http://h/b"] {
            write(&mut index, record(key, ("", ""), 1));
        }
        write(&mut index, record("http://h/b", ("x", ",1"), 1));
        let count = |selector| index.select(&selector, true).len();
        assert_eq!(count(Selector::Url(b"http://h/b")), 2);
        assert_eq!(count(Selector::Prefix(b"http://h/a/")), 2);
        assert_eq!(count(Selector::Tag(b"http://h/a/1")), 1);
        assert_eq!(count(Selector::Tag(b"all")), 4);
        assert_eq!(count(Selector::Tag(b"none")), 0);
    }

    #[test]
    fn what_takes_too_much_memory_is_not_kept_track_of() {
        let none = Selection::default();
        assert!(Record::new((&[b'x'; KEY_BYTES_MAX + 1], &none), &[], 1, 1).is_none());
        let tags = vec![Box::from(&b"t"[..]); TAGS_MAX + 1];
        assert!(Record::new((b"k", &none), &tags, 1, 1).is_none());
    }
}
