//! Each server gets its part.

use crate::{Numbers, addresses, ask, name, names, spec, specs};
use plimsoll_balance::{Algorithm, Picker, Pool, Wish};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn count(names: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// The largest difference between a server's share of `picks` and its share of the weights.
fn error(weights: &[u32], picks: Vec<String>) -> f64 {
    let (total, sum) = (picks.len() as f64, f64::from(weights.iter().sum::<u32>()));
    let counts = count(picks);
    ('a'..)
        .zip(weights)
        .map(|(name, &weight)| {
            let share = *counts.get(&name.to_string()).unwrap_or(&0) as f64 / total;
            (share - f64::from(weight) / sum).abs()
        })
        .fold(0.0, f64::max)
}

proptest! {
    #[test]
    fn round_robin_is_exact_over_a_cycle(weights in proptest::collection::vec(0_u32..20, 1..12)) {
        let cycle = weights.iter().sum::<u32>() as usize;
        prop_assume!(cycle > 0);
        let pool = Pool::new(specs(&weights), Algorithm::RoundRobin);
        let counts = count(names(&pool, 2, cycle));
        for (name, &weight) in ('a'..).zip(&weights) {
            prop_assert_eq!(*counts.get(&name.to_string()).unwrap_or(&0), weight as usize);
        }
    }

    /// Between two picks of a server of weight w out of W there are never more than two of its
    /// intervals: the shares hold over short times too.
    #[test]
    fn round_robin_leaves_no_long_gap(weights in proptest::collection::vec(1_u32..20, 1..8)) {
        let cycle = weights.iter().sum::<u32>() as usize;
        let picks = names(&Pool::new(specs(&weights), Algorithm::RoundRobin), 0, 3 * cycle);
        for (name, &weight) in ('a'..).zip(&weights) {
            let at: Vec<_> =
                (0..picks.len()).filter(|&i| picks[i] == name.to_string()).collect();
            let longest = at.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
            prop_assert!(longest <= 2 * cycle.div_ceil(weight as usize), "{name}: {longest}");
        }
    }
}

#[test]
fn smooth_round_robin_is_the_known_sequence() {
    let pool = Pool::new(specs(&[5, 1, 1]), Algorithm::RoundRobin);
    assert_eq!(names(&pool, 0, 14).concat(), "aabacaaaabacaa");
}

#[test]
fn a_server_that_leaves_round_robin_gives_its_share_to_all_and_comes_back_without_a_burst() {
    let pool = Pool::new(specs(&[1, 1, 1, 1]), Algorithm::RoundRobin);
    let mut picker = Picker::new(&pool, 0);
    let mut take = |count| -> BTreeMap<String, usize> {
        self::count((0..count).map(|_| name(&picker.pick(&pool, &ask(0)).unwrap())))
    };
    take(2);
    pool.servers()[1].set_wish(Wish::Maintain);
    let without = take(300);
    assert!(
        without.values().all(|&count| (99..=101).contains(&count)),
        "{without:?}"
    );
    pool.servers()[1].set_wish(Wish::Serve);
    assert!(take(4)["b"] <= 2);
}

#[test]
fn workers_start_at_different_servers() {
    for algorithm in [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::LeastTime,
    ] {
        let pool = Pool::new(specs(&[1; 8]), algorithm);
        let first: String = (0..8)
            .map(|worker| names(&pool, worker, 1).concat())
            .collect();
        assert_eq!(first, "abcdefgh", "{algorithm:?}");
    }
}

#[test]
fn random_choices_follow_the_weights() {
    for weights in [vec![1, 1], vec![5, 1, 1], vec![1, 0, 3, 7, 2], vec![1; 25]] {
        for algorithm in [Algorithm::Random, Algorithm::TwoChoices] {
            let pool = Pool::new(specs(&weights), algorithm);
            let error = error(&weights, names(&pool, 0, 40_000));
            assert!(error < 0.01, "{algorithm:?} {weights:?}: {error}");
        }
    }
}

#[test]
fn random_choices_follow_the_weights_of_the_servers_that_are_left() {
    let all = [4, 1, 3, 2, 40, 1, 1, 1];
    let left = [4, 1, 3, 2, 0, 0, 0, 0];
    for algorithm in [Algorithm::Random, Algorithm::TwoChoices] {
        let pool = Pool::new(specs(&all), algorithm);
        pool.servers()[4..]
            .iter()
            .for_each(|server| server.set_wish(Wish::Maintain));
        let error = error(&left, names(&pool, 0, 40_000));
        assert!(error < 0.01, "{algorithm:?}: {error}");
    }
}

#[test]
fn held_requests_follow_the_weights() {
    let weights = [1, 2, 4, 8];
    for algorithm in [
        Algorithm::RoundRobin,
        Algorithm::Random,
        Algorithm::TwoChoices,
        Algorithm::LeastConnections,
        Algorithm::LeastTime,
    ] {
        let pool = Pool::new(specs(&weights), algorithm);
        let (mut picker, mut numbers) = (Picker::new(&pool, 0), Numbers(3));
        let held: Vec<_> = (0..30_000)
            .map(|_| picker.pick(&pool, &ask(numbers.next())).unwrap())
            .collect();
        let error = error(&weights, held.iter().map(name).collect());
        assert!(error < 0.01, "{algorithm:?}: {error}");
    }
}

#[test]
fn maglev_shares_are_within_one_percent_of_the_weights() {
    for weights in [
        vec![1; 3],
        vec![1, 2, 3, 4],
        vec![100, 1, 50, 7, 0, 33],
        vec![1; 20],
    ] {
        let pool = Pool::new(specs(&weights), Algorithm::Maglev);
        let error = error(&weights, names(&pool, 0, 100_000));
        assert!(error < 0.01, "{weights:?}: {error}");
    }
}

#[test]
fn maglev_gives_equal_servers_of_a_large_pool_nearly_equal_parts_of_the_table() {
    let pool = Pool::new(addresses(600), Algorithm::Maglev);
    let mut picker = Picker::new(&pool, 0);
    let counts = count((0..65_537).map(|key| name(&picker.pick(&pool, &ask(key)).unwrap())));
    assert_eq!(counts.len(), 600);
    let (least, most) = (
        counts.values().min().unwrap(),
        counts.values().max().unwrap(),
    );
    assert!(
        most - least <= 1,
        "each key is one entry: {least} to {most}"
    );
}

#[test]
fn ring_shares_are_near_the_weights() {
    for weights in [vec![1; 3], vec![1, 2, 3, 4], vec![100, 1, 50, 7, 0, 33]] {
        let pool = Pool::new(specs(&weights), Algorithm::Ring);
        let error = error(&weights, names(&pool, 0, 50_000));
        assert!(error < 0.025, "{weights:?}: {error}");
    }
}

#[test]
fn a_ring_past_its_cap_still_follows_the_weights() {
    let mut heavy: Vec<_> = addresses(50);
    heavy.iter_mut().for_each(|server| server.weight = 1_000);
    heavy.push(spec("light", 1));
    let pool = Pool::new(heavy, Algorithm::Ring);
    let counts = count(names(&pool, 0, 50_000));
    assert!(
        counts
            .iter()
            .filter(|(name, _)| *name != "light")
            .all(|(_, n)| (900..1_100).contains(n))
    );
}
