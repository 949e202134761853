//! How many requests a server takes at once, found out by how long its answers take.
//!
//! Above what a server does at the same time, one request more only makes all of them wait. So
//! the limit follows the gradient, the usual time of an answer over the present one: it shrinks
//! by it while answers slow down, and grows by its square root while they do not, as much of a
//! queue as a server needs to stay busy. That is Gradient2 of Netflix's concurrency-limits
//! (E. Landau et al., "Performance Under Load", 2018) and the gradient controller of Envoy.
//!
//! They differ in what is usual, and so does this. Gradient2 averages over minutes, and under
//! overload that lasts the average follows the queue, and the limit the average, up to its
//! maximum. Envoy asks at its lowest limit, every minute, at the price of the throughput. Here
//! the usual time follows the average down, and up while the limit does not bind: then the time
//! is the server's own, and not that of a queue that the limit let in. Only when the limit
//! has been in the way for long, this asks at its lowest limit, too.

use std::time::Duration;

/// The least time over which answers are averaged.
const WINDOW: Duration = Duration::from_millis(100);

/// The least number of answers that make an average: of fewer, the average says more about luck.
const WINDOW_SAMPLES: u32 = 30;

/// What was not full after this time is forgotten: its first answers say nothing of now.
const STALE: Duration = Duration::from_secs(10);

/// How much slower than usual an answer may be before it counts as waiting.
const TOLERANCE: f64 = 1.5;

/// The part of the way to its new value that the limit goes with each window.
const SMOOTHING: f64 = 0.2;

/// By how much the limit grows with each window until it meets the server's for the first time.
const START_GROWTH: f64 = 1.5;

/// How long the limit binds before the usual time is measured anew at the lowest limit …
const PROBE_AFTER: Duration = Duration::from_secs(20);

/// … and how long that may take.
const PROBE_MOST: Duration = Duration::from_secs(2);

/// By how much an average may be above the usual time by chance.
const CHANCE: f64 = 1.25;

/// The part of the way to the present average that the usual time goes with each window. Were it
/// more, the usual time would keep up with a queue that a growing limit lets in.
const FOLLOW: f64 = 0.03;

/// A limit on the requests in flight to a server, or to all servers of a pool.
#[derive(Clone, Debug)]
pub struct Limit {
    min: f64,
    max: f64,
    limit: f64,
    /// The time of an answer when none waits, in seconds.
    usual: Option<f64>,
    /// Whether answers were never slow yet.
    starts: bool,
    /// Since when the limit binds.
    bound: Option<Duration>,
    /// Since when the usual time is measured at the lowest limit.
    probe: Option<Duration>,
    window: Window,
}

#[derive(Clone, Debug, Default)]
struct Window {
    opened: Duration,
    samples: u32,
    seconds: f64,
    /// The most in flight.
    in_flight: u32,
}

impl Limit {
    /// Creates a limit that begins at `min`, and stays within `min` (0 counts as 1) and `max` (at
    /// least `min`).
    ///
    /// `min` is what every server of its kind takes, and better not much less: what is usual is
    /// measured there, which takes 30 answers, or 2 s of each 20 s in vain.
    #[must_use]
    pub fn new(min: u32, max: u32) -> Self {
        let min = min.max(1);
        Self {
            min: min.into(),
            max: max.max(min).into(),
            limit: min.into(),
            usual: None,
            starts: true,
            bound: None,
            probe: None,
            window: Window::default(),
        }
    }

    /// Returns how many requests may be in flight.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between two u32"
    )]
    pub fn limit(&self) -> u32 {
        let limit = if self.probe.is_some() {
            self.min
        } else {
            self.limit
        };
        limit as u32
    }

    /// Learns that an answer took `rtt`, and that `in_flight` requests were in flight with it.
    ///
    /// Times of failures belong here only if they took as long as an answer would have, as
    /// timeouts do: a fast failure looks like a fast server.
    pub fn sample(&mut self, rtt: Duration, in_flight: u32, now: Duration) {
        let age = now.saturating_sub(self.window.opened);
        if self.window.samples == 0 || (age > STALE && self.window.samples < WINDOW_SAMPLES) {
            self.window = Window {
                opened: now,
                ..Window::default()
            };
        }
        let window = &mut self.window;
        window.samples += 1;
        window.seconds += rtt.as_secs_f64();
        window.in_flight = window.in_flight.max(in_flight);
        if window.samples >= WINDOW_SAMPLES && age >= WINDOW {
            let full = std::mem::take(window);
            self.learn(full.seconds / f64::from(full.samples), full.in_flight, now);
        }
    }

    /// Moves the usual time and the limit by what one window showed.
    fn learn(&mut self, present: f64, in_flight: u32, now: Duration) {
        let (present, in_flight) = (present.max(f64::MIN_POSITIVE), f64::from(in_flight));
        if let Some(since) = self.probe {
            self.measure(present, in_flight, now.saturating_sub(since));
            return;
        }
        let binds = in_flight >= self.limit / 2.0;
        let usual = self.usual_after(present, binds);
        self.usual = Some(usual);
        let gradient = (TOLERANCE * usual / present).clamp(0.5, 1.0);
        self.starts &= gradient >= 1.0;
        self.watch(binds, now);
        // A limit that nobody reaches is not known to be right, so it must not grow.
        if gradient < 1.0 || binds {
            self.limit = self.limit_after(gradient).clamp(self.min, self.max);
        }
    }

    fn usual_after(&self, present: f64, binds: bool) -> f64 {
        let Some(usual) = self.usual else {
            return present;
        };
        // What goes down by chance must come up by chance, or luck would lower it for good.
        let is_own = !binds || present < usual * CHANCE;
        let step = if is_own { FOLLOW } else { 0.0 };
        usual + (present - usual) * step
    }

    fn limit_after(&self, gradient: f64) -> f64 {
        if self.starts {
            return self.limit * START_GROWTH;
        }
        let next = self.limit * gradient + self.limit.sqrt();
        self.limit + (next - self.limit) * SMOOTHING
    }

    /// Begins to measure when the limit has been in the way for long: it may be wrong.
    fn watch(&mut self, binds: bool, now: Duration) {
        if binds {
            let since = *self.bound.get_or_insert(now);
            let is_due = now.saturating_sub(since) >= PROBE_AFTER;
            self.probe = is_due.then_some(now);
        } else {
            self.bound = None;
        }
    }

    /// Takes the time of a window in which no more were in flight than the lowest limit.
    fn measure(&mut self, present: f64, in_flight: f64, elapsed: Duration) {
        let is_alone = in_flight <= self.min;
        if is_alone {
            self.usual = Some(present);
        }
        if is_alone || elapsed >= PROBE_MOST {
            (self.probe, self.bound) = (None, None);
        }
    }
}
