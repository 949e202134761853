//! How much each key has at the same time, such as connections of one client: a counter with a
//! maximum for each of many keys, on a table of fixed size that all workers share without a lock.
//!
//! A key has eight places where it can be, as in [`rate`](crate::rate). A place is another key's
//! as soon as nothing is held in it, and never before, so that what is held is always counted.
//! When other keys hold something in all eight, [`WhenFull`] decides. A table with eight times
//! as many entries as there are connections is next to never full; one client takes one entry,
//! however many connections it has.

use crate::hash::{mix, scale};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// How many entries one key can be in.
const WAYS: usize = 8;

/// The low bits of an entry count, the high ones tag it with 40 bits of its key's hash. The set
/// is chosen by other bits: of two strangers in one set, one in 2^40 counts as the other.
const COUNT_BITS: u32 = 24;

const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// What happens to a key that finds no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// It is admitted and not counted: a full table limits nobody new.
    Admit,
    /// It is refused: a full table keeps every new key out.
    Refuse,
}

/// A maximum for each of many keys, shared by all workers.
///
/// No key ever holds more than the limit, and one that asks gets all of it; only where two workers
/// bring the same new key to two places at the same moment, the last one may be refused once.
#[derive(Debug)]
pub struct ConcurrencyTable {
    limit: u64,
    when_full: WhenFull,
    sets: Box<[Set]>,
}

/// The entries of the keys that share them: a cache line.
///
/// Tag and count are one word, so that an entry can never be counted for one key and owned by
/// another. A key may be in two places, when another place became free between the looks of two
/// workers at the set; what counts is their sum. Each adds itself first and looks at all places
/// after, in one order for all (hence `SeqCst`): of those who pass the limit together, the last
/// to add sees the others.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// One of what a key may hold, until it is dropped.
#[derive(Debug)]
#[must_use = "what is dropped is given back"]
pub struct Hold {
    table: Arc<ConcurrencyTable>,
    /// Nothing when it was admitted although the table was full.
    place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    set: usize,
    way: usize,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(Place { set, way }) = self.place
            && let Some(entries) = self.table.sets.get(set)
        {
            entries.subtract(way);
        }
    }
}

impl Hold {
    /// Tells whether it is counted, or was admitted although the table was full.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        self.place.is_some()
    }
}

impl ConcurrencyTable {
    /// Creates a table of at least `entries` places of 8 bytes, in which each key may hold
    /// `limit`, 16,777,215 at most.
    #[must_use]
    pub fn new(limit: u32, entries: usize, when_full: WhenFull) -> Arc<Self> {
        let sets = entries.div_ceil(WAYS).max(1);
        Arc::new(Self {
            limit: u64::from(limit).min(COUNT_MASK),
            when_full,
            sets: (0..sets).map(|_| Set::default()).collect(),
        })
    }

    /// Takes one for `key`, unless it holds its limit.
    pub fn acquire(self: &Arc<Self>, key: u64) -> Option<Hold> {
        let (set, tag) = self.locate(key);
        let entries = self.sets.get(set)?;
        let hold = |place| Hold {
            table: Arc::clone(self),
            place,
        };
        // A turn is lost only when another worker changed the same entry meanwhile.
        loop {
            let view = entries.view(tag);
            if view.held >= self.limit {
                return None;
            }
            let Some((way, before)) = view.place else {
                return match self.when_full {
                    WhenFull::Admit => Some(hold(None)),
                    WhenFull::Refuse => None,
                };
            };
            if !entries.add(way, tag, before) {
                continue;
            }
            if entries.view(tag).held <= self.limit {
                return Some(hold(Some(Place { set, way })));
            }
            entries.subtract(way);
            return None;
        }
    }

    /// Returns how much `key` holds.
    #[must_use]
    pub fn held(&self, key: u64) -> u32 {
        let (set, tag) = self.locate(key);
        let held = self.sets.get(set).map_or(0, |set| set.view(tag).held);
        u32::try_from(held).unwrap_or(u32::MAX)
    }

    /// Returns the set of `key` and its tag, in place above the count.
    fn locate(&self, key: u64) -> (usize, u64) {
        let mixed = mix(key);
        let set = scale(mixed, self.sets.len() as u64);
        (
            usize::try_from(set).unwrap_or_default(),
            mixed << COUNT_BITS,
        )
    }
}

/// What a key sees of its set.
struct View {
    /// What it holds in all its places.
    held: u64,
    /// Its place, or one that may become it, and the word that was there.
    place: Option<(usize, u64)>,
}

impl Set {
    fn view(&self, tag: u64) -> View {
        let (mut held, mut own, mut free) = (0, None, None);
        for (way, entry) in self.0.iter().enumerate() {
            let word = entry.load(SeqCst);
            if word & !COUNT_MASK == tag {
                held += word & COUNT_MASK;
                own = own.or(Some((way, word)));
            } else if word & COUNT_MASK == 0 {
                free = free.or(Some((way, word)));
            }
        }
        View {
            held,
            place: own.or(free),
        }
    }

    /// Adds one for `tag` to the entry that was `before`, unless it is not that any more.
    fn add(&self, way: usize, tag: u64, before: u64) -> bool {
        let after = tag | ((before & COUNT_MASK) + 1);
        self.0.get(way).is_some_and(|entry| {
            entry
                .compare_exchange(before, after, SeqCst, SeqCst)
                .is_ok()
        })
    }

    fn subtract(&self, way: usize) {
        if let Some(entry) = self.0.get(way) {
            let before = entry.fetch_sub(1, SeqCst);
            debug_assert!(before & COUNT_MASK > 0, "given back what nobody held");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_holds_its_limit_and_no_more() {
        let table = ConcurrencyTable::new(2, 64, WhenFull::Refuse);
        let (one, two) = (table.acquire(1).unwrap(), table.acquire(1).unwrap());
        assert!(table.acquire(1).is_none());
        assert_eq!((table.held(1), table.held(2)), (2, 0));
        drop(one);
        let one = table.acquire(1).unwrap();
        assert!(table.acquire(1).is_none());
        drop(one);
        drop(two);
        assert_eq!(table.held(1), 0);
    }

    #[test]
    fn nothing_may_be_held_under_a_limit_of_nothing() {
        let table = ConcurrencyTable::new(0, 0, WhenFull::Admit);
        assert!(table.acquire(1).is_none());
    }

    #[test]
    fn a_full_set_does_what_it_was_told_and_forgets_nobody() {
        for (when_full, admitted) in [(WhenFull::Admit, true), (WhenFull::Refuse, false)] {
            let table = ConcurrencyTable::new(1, 8, when_full);
            let mut held: Vec<_> = (0..8).map(|key| table.acquire(key).unwrap()).collect();
            let ninth = table.acquire(8);
            assert_eq!(ninth.is_some(), admitted);
            assert!(ninth.is_none_or(|hold| {
                let counted = hold.is_counted();
                drop(hold);
                !counted
            }));
            assert!((0..8).all(|key| table.acquire(key).is_none()));
            drop(held.swap_remove(3));
            assert!(table.acquire(8).is_some_and(|hold| hold.is_counted()));
        }
    }

    #[test]
    fn a_place_with_nothing_in_it_is_anybodys() {
        let table = ConcurrencyTable::new(1, 8, WhenFull::Refuse);
        for key in 0..10_000 {
            let hold = table.acquire(key).unwrap();
            drop(hold);
        }
    }
}
