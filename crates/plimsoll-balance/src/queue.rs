//! Who waits for a slot: a line of bounded length, for one worker and pool.
//!
//! Normally the line is first come, first served. Under overload that is the worst order: it
//! serves everyone late, and at last only those whose clients have left. So a line that *stands*
//! is served from its other end as soon as the one in front has waited for long: the few that wait
//! longest pay, and the others hardly notice. This is adaptive LIFO (B. Maurer, "Fail at Scale",
//! ACM Queue 13(8), 2015), which tells a standing line from a burst as CoDel does (K. Nichols,
//! V. Jacobson, "Controlling Queue Delay", ACM Queue 10(5), 2012): by the shortest wait over an
//! interval, not by the length.
//!
//! A line that stands is short, too. Where more come than can be served, its length only adds to
//! the wait, and whoever must be refused should hear so at once. So it takes someone only while
//! it has few: as many as keep the servers busy until others come. Those who were in a line before
//! it stood keep their places.
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
    /// The most that wait in a line that stands, of one priority and those above it.
    pub standing_capacity: usize,
    /// A line stands once nobody got through it faster than this …
    pub target: Duration,
    /// … for this long, in which it was never empty.
    pub interval: Duration,
}

/// How many keep servers busy: so many that they rarely all leave before others come, at any load
/// at which a line stands.
const BUSY: usize = 64;

impl Settings {
    /// Returns the settings of a line of `capacity` for those who are ready to wait for `patience`:
    /// it stands when it moves slowly for a good part of that time.
    #[must_use]
    pub fn new(capacity: usize, patience: Duration) -> Self {
        Self {
            capacity,
            standing_capacity: capacity.min(BUSY),
            target: patience / 100,
            interval: patience / 10,
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
    /// The item, when as many wait as may now.
    pub fn push(&mut self, item: T, priority: u8, now: Duration) -> Result<Ticket, Full<T>> {
        self.look(now);
        let Settings {
            capacity,
            standing_capacity,
            ..
        } = self.settings;
        let is_full = self.len() >= capacity.min(u32::MAX as usize)
            || self.stands && self.lanes.len_from(priority) >= standing_capacity;
        if is_full {
            return Err(Full(item));
        }
        Ok(self.lanes.push(item, priority, now))
    }

    /// Takes the next one out, and tells how long it waited.
    pub fn pop(&mut self, now: Duration) -> Option<(T, Duration)> {
        self.look(now);
        let lane = self.next_lane()?;
        let first = self.lanes.arrived(lane.oldest)?;
        let place = if self.stands && now.saturating_sub(first) > self.settings.target {
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

    /// Takes out the one with this ticket, if it still waits: its client has left, or its time is
    /// over.
    pub fn remove(&mut self, ticket: Ticket) -> Option<T> {
        let place = self.lanes.find(ticket)?;
        let (item, _) = self.lanes.take(Some(place))?;
        self.stands &= !self.is_empty();
        Some(item)
    }

    /// Takes out the one that came last of those with the lowest priority, if that is below
    /// `priority`: one of higher priority finds the line full, and takes its place.
    pub fn displace(&mut self, priority: u8) -> Option<T> {
        let lane = self.lanes.lowest()?;
        let lower = lane.newest.filter(|_| lane.priority < priority);
        let (item, _) = self.lanes.take(lower)?;
        self.stands &= !self.is_empty();
        Some(item)
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
