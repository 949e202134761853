//! Memory for the futures of busy connections.
//!
//! The future that serves requests is large; a connection that waits must not hold it, and a
//! request must not allocate it. So a connection that wakes up places its future into a slot that
//! an earlier one has left.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

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
    /// Places `future` into a slot. The caller holds the lease, which is small.
    pub fn place(&self, future: F) -> Lease<'_, F> {
        let mut slot = self
            .free
            .borrow_mut()
            .pop()
            .unwrap_or_else(|| Box::pin(None));
        slot.set(Some(future));
        Lease {
            slots: self,
            slot: Some(slot),
        }
    }
}

/// A future in its slot. It gives the slot back, also when it is dropped in the middle.
#[derive(Debug)]
pub struct Lease<'a, F> {
    slots: &'a Slots<F>,
    slot: Option<Slot<F>>,
}

impl<F: Future> Future for Lease<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self
            .slot
            .as_mut()
            .and_then(|slot| slot.as_mut().as_pin_mut())
        {
            Some(future) => future.poll(context),
            None => Poll::Pending, // invariant: the lease holds its slot until it is dropped
        }
    }
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
        assert_eq!(runtime.block_on(slots.place(work(1))), 2);
        assert_eq!(runtime.block_on(slots.place(work(2))), 3);
        assert_eq!(slots.free.borrow().len(), 1);
        assert!(slots.free.borrow()[0].is_none());
    }
}
