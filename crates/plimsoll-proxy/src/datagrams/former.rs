//! Flows of a plane that is not the current one any more: what comes for them is read by the current one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use hashbrown::HashSet;
use plimsoll_net::datagrams::Datagram;

use super::flow::Key;

/// Datagrams that may wait for their flow. More are lost, as where a socket's own room is taken.
const WAITING_MAX: usize = 1024;

/// Memory that is kept for the next datagrams.
const FREE_MAX: usize = 64;

/// What is read for the flows of one plane.
#[derive(Debug)]
pub(super) struct Former {
    keys: RefCell<HashSet<Key>>,
    waiting: RefCell<VecDeque<(Datagram, Vec<u8>)>>,
    free: RefCell<Vec<Vec<u8>>>,
    waker: RefCell<Option<Waker>>,
}

impl Former {
    /// With the flows that have these keys.
    pub(super) fn new(keys: HashSet<Key>) -> Self {
        Self {
            keys: RefCell::new(keys),
            waiting: RefCell::default(),
            free: RefCell::default(),
            waker: RefCell::default(),
        }
    }

    /// Tells whether it has this flow.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.keys.borrow().contains(key)
    }

    /// Has this flow no more.
    pub(super) fn forget(&self, key: &Key) {
        self.keys.borrow_mut().remove(key);
    }

    /// Hands over what was read for one of its flows; false when too much waits.
    pub(super) fn hand(&self, datagram: &Datagram, bytes: &[u8]) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() >= WAITING_MAX {
            return false;
        }
        let mut copy = self.free.borrow_mut().pop().unwrap_or_default();
        copy.extend_from_slice(bytes);
        waiting.push_back((*datagram, copy));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
        true
    }

    /// The next datagram.
    pub(super) fn poll_next(&self, context: &Context<'_>) -> Poll<(Datagram, Vec<u8>)> {
        if let Some(next) = self.waiting.borrow_mut().pop_front() {
            return Poll::Ready(next);
        }
        *self.waker.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    /// Takes the memory of a datagram back.
    pub(super) fn done(&self, mut bytes: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if free.len() < FREE_MAX {
            bytes.clear();
            free.push(bytes);
        }
    }
}
