//! Everyone who came leaves exactly once, in the order that is stated.

use plimsoll_balance::queue::{Full, PASSES, Queue, Settings, Ticket};
use proptest::prelude::*;
use std::time::Duration;

const CAPACITY: usize = 12;

const SETTINGS: Settings = Settings {
    capacity: CAPACITY,
    timeout: ms(400),
    standing_timeout: ms(120),
    target: ms(5),
    interval: ms(100),
};

const fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u8),
    Pop,
    Remove(usize),
    Expire,
    ExpireOne,
}

/// Steps and the milliseconds before each: mostly fast, at times slow enough to expire.
fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let step = prop_oneof![
        6 => (0_u8..4).prop_map(|n| Step::Push(n * n)),
        3 => Just(Step::Pop),
        1 => (0_usize..100).prop_map(Step::Remove),
        1 => Just(Step::Expire),
        1 => Just(Step::ExpireOne),
    ];
    let gap = prop_oneof![4 => 0_u64..4, 2 => 0_u64..40, 1 => 100_u64..300];
    proptest::collection::vec((step, gap), 1..400)
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    id: usize,
    priority: u8,
    arrived: Duration,
    ticket: Ticket,
}

/// A line that is searched from end to end, for comparison.
#[derive(Default)]
struct Model {
    waiting: Vec<Waiter>,
    left: Vec<usize>,
    moved: Duration,
    stands: bool,
    /// How often in a row the first was not the one to leave.
    passed: u32,
}

impl Model {
    fn look(&mut self, now: Duration) {
        if self.waiting.is_empty() {
            (self.stands, self.moved) = (false, now);
        } else {
            self.stands |= now - self.moved >= SETTINGS.interval;
        }
    }

    fn leave(&mut self, id: usize) -> Waiter {
        let index = self.index(id);
        self.left.push(id);
        self.waiting.remove(index)
    }

    fn due(&self, now: Duration) -> Vec<usize> {
        let timeout = if self.stands {
            SETTINGS.standing_timeout
        } else {
            SETTINGS.timeout
        };
        let due = |waiter: &&Waiter| now - waiter.arrived >= timeout;
        self.waiting.iter().filter(due).map(|w| w.id).collect()
    }

    /// Checks that it was `id`'s turn.
    fn pop(&mut self, id: usize, waited: Duration, now: Duration) {
        let first = self.waiting[0];
        let highest = self.waiting.iter().map(|w| w.priority).max().unwrap();
        let was_passed = self.passed;
        let same = |w: &&Waiter| w.priority == self.waiting[self.index(id)].priority;
        let mut lane = self.waiting.iter().filter(same);
        let next = if self.stands {
            lane.next_back()
        } else {
            lane.next()
        };
        assert_eq!(
            next.map(|w| w.id),
            Some(id),
            "order, standing: {}",
            self.stands
        );
        let gone = self.leave(id);
        assert_eq!(waited, now - gone.arrived);
        assert!([highest, first.priority].contains(&gone.priority));
        if gone.priority == first.priority {
            assert!(highest == first.priority || was_passed == PASSES);
            self.passed = 0;
        } else {
            self.passed += 1;
            assert!(self.passed <= PASSES, "the first one starves");
        }
        if waited <= SETTINGS.target {
            self.moved = now;
        }
        self.look(now);
    }

    fn index(&self, id: usize) -> usize {
        self.waiting.iter().position(|w| w.id == id).unwrap()
    }
}

fn run(queue: &mut Queue<usize>, model: &mut Model, step: Step, id: usize, now: Duration) {
    match step {
        Step::Push(priority) => {
            model.look(now);
            match queue.push(id, priority, now) {
                Ok(ticket) => model.waiting.push(Waiter {
                    id,
                    priority,
                    arrived: now,
                    ticket,
                }),
                Err(Full(back)) => {
                    assert_eq!((back, model.waiting.len()), (id, CAPACITY));
                    model.left.push(id);
                }
            }
        }
        Step::Pop => {
            model.look(now);
            match queue.pop(now) {
                Some((id, waited)) => model.pop(id, waited, now),
                None => assert!(model.waiting.is_empty()),
            }
        }
        Step::Remove(pick) if !model.waiting.is_empty() => {
            let waiter = model.waiting[pick % model.waiting.len()];
            assert_eq!(queue.remove(waiter.ticket), Some(waiter.id));
            assert_eq!(queue.remove(waiter.ticket), None, "once only");
            model.leave(waiter.id);
            model.stands &= !model.waiting.is_empty();
        }
        Step::Remove(_) => {}
        Step::Expire | Step::ExpireOne => {
            model.look(now);
            let most = if matches!(step, Step::Expire) {
                usize::MAX
            } else {
                1
            };
            let mut due = model.due(now);
            due.truncate(most);
            assert_eq!(queue.expire(now).take(most).collect::<Vec<_>>(), due);
            for id in due {
                model.leave(id);
            }
            model.look(now);
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_a_line_that_is_searched(steps in steps()) {
        let (mut queue, mut model) = (Queue::new(SETTINGS), Model::default());
        let mut now = Duration::ZERO;
        let mut came = 0;
        for (step, gap) in steps {
            now += ms(gap);
            run(&mut queue, &mut model, step, came, now);
            came += usize::from(matches!(step, Step::Push(_)));
            prop_assert_eq!(queue.len(), model.waiting.len());
            prop_assert_eq!(queue.is_standing(), model.stands);
        }
        while !queue.is_empty() {
            run(&mut queue, &mut model, Step::Pop, 0, now);
        }
        model.left.sort_unstable();
        prop_assert!(model.left.into_iter().eq(0..came), "each leaves exactly once");
    }

    /// A timer set to the told time has something to do, and not before.
    #[test]
    fn the_told_expiry_is_the_next_one(steps in steps()) {
        let (mut queue, mut model) = (Queue::new(SETTINGS), Model::default());
        let mut now = Duration::ZERO;
        for (id, (step, gap)) in steps.into_iter().enumerate() {
            now += ms(gap);
            run(&mut queue, &mut model, step, id, now);
        }
        let Some(at) = queue.next_expiry() else {
            prop_assert!(queue.is_empty());
            return Ok(());
        };
        if at > now {
            let before = at - Duration::from_nanos(1);
            prop_assert_eq!(queue.expire(before.max(now)).count(), 0);
        }
        prop_assert!(queue.expire(at.max(now)).count() > 0);
    }
}

/// As many come as leave, in a line of 40 that was there before: the newest are served at once.
#[test]
fn a_line_that_stands_serves_the_newest_and_drops_the_old() {
    let mut queue = Queue::new(Settings::new(100, ms(10_000)));
    for id in 0..40 {
        queue.push(id, 0, ms(0)).unwrap();
    }
    let (mut waits, mut dropped) = (Vec::new(), 0);
    for tick in 1..1_000 {
        dropped += queue.expire(ms(tick)).count();
        queue.push(1_000, 0, ms(tick)).unwrap();
        waits.push(queue.pop(ms(tick)).unwrap().1);
    }
    assert!(waits[200..].iter().all(|wait| *wait <= ms(5)));
    assert!((1..=40).contains(&dropped), "{dropped}");
    assert!(!queue.is_standing(), "the line was empty since");
}

#[test]
fn a_line_that_moves_is_first_come_first_served() {
    let mut queue = Queue::new(Settings::new(100, ms(10_000)));
    for id in 0..1_000 {
        queue.push(id, 0, ms(id * 2)).unwrap();
        if id > 0 {
            assert_eq!(queue.pop(ms(id * 2)), Some((id - 1, ms(2))));
        }
    }
    assert!(!queue.is_standing());
}

#[test]
fn memory_is_used_again() {
    let mut queue = Queue::new(Settings::new(1_000, ms(1_000)));
    let mut old = Vec::new();
    for round in 0..1_000 {
        let tickets: Vec<_> = (0..3)
            .map(|id| queue.push(id, 0, ms(round)).unwrap())
            .collect();
        assert_eq!(queue.remove(tickets[1]), Some(1));
        assert_eq!(queue.pop(ms(round)).map(|(id, _)| id), Some(0));
        assert_eq!(queue.pop(ms(round)).map(|(id, _)| id), Some(2));
        old.extend(tickets);
    }
    queue.push(7, 0, ms(2_000)).unwrap();
    assert!(old.into_iter().all(|ticket| queue.remove(ticket).is_none()));
}
