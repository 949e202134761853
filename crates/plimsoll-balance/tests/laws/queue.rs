//! Everyone who came leaves exactly once, in the order that is stated.

use plimsoll_balance::queue::{Full, PASSES, Queue, Settings, Ticket};
use proptest::prelude::*;
use std::time::Duration;

const CAPACITY: usize = 12;

const SETTINGS: Settings = Settings {
    capacity: CAPACITY,
    standing_capacity: 5,
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
    Displace(u8),
}

/// Steps and the milliseconds before each: mostly fast, at times slow enough to stand.
fn steps() -> impl Strategy<Value = Vec<(Step, u64)>> {
    let step = prop_oneof![
        6 => (0_u8..4).prop_map(|n| Step::Push(n * n)),
        3 => Just(Step::Pop),
        1 => (0_usize..100).prop_map(Step::Remove),
        1 => (0_u8..11).prop_map(Step::Displace),
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

    fn is_full_for(&self, priority: u8) -> bool {
        let from = |waiter: &&Waiter| waiter.priority >= priority;
        let standing = self.waiting.iter().filter(from).count();
        self.waiting.len() == CAPACITY || self.stands && standing >= SETTINGS.standing_capacity
    }

    /// Checks that it was `id`'s turn.
    fn pop(&mut self, id: usize, waited: Duration, now: Duration) {
        let first = self.waiting[0];
        let highest = self.waiting.iter().map(|w| w.priority).max().unwrap();
        let was_passed = self.passed;
        let same = |w: &&Waiter| w.priority == self.waiting[self.index(id)].priority;
        let mut lane = self.waiting.iter().filter(same).peekable();
        let is_late = |first: &&Waiter| now - first.arrived > SETTINGS.target;
        let next = if self.stands && lane.peek().is_some_and(is_late) {
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
            let is_full = model.is_full_for(priority);
            match queue.push(id, priority, now) {
                Ok(ticket) => {
                    assert!(!is_full);
                    model.waiting.push(Waiter {
                        id,
                        priority,
                        arrived: now,
                        ticket,
                    });
                }
                Err(Full(back)) => {
                    assert!(is_full && back == id);
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
        Step::Displace(priority) => {
            let waiting = model.waiting.iter().rev();
            let lowest = waiting.min_by_key(|waiter| waiter.priority).copied();
            let gone = lowest.filter(|waiter| waiter.priority < priority);
            assert_eq!(queue.displace(priority), gone.map(|waiter| waiter.id));
            if let Some(gone) = gone {
                model.leave(gone.id);
                model.stands &= !model.waiting.is_empty();
            }
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
}

/// Three times as many come as leave: those who are served hardly wait, and those who are refused
/// do not wait at all, but for the few who came before the line stood.
#[test]
fn a_line_that_stands_is_short() {
    let mut queue = Queue::new(Settings::new(1_000, ms(1_000)));
    let (mut waits, mut late) = (Vec::new(), 0);
    for tick in 0..10_000 {
        for _ in 0..3 {
            let _ = queue.push(tick, 0, ms(tick));
        }
        let (came, waited) = queue.pop(ms(tick)).unwrap();
        waits.push(waited);
        late += u32::from(came < 100 && tick > 1_000);
    }
    let (early, usual) = waits.split_at(1_000);
    assert!(early.iter().max() > Some(&ms(50)), "it was long before");
    assert!(
        usual.iter().all(|wait| *wait <= ms(100)),
        "{:?}",
        usual.iter().max()
    );
    assert!(late <= 64, "{late} served who had been forgotten");
}

/// As many come as leave, in a line of 40 that was there before: the newest are served at once,
/// and nobody is thrown out.
#[test]
fn a_line_that_stands_serves_the_newest() {
    let mut queue = Queue::new(Settings::new(100, ms(1_000)));
    for id in 0..40 {
        queue.push(id, 0, ms(0)).unwrap();
    }
    let mut waits = Vec::new();
    for tick in 1..1_000 {
        queue.push(1_000, 0, ms(tick)).unwrap();
        waits.push(queue.pop(ms(tick)).unwrap().1);
    }
    assert!(waits[200..].iter().all(|wait| *wait <= ms(5)));
    assert!(queue.is_standing());
    let left = std::iter::from_fn(|| queue.pop(ms(1_000))).count();
    assert_eq!(left, 40);
}

#[test]
fn a_line_that_stands_takes_those_of_higher_priority() {
    let mut queue = Queue::new(Settings::new(1_000, ms(1_000)));
    for _ in 0..200 {
        queue.push("low", 1, ms(0)).unwrap();
    }
    assert_eq!(queue.push("low", 1, ms(200)), Err(Full("low")));
    assert!(queue.push("high", 2, ms(200)).is_ok());
    assert_eq!(queue.pop(ms(200)).map(|(item, _)| item), Some("high"));
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
