//! Maglev hashing (Eisenbud and others, NSDI 2016): a table of prime size that the servers fill
//! in turns, each along its own permutation. Shares are even within 1 %, a look-up is one read.

use super::walk::along;
use crate::hash;
use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};
use crate::server::Server;

/// The least primes above successive powers of two. The paper asks for 100 entries a server.
const SIZES: [u32; 7] = [
    65_537, 131_101, 262_147, 524_309, 1_048_583, 2_097_169, 4_194_319,
];
const ENTRIES_PER_SERVER: usize = 100;

#[derive(Debug)]
pub(crate) struct Maglev {
    /// Empty when no server has a weight; else every entry is filled.
    entries: Box<[ServerIndex]>,
}

/// One server while the table is filled.
struct Filler {
    index: ServerIndex,
    weight: u64,
    /// The weight of the turns it took; it may take one more once the round reaches it.
    taken: u64,
    position: u32,
    skip: u32,
}

impl Maglev {
    /// `members` are sorted by name: they take their turns in the same order everywhere.
    pub(super) fn build(members: &[(ServerIndex, &Server)]) -> Self {
        let size = size_for(members.len());
        let mut fillers: Vec<_> = members
            .iter()
            .map(|&member| Filler::new(member, size))
            .collect();
        let heaviest = fillers
            .iter()
            .map(|filler| filler.weight)
            .max()
            .unwrap_or(0);
        if heaviest == 0 {
            return Self {
                entries: Box::default(),
            };
        }
        let mut entries = vec![None; size as usize];
        let mut free = entries.len();
        // In each round the heaviest server takes one entry, a lighter one its part of that.
        for round in 1.. {
            for filler in &mut fillers {
                if round * filler.weight < filler.taken + heaviest {
                    continue;
                }
                filler.taken += heaviest;
                filler.fill_next(&mut entries, size);
                free -= 1;
                if free == 0 {
                    return Self {
                        entries: entries.into_iter().flatten().collect(),
                    };
                }
            }
        }
        Self {
            entries: Box::default(),
        } // the rounds end in the return above
    }

    pub(crate) fn choose(
        &self,
        pool: &Pool,
        tier: &Tier,
        search: &Search<'_>,
    ) -> Option<ServerIndex> {
        let size = u64::try_from(self.entries.len()).ok()?;
        let start = usize::try_from(search.key.checked_rem(size)?).ok()?;
        let (before, after) = self.entries.split_at_checked(start)?;
        along(
            after.iter().chain(before).copied(),
            pool,
            tier,
            search,
            |_| true,
        )
    }
}

impl Filler {
    fn new((index, server): (ServerIndex, &Server), size: u32) -> Self {
        let below = |hash: u64, bound: u32| {
            u32::try_from(hash % u64::from(bound)).unwrap_or_default() // invariant: below a u32
        };
        let name = server.name_hash();
        Self {
            index,
            weight: u64::from(server.weight()),
            taken: 0,
            position: below(name, size),
            skip: below(hash::mix(name), size - 1) + 1,
        }
    }

    /// Takes the next free entry of its permutation. There is one: the permutation visits all.
    fn fill_next(&mut self, entries: &mut [Option<ServerIndex>], size: u32) {
        for _ in 0..size {
            let position = self.position;
            self.position = (position + self.skip) % size; // no overflow: both below 2^23
            if let Some(entry @ None) = entries.get_mut(position as usize) {
                *entry = Some(self.index);
                return;
            }
        }
    }
}

fn size_for(servers: usize) -> u32 {
    let wanted = servers.saturating_mul(ENTRIES_PER_SERVER);
    let [.., largest] = SIZES;
    SIZES
        .into_iter()
        .find(|&size| size as usize >= wanted)
        .unwrap_or(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_prime() {
        for size in SIZES {
            assert!(
                (2..).take_while(|d| d * d <= size).all(|d| size % d != 0),
                "{size}"
            );
        }
    }

    #[test]
    fn a_table_has_100_entries_a_server() {
        assert_eq!(size_for(0), 65_537);
        assert_eq!(size_for(655), 65_537);
        assert_eq!(size_for(656), 131_101);
        assert_eq!(size_for(1_000_000), 4_194_319);
    }
}
