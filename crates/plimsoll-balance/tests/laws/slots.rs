//! Slots are exact, over threads and over configurations.

use crate::{ALL, Numbers, ask, spec, specs};
use plimsoll_balance::{Algorithm, Outcome, Picker, Pool, ServerSpec, Standing, Wish};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const THREADS: usize = 4;

fn limited(max: u32) -> Vec<ServerSpec> {
    let max_connections = NonZeroU32::new(max);
    ["a", "b", "c"]
        .map(|name| ServerSpec {
            max_connections,
            ..spec(name, 1)
        })
        .into()
}

/// Threads pick and give back as fast as they can; a count beside the pool's own never passes the
/// maximum, and both end at zero.
#[test]
fn workers_never_pass_the_maximum_together() {
    for algorithm in ALL {
        let pool = Pool::new(limited(2), algorithm);
        let shadow: [AtomicU32; 3] = Default::default();
        let picked = AtomicU32::new(0);
        thread::scope(|scope| {
            for worker in 0..THREADS {
                let (pool, shadow, picked) = (&pool, &shadow, &picked);
                scope.spawn(move || {
                    let mut picker = Picker::new(pool, worker);
                    let mut numbers = Numbers(worker as u64);
                    let mut held = Vec::new();
                    for _ in 0..20_000 {
                        if held.len() == 3 || numbers.next().is_multiple_of(3) {
                            held.drain(..).for_each(|slot| give_back(slot, shadow));
                        }
                        let Ok(slot) = picker.pick(pool, &ask(numbers.next())) else {
                            continue;
                        };
                        let count = shadow[slot.index().position()].fetch_add(1, SeqCst) + 1;
                        assert!(count <= 2, "{count} slots of 2");
                        picked.fetch_add(1, SeqCst);
                        held.push(slot);
                    }
                    held.drain(..).for_each(|slot| give_back(slot, shadow));
                });
            }
        });
        assert!(picked.load(SeqCst) > 1_000);
        assert!(
            pool.servers().iter().all(|server| server.in_flight() == 0),
            "{algorithm:?}"
        );
    }
}

fn give_back(slot: plimsoll_balance::Slot<'_>, shadow: &[AtomicU32; 3]) {
    shadow[slot.index().position()].fetch_sub(1, SeqCst);
    slot.release(
        Outcome::Served,
        Some(Duration::from_millis(1)),
        Duration::ZERO,
    );
}

#[test]
fn every_slot_of_a_pool_can_be_taken_and_no_more() {
    for algorithm in ALL {
        let pool = Pool::new(limited(5), algorithm);
        let mut numbers = Numbers(5);
        let mut picker = Picker::new(&pool, 0);
        let held: Vec<_> = (0..100)
            .filter_map(|_| picker.pick(&pool, &ask(numbers.next())).ok())
            .collect();
        assert_eq!(held.len(), 15, "{algorithm:?}");
    }
}

#[test]
fn a_reload_keeps_what_is_known_of_a_server_by_its_name() {
    let old = Pool::new(specs(&[1, 1]), Algorithm::First);
    let slot = Picker::new(&old, 0).pick(&old, &ask(0)).unwrap();
    old.servers()[1].set_wish(Wish::Maintain);
    let new = old.succeed(
        vec![spec("new", 1), spec("b", 7), spec("a", 1)],
        Algorithm::LeastConnections,
    );
    let known: Vec<_> = new
        .servers()
        .iter()
        .map(|server| (server.in_flight(), server.standing()))
        .collect();
    assert_eq!(
        known,
        [
            (0, Standing::Ready),
            (0, Standing::Maintenance),
            (1, Standing::Ready)
        ]
    );
    slot.release(Outcome::Served, None, Duration::ZERO);
    assert_eq!(new.servers()[2].in_flight(), 0);
}

#[test]
fn a_pool_is_shared_and_a_picker_moves_to_its_worker() {
    fn shared<T: Send + Sync>(_: &T) {}
    fn moved<T: Send>(_: &T) {}
    let pool = Pool::new(specs(&[1]), Algorithm::Ring);
    shared(&pool);
    moved(&Picker::new(&pool, 0));
}
