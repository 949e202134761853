//! The pool and its servers in virtual time: events in a heap, no socket and no clock.

use crate::numbers::Numbers;
use plimsoll_balance::{Algorithm, Ask, Outcome, Picker, Pool, Rules, ServerSpec, Slot, Tried};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::num::NonZeroU32;
use std::time::Duration;

/// The mean time of an answer. A server makes one at a time, and the others wait there.
pub(crate) const SERVICE: Duration = Duration::from_millis(10);

/// By how much the slow server is slower.
pub(crate) const SLOWER: u64 = 10;

/// How long a client waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How long the flapping server is up, then down.
pub(crate) const FLAP: Duration = Duration::from_secs(1);

/// How long it takes to learn that a server that is down refuses.
const REFUSAL: Duration = Duration::from_millis(1);

/// What arrives, in relation to what the servers can do.
pub(crate) const LOAD: f64 = 0.7;

/// What [`Algorithm::First`] lets a server have at once: without a limit all goes to the first.
pub(crate) const FIRST_MOST: u32 = 4;

/// How often the pool hears that time passes.
const TICK: Duration = Duration::from_millis(250);

/// Each has its own picker, as workers have.
const WORKERS: usize = 4;

#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) servers: usize,
    pub(crate) requests: usize,
    pub(crate) rules: Rules,
}

/// What the clients saw, without the first tenth of them.
pub(crate) struct Seen {
    /// The times of the answers in microseconds, in ascending order.
    pub(crate) answers: Vec<u64>,
    pub(crate) requests: usize,
    pub(crate) at_slow: usize,
    /// The share that each server would get, if all got the same.
    pub(crate) even: f64,
}

impl Seen {
    /// Returns the time within which a share of the answers came.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = (self.answers.len() as f64 * share) as usize;
        Duration::from_micros(self.answers[rank.min(self.answers.len() - 1)])
    }

    pub(crate) fn errors(&self) -> f64 {
        1.0 - self.answers.len() as f64 / self.requests as f64
    }

    pub(crate) fn slow_share(&self) -> f64 {
        self.at_slow as f64 / self.requests as f64
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    /// The server has made the answer to this request.
    Done(usize, usize),
    /// The client of this request leaves.
    Leave(usize, usize),
    /// The server's refusal of the oldest that it refused arrives.
    Refused(usize),
    Flap,
    Tick,
}

struct Request<'pool> {
    number: usize,
    came: Duration,
    slot: Slot<'pool>,
}

#[derive(Default)]
struct Server<'pool> {
    /// The first is the one being answered.
    line: VecDeque<Request<'pool>>,
    refused: VecDeque<Request<'pool>>,
    is_down: bool,
}

struct World<'pool> {
    scenario: Scenario,
    pool: &'pool Pool,
    pickers: Vec<Picker>,
    servers: Vec<Server<'pool>>,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    scheduled: u64,
    now: Duration,
    came: usize,
    numbers: Numbers,
    seen: Seen,
}

/// Lets `scenario` happen to a pool that chooses by `algorithm`.
pub(crate) fn run(scenario: Scenario, algorithm: Algorithm) -> Seen {
    let most = (algorithm == Algorithm::First).then_some(FIRST_MOST);
    let spec = |n| ServerSpec {
        name: format!("10.0.{}.{}:80", n / 250, n % 250 + 1).into(),
        weight: 1,
        max_connections: most.and_then(NonZeroU32::new),
        tier: 0,
    };
    let specs = (0..scenario.servers).map(spec).collect();
    let pool = Pool::new(specs, algorithm).with_rules(scenario.rules);
    let mut world = World {
        scenario,
        pool: &pool,
        pickers: (0..WORKERS)
            .map(|worker| Picker::new(&pool, worker))
            .collect(),
        servers: (0..scenario.servers).map(|_| Server::default()).collect(),
        events: BinaryHeap::new(),
        scheduled: 0,
        now: Duration::ZERO,
        came: 0,
        numbers: Numbers(1),
        seen: Seen {
            answers: Vec::new(),
            requests: 0,
            at_slow: 0,
            even: 1.0 / scenario.servers as f64,
        },
    };
    world.schedule(Duration::ZERO, Event::Arrive);
    world.schedule(FLAP, Event::Flap);
    world.schedule(TICK, Event::Tick);
    while let Some(Reverse((now, _, event))) = world.events.pop() {
        world.now = now;
        world.happen(event);
    }
    let mut seen = world.seen;
    seen.answers.sort_unstable();
    assert!(pool.servers().iter().all(|server| server.in_flight() == 0));
    seen
}

impl<'pool> World<'pool> {
    fn schedule(&mut self, after: Duration, event: Event) {
        self.scheduled += 1;
        let at = self.now + after;
        self.events.push(Reverse((at, self.scheduled, event)));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrive => self.arrive(),
            Event::Done(server, number) => {
                let line = &mut self.servers[server].line;
                if line.front().is_some_and(|first| first.number == number) {
                    let request = line.pop_front().unwrap();
                    self.finish(request, Outcome::Served);
                    self.serve(server);
                }
            }
            Event::Leave(server, number) => self.leave(server, number),
            Event::Refused(server) => {
                let request = self.servers[server].refused.pop_front().unwrap();
                self.finish(request, Outcome::Failed);
            }
            Event::Flap => self.flap(),
            Event::Tick => {
                self.pool.tick(self.now);
                self.repeat(TICK, Event::Tick);
            }
        }
    }

    /// Sends the next request to a server, and expects another after a time that remembers
    /// nothing (a Poisson process).
    fn arrive(&mut self) {
        let capacity = self.scenario.servers as f64 - 2.0 + 1.0 / SLOWER as f64 + 0.5;
        let gap = SERVICE.div_f64(capacity * LOAD);
        let number = self.came;
        self.came += 1;
        let after = self.numbers.exponential(gap);
        self.repeat(after, Event::Arrive);
        let worker = self.numbers.next() as usize % WORKERS;
        let tried = Tried::new();
        let ask = Ask {
            key: self.numbers.next(),
            random: self.numbers.next(),
            now: self.now,
            tried: &tried,
        };
        let picked = self.pickers[worker].pick(self.pool, &ask);
        let counts = usize::from(self.counts(number));
        self.seen.requests += counts;
        let Ok(slot) = picked else {
            return; // a request that no server takes is an error
        };
        let server = slot.index().position();
        self.seen.at_slow += if server == self.slow() { counts } else { 0 };
        self.send(server, number, slot);
    }

    fn send(&mut self, index: usize, number: usize, slot: Slot<'pool>) {
        let came = self.now;
        let request = Request { number, came, slot };
        let server = &mut self.servers[index];
        if server.is_down {
            server.refused.push_back(request);
            self.schedule(REFUSAL, Event::Refused(index));
            return;
        }
        server.line.push_back(request);
        let is_alone = server.line.len() == 1;
        self.schedule(PATIENCE, Event::Leave(index, number));
        if is_alone {
            self.serve(index);
        }
    }

    /// Begins the answer to the first in the server's line.
    fn serve(&mut self, index: usize) {
        if let Some(first) = self.servers[index].line.front() {
            let number = first.number;
            let mut time = self.numbers.exponential(SERVICE);
            if index == self.slow() {
                time *= SLOWER as u32;
            }
            self.schedule(time, Event::Done(index, number));
        }
    }

    fn leave(&mut self, index: usize, number: usize) {
        let line = &mut self.servers[index].line;
        let place = line.iter().position(|request| request.number == number);
        let Some(place) = place else {
            return; // it has its answer
        };
        let request = line.remove(place).unwrap();
        self.finish(request, Outcome::Failed);
        if place == 0 {
            self.serve(index);
        }
    }

    fn flap(&mut self) {
        let index = self.scenario.servers * 2 / 3;
        let server = &mut self.servers[index];
        server.is_down = !server.is_down;
        for request in std::mem::take(&mut server.line) {
            self.finish(request, Outcome::Failed);
        }
        self.repeat(FLAP, Event::Flap);
    }

    /// Has `event` happen again, as long as clients come.
    fn repeat(&mut self, after: Duration, event: Event) {
        if self.came < self.scenario.requests {
            self.schedule(after, event);
        }
    }

    fn finish(&mut self, request: Request<'pool>, outcome: Outcome) {
        let took = self.now - request.came;
        request.slot.release(outcome, Some(took), self.now);
        if outcome == Outcome::Served && self.counts(request.number) {
            self.seen.answers.push(took.as_micros() as u64);
        }
    }

    /// Tells whether request `number` is past the warm-up.
    fn counts(&self, number: usize) -> bool {
        number >= self.scenario.requests / 10
    }

    fn slow(&self) -> usize {
        self.scenario.servers / 3
    }
}
