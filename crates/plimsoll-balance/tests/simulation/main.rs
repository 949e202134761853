//! What the algorithms do to the times of answers, when one server is slow and one flaps: a
//! simulation of discrete events in virtual time, the same in every run.
//!
//! The full one writes its table and plot into `docs/explanation/`:
//! `cargo test --release -p plimsoll-balance --test simulation -- --ignored`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::print_stdout,
    reason = "a failed test is a panic, and the numbers are small"
)]

mod numbers;
mod report;
mod world;

use plimsoll_balance::{Algorithm, OutlierRule, Rules};
use report::Row;
use std::fs;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;
use world::{Scenario, Seen, run};

/// With their names in the configuration.
const ALL: [(Algorithm, &str); 8] = [
    (Algorithm::RoundRobin, "round-robin"),
    (Algorithm::Random, "random"),
    (Algorithm::TwoChoices, "two-choices"),
    (Algorithm::LeastConnections, "least-connections"),
    (Algorithm::LeastTime, "least-time"),
    (Algorithm::First, "first"),
    (Algorithm::Ring, "hash"),
    (Algorithm::Maglev, "maglev"),
];

/// As `outlier` is when a configuration says nothing of it.
const EJECTING: Rules = Rules {
    outlier: Some(OutlierRule {
        consecutive_5xx: None,
        consecutive_gateway: NonZeroU32::new(5),
        consecutive_failures: NonZeroU32::new(5),
        failure_percent: None,
        success_rate: None,
        interval: Duration::from_secs(10),
        volume: 100,
        eject: Duration::from_secs(30),
        eject_max: Duration::from_secs(300),
        max_ejected: 50,
    }),
    slow_start: None,
    fail_open: None,
};

fn rows(servers: usize, requests: usize, rules: Rules) -> Vec<Row> {
    let scenario = Scenario {
        servers,
        requests,
        rules,
    };
    ALL.map(|(algorithm, name)| Row {
        name,
        seen: run(scenario, algorithm),
    })
    .into()
}

fn of<'a>(rows: &'a [Row], name: &str) -> &'a Seen {
    &rows.iter().find(|row| row.name == name).unwrap().seen
}

#[test]
fn who_looks_at_the_load_avoids_the_slow_server() {
    let rows = rows(50, 30_000, Rules::default());
    println!("{}", report::table(&rows));
    let random = of(&rows, "random");
    for name in ["two-choices", "least-connections", "least-time"] {
        let seen = of(&rows, name);
        assert!(seen.slow_share() < seen.even / 2.0, "{name}");
        assert!(seen.quantile(0.99) < random.quantile(0.99), "{name}");
    }
    for name in ["round-robin", "random", "maglev"] {
        let share = of(&rows, name).slow_share() / of(&rows, name).even;
        assert!((0.7..1.4).contains(&share), "{name} {share}");
    }
    let least_time = of(&rows, "least-time").errors();
    assert!(rows.iter().all(|row| least_time <= row.seen.errors()));
}

#[test]
fn who_does_not_look_is_helped_by_ejection() {
    let rows = rows(50, 30_000, EJECTING);
    println!("{}", report::table(&rows));
    for name in ["round-robin", "random", "maglev"] {
        let seen = of(&rows, name);
        assert!(seen.slow_share() < seen.even / 2.0, "{name}");
        assert!(seen.errors() < 0.01, "{name}");
    }
}

#[test]
fn a_run_is_the_same_every_time() {
    let scenario = Scenario {
        servers: 10,
        requests: 5_000,
        rules: EJECTING,
    };
    let [one, two] = [(), ()].map(|()| run(scenario, Algorithm::TwoChoices).answers);
    assert_eq!(one, two);
}

#[test]
#[ignore = "takes minutes and writes docs/explanation/algorithms.*"]
#[allow(
    clippy::disallowed_methods,
    reason = "it writes a page; the crate still reads no file"
)]
fn the_full_simulation_is_documented() {
    let [alone, ejecting] = [Rules::default(), EJECTING].map(|rules| rows(1_000, 2_000_000, rules));
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/explanation");
    let page = docs.join("algorithms.md");
    let mut text = fs::read_to_string(&page).unwrap();
    for (place, rows) in [("alone", &alone), ("ejecting", &ejecting)] {
        text = report::replace_table(&text, place, &report::table(rows));
    }
    fs::write(&page, text).unwrap();
    fs::write(docs.join("algorithms.svg"), report::plot(&alone)).unwrap();
}
