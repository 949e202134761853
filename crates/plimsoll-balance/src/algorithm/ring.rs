//! A consistent-hash ring with bounded load.
//!
//! Every server owns points in proportion to its weight; a key belongs to the first point after
//! it. Taking one of N servers away moves its own keys and no other. A server with more than 1.25
//! times its fair part of the requests in flight passes its keys on to the next point (Mirrokni,
//! Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads").

use super::walk::along;
use crate::eligible::{Eligibility, eligibility};
use crate::hash;
use crate::pick::Search;
use crate::pool::{Pool, ServerIndex, Tier};
use crate::server::Server;
use crate::tried::Tried;

/// Points for each unit of weight: with 3 equal servers a share is off by about 1 % of all keys.
const POINTS_PER_WEIGHT: u64 = 1024;

/// The most points of a ring: 8 MiB.
const POINTS_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Ring {
    points: Box<[Point]>,
    index: Index,
}

/// Where a server's keys end. The first half of a hash tells points apart well enough, and a point
/// and its owner are found with one look into memory.
#[derive(Clone, Copy, Debug)]
struct Point {
    place: u32,
    owner: ServerIndex,
}

impl Ring {
    /// `members` are sorted by name, so that of two equal points the same one wins everywhere.
    pub(super) fn build(members: &[(ServerIndex, &Server)]) -> Self {
        let total: u64 = members
            .iter()
            .map(|(_, server)| u64::from(server.weight()))
            .sum();
        // Past the cap every server keeps a prefix of its points, shorter as the total grows. A
        // removed server then lengthens all others by its own part: up to as many keys again move.
        let wanted = total.saturating_mul(POINTS_PER_WEIGHT).max(1);
        let kept = wanted.min(POINTS_MAX);
        let mut points = Vec::new();
        for &(index, server) in members {
            let count = scaled(u64::from(server.weight()) * POINTS_PER_WEIGHT, kept, wanted).max(1);
            points.extend((0..count).map(|number| Point {
                place: place_of(point_hash(server, number)),
                owner: index,
            }));
        }
        points.sort_by_key(|point| point.place);
        Self {
            index: Index::of(&points),
            points: points.into(),
        }
    }

    pub(crate) fn choose(
        &self,
        known: &mut Known,
        pool: &Pool,
        tier: &Tier,
        search: &Search<'_>,
    ) -> Option<ServerIndex> {
        let start = self.index.find(&self.points, place_of(search.key));
        let (before, after) = self.points.split_at_checked(start)?;
        let owners = after.iter().chain(before).map(|point| point.owner);
        let loads = std::cell::OnceCell::new();
        let known = std::cell::RefCell::new(known);
        along(owners, pool, tier, search, |server| {
            // Most keys of a calm pool never need to know.
            server.in_flight() == 0
                || loads
                    .get_or_init(|| known.borrow_mut().loads(pool, tier))
                    .has_room_on(server)
        })
    }
}

/// Where the points begin that share their first bits: they are spread evenly, so each such group is
/// a few points, and a key is found with two looks into memory instead of one a bit.
///
/// A group is gone through from its beginning: its points are next to each other, and a processor
/// that guesses the end of the loop has asked for the server before it knows.
#[derive(Debug)]
struct Index {
    /// How many bits of a place are not the first ones.
    shift: u32,
    /// By first bits.
    starts: Box<[u32]>,
}

/// Points in a group, in the mean, and up to twice as many: the index of the largest ring takes
/// 256 KiB, which stay in a near cache.
const GROUP: usize = 16;

impl Index {
    fn of(points: &[Point]) -> Self {
        let bits = (points.len() / GROUP).max(2).ilog2();
        let shift = u32::BITS - bits;
        let groups = 1_u32 << bits;
        let start = |group: u32| {
            let at = points.partition_point(|point| point.place >> shift < group);
            u32::try_from(at).unwrap_or(u32::MAX) // invariant: at most POINTS_MAX and a few
        };
        Self {
            shift,
            starts: (0..groups).map(start).collect(),
        }
    }

    /// Returns the number of the first point that is not before `place`.
    fn find(&self, points: &[Point], place: u32) -> usize {
        let group = (place >> self.shift) as usize;
        let start = self.starts.get(group).map_or(0, |&start| start as usize);
        let after = points.get(start..).unwrap_or_default();
        start + after.iter().take_while(|point| point.place < place).count()
    }
}

/// Where a hash is on the ring.
fn place_of(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Returns `value * part / whole`, for a part of the whole.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(part) / u128::from(whole);
    u64::try_from(scaled).unwrap_or(value) // invariant: at most `value`
}

/// The hash of a server's point number `point`: of its name and nothing else.
fn point_hash(server: &Server, point: u64) -> u64 {
    hash::mix(server.name_hash() ^ hash::mix(point))
}

/// What all servers of a tier have together, as one worker knows it. Summed anew after a part of
/// as many picks as there are servers: until then it is off by that part of a request a server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    loads: Loads,
    picks_left: usize,
}

/// The part: an eighth.
const PICKS_PER_SERVER: usize = 8;

impl Known {
    fn loads(&mut self, pool: &Pool, tier: &Tier) -> Loads {
        if self.picks_left == 0 {
            self.loads = Loads::sum(pool, tier);
            self.picks_left = tier.members.len() / PICKS_PER_SERVER;
        } else {
            self.picks_left -= 1;
        }
        self.loads
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Loads {
    in_flight: u64,
    weight: u64,
}

impl Loads {
    /// Adds up the servers that are up, full ones included: their load is part of the average.
    fn sum(pool: &Pool, tier: &Tier) -> Self {
        let mut sum = Self {
            in_flight: 0,
            weight: 0,
        };
        let none = Tried::new();
        for &index in &tier.members {
            let Some(server) = pool.server(index) else {
                continue;
            };
            if eligibility(index, server, &none) != Eligibility::Down {
                sum.in_flight += u64::from(server.in_flight());
                sum.weight += u64::from(server.weight());
            }
        }
        sum
    }

    /// Tells whether `server` stays within ceil(1.25 x its fair part) with one request more.
    ///
    /// An integer is below ceil(a / b) when b times as much is below a: no division is needed.
    fn has_room_on(&self, server: &Server) -> bool {
        self.has_room_for(server.weight(), server.in_flight())
    }

    fn has_room_for(&self, weight: u32, in_flight: u32) -> bool {
        let fair = u128::from(self.in_flight + 1) * u128::from(weight) * 5;
        u128::from(in_flight) * u128::from(self.weight.max(1)) * 4 < fair
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(place: u32) -> Point {
        Point {
            place,
            owner: ServerIndex::new(0),
        }
    }

    /// At every point, beside it, at both ends and at a thousand other places.
    fn check_index(mut points: Vec<Point>) {
        points.sort_by_key(|point| point.place);
        let index = Index::of(&points);
        let beside = points
            .iter()
            .flat_map(|point| [-1, 0, 1].map(|by| point.place.wrapping_add_signed(by)));
        let others = (0..1000).map(|n| place_of(hash::mix(n + 77)));
        for place in beside.chain(others).chain([0, 1, u32::MAX]) {
            let expected = points.partition_point(|point| point.place < place);
            let count = points.len();
            assert_eq!(index.find(&points, place), expected, "{count} {place}");
        }
    }

    #[test]
    fn the_index_finds_what_a_search_finds() {
        let counts = (0..200).chain([1023, 1024, 1025, 5000]);
        for count in counts {
            // Every place twice: of equal points the first is found.
            check_index((0..count).map(|n| at(place_of(hash::mix(n / 2)))).collect());
        }
    }

    #[test]
    fn the_index_finds_what_a_search_finds_where_points_are_not_even() {
        for count in [1_u32, 40, 1000] {
            check_index((0..count).map(at).collect());
            check_index((0..count).map(|n| at(u32::MAX - n)).collect());
            check_index(vec![at(1 << 31); count as usize]);
            check_index((0..count).map(|n| at((n % 2) << 31 | n)).collect());
        }
    }

    #[test]
    fn the_bound_without_a_division_is_the_bound() {
        for weight in 1..=12 {
            for (total, of_all) in (0..60).flat_map(|all| (0..20).map(move |of| (all, of))) {
                let loads = Loads {
                    in_flight: total,
                    weight: of_all,
                };
                let bound = ((total + 1) * weight * 5).div_ceil(of_all.max(1) * 4);
                for own in 0..=100 {
                    let has_room = loads.has_room_for(u32::try_from(weight).unwrap(), own);
                    assert_eq!(has_room, u64::from(own) < bound, "{loads:?} {weight} {own}");
                }
            }
        }
        let most = Loads {
            in_flight: u64::MAX - 1,
            weight: u64::MAX,
        };
        assert!(most.has_room_for(u32::MAX, u32::MAX));
    }
}
