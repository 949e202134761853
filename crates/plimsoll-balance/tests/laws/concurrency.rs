//! What is held is counted exactly, over keys that share a set and over threads.

use crate::Numbers;
use plimsoll_balance::concurrency::{ConcurrencyTable, Hold, WhenFull};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

proptest! {
    /// Against a model that never forgets: a key is refused exactly when it holds its limit, or
    /// when the table has no place and was told to refuse.
    #[test]
    fn agrees_with_a_table_that_has_room_for_all(
        limit in 0_u32..4,
        entries in prop_oneof![Just(8_usize), Just(24)],
        admit: bool,
        steps in proptest::collection::vec((0_u64..40, 0_usize..3, 0_usize..1_000), 1..300),
    ) {
        let when_full = if admit { WhenFull::Admit } else { WhenFull::Refuse };
        let table = ConcurrencyTable::new(limit, entries, when_full);
        let mut model: BTreeMap<u64, u32> = BTreeMap::new();
        let mut holds: Vec<(u64, Hold)> = Vec::new();
        for (key, kind, pick) in steps {
            if kind == 0 && !holds.is_empty() {
                let (key, hold) = holds.swap_remove(pick % holds.len());
                *model.entry(key).or_default() -= u32::from(hold.is_counted());
                drop(hold);
                continue;
            }
            let held = model.entry(key).or_default();
            let was_known = *held > 0;
            match table.acquire(key) {
                Some(hold) => {
                    prop_assert!(*held < limit);
                    prop_assert!(hold.is_counted() || (admit && !was_known));
                    *held += u32::from(hold.is_counted());
                    holds.push((key, hold));
                }
                None => prop_assert!(*held == limit || (!admit && !was_known)),
            }
            prop_assert_eq!(table.held(key), model[&key]);
        }
        for (_, hold) in holds {
            drop(hold);
        }
        prop_assert!((0..40).all(|key| table.held(key) == 0));
    }
}

/// Threads take and give back as fast as they can; a count beside the table's own never passes
/// the limit, and nothing is left in the end.
fn hammer(keys: usize, hold_most: usize, when_full: WhenFull) -> u32 {
    const LIMIT: u32 = 3;
    let table = ConcurrencyTable::new(LIMIT, 8, when_full);
    let shadow: Vec<AtomicU32> = (0..keys).map(|_| AtomicU32::new(0)).collect();
    let refused_below = AtomicU32::new(0);
    thread::scope(|scope| {
        for seed in 0..4 {
            let (table, shadow, refused_below) = (&table, &shadow, &refused_below);
            scope.spawn(move || {
                let mut numbers = Numbers(seed);
                let mut held: Vec<(usize, Hold)> = Vec::new();
                let give_back = |(key, hold): (usize, Hold)| {
                    if hold.is_counted() {
                        shadow[key].fetch_sub(1, SeqCst);
                    }
                    drop(hold);
                };
                for _ in 0..50_000 {
                    let number = numbers.next();
                    if held.len() == hold_most || number.is_multiple_of(16) {
                        held.drain(..).for_each(give_back);
                    }
                    let key = usize::try_from(number >> 32).unwrap() % keys;
                    let Some(hold) = table.acquire(key as u64) else {
                        let below = shadow[key].load(SeqCst) == 0;
                        refused_below.fetch_add(u32::from(below), SeqCst);
                        continue;
                    };
                    if hold.is_counted() {
                        let count = shadow[key].fetch_add(1, SeqCst) + 1;
                        assert!(count <= LIMIT, "{count} of {LIMIT}");
                    }
                    held.push((key, hold));
                }
                held.drain(..).for_each(give_back);
            });
        }
    });
    assert!((0..keys as u64).all(|key| table.held(key) == 0));
    let all: Vec<_> = (0..8 * LIMIT)
        .map(|n| table.acquire((n / LIMIT).into()))
        .collect();
    assert!(
        all.iter().all(Option::is_some),
        "every place can be taken again"
    );
    refused_below.into_inner()
}

#[test]
fn threads_never_pass_the_limit_together() {
    hammer(2, 4, WhenFull::Refuse);
    hammer(8, 4, WhenFull::Refuse);
}

#[test]
fn threads_never_pass_the_limit_while_keys_fight_for_places() {
    hammer(12, 12, WhenFull::Admit); // even one thread alone can fill the set
    let refused = hammer(12, 12, WhenFull::Refuse);
    assert!(refused > 0, "the set was never full");
}
