//! Memory for the futures of busy connections.
//!
//! The future that serves requests is large; a connection that waits must not hold it, and a
//! request must not allocate it. So a connection that wakes up places its future into a slot that
//! an earlier one has left.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;

/// Slots that are kept when they are empty.
const KEPT_MAX: usize = 1024;

type Slot<F> = Pin<Box<Option<F>>>;

/// Slots for futures of one type.
#[derive(Debug)]
pub struct Slots<F> {
    free: RefCell<Vec<Slot<F>>>,
}

impl<F> Default for Slots<F> {
    fn default() -> Self {
        Self {
            free: RefCell::default(),
        }
    }
}

impl<F: Future> Slots<F> {
    /// Runs `future` in a slot.
    pub async fn run(&self, future: F) -> F::Output {
        let mut slot = self
            .free
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Box::pin(None));
        slot.set(Some(future));
        let mut lease = Lease {
            slots: self,
            slot: Some(slot),
        };
        poll_fn(|context| {
            match lease
                .slot
                .as_mut()
                .and_then(|slot| slot.as_mut().as_pin_mut())
            {
                Some(future) => future.poll(context),
                None => std::task::Poll::Pending, // invariant: the lease holds its slot until it is dropped
            }
        })
        .await
    }
}

/// Gives the slot back, also when the connection is dropped in the middle.
struct Lease<'a, F> {
    slots: &'a Slots<F>,
    slot: Option<Slot<F>>,
}

impl<F> Drop for Lease<'_, F> {
    fn drop(&mut self) {
        let Some(mut slot) = self.slot.take() else {
            return;
        };
        slot.set(None);
        let mut free = self.slots.free.borrow_mut();
        if free.len() < KEPT_MAX {
            free.push(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_and_its_future_is_dropped() {
        let slots = Slots::default();
        let work = |n: u32| async move {
            tokio::task::yield_now().await;
            n + 1
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(slots.run(work(1))), 2);
        assert_eq!(runtime.block_on(slots.run(work(2))), 3);
        assert_eq!(slots.free.borrow().len(), 1);
        assert!(slots.free.borrow()[0].is_none());
    }
}
