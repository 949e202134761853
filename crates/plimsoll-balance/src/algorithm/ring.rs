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

/// The most points of a ring: 12 MiB.
const POINTS_MAX: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Ring {
    hashes: Box<[u64]>,
    owners: Box<[ServerIndex]>,
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
            points.extend((0..count).map(|point| (place(server, point), index)));
        }
        points.sort_by_key(|&(hash, _)| hash);
        let (hashes, owners): (Vec<_>, Vec<_>) = points.into_iter().unzip();
        Self {
            hashes: hashes.into(),
            owners: owners.into(),
        }
    }

    pub(crate) fn choose(
        &self,
        pool: &Pool,
        tier: &Tier,
        search: &Search<'_>,
    ) -> Option<ServerIndex> {
        let start = self.hashes.partition_point(|&hash| hash < search.key);
        let (before, after) = self.owners.split_at_checked(start)?;
        let owners = after.iter().chain(before).copied();
        // Summed at the first server that has load: most keys of a calm pool never need it.
        let loads = std::cell::OnceCell::new();
        along(owners, pool, tier, search, |server| {
            server.in_flight() == 0
                || loads
                    .get_or_init(|| Loads::sum(pool, tier))
                    .has_room_on(server)
        })
    }
}

/// Returns `value * part / whole`, for a part of the whole.
fn scaled(value: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(value) * u128::from(part) / u128::from(whole);
    u64::try_from(scaled).unwrap_or(value) // invariant: at most `value`
}

/// The place of a server's point number `point`: of its name and nothing else.
fn place(server: &Server, point: u64) -> u64 {
    hash::mix(server.name_hash() ^ hash::mix(point))
}

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
    fn has_room_on(&self, server: &Server) -> bool {
        let fair = u128::from(self.in_flight + 1) * u128::from(server.weight()) * 5;
        let bound = fair.div_ceil(u128::from(self.weight.max(1)) * 4);
        u128::from(server.in_flight()) < bound
    }
}
