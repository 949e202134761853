//! A key never gets more than its burst and its rate, whoever else asks and from which thread.

use crate::Numbers;
use plimsoll_balance::rate::{Rate, RateTable, Verdict};
use proptest::prelude::*;
use std::thread;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn is_allowed(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Allowed { .. })
}

fn ten_a_second(burst: u32, entries: usize) -> RateTable {
    let rate = Rate {
        count: 10,
        per: SECOND,
    };
    RateTable::new(rate, burst, entries)
}

/// Costs, and the time that passes before each in nanoseconds: sometimes a step back.
fn asks() -> impl Strategy<Value = Vec<(u64, i64)>> {
    let gap = prop_oneof![
        6 => 0_i64..20_000_000,
        2 => 0_i64..3_000_000_000,
        1 => -2_000_000_000_i64..0,
    ];
    proptest::collection::vec((1_u64..6, gap), 1..150)
}

proptest! {
    #[test]
    fn no_interval_gives_more_than_burst_and_rate(
        count in 1_u32..2_000,
        per in 1_u64..3_000_000_000,
        burst in 1_u32..10,
        asks in asks(),
    ) {
        let rate = Rate { count, per: Duration::from_nanos(per) };
        let table = RateTable::new(rate, burst, 64);
        let mut now = 5_000_000_000_u64;
        let mut taken: Vec<(u64, u64)> = Vec::new();
        for (cost, gap) in asks {
            now = now.saturating_add_signed(gap);
            if is_allowed(table.take(1, cost, Duration::from_nanos(now))) {
                taken.push((now, cost));
            }
        }
        for start in 0..taken.len() {
            let (mut sum, mut first, mut last) = (0, u64::MAX, 0);
            for &(at, cost) in &taken[start..] {
                (sum, first, last) = (sum + u128::from(cost), first.min(at), last.max(at));
                let rounding = u128::from(burst).min(u128::from(per.div_ceil(count.into()))) + 1;
                let time = u128::from(last - first) + rounding;
                let bound = u128::from(burst) * u128::from(per) + time * u128::from(count);
                prop_assert!(sum * u128::from(per) <= bound);
            }
        }
    }

    /// What is told to be left can be taken and no more, and after the told time a whole burst.
    #[test]
    fn what_is_told_is_kept(
        count in 1_u32..2_000,
        per in 1_000_000_u64..3_000_000_000,
        burst in 1_u32..40,
        costs in proptest::collection::vec(1_u64..6, 1..20),
    ) {
        let rate = Rate { count, per: Duration::from_nanos(per) };
        let after = || {
            let table = RateTable::new(rate, burst, 64);
            let mut told = None;
            for &cost in &costs {
                if let Verdict::Allowed { remaining, reset } = table.take(1, cost, SECOND) {
                    told = Some((remaining, reset));
                }
            }
            (table, told)
        };
        let Some((remaining, reset)) = after().1 else {
            return Ok(());
        };
        let takes = |amount: u32, now| is_allowed(after().0.take(1, amount.into(), now));
        prop_assert!(takes(remaining, SECOND));
        prop_assert!(!takes(remaining + 1, SECOND));
        prop_assert!(takes(burst, SECOND + reset));
    }

    /// A burst is whole when it is taken one by one, although each take is rounded.
    #[test]
    fn a_burst_is_whole(count in 1_u32..1_000, per in 1_000_000_u64..9_000_000_000, burst in 1_u32..400) {
        let rate = Rate { count, per: Duration::from_nanos(per) };
        let table = RateTable::new(rate, burst, 8);
        let got = (0..1_000).take_while(|_| is_allowed(table.check(1, SECOND))).count();
        prop_assert_eq!(got, burst as usize);
    }
}

/// All keys of a table with one set, from several threads, the first times at the same moment.
#[test]
fn threads_share_a_burst_exactly_while_a_set_has_room() {
    for round in 0..500 {
        let table = ten_a_second(5, 8);
        let now = Duration::from_millis(round);
        let count = |thread: u64| {
            let mut got = [0; 8];
            for n in 0..64 {
                let key = (n + thread) % 8;
                got[key as usize] += u32::from(is_allowed(table.check(key, now)));
            }
            got
        };
        let got: Vec<[u32; 8]> = thread::scope(|scope| {
            let count = &count;
            let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || count(n))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for key in 0..8 {
            let sum: u32 = got.iter().map(|got| got[key]).sum();
            assert_eq!(sum, 5, "key {key} in round {round}");
        }
    }
}

/// Each thread has its own clock, up to 50 ms off, as workers that read it at times of their own.
#[test]
fn threads_share_a_rate_although_their_clocks_differ() {
    let table = ten_a_second(5, 64);
    let ask = |seed: u64| {
        let (table, mut numbers) = (&table, Numbers(seed));
        let times = (0..40_000_u64)
            .map(move |step| Duration::from_micros(step * 250 + numbers.next() % 50_000));
        times.filter(|&now| is_allowed(table.check(3, now))).count()
    };
    let sum: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|n| scope.spawn(move || ask(n))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert!((90..=5 + 101).contains(&sum), "{sum} in ten seconds");
}

/// Runs a flood of new keys, one every 10 µs, and a key that always asks; returns what it got
/// above its burst and rate.
fn excess_in_a_flood(burst: u32, entries: usize, flood: u64) -> u64 {
    let table = ten_a_second(burst, entries);
    let places = table.entries();
    let mut got = 0;
    for n in 0..flood {
        let now = Duration::from_micros(n * 10);
        assert!(
            is_allowed(table.check(1_000 + n, now)),
            "a new key starts afresh"
        );
        if n.is_multiple_of(10) {
            got += u64::from(is_allowed(table.check(1, now)));
        }
    }
    assert_eq!(table.entries(), places);
    got.saturating_sub(u64::from(burst) + flood / 10_000)
}

#[test]
fn a_flood_of_new_keys_does_not_free_a_limited_one() {
    assert_eq!(excess_in_a_flood(5, 4_096, 400_000), 0);
}

#[test]
fn a_burst_of_one_is_evicted_about_once_in_as_many_keys_as_entries() {
    let excess = excess_in_a_flood(1, 4_096, 400_000);
    assert!(excess <= 2 * 400_000 / 4_096, "{excess}");
}

#[test]
#[ignore = "ten million keys take a while in a debug build"]
fn ten_million_keys_do_not_free_a_limited_one() {
    assert_eq!(excess_in_a_flood(5, 65_536, 10_000_000), 0);
    let excess = excess_in_a_flood(1, 65_536, 10_000_000);
    assert!(excess <= 2 * 10_000_000 / 65_536, "{excess}");
}
