//! Work for threads that may wait for a disk.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is to be done, in order.
#[derive(Debug)]
pub(super) struct Queue<T> {
    inner: Mutex<Inner<T>>,
    came: Condvar,
}

#[derive(Debug)]
struct Inner<T> {
    work: VecDeque<T>,
    is_closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        let inner = Inner {
            work: VecDeque::new(),
            is_closed: false,
        };
        Self {
            inner: Mutex::new(inner),
            came: Condvar::new(),
        }
    }

    /// Adds a piece of work, unless that makes more than `most`; tells whether it did.
    pub(super) fn push(&self, work: T, most: usize) -> bool {
        let mut inner = self.lock();
        let fits = inner.work.len() < most && !inner.is_closed;
        if fits {
            inner.work.push_back(work);
            self.came.notify_one();
        }
        fits
    }

    /// Waits for the next piece of work; nothing is the end.
    pub(super) fn pop(&self) -> Option<T> {
        let mut inner = self.lock();
        loop {
            if inner.is_closed {
                return None;
            }
            if let Some(work) = inner.work.pop_front() {
                return Some(work);
            }
            let woken = self.came.wait(inner);
            inner = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends it. What is still to be done is not.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        let left = std::mem::take(&mut inner.work);
        drop(inner);
        drop(left);
        self.came.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_done_in_order_and_bounded() {
        let queue = Queue::new();
        assert!(queue.push(1, 2) && queue.push(2, 2) && !queue.push(3, 2));
        assert_eq!((queue.pop(), queue.pop()), (Some(1), Some(2)));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.pop());
            queue.close();
            assert_eq!(waiting.join().unwrap(), None);
        });
        assert!(!queue.push(4, 2));
    }
}
