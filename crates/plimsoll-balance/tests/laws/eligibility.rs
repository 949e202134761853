//! Who may never be picked, and what is said when no one may.

use crate::{ALL, NONE, Numbers, ask, name, spec, specs};
use plimsoll_balance::{
    Algorithm, Ask, Eligibility, Picker, Pool, Refusal, ServerIndex, ServerSpec, Tried, Wish,
    eligibility,
};
use proptest::prelude::*;
use std::num::NonZeroU32;

fn any_spec() -> impl Strategy<Value = ServerSpec> {
    (
        "[a-z]{1,4}",
        0_u32..4,
        0_u32..4,
        proptest::bool::weighted(0.2),
    )
        .prop_map(|(name, weight, max, backup)| ServerSpec {
            name: name.into(),
            weight,
            max_connections: NonZeroU32::new(max),
            tier: u8::from(backup),
        })
}

proptest! {
    /// Requests come and go over a pool whose servers go down and come back. Whatever happens,
    /// a pick is eligible at that moment, a backup only when no other is, and a refusal is true.
    #[test]
    fn a_pick_is_eligible_and_a_refusal_is_true(
        specs in proptest::collection::vec(any_spec(), 0..90),
        algorithm in proptest::sample::select(&ALL[..]),
        seed in any::<u64>(),
    ) {
        let count = u64::try_from(specs.len()).unwrap();
        let pool = Pool::new(specs, algorithm);
        let mut picker = Picker::new(&pool, 3);
        let mut numbers = Numbers(seed);
        let mut held = Vec::new();
        for _ in 0..120 {
            let mut tried = Tried::new();
            for _ in 0..numbers.next() % 3 {
                tried.insert(at(numbers.next() % count.max(1)));
            }
            if let Some(server) = pool.server(at(numbers.next() % count.max(1))) {
                let wishes = [Wish::Serve, Wish::Serve, Wish::Drain, Wish::Maintain];
                server.set_wish(wishes[(numbers.next() % 4) as usize]);
            }
            if numbers.next().is_multiple_of(3) && !held.is_empty() {
                drop(held.swap_remove(0));
            }
            let before: Vec<_> = (0..count)
                .map(|n| eligibility(at(n), pool.server(at(n)).unwrap(), &tried))
                .collect();
            let primary = before.iter().zip(pool.servers()).any(|(&verdict, server)| {
                verdict == Eligibility::Eligible && server.tier() == 0
            });
            let ask = Ask { tried: &tried, ..ask(numbers.next()) };
            match picker.pick(&pool, &ask) {
                Ok(slot) => {
                    prop_assert_eq!(before[slot.index().position()], Eligibility::Eligible);
                    prop_assert!(!(primary && slot.server().tier() > 0));
                    let max = slot.server().max_connections();
                    prop_assert!(max.is_none_or(|max| slot.server().in_flight() <= max.get()));
                    held.push(slot);
                }
                Err(refusal) => prop_assert_eq!(refusal, expected_refusal(&before)),
            }
        }
        drop(held);
        prop_assert!(pool.servers().iter().all(|server| server.in_flight() == 0));
    }
}

fn at(number: u64) -> ServerIndex {
    ServerIndex::new(u32::try_from(number).unwrap())
}

fn expected_refusal(verdicts: &[Eligibility]) -> Refusal {
    if verdicts.is_empty() {
        Refusal::NoServers
    } else if verdicts.iter().all(|&verdict| verdict == Eligibility::Down) {
        Refusal::AllDown
    } else if verdicts.contains(&Eligibility::Full) {
        Refusal::AllFull
    } else {
        assert!(
            !verdicts.contains(&Eligibility::Eligible),
            "refused although one is eligible"
        );
        Refusal::AllTried
    }
}

#[test]
fn each_refusal_has_its_cause() {
    for algorithm in ALL {
        let refusal = |pool: &Pool, tried: &Tried| {
            let ask = Ask { tried, ..ask(9) };
            Picker::new(pool, 0)
                .pick(pool, &ask)
                .map(|slot| name(&slot))
                .unwrap_err()
        };
        assert_eq!(
            refusal(&Pool::new(Vec::new(), algorithm), &NONE),
            Refusal::NoServers
        );
        assert_eq!(
            refusal(&Pool::new(specs(&[0, 0]), algorithm), &NONE),
            Refusal::AllDown
        );

        let pool = Pool::new(specs(&[1, 1]), algorithm);
        let mut tried = Tried::new();
        tried.insert(at(0));
        pool.servers()[1].set_wish(Wish::Maintain);
        assert_eq!(refusal(&pool, &tried), Refusal::AllTried);

        let full = ServerSpec {
            max_connections: NonZeroU32::new(1),
            ..spec("b", 1)
        };
        let pool = Pool::new(vec![spec("a", 1), full], algorithm);
        let _held = pool.acquire(at(1), &NONE).unwrap();
        assert_eq!(refusal(&pool, &tried), Refusal::AllFull);
        assert!(pool.acquire(at(1), &NONE).is_err());
    }
}

#[test]
fn backups_serve_only_when_no_other_server_can() {
    for algorithm in ALL {
        let backup = ServerSpec {
            tier: 1,
            ..spec("backup", 100)
        };
        let pool = Pool::new(vec![backup, spec("main", 1)], algorithm);
        let mut picker = Picker::new(&pool, 0);
        let mut pick = || name(&picker.pick(&pool, &ask(5)).unwrap());
        assert_eq!(pick(), "main");
        pool.servers()[1].set_wish(Wish::Drain);
        assert_eq!(pick(), "backup");
        pool.servers()[1].set_wish(Wish::Serve);
        assert_eq!(pick(), "main");
    }
}

#[test]
fn a_light_server_is_found_behind_many_turns_of_heavy_ones() {
    for algorithm in ALL {
        let light = spec("light", 1);
        let backup = ServerSpec {
            tier: 1,
            ..spec("backup", 1)
        };
        let heavy = specs(&[200; 70]);
        let pool = Pool::new([vec![light, backup], heavy].concat(), algorithm);
        for server in &pool.servers()[2..] {
            server.set_wish(Wish::Drain);
        }
        let mut picker = Picker::new(&pool, 0);
        for number in 0..10 {
            let slot = picker.pick(&pool, &ask(number)).unwrap();
            assert_eq!(name(&slot), "light", "{algorithm:?}");
        }
    }
}

#[test]
fn a_picker_of_another_pool_still_picks_only_eligible_servers() {
    for algorithm in ALL {
        let mut picker = Picker::new(&Pool::new(specs(&[1; 3]), algorithm), 0);
        let pool = Pool::new(specs(&[0, 0, 1, 1, 1]), algorithm);
        for number in 0..20 {
            if let Ok(slot) = picker.pick(&pool, &ask(number)) {
                assert!(slot.server().weight() > 0);
            }
        }
    }
}

#[test]
fn a_request_sees_every_server_once_and_then_none() {
    for algorithm in ALL {
        let pool = Pool::new(specs(&[1; 20]), algorithm);
        let (mut picker, mut tried) = (Picker::new(&pool, 0), Tried::new());
        for _ in 0..20 {
            let slot = picker
                .pick(
                    &pool,
                    &Ask {
                        tried: &tried,
                        ..ask(77)
                    },
                )
                .unwrap();
            tried.insert(slot.index());
        }
        assert_eq!(tried.len(), 20, "{algorithm:?}");
        let refused = picker.pick(
            &pool,
            &Ask {
                tried: &tried,
                ..ask(77)
            },
        );
        assert_eq!(refused.map(|slot| name(&slot)), Err(Refusal::AllTried));
    }
}

#[test]
fn the_first_server_is_filled_before_the_second() {
    let narrow = ServerSpec {
        max_connections: NonZeroU32::new(2),
        ..spec("z", 1)
    };
    let pool = Pool::new(vec![narrow, spec("a", 9)], Algorithm::First);
    let mut picker = Picker::new(&pool, 1);
    let held: Vec<_> = (0..4)
        .map(|n| picker.pick(&pool, &ask(n)).unwrap())
        .collect();
    assert_eq!(held.iter().map(name).collect::<String>(), "zzaa");
    drop(held);
    assert_eq!(name(&picker.pick(&pool, &ask(0)).unwrap()), "z");
}
