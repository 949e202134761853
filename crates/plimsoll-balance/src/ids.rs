//! Which server has given a connection its id: a table of fixed size that all workers share without a lock.
//!
//! An id has eight places where it can be. When all of them are taken, the one that was noted first is. So an id is
//! forgotten when many others have come after it, and what is found is nearly always right: of two ids in one set, one
//! in 2^32 counts as the other.

use crate::hash;
use crate::pool::ServerIndex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How many places an id can be in.
const WAYS: usize = 8;

/// The longest id that is noted (RFC 9000 §17.2); lengths are a set of bits.
const LEN_MAX: usize = 20;

/// The ids of connections, and the servers that gave them.
#[derive(Debug)]
pub struct IdTable {
    sets: Box<[Set]>,
    /// The lengths of ids that were noted, each a bit.
    lengths: AtomicU32,
    seed: u64,
}

/// A cache line. An entry is one word, so that an id never has the server of another one: 32 bits that tell it from
/// others, 16 of its server, and 16 of the second when it was noted. Zero is nothing.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

impl IdTable {
    /// A table of at least `entries` places of 8 bytes. `seed` is secret, so that nobody can choose ids that drive
    /// out others.
    #[must_use]
    pub fn new(entries: usize, seed: u64) -> Self {
        let sets = entries.div_ceil(WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Set::default()).collect(),
            lengths: AtomicU32::new(0),
            seed,
        }
    }

    /// Notes that a server has given this id.
    pub fn note(&self, id: &[u8], server: ServerIndex, now: Duration) {
        let Ok(server) = u16::try_from(server.position()) else {
            return; // more servers than there are numbers for
        };
        if !(1..=LEN_MAX).contains(&id.len()) {
            return;
        }
        let bit = 1 << id.len();
        if self.lengths.load(Relaxed) & bit == 0 {
            self.lengths.fetch_or(bit, Relaxed);
        }
        let (set, tag) = self.locate(id);
        let second = now.as_secs() & 0xffff;
        let entry = tag << 32 | u64::from(server) << 16 | second;
        let Some(Set(places)) = self.sets.get(set) else {
            return;
        };
        // Its own place, or a free one, or the oldest.
        let age = |word: u64| match word {
            0 => u64::MAX,
            word if word >> 32 == tag => u64::MAX,
            word => second.wrapping_sub(word) & 0xffff,
        };
        let place = places.iter().max_by_key(|place| age(place.load(Relaxed)));
        if let Some(place) = place {
            place.store(entry, Relaxed);
        }
    }

    /// The server that gave the id that `bytes` begin with, whatever its length.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> Option<ServerIndex> {
        let lengths = self.lengths.load(Relaxed);
        let lengths = (1..=LEN_MAX).rev().filter(|len| lengths & 1 << len != 0);
        let ids = lengths.filter_map(|len| bytes.get(..len));
        ids.filter_map(|id| self.exact(id)).next()
    }

    fn exact(&self, id: &[u8]) -> Option<ServerIndex> {
        let (set, tag) = self.locate(id);
        let words = self
            .sets
            .get(set)?
            .0
            .iter()
            .map(|place| place.load(Relaxed));
        let mut words = words.filter(|word| *word != 0);
        let word = words.find(|word| word >> 32 == tag)?;
        let [_, _, server, _] =
            [word >> 48, word >> 32, word >> 16, word].map(|part| part & 0xffff);
        u32::try_from(server).ok().map(ServerIndex::new)
    }

    /// Its set, and what tells it from others there, which is not 0.
    fn locate(&self, id: &[u8]) -> (usize, u64) {
        let hash = hash::with_seed(id, self.seed);
        let set = hash::scale(hash, self.sets.len() as u64);
        let tag = (hash & u64::from(u32::MAX)).max(1);
        (usize::try_from(set).unwrap_or_default(), tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ids_are_found_at_the_beginning_of_what_comes() {
        let table = IdTable::new(1024, 7);
        table.note(b"12345678", ServerIndex::new(3), at(1));
        table.note(b"ab", ServerIndex::new(65_535), at(1));
        assert_eq!(table.find(b"12345678 and so on"), Some(ServerIndex::new(3)));
        assert_eq!(table.find(b"ab"), Some(ServerIndex::new(65_535)));
        for other in [&b"1234567"[..], b"a", b"", b"something else"] {
            assert_eq!(table.find(other), None, "{other:?}");
        }
        table.note(b"ab", ServerIndex::new(0), at(2));
        assert_eq!(table.find(b"abc"), Some(ServerIndex::new(0)));
        for not_noted in [&b""[..], &[1; 21]] {
            table.note(not_noted, ServerIndex::new(1), at(1));
        }
        assert_eq!(table.find(&[1; 21]), None);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let table = IdTable::new(WAYS, 7);
        let id = |number: u32| number.to_be_bytes();
        for number in 0..20 {
            table.note(&id(number), ServerIndex::new(number), at(number.into()));
        }
        let found: Vec<_> = (0..20)
            .filter(|number| table.find(&id(*number)).is_some())
            .collect();
        assert_eq!(found, (12..20).collect::<Vec<_>>());
        for number in found {
            assert_eq!(table.find(&id(number)), Some(ServerIndex::new(number)));
        }
    }
}
