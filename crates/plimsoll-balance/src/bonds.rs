//! Which client belongs to which server: a table of fixed size that all workers share without a
//! lock.
//!
//! A key has eight places where it can be; when others hold all of them, the one that was used
//! longest ago is forgotten. Key and server are two words, so a reader may meet a change half
//! done and find the server of another key: that request goes to the wrong server, and no other.

use crate::hash::{mix, scale};
use crate::pool::ServerIndex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How many entries one key can be in.
const WAYS: usize = 8;

const FREE: u64 = 0;

/// Which client belongs to which server, for as long as it comes back in time.
#[derive(Debug)]
pub struct Bonds {
    idle: Duration,
    sets: Box<[Set]>,
}

/// The keys fill one cache line, the servers the next.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Set {
    keys: [AtomicU64; WAYS],
    /// The second at which the bond ends above, the server below.
    bonds: [AtomicU64; WAYS],
}

impl Bonds {
    /// Creates a table of at least `entries` places of 16 bytes, whose bonds end when they have
    /// not been used for `idle`.
    #[must_use]
    pub fn new(idle: Duration, entries: usize) -> Self {
        let sets = entries.div_ceil(WAYS).max(1);
        Self {
            idle,
            sets: (0..sets).map(|_| Set::default()).collect(),
        }
    }

    /// Finds the server of `key`, and prolongs the bond.
    #[must_use]
    pub fn find(&self, key: u64, now: Duration) -> Option<ServerIndex> {
        let (set, tag) = self.locate(key)?;
        let at = set.keys.iter().position(|own| own.load(Relaxed) == tag)?;
        let place = set.bonds.get(at)?;
        let (until, server) = unpack(place.load(Relaxed));
        if until <= now.as_secs() {
            return None;
        }
        place.store(self.pack(server, now), Relaxed);
        Some(server)
    }

    /// Bonds `key` to `server`.
    pub fn tie(&self, key: u64, server: ServerIndex, now: Duration) {
        let Some((set, tag)) = self.locate(key) else {
            return;
        };
        let own = set.keys.iter().position(|own| own.load(Relaxed) == tag);
        let place = own.or_else(|| set.oldest());
        let Some((at, bond)) = place.and_then(|at| Some((set.keys.get(at)?, set.bonds.get(at)?)))
        else {
            return;
        };
        bond.store(self.pack(server, now), Relaxed);
        at.store(tag, Relaxed);
    }

    fn locate(&self, key: u64) -> Option<(&Set, u64)> {
        let mixed = mix(key);
        let set = scale(mixed, self.sets.len() as u64);
        let set = self.sets.get(usize::try_from(set).ok()?)?;
        Some((set, mixed.max(FREE + 1)))
    }

    fn pack(&self, server: ServerIndex, now: Duration) -> u64 {
        // invariant: a process does not live for 2^32 seconds
        let until = (now + self.idle)
            .as_secs()
            .saturating_add(1)
            .min(u64::from(u32::MAX));
        until << 32 | u64::from(server.0)
    }
}

impl Set {
    /// The place whose bond ends first; one that was never used ends before all.
    fn oldest(&self) -> Option<usize> {
        let ends = self.bonds.iter().map(|bond| bond.load(Relaxed) >> 32);
        ends.enumerate()
            .min_by_key(|&(_, end)| end)
            .map(|(at, _)| at)
    }
}

/// By which numbers a table of bonds knows the servers of a pool. They are the same in the next configuration,
/// wherever a server stands there.
#[derive(Clone, Debug, Default)]
pub struct Numbering {
    /// By number.
    names: Vec<Arc<str>>,
    /// By number: where the server stands; nothing for one that is gone.
    places: Vec<Option<ServerIndex>>,
    /// By place.
    numbers: Vec<ServerIndex>,
}

impl Numbering {
    /// The numbers of servers with these names: their own, or those of servers that are gone, or new ones.
    #[must_use]
    pub fn succeed(&self, names: &[Arc<str>]) -> Self {
        let known: BTreeMap<&str, usize> = (self.names.iter().enumerate())
            .map(|(at, name)| (&**name, at))
            .collect();
        let mut next = Self {
            names: self.names.clone(),
            places: vec![None; self.names.len()],
            numbers: Vec::with_capacity(names.len()),
        };
        let kept: Vec<Option<usize>> = names
            .iter()
            .map(|name| known.get(&**name).copied())
            .collect();
        for (place, number) in (0..).map(ServerIndex).zip(&kept) {
            if let Some(taken) = number.and_then(|number| next.places.get_mut(number)) {
                *taken = Some(place);
            }
        }
        let mut at = 0;
        for ((place, name), number) in (0..).map(ServerIndex).zip(names).zip(kept) {
            let number = number.unwrap_or_else(|| next.give(&mut at, place, name));
            next.numbers
                .push(ServerIndex(u32::try_from(number).unwrap_or(u32::MAX)));
        }
        next
    }

    /// Gives a server the first number from `at` on that no other has.
    fn give(&mut self, at: &mut usize, place: ServerIndex, name: &Arc<str>) -> usize {
        while self.places.get(*at).is_some_and(Option::is_some) {
            *at += 1;
        }
        match (self.places.get_mut(*at), self.names.get_mut(*at)) {
            (Some(free), Some(before)) => (*free, *before) = (Some(place), Arc::clone(name)),
            _ => {
                self.places.push(Some(place));
                self.names.push(Arc::clone(name));
            }
        }
        *at
    }

    /// The number of the server that stands there.
    #[must_use]
    pub fn number(&self, place: ServerIndex) -> Option<ServerIndex> {
        self.numbers.get(place.position()).copied()
    }

    /// Where the server with this number stands.
    #[must_use]
    pub fn place(&self, number: ServerIndex) -> Option<ServerIndex> {
        self.places.get(number.position()).copied().flatten()
    }
}

fn unpack(bond: u64) -> (u64, ServerIndex) {
    let server = u32::try_from(bond & u64::from(u32::MAX)).unwrap_or_default();
    (bond >> 32, ServerIndex(server))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bond_lasts_as_long_as_it_is_used() {
        let bonds = Bonds::new(10 * SECOND, 100);
        let server = ServerIndex(7);
        assert_eq!(bonds.find(1, SECOND), None);
        bonds.tie(1, server, SECOND);
        assert_eq!(bonds.find(1, 9 * SECOND), Some(server));
        assert_eq!(bonds.find(1, 18 * SECOND), Some(server));
        assert_eq!(bonds.find(1, 40 * SECOND), None);
        bonds.tie(1, ServerIndex(8), 41 * SECOND);
        assert_eq!(bonds.find(1, 42 * SECOND), Some(ServerIndex(8)));
    }

    #[test]
    fn servers_keep_their_numbers_wherever_they_stand() {
        let names = |names: &str| names.split(' ').map(Arc::from).collect::<Vec<Arc<str>>>();
        let first = Numbering::default().succeed(&names("a b c"));
        let second = first.succeed(&names("c d e a"));
        let numbers = |numbering: &Numbering| {
            let numbers = numbering.numbers.iter();
            numbers.map(|number| number.0).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&first), [0, 1, 2]);
        assert_eq!(numbers(&second), [2, 1, 3, 0]);
        assert_eq!(second.place(ServerIndex(2)), Some(ServerIndex(0)));
        let third = second.succeed(&names("a"));
        assert_eq!(third.place(ServerIndex(0)), Some(ServerIndex(0)));
        assert_eq!(third.place(ServerIndex(3)), None);
        assert_eq!(third.place(ServerIndex(9)), None);
        assert_eq!(third.number(ServerIndex(1)), None);
    }

    #[test]
    fn many_keys_keep_to_the_memory_and_recent_ones_stay() {
        let bonds = Bonds::new(3600 * SECOND, 1024);
        for key in 0..100_000 {
            bonds.tie(key, ServerIndex(3), Duration::from_millis(key * 10));
        }
        let now = Duration::from_secs(1000);
        let kept =
            |keys: std::ops::Range<u64>| keys.filter(|key| bonds.find(*key, now).is_some()).count();
        assert!(kept(99_900..100_000) > 95);
        assert_eq!(kept(0..90_000), 0);
    }
}
