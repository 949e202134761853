//! The servers one request has already been sent to.

use crate::pool::ServerIndex;

/// A set of server indices that allocates nothing while every index is below 64.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    first: u64,
    /// Indices from 64 up, 64 to a word; empty until one is inserted.
    rest: Vec<u64>,
}

impl Tried {
    /// Creates the empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            first: 0,
            rest: Vec::new(),
        }
    }

    /// Adds `index`.
    pub fn insert(&mut self, index: ServerIndex) {
        let (word, bit) = place(index);
        let Some(word) = word.checked_sub(1) else {
            self.first |= bit;
            return;
        };
        if self.rest.len() <= word {
            self.rest.resize(word + 1, 0);
        }
        if let Some(bits) = self.rest.get_mut(word) {
            *bits |= bit;
        }
    }

    /// Tells whether `index` was inserted.
    #[must_use]
    #[inline]
    pub fn contains(&self, index: ServerIndex) -> bool {
        let (word, bit) = place(index);
        match word.checked_sub(1) {
            None => self.first & bit != 0,
            Some(word) => self.rest.get(word).is_some_and(|bits| bits & bit != 0),
        }
    }

    /// Returns how many servers were tried.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.first.count_ones() + self.rest.iter().map(|bits| bits.count_ones()).sum::<u32>()
    }

    /// Tells whether no server was tried.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets every server and keeps the memory, for the next request of the connection.
    pub fn clear(&mut self) {
        self.first = 0;
        self.rest.fill(0);
    }
}

#[inline]
fn place(index: ServerIndex) -> (usize, u64) {
    let position = index.position();
    (position / 64, 1 << (position % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_set(
            inserted in proptest::collection::vec(0_u32..1_000, 0..50),
            asked in 0_u32..1_100,
        ) {
            let mut tried = Tried::new();
            let model: BTreeSet<u32> = inserted.iter().copied().collect();
            for &index in &inserted {
                tried.insert(ServerIndex::new(index));
            }
            prop_assert_eq!(tried.contains(ServerIndex::new(asked)), model.contains(&asked));
            prop_assert_eq!(tried.len() as usize, model.len());
            tried.clear();
            prop_assert!(tried.is_empty());
            prop_assert!(!tried.contains(ServerIndex::new(asked)));
        }
    }

    #[test]
    fn the_first_64_servers_need_no_memory() {
        let mut tried = Tried::new();
        (0..64).for_each(|index| tried.insert(ServerIndex::new(index)));
        assert_eq!((tried.len(), tried.rest.capacity()), (64, 0));
    }
}
