//! How many there may be at the same time, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// A number that is never exceeded.
#[derive(Debug)]
pub struct Ceiling {
    most: u32,
    now: Arc<AtomicU32>,
}

/// One of those that there may be, until it is dropped.
#[derive(Debug)]
#[must_use = "what is dropped is given back"]
pub struct Seat<'a>(&'a Ceiling);

impl Ceiling {
    /// At most `most` at the same time.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self {
            most,
            now: Arc::default(),
        }
    }

    /// The same with another number: seats that are taken count for both.
    #[must_use]
    pub fn succeed(&self, most: u32) -> Self {
        Self {
            most,
            now: Arc::clone(&self.now),
        }
    }

    /// Takes a seat, if one is free.
    pub fn enter(&self) -> Option<Seat<'_>> {
        let enter = |now| (now < self.most).then_some(now + 1);
        let entered = self.now.fetch_update(Relaxed, Relaxed, enter);
        entered.is_ok().then(|| Seat(self))
    }

    /// Tells whether a seat is free now.
    pub fn has_room(&self) -> bool {
        self.now.load(Relaxed) < self.most
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;
    use std::thread;

    #[test]
    fn seats_of_the_one_before_count() {
        let before = Ceiling::new(2);
        let _seat = before.enter().unwrap();
        let after = before.succeed(1);
        assert!(!after.has_room() && before.has_room());
    }

    #[test]
    fn there_are_never_more_and_all_seats_come_back() {
        let (ceiling, inside) = (Ceiling::new(3), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let Some(_seat) = ceiling.enter() else {
                            continue;
                        };
                        assert!(inside.fetch_add(1, Relaxed) < 3);
                        inside.fetch_sub(1, Relaxed);
                    }
                });
            }
        });
        let seats: Vec<_> = (0..4).map(|_| ceiling.enter()).collect();
        assert!(seats.iter().take(3).all(Option::is_some) && seats[3].is_none());
        assert!(!ceiling.has_room());
        drop(seats);
        assert!(ceiling.has_room());
    }
}
