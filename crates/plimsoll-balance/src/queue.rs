//! Who waits for a slot: a line of bounded length, for one worker and pool.
//!
//! Normally the line is first come, first served. Under overload that is the worst order: it
//! serves everyone late, and at last only those whose clients have left. So a line that *stands*
//! is served from its other end, and its old ones time out sooner: the few that wait longest pay,
//! and the others hardly notice. This is adaptive LIFO with controlled delay (B. Maurer, "Fail at
//! Scale", ACM Queue 13(8), 2015), which tells a standing line from a burst as CoDel does
//! (K. Nichols, V. Jacobson, "Controlling Queue Delay", ACM Queue 10(5), 2012): by the shortest
//! wait over an interval, not by the length.
//!
//! # Priorities
//! The highest priority goes first. Whenever that has passed over the one who came first of all
//! [`PASSES`] times in a row, the priority of that one is served instead. So in normal order
//! someone behind `n` earlier ones leaves with the `8 * (n + 1)`th pop at the latest, whatever
//! comes later. In a standing line nobody is promised a turn: the newest go first, and the
//! others leave by the timeout.

mod lanes;

pub use lanes::Ticket;
use lanes::{Lane, Lanes};
use std::time::Duration;

/// How often in a row the one who came first is passed over for higher priorities.
pub const PASSES: u32 = 7;

/// How a line behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most that wait at the same time.
    pub capacity: usize,
    /// The longest wait.
    pub timeout: Duration,
    /// The longest wait in a line that stands.
    pub standing_timeout: Duration,
    /// A line stands once nobody got through it faster than this …
    pub target: Duration,
    /// … for this long, in which it was never empty. Servers that take longer than this for one
    /// answer make every line of theirs stand: it should be above the usual time of an answer.
    pub interval: Duration,
}

impl Settings {
    /// Returns the settings of a line of `capacity` in which one waits for `timeout` at most, with
    /// the 5 ms and 100 ms of both papers: right for servers that answer within 100 ms.
    #[must_use]
    pub fn new(capacity: usize, timeout: Duration) -> Self {
        let interval = Duration::from_millis(100);
        Self {
            capacity,
            timeout,
            standing_timeout: timeout.min(interval),
            target: Duration::from_millis(5),
            interval,
        }
    }
}

/// What did not fit into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// A line of those who wait, with what they need to go on.
#[derive(Debug)]
pub struct Queue<T> {
    settings: Settings,
    lanes: Lanes<T>,
    /// When the line was last seen to move: it was empty, or someone got through it fast.
    moved: Duration,
    stands: bool,
    /// How often in a row the one who came first was passed over.
    passed: u32,
}

impl<T> Queue<T> {
    /// Creates an empty line. It takes memory as it grows and keeps it.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            lanes: Lanes::new(),
            moved: Duration::ZERO,
            stands: false,
            passed: 0,
        }
    }

    /// Returns how many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Tells whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells whether the line stood when it was last asked for something.
    #[must_use]
    pub fn is_standing(&self) -> bool {
        self.stands
    }

    /// Adds `item`; the higher its `priority`, the sooner it leaves.
    ///
    /// # Errors
    /// The item, when as many wait as may.
    pub fn push(&mut self, item: T, priority: u8, now: Duration) -> Result<Ticket, Full<T>> {
        self.look(now);
        if self.len() >= self.settings.capacity.min(u32::MAX as usize) {
            return Err(Full(item));
        }
        Ok(self.lanes.push(item, priority, now))
    }

    /// Takes the next one out, and tells how long it waited.
    ///
    /// It may have waited past its time, unless [`Queue::expire`] was called at the same `now`.
    pub fn pop(&mut self, now: Duration) -> Option<(T, Duration)> {
        self.look(now);
        let lane = self.next_lane()?;
        let place = if self.stands {
            lane.newest
        } else {
            lane.oldest
        };
        let (item, arrived) = self.lanes.take(place)?;
        let waited = now.saturating_sub(arrived);
        if waited <= self.settings.target {
            self.moved = now;
        }
        self.look(now);
        Some((item, waited))
    }

    /// Takes out the one with this ticket, if it still waits: its client has left.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let place = self.lanes.find(ticket)?;
        let (item, _) = self.lanes.take(Some(place))?;
        self.stands &= !self.is_empty();
        Some(item)
    }

    /// Takes out all whose time is over, in the order in which they came. Those the iterator has
    /// not come to stay in the line.
    pub fn expire(&mut self, now: Duration) -> impl Iterator<Item = T> {
        std::iter::from_fn(move || {
            self.look(now);
            let place = self.lanes.eldest()?.oldest;
            let arrived = self.lanes.arrived(place)?;
            if now.saturating_sub(arrived) < self.timeout() {
                return None;
            }
            let (item, _) = self.lanes.take(place)?;
            self.stands &= !self.is_empty();
            Some(item)
        })
    }

    /// Returns when [`Queue::expire`] has something to do next, if nothing else happens before.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        let arrived = self.lanes.arrived(self.lanes.eldest()?.oldest)?;
        let Settings {
            timeout,
            standing_timeout,
            interval,
            ..
        } = self.settings;
        let sooner = arrived.saturating_add(standing_timeout);
        if self.stands {
            return Some(sooner);
        }
        let stands = self.moved.saturating_add(interval);
        Some(arrived.saturating_add(timeout).min(sooner.max(stands)))
    }

    fn timeout(&self) -> Duration {
        if self.stands {
            self.settings.standing_timeout
        } else {
            self.settings.timeout
        }
    }

    /// Notices that the line is empty, or stands.
    fn look(&mut self, now: Duration) {
        if self.is_empty() {
            self.stands = false;
            self.moved = now;
        } else if now.saturating_sub(self.moved) >= self.settings.interval {
            self.stands = true;
        }
    }

    /// Returns whose turn it is, and remembers who was passed over.
    fn next_lane(&mut self) -> Option<Lane> {
        let (highest, eldest) = (self.lanes.highest()?, self.lanes.eldest()?);
        if highest.priority == eldest.priority || self.passed >= PASSES {
            self.passed = 0;
            return Some(eldest);
        }
        self.passed += 1;
        Some(highest)
    }
}
