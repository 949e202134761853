//! What a pick costs: `cargo bench -p plimsoll-balance`. Nanoseconds, medians of several rounds.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a program that measures and prints"
)]

use plimsoll_balance::{Algorithm, Ask, Picker, Pool, ServerSpec, Tried, Wish};
use std::hint::black_box;
use std::time::{Duration, Instant};

const ALGORITHMS: [(&str, Algorithm); 8] = [
    ("round-robin", Algorithm::RoundRobin),
    ("random", Algorithm::Random),
    ("two-choices", Algorithm::TwoChoices),
    ("least-connections", Algorithm::LeastConnections),
    ("least-time", Algorithm::LeastTime),
    ("first", Algorithm::First),
    ("hash", Algorithm::Ring),
    ("maglev", Algorithm::Maglev),
];

const SIZES: [u32; 4] = [2, 8, 100, 1000];
const ROUNDS: usize = 7;
const PICKS: u32 = 20_000;

fn pool(servers: u32, algorithm: Algorithm, varied: bool) -> Pool {
    let spec = |at: u32| ServerSpec {
        name: format!("10.0.{}.{}:80", at / 250, at % 250).into(),
        weight: if varied { at % 10 + 1 } else { 1 },
        max_connections: None,
        tier: 0,
    };
    Pool::new((0..servers).map(spec).collect(), algorithm)
}

/// Picks with about one request in flight for each server.
fn measure(pool: &Pool) -> f64 {
    let tried = Tried::new();
    let mut picker = Picker::new(pool, 0);
    let mut random = 7_u64;
    let mut ask = |now| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = random ^ (random >> 29);
        Ask {
            key: mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            random: mixed,
            now,
            tried: &tried,
        }
    };
    let held: Vec<_> = (0..pool.servers().len())
        .filter_map(|_| picker.pick(pool, &ask(Duration::ZERO)).ok())
        .collect();
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let began = Instant::now();
            for _ in 0..PICKS {
                let slot = picker.pick(pool, &ask(Duration::from_secs(round as u64)));
                drop(black_box(slot));
            }
            began.elapsed().as_secs_f64() * 1e9 / f64::from(PICKS)
        })
        .collect();
    drop(held);
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn main() {
    for (case, varied, down) in [
        ("equal weights", false, 0),
        ("weights 1 to 10", true, 0),
        ("5 % down", false, 20),
    ] {
        println!(
            "\n{case:18} {:>8} {:>8} {:>8} {:>8}",
            "2", "8", "100", "1000"
        );
        for (name, algorithm) in ALGORITHMS {
            let costs = SIZES.map(|servers| {
                let pool = pool(servers, algorithm, varied);
                for (at, server) in pool.servers().iter().enumerate() {
                    if down > 0 && at % down == down - 1 {
                        server.set_wish(Wish::Maintain);
                    }
                }
                format!("{:8.0}", measure(&pool))
            });
            println!("{name:18} {}", costs.join(" "));
        }
    }
}
