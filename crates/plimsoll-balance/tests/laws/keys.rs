//! Keys keep their server: over nodes, over the order of the file, and when servers leave.

use crate::{Numbers, addresses, ask, name, specs};
use plimsoll_balance::{Algorithm, Ask, Picker, Pool, ServerIndex, Tried, Wish, hash};
use proptest::prelude::*;

const HASHED: [Algorithm; 2] = [Algorithm::Ring, Algorithm::Maglev];

fn owner(pool: &Pool, picker: &mut Picker, key: u64) -> ServerIndex {
    picker.pick(pool, &ask(key)).unwrap().index()
}

/// Parts of all keys: owned by the removed server, and moved between two that stay.
struct Moved {
    own: f64,
    between_survivors: f64,
}

/// Removes the server at `leaver` from a pool of `servers` and follows `keys` keys.
fn remove_one(algorithm: Algorithm, servers: u32, leaver: usize, keys: u32) -> Moved {
    let mut specs = addresses(servers);
    let before = Pool::new(specs.clone(), algorithm);
    specs.remove(leaver);
    let after = Pool::new(specs, algorithm);
    let (mut old, mut new) = (Picker::new(&before, 0), Picker::new(&after, 0));
    let (mut own, mut between) = (0, 0);
    for key in 0..keys {
        let key = hash::of(&key.to_le_bytes());
        let (old, new) = (owner(&before, &mut old, key), owner(&after, &mut new, key));
        if old.position() == leaver {
            own += 1;
        } else if before.server(old).unwrap().name() != after.server(new).unwrap().name() {
            between += 1;
        }
    }
    let part = |count: u32| f64::from(count) / f64::from(keys);
    Moved {
        own: part(own),
        between_survivors: part(between),
    }
}

#[test]
fn removing_one_server_moves_little_more_than_its_keys() {
    for algorithm in HASHED {
        for servers in [3, 4, 5, 8, 16, 50, 200, 500, 660, 1_000] {
            let keys = if servers <= 16 { 100_000 } else { 20_000 };
            let leaver = servers as usize / 2;
            let Moved {
                own,
                between_survivors,
            } = remove_one(algorithm, servers, leaver, keys);
            let allowed = 1.0 / f64::from(servers) + 0.02;
            println!("{algorithm:?} {servers}: {own:.4} + {between_survivors:.4} of {allowed:.4}");
            assert!(
                own + between_survivors <= allowed,
                "{algorithm:?} {servers}"
            );
            assert!(
                own > 0.5 / f64::from(servers),
                "{algorithm:?} {servers}: too few"
            );
            assert!(algorithm != Algorithm::Ring || between_survivors == 0.0);
        }
    }
}

#[test]
fn a_down_server_loses_its_keys_and_no_other_key_moves() {
    for algorithm in HASHED {
        let pool = Pool::new(addresses(10), algorithm);
        let mut picker = Picker::new(&pool, 0);
        let mut numbers = Numbers(1);
        let keys: Vec<_> = (0..10_000).map(|_| numbers.next()).collect();
        let before: Vec<_> = keys
            .iter()
            .map(|&key| owner(&pool, &mut picker, key))
            .collect();
        pool.servers()[4].set_wish(Wish::Maintain);
        let mut inherited = [0; 10];
        for (&key, &old) in keys.iter().zip(&before) {
            let new = owner(&pool, &mut picker, key);
            if old.position() == 4 {
                inherited[new.position()] += 1;
            } else {
                assert_eq!(new, old);
            }
        }
        assert_eq!(inherited[4], 0);
        let shared = inherited.iter().filter(|&&count| count > 40).count();
        assert_eq!(
            shared, 9,
            "{algorithm:?}: one neighbour inherits too much: {inherited:?}"
        );
        pool.servers()[4].set_wish(Wish::Serve);
        assert!(
            keys.iter()
                .zip(&before)
                .all(|(&key, &old)| owner(&pool, &mut picker, key) == old)
        );
    }
}

#[test]
fn a_mostly_down_pool_serves_every_key_from_what_is_left() {
    for algorithm in HASHED {
        let pool = Pool::new(addresses(2_000), algorithm);
        pool.servers()[2..]
            .iter()
            .for_each(|server| server.set_wish(Wish::Maintain));
        let (mut picker, mut numbers) = (Picker::new(&pool, 0), Numbers(1));
        let mut counts = [0; 2];
        for _ in 0..200 {
            counts[owner(&pool, &mut picker, numbers.next()).position()] += 1;
        }
        assert!(
            counts.iter().all(|&count| count > 50),
            "{algorithm:?}: {counts:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_node_chooses_alike_whatever_the_order_of_the_file(
        weights in proptest::collection::vec(0_u32..6, 2..20),
        seed in any::<u64>(),
        algorithm in proptest::sample::select(&HASHED[..]),
    ) {
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        let mut numbers = Numbers(seed);
        let here = Pool::new(specs(&weights), algorithm);
        let mut shuffled = specs(&weights);
        shuffled.sort_by_cached_key(|_| numbers.next());
        let there = Pool::new(shuffled, algorithm);
        let (mut one, mut two) = (Picker::new(&here, 0), Picker::new(&there, 5));
        for _ in 0..50 {
            let ask = ask(numbers.next());
            let (here, there) = (one.pick(&here, &ask).unwrap(), two.pick(&there, &ask).unwrap());
            prop_assert_eq!(name(&here), name(&there));
        }
    }

    #[test]
    fn a_retry_leaves_the_keys_of_others_alone(seed in any::<u64>(), tried in 0_u32..8) {
        for algorithm in HASHED {
            let pool = Pool::new(addresses(8), algorithm);
            let mut picker = Picker::new(&pool, 0);
            let mut set = Tried::new();
            set.insert(ServerIndex::new(tried));
            let plain = owner(&pool, &mut picker, seed);
            let other = picker.pick(&pool, &Ask { tried: &set, ..ask(seed) }).unwrap().index();
            prop_assert_eq!(plain == other, plain.position() != tried as usize);
        }
    }
}

#[test]
fn the_choice_for_a_known_key_never_changes() {
    // A changed value here moves the keys of every running deployment at its upgrade.
    let expect = [
        (Algorithm::Ring, [3, 4, 2, 3]),
        (Algorithm::Maglev, [1, 1, 1, 2]),
    ];
    for (algorithm, expected) in expect {
        let pool = Pool::new(addresses(5), algorithm);
        let mut picker = Picker::new(&pool, 0);
        let chosen = ["alice", "bob", "carol", "/index.html"]
            .map(|key| owner(&pool, &mut picker, hash::of(key.as_bytes())).position());
        assert_eq!(chosen, expected, "{algorithm:?}");
    }
}

#[test]
fn a_popular_key_does_not_overload_its_server_on_a_ring() {
    let pool = Pool::new(addresses(10), Algorithm::Ring);
    let mut picker = Picker::new(&pool, 0);
    let held: Vec<_> = (0..1_000)
        .map(|_| picker.pick(&pool, &ask(42)).unwrap())
        .collect();
    let most = pool.servers().iter().map(|server| server.in_flight()).max();
    assert_eq!(
        most,
        Some(125),
        "1.25 times the average of {} requests",
        held.len()
    );
}
