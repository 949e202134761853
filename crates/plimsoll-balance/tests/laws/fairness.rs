//! Load and latency steer the choices that look at them.

use crate::{Numbers, ask, name, names, specs};
use plimsoll_balance::{Algorithm, Ask, Outcome, Picker, Pool};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn equal_servers_take_turns() {
    for algorithm in [Algorithm::LeastConnections, Algorithm::LeastTime] {
        let pool = Pool::new(specs(&[1; 4]), algorithm);
        assert_eq!(names(&pool, 0, 8).concat(), "abcdabcd", "{algorithm:?}");
    }
}

#[test]
fn least_connections_counts_the_request_to_be_placed() {
    let pool = Pool::new(specs(&[1, 3]), Algorithm::LeastConnections);
    let mut picker = Picker::new(&pool, 0);
    let held: Vec<_> = (0..8)
        .map(|n| picker.pick(&pool, &ask(n)).unwrap())
        .collect();
    assert_eq!(held.iter().map(name).collect::<String>(), "bbabbbab");
}

#[test]
fn two_choices_keeps_the_loads_close() {
    let pool = Pool::new(specs(&[1; 20]), Algorithm::TwoChoices);
    let (mut picker, mut numbers) = (Picker::new(&pool, 0), Numbers(11));
    let _held: Vec<_> = (0..2_000)
        .map(|_| picker.pick(&pool, &ask(numbers.next())).unwrap())
        .collect();
    let loads: Vec<_> = pool
        .servers()
        .iter()
        .map(|server| server.in_flight())
        .collect();
    assert!(
        loads.iter().all(|load| (96..=104).contains(load)),
        "{loads:?}"
    );
}

/// Sends one request at a time to servers of these latencies and counts where they went.
fn run(pool: &Pool, latencies: &BTreeMap<&str, u64>, count: u32) -> BTreeMap<String, u32> {
    let mut picker = Picker::new(pool, 0);
    let mut counts = BTreeMap::new();
    let mut now = Duration::ZERO;
    for number in 0..count {
        let slot = picker
            .pick(
                pool,
                &Ask {
                    now,
                    ..ask(u64::from(number))
                },
            )
            .unwrap();
        let name = name(&slot);
        let latency = Duration::from_millis(latencies[&*name]);
        now += latency;
        slot.release(Outcome::Served, Some(latency), now);
        *counts.entry(name).or_default() += 1;
    }
    counts
}

#[test]
fn least_time_prefers_the_fast_server_and_asks_the_slow_one_again() {
    let pool = Pool::new(specs(&[1, 1]), Algorithm::LeastTime);
    let counts = run(&pool, &BTreeMap::from([("a", 10), ("b", 100)]), 20_000);
    assert!(counts["a"] > 19_000, "{counts:?}");
    assert!(
        counts["b"] >= 3,
        "a server that was slow once is asked again: {counts:?}"
    );
}

#[test]
fn least_time_tries_a_new_server_first_and_does_not_flood_it() {
    let pool = Pool::new(specs(&[1, 1]), Algorithm::LeastTime);
    run(&pool, &BTreeMap::from([("a", 10), ("b", 10)]), 10);
    let pool = pool.succeed(specs(&[1, 1, 1]), Algorithm::LeastTime);
    let mut picker = Picker::new(&pool, 0);
    let held: Vec<_> = (0..30)
        .map(|n| picker.pick(&pool, &ask(n)).unwrap())
        .collect();
    let order: String = held.iter().map(name).collect();
    assert_eq!(order.matches('c').count(), 1, "{order}");
    assert!(order.starts_with('c'), "{order}");
}

#[test]
fn least_time_does_not_take_a_fast_failure_for_a_fast_server() {
    let pool = Pool::new(specs(&[1, 1]), Algorithm::LeastTime);
    let mut picker = Picker::new(&pool, 0);
    let mut failures = 0;
    for number in 0..100 {
        let slot = picker.pick(&pool, &ask(number)).unwrap();
        let now = Duration::from_millis(number);
        if name(&slot) == "a" {
            failures += 1;
            slot.release(Outcome::Failed, Some(Duration::from_micros(100)), now);
        } else {
            slot.release(Outcome::Served, Some(Duration::from_millis(50)), now);
        }
    }
    assert_eq!(failures, 1);
}
