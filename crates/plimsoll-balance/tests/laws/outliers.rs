//! A server that fails is left alone for a while, and asked carefully afterwards.

use crate::{ALL, Numbers, ask, specs};
use plimsoll_balance::{
    Event, Fault, Health, Outcome, OutlierRule, Picker, Pool, Refusal, Rules, ServerIndex,
    Standing, Tried,
};
use std::num::NonZeroU32;
use std::time::Duration;

fn rule() -> OutlierRule {
    OutlierRule {
        consecutive_5xx: None,
        consecutive_gateway: None,
        consecutive_failures: NonZeroU32::new(3),
        failure_percent: None,
        success_rate: None,
        interval: Duration::from_secs(10),
        volume: 100,
        eject: Duration::from_secs(30),
        eject_max: Duration::from_secs(300),
        max_ejected: 50,
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn at(position: u32) -> ServerIndex {
    ServerIndex::new(position)
}

/// Ends one request on the server at `position` with `outcome`.
fn end(pool: &Pool, position: u32, outcome: Outcome, now: Duration) -> Option<Event> {
    let slot = pool.acquire(at(position), &Tried::new()).unwrap();
    slot.release(outcome, None, now).map(|change| change.event)
}

#[test]
fn a_server_that_fails_rests_is_tried_with_one_request_and_comes_back() {
    let rules = Rules {
        outlier: Some(rule()),
        ..Rules::default()
    };
    let pool = Pool::new(specs(&[1, 1, 1]), ALL[0]).with_rules(rules);
    let failed = |now| end(&pool, 0, Outcome::Failed, now);
    assert_eq!([failed(SECOND), failed(SECOND)], [None, None]);
    let rest = Duration::from_secs(30);
    assert_eq!(
        failed(SECOND),
        Some(Event::Ejected(Fault::ConsecutiveFailures, rest))
    );
    assert_eq!(pool.servers()[0].standing(), Standing::Ejected);
    assert!(pool.acquire(at(0), &Tried::new()).is_err());
    assert!(pool.tick(30 * SECOND).is_empty());
    assert_eq!(pool.tick(31 * SECOND)[0].event, Event::OnTrial);
    let trial = pool.acquire(at(0), &Tried::new()).unwrap();
    assert!(pool.acquire(at(0), &Tried::new()).is_err());
    let longer = Event::Ejected(Fault::Trial, 2 * rest);
    assert_eq!(
        trial
            .release(Outcome::Failed, None, 32 * SECOND)
            .unwrap()
            .event,
        longer
    );
    pool.tick(92 * SECOND);
    assert_eq!(end(&pool, 0, Outcome::Cancelled, 93 * SECOND), None);
    assert_eq!(
        end(&pool, 0, Outcome::Served, 93 * SECOND),
        Some(Event::Readmitted)
    );
    assert_eq!(pool.servers()[0].standing(), Standing::Ready);
}

#[test]
fn only_a_part_of_the_pool_rests() {
    let rules = Rules {
        outlier: Some(rule()),
        ..Rules::default()
    };
    let pool = Pool::new(specs(&[1, 1, 1, 1]), ALL[0]).with_rules(rules);
    let mut events = Vec::new();
    for position in 0..4 {
        events.extend((0..3).filter_map(|_| end(&pool, position, Outcome::Failed, SECOND)));
    }
    let spared = Event::Spared(Fault::ConsecutiveFailures);
    assert!(matches!(
        events[..2],
        [Event::Ejected(..), Event::Ejected(..)]
    ));
    assert_eq!(events[2..], [spared, spared]);
}

#[test]
fn servers_that_answer_their_checks_wrongly_serve_when_no_other_can() {
    for fail_open in [None, Some(0), Some(60)] {
        let pool = Pool::new(specs(&[1, 1, 1, 1]), ALL[0]).with_rules(Rules {
            fail_open,
            ..Rules::default()
        });
        let mut picker = Picker::new(&pool, 0);
        let mut pick = || {
            let slot = picker.pick(&pool, &ask(0)).ok()?;
            Some(slot.index().position())
        };
        pool.set_health(at(0), Health::Unreachable, SECOND);
        pool.set_health(at(1), Health::Unfit, SECOND);
        let reached: std::collections::BTreeSet<_> = (0..20).filter_map(|_| pick()).collect();
        let expected: &[usize] = if fail_open == Some(60) {
            &[1, 2, 3]
        } else {
            &[2, 3]
        };
        assert_eq!(
            reached.into_iter().collect::<Vec<_>>(),
            expected,
            "{fail_open:?}"
        );
        pool.set_health(at(2), Health::Unfit, SECOND);
        pool.set_health(at(3), Health::Unreachable, SECOND);
        assert_eq!(pick().is_some(), fail_open.is_some());
    }
}

#[test]
fn what_finds_the_servers_that_are_well_full_waits_and_does_not_meet_those_that_rest() {
    for algorithm in ALL {
        let mut specs = specs(&[1, 1]);
        for spec in &mut specs {
            spec.max_connections = NonZeroU32::new(1);
        }
        let rules = Rules {
            fail_open: Some(0),
            ..Rules::default()
        };
        let pool = Pool::new(specs, algorithm).with_rules(rules);
        let mut picker = Picker::new(&pool, 0);
        pool.set_health(at(1), Health::Unfit, SECOND);
        let first = picker.pick(&pool, &ask(0)).unwrap();
        assert_eq!(first.index(), at(0), "{algorithm:?}");
        let refused = picker.pick(&pool, &ask(0)).map(|slot| slot.index());
        assert_eq!(refused, Err(Refusal::AllFull), "{algorithm:?}");
        assert!(!pool.has_room());
        // When none is well any more, one that may be is asked, and waited for as well.
        pool.set_health(at(0), Health::Unreachable, SECOND);
        assert!(pool.has_room());
        let second = picker.pick(&pool, &ask(0)).unwrap();
        assert_eq!(second.index(), at(1), "{algorithm:?}");
        let refused = picker.pick(&pool, &ask(0)).map(|slot| slot.index());
        assert_eq!(refused, Err(Refusal::AllFull), "{algorithm:?}");
    }
}

#[test]
fn a_server_that_comes_back_takes_a_growing_share_with_every_algorithm() {
    for algorithm in ALL {
        if algorithm == plimsoll_balance::Algorithm::First {
            continue; // shares mean nothing to it
        }
        let rules = Rules {
            slow_start: Some(100 * SECOND),
            ..Rules::default()
        };
        let pool = Pool::new(specs(&[1, 1, 1, 1]), algorithm).with_rules(rules);
        let mut picker = Picker::new(&pool, 0);
        let mut numbers = Numbers(5);
        pool.set_health(at(0), Health::Unreachable, SECOND);
        pool.set_health(at(0), Health::Up, SECOND);
        let mut share = |now| {
            pool.tick(now);
            let picks = (0..4000).filter(|_| {
                let ask = plimsoll_balance::Ask {
                    random: numbers.next(),
                    ..ask(numbers.next())
                };
                picker.pick(&pool, &ask).unwrap().index() == at(0)
            });
            picks.count()
        };
        let (first, half, full) = (share(SECOND), share(51 * SECOND), share(200 * SECOND));
        assert!(
            first < 250 && (300..750).contains(&half) && full > 800,
            "{algorithm:?}: {first} {half} {full}"
        );
    }
}

#[test]
fn a_draining_server_keeps_its_clients() {
    let pool = Pool::new(specs(&[1, 1]), ALL[0]);
    pool.servers()[0].set_wish(plimsoll_balance::Wish::Drain);
    assert!(pool.acquire(at(0), &Tried::new()).is_ok());
    pool.servers()[0].set_wish(plimsoll_balance::Wish::Maintain);
    assert!(pool.acquire(at(0), &Tried::new()).is_err());
}
