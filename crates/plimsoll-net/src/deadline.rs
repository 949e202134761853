//! Deadlines: one timer a connection, set several times a request at the price of a store.
//!
//! A timer is an entry in a worker's table. Setting it later than it is queued for moves nothing:
//! the wheel finds the entry at the old time, sees the new one and queues it again. So a timer
//! that never fires, which is nearly every timer, costs almost nothing.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::clock;

/// How exact deadlines are.
pub const TICK: Duration = Duration::from_millis(50);

/// Slots of the wheel; a later deadline is looked at again once around.
const SLOTS: u64 = 512;

const NEVER: u64 = u64::MAX;

#[derive(Debug)]
struct Entry {
    due: u64,
    queued: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Wheel {
    entries: Vec<Entry>,
    free: Vec<u32>,
    slots: Vec<Vec<u32>>,
    /// Every tick below this one has been looked at.
    tick: u64,
    /// The slot that is being looked at; kept for its memory.
    current: Vec<u32>,
}

/// The deadlines of one worker.
#[derive(Debug)]
pub struct Deadlines {
    start: Instant,
    wheel: RefCell<Wheel>,
}

impl Deadlines {
    /// A table whose time begins at `start`.
    pub fn new(start: Instant) -> Rc<Self> {
        let slots = (0..SLOTS).map(|_| Vec::new()).collect();
        let wheel = Wheel {
            entries: Vec::new(),
            free: Vec::new(),
            slots,
            tick: 0,
            current: Vec::new(),
        };
        Rc::new(Self {
            start,
            wheel: RefCell::new(wheel),
        })
    }

    /// A timer that is not set.
    pub fn timer(self: &Rc<Self>) -> Timer {
        let mut wheel = self.wheel.borrow_mut();
        let entry = Entry {
            due: NEVER,
            queued: NEVER,
            waker: None,
        };
        let index = if let Some(index) = wheel.free.pop() {
            if let Some(place) = wheel.entries.get_mut(index as usize) {
                *place = entry;
            }
            index
        } else {
            wheel.entries.push(entry);
            u32::try_from(wheel.entries.len() - 1).unwrap_or(u32::MAX)
        };
        Timer {
            deadlines: Rc::clone(self),
            index,
        }
    }

    /// Wakes whoever is due at `now`. Called once a tick.
    pub fn advance(&self, now: Instant) {
        let mut wheel = self.wheel.borrow_mut();
        let until = self.tick_before(now);
        // After a pause of the machine one round of the wheel sees every entry.
        let from = wheel.tick.max(until.saturating_sub(SLOTS));
        for tick in from..until {
            wheel.tick = tick + 1;
            wheel.look(tick, until);
        }
    }

    /// Wakes everyone who waits for a deadline, so that they look around.
    pub fn wake_all(&self) {
        for entry in &mut self.wheel.borrow_mut().entries {
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    /// The tick that has passed at `now`.
    fn tick_before(&self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.start).as_millis() / TICK.as_millis();
        u64::try_from(passed).unwrap_or(NEVER - 1)
    }

    /// The first tick at which `at` has surely passed.
    fn tick_after(&self, at: Instant) -> u64 {
        self.tick_before(at).saturating_add(1)
    }
}

impl Wheel {
    fn queue(&mut self, index: u32, due: u64) {
        let tick = due.max(self.tick).min(self.tick + SLOTS - 1);
        if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.queued = tick;
        }
        if let Some(slot) = self.slots.get_mut((tick % SLOTS) as usize) {
            slot.push(index);
        }
    }

    fn look(&mut self, tick: u64, now: u64) {
        let mut current = std::mem::take(&mut self.current);
        if let Some(slot) = self.slots.get_mut((tick % SLOTS) as usize) {
            std::mem::swap(slot, &mut current);
        }
        for index in current.drain(..) {
            let Some(entry) = self.entries.get_mut(index as usize) else {
                continue;
            };
            if entry.queued > tick {
                continue; // freed, or queued elsewhere since
            }
            entry.queued = NEVER;
            let due = entry.due;
            if due < now {
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            } else if due != NEVER {
                self.queue(index, due);
            }
        }
        self.current = current;
    }
}

/// One deadline that is set, moved and cleared.
#[derive(Debug)]
pub struct Timer {
    deadlines: Rc<Deadlines>,
    index: u32,
}

/// A deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

impl Timer {
    /// Sets the deadline.
    pub fn set(&self, at: Instant) {
        let due = self.deadlines.tick_after(at);
        let mut wheel = self.deadlines.wheel.borrow_mut();
        let Some(entry) = wheel.entries.get_mut(self.index as usize) else {
            return;
        };
        entry.due = due;
        if due < entry.queued {
            wheel.queue(self.index, due);
        }
    }

    /// Waits for `future` until the deadline.
    ///
    /// # Errors
    /// The deadline passed first; `future` is dropped.
    pub async fn limit<T>(&self, future: impl Future<Output = T>) -> Result<T, Late> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => self.poll(context).map(Err),
        })
        .await
    }

    /// Prepares to wait for `patience`; the deadline is set when the first wait begins, so that
    /// what is ready at once does not ask for the time.
    pub fn wait(&self, patience: Duration) -> Wait<'_> {
        Wait {
            timer: self,
            patience,
            is_set: false,
        }
    }

    /// Ready once the deadline has passed.
    pub fn poll(&self, context: &Context<'_>) -> Poll<Late> {
        let mut wheel = self.deadlines.wheel.borrow_mut();
        let tick = wheel.tick;
        let Some(entry) = wheel.entries.get_mut(self.index as usize) else {
            return Poll::Pending;
        };
        if entry.due < tick {
            return Poll::Ready(Late);
        }
        match &mut entry.waker {
            Some(waker) if waker.will_wake(context.waker()) => {}
            waker => *waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// A deadline for several waits together.
#[derive(Debug)]
pub struct Wait<'a> {
    timer: &'a Timer,
    patience: Duration,
    is_set: bool,
}

impl Wait<'_> {
    /// Waits until `poll` is ready.
    ///
    /// # Errors
    /// The deadline passed first.
    pub async fn on<T>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Late> {
        poll_fn(|context| match poll(context) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending => {
                if !std::mem::replace(&mut self.is_set, true) {
                    self.timer.set(clock::now() + self.patience);
                }
                self.timer.poll(context).map(Err)
            }
        })
        .await
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut wheel = self.deadlines.wheel.borrow_mut();
        if let Some(entry) = wheel.entries.get_mut(self.index as usize) {
            *entry = Entry {
                due: NEVER,
                queued: NEVER,
                waker: None,
            };
        }
        wheel.free.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    fn is_late(timer: &Timer) -> bool {
        timer.poll(&Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn deadlines_pass_when_they_are_due_and_not_before() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let deadlines = Deadlines::new(start);
        let (near, far, moved) = (deadlines.timer(), deadlines.timer(), deadlines.timer());
        near.set(after(100));
        far.set(after(3_600_000));
        moved.set(after(200));
        moved.set(after(60_000));
        let at = |ms| {
            deadlines.advance(after(ms));
            (is_late(&near), is_late(&moved), is_late(&far))
        };
        assert_eq!(at(99), (false, false, false));
        assert_eq!(at(250), (true, false, false));
        near.set(after(400));
        assert_eq!(at(300), (false, false, false));
        assert_eq!(at(59_000), (true, false, false));
        assert_eq!(at(60_200), (true, true, false));
        moved.set(after(61_000));
        assert_eq!(at(60_900), (true, false, false));
        assert_eq!(at(61_200), (true, true, false));
        assert_eq!(at(3_500_000), (true, true, false));
        assert_eq!(at(3_600_100), (true, true, true));
    }

    /// Notes that it was woken.
    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_deadline_that_moved_wakes_who_waits_however_far_it_moved() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        for moved in (100..1_000).step_by(10) {
            let deadlines = Deadlines::new(start);
            let timer = deadlines.timer();
            timer.set(after(100));
            timer.set(after(moved));
            let mut now = 0;
            let late = loop {
                let bell = Arc::new(Bell::default());
                if timer
                    .poll(&Context::from_waker(&bell.clone().into()))
                    .is_ready()
                {
                    break now;
                }
                while !bell.0.load(Ordering::Relaxed) {
                    now += 50;
                    assert!(now < 2_000, "nobody was woken for {moved}");
                    deadlines.advance(after(now));
                }
            };
            assert!((moved..=moved + 100).contains(&late), "{moved}: {late}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn a_freed_entry_does_not_fire_for_its_successor() {
        let start = Instant::now();
        let deadlines = Deadlines::new(start);
        let first = deadlines.timer();
        first.set(start + Duration::from_millis(100));
        drop(first);
        let second = deadlines.timer();
        second.set(start + Duration::from_secs(10));
        deadlines.advance(start + Duration::from_secs(5));
        assert!(!is_late(&second));
        assert_eq!(deadlines.wheel.borrow().entries.len(), 1);
    }
}
