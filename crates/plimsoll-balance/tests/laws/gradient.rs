//! The limit finds what a server takes, stays there, and finds it again.

use crate::Numbers;
use plimsoll_balance::gradient::Limit;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(10);

/// A server that answers `parallel` requests at a time, each in `service` seconds; what is above
/// that waits.
#[derive(Clone, Copy)]
struct Model {
    parallel: f64,
    service: f64,
}

/// Offers `demand` requests at once, for `seconds`; returns the lowest and highest limit.
fn run(
    limit: &mut Limit,
    model: Model,
    demand: u32,
    seconds: u64,
    now: &mut Duration,
) -> (u32, u32) {
    let (mut low, mut high) = (u32::MAX, 0);
    let end = *now + Duration::from_secs(seconds);
    while *now < end {
        *now += TICK;
        let in_flight = demand.min(limit.limit());
        let rtt = model.service * (f64::from(in_flight) / model.parallel).max(1.0);
        for _ in 0..3 {
            limit.sample(Duration::from_secs_f64(rtt), in_flight, *now);
        }
        (low, high) = (low.min(limit.limit()), high.max(limit.limit()));
    }
    (low, high)
}

const FAST: Model = Model {
    parallel: 100.0,
    service: 0.02,
};

const SLOW: Model = Model {
    service: 0.2,
    ..FAST
};

/// Runs for ten minutes more and returns what part of the server's power was used, and the
/// highest limit.
fn settled(limit: &mut Limit, model: Model, now: &mut Duration) -> (f64, u32) {
    let (mut used, mut most) = (0.0, 0);
    for _ in 0..600 {
        let (low, high) = run(limit, model, 50_000, 1, now);
        used += f64::from(low).min(model.parallel) / model.parallel / 600.0;
        most = most.max(high);
    }
    (used, most)
}

#[test]
fn finds_what_the_server_takes_and_does_not_creep() {
    let (mut limit, mut now) = (Limit::new(10, 10_000), Duration::ZERO);
    run(&mut limit, FAST, 50_000, 10, &mut now);
    for _ in 0..10 {
        let (used, most) = settled(&mut limit, FAST, &mut now);
        assert!(used >= 0.9, "{used}: the server idles");
        assert!(most <= 200, "{most}: requests queue in the server");
    }
}

#[test]
fn follows_a_server_that_loses_half_of_its_power() {
    let (mut limit, mut now) = (Limit::new(10, 10_000), Duration::ZERO);
    run(&mut limit, FAST, 50_000, 60, &mut now);
    let half = Model {
        parallel: 50.0,
        ..FAST
    };
    run(&mut limit, half, 50_000, 10, &mut now);
    let (used, most) = settled(&mut limit, half, &mut now);
    assert!(used >= 0.9 && most <= 110, "{used} {most}");
}

#[test]
fn recovers_when_answers_take_longer_for_good() {
    for service in [0.035, 0.04, 0.1, 0.2] {
        let (mut limit, mut now) = (Limit::new(10, 10_000), Duration::ZERO);
        run(&mut limit, FAST, 50_000, 60, &mut now);
        let slower = Model { service, ..FAST };
        run(&mut limit, slower, 50_000, 60, &mut now);
        let (used, most) = settled(&mut limit, slower, &mut now);
        assert!(used >= 0.9 && most <= 200, "{service}: {used} {most}");
    }
}

#[test]
fn forgets_slow_answers_within_a_minute() {
    let (mut limit, mut now) = (Limit::new(10, 10_000), Duration::ZERO);
    run(&mut limit, SLOW, 50_000, 300, &mut now);
    run(&mut limit, FAST, 50_000, 60, &mut now);
    let (used, most) = settled(&mut limit, FAST, &mut now);
    assert!(used >= 0.9 && most <= 200, "{used} {most}");
}

#[test]
fn a_limit_nobody_reaches_does_not_grow() {
    let (mut limit, mut now) = (Limit::new(10, 10_000), Duration::ZERO);
    run(&mut limit, FAST, 40, 600, &mut now);
    assert!((40..=120).contains(&limit.limit()), "{}", limit.limit());
}

/// Clients that send as many requests as the limit lets them to a server with `parallel` places,
/// whose answers take `mean` with an exponential distribution. Returns the part of its power that
/// was used in the last nine tenths of `seconds`, and the mean limit then.
fn noisy(parallel: usize, mean: f64, limit: &mut Limit, seconds: f64) -> (f64, f64) {
    let mut numbers = Numbers(3);
    let (mut now, mut served, mut sum, mut steps) = (0.0, 0, 0.0, 0);
    let mut places: Vec<(f64, f64)> = Vec::new(); // when an answer ends, and when it was asked for
    let mut line: VecDeque<f64> = VecDeque::new();
    while now < seconds {
        while places.len() + line.len() < limit.limit() as usize {
            line.push_back(now);
        }
        while places.len() < parallel && !line.is_empty() {
            let uniform = (numbers.next() >> 11) as f64 / (1_u64 << 53) as f64;
            let end = now - (1.0 - uniform).ln() * mean;
            places.push((end, line.pop_front().unwrap()));
        }
        let in_flight = u32::try_from(places.len() + line.len()).unwrap();
        let next = (0..places.len()).min_by(|&a, &b| places[a].0.total_cmp(&places[b].0));
        let (end, asked) = places.swap_remove(next.unwrap());
        now = end;
        let rtt = Duration::from_secs_f64(now - asked);
        limit.sample(rtt, in_flight, Duration::from_secs_f64(now));
        if now > seconds / 10.0 {
            (served, sum, steps) = (served + 1, sum + f64::from(limit.limit()), steps + 1);
        }
    }
    let power = parallel as f64 / mean * seconds * 0.9;
    (f64::from(served) / power, sum / f64::from(steps))
}

#[test]
fn finds_it_although_each_answer_takes_another_time() {
    for (parallel, mean) in [(4, 0.02), (16, 0.005), (16, 0.1), (64, 0.5), (100, 0.02)] {
        let mut limit = Limit::new(2, 10_000);
        let (used, at) = noisy(parallel, mean, &mut limit, 100.0);
        assert!(used >= 0.75, "{parallel} of {mean} s: {used}");
        assert!(at <= 3.0 * parallel as f64, "{parallel} of {mean} s: {at}");
    }
}

proptest! {
    #[test]
    fn stays_within_its_bounds_whatever_comes(
        min in 0_u32..50,
        max in 0_u32..1_000,
        samples in proptest::collection::vec((any::<u64>(), any::<u32>(), 0_u64..60_000_000), 0..300),
    ) {
        let mut limit = Limit::new(min, max);
        let mut now = Duration::ZERO;
        for (rtt, in_flight, gap) in samples {
            now += Duration::from_micros(gap);
            limit.sample(Duration::from_nanos(rtt), in_flight, now);
            limit.sample(Duration::ZERO, in_flight, now);
            prop_assert!(limit.limit() >= min.max(1));
            prop_assert!(limit.limit() <= max.max(min).max(1));
        }
    }
}
