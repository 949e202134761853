//! Upstream connections that wait for their next request.
//!
//! Each worker keeps its own, so that the common case touches nothing shared. A worker that has
//! none for a server looks at its berth, where every worker writes how many it keeps, and asks one
//! that has some.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::socket::Socket;
use crate::stream;

/// Gives servers their numbers.
#[derive(Debug, Default)]
pub struct Berths {
    /// Numbers that were given and came back.
    free: Mutex<(BTreeSet<usize>, usize)>,
}

impl Berths {
    /// A berth for a server, in the pools of `workers` workers.
    pub fn berth(self: &Arc<Self>, workers: usize) -> Berth {
        let mut known = self.known();
        let number = match known.0.pop_first() {
            Some(number) => number,
            None => {
                known.1 += 1;
                known.1 - 1
            }
        };
        drop(known);
        Berth {
            number,
            epoch: AtomicU32::new(0),
            workers: (0..workers).map(|_| AtomicU32::new(0)).collect(),
            berths: Arc::clone(self),
        }
    }

    fn known(&self) -> MutexGuard<'_, (BTreeSet<usize>, usize)> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the idle connections to one server are kept: what all workers know of them. It goes on for as long as
/// connections lead to the same place in the same way, whatever else is configured.
#[derive(Debug)]
pub struct Berth {
    /// No other berth has it for as long as anyone holds this one.
    number: usize,
    /// How often its connections were to be forgotten.
    epoch: AtomicU32,
    /// How many each worker keeps.
    workers: Box<[AtomicU32]>,
    berths: Arc<Berths>,
}

impl Berth {
    /// Its number.
    pub fn number(&self) -> usize {
        self.number
    }

    /// What a connection is put back with; asked before it is opened or taken.
    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Has no connection kept that was opened or taken before.
    pub fn forget(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// A worker other than `own` that keeps connections.
    fn lender(&self, own: usize) -> Option<usize> {
        self.workers
            .iter()
            .enumerate()
            .position(|(worker, count)| worker != own && count.load(Ordering::Relaxed) > 0)
    }

    fn note(&self, worker: usize, count: usize) {
        if let Some(place) = self.workers.get(worker) {
            place.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.berths.known().0.insert(self.number);
    }
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    until: Instant,
    epoch: u32,
}

/// The idle connections of one worker to one server.
#[derive(Debug)]
struct List {
    berth: Arc<Berth>,
    idle: VecDeque<Idle>,
}

impl List {
    /// Tells whether nobody else knows its server any more.
    fn is_left(&self) -> bool {
        self.idle.is_empty() && Arc::strong_count(&self.berth) == 1
    }
}

/// The idle connections of one worker, by server.
#[derive(Debug)]
pub struct IdlePool {
    lists: RefCell<Vec<Option<List>>>,
    worker: usize,
}

impl IdlePool {
    /// An empty pool for `worker`.
    pub fn new(worker: usize) -> Self {
        Self {
            lists: RefCell::default(),
            worker,
        }
    }

    /// Takes the connection to a server that was used last and is still open and silent.
    pub fn take(&self, berth: &Berth, now: Instant) -> Option<Socket> {
        let mut lists = self.lists.borrow_mut();
        let list = lists.get_mut(berth.number)?.as_mut()?;
        let (mut found, epoch) = (None, berth.epoch());
        while let Some(idle) = list.idle.pop_back() {
            if idle.epoch == epoch && now < idle.until && stream::is_quiet(&idle.socket) {
                found = Some(idle.socket);
                break;
            }
            stream::close(&idle.socket);
        }
        berth.note(self.worker, list.idle.len());
        found
    }

    /// Keeps a connection to a server until then at most, unless those of its `epoch` were to be
    /// forgotten; of more than `max` the oldest goes.
    pub fn put(
        &self,
        berth: &Arc<Berth>,
        (socket, epoch): (Socket, u32),
        until: Instant,
        max: usize,
    ) {
        if epoch != berth.epoch() {
            return stream::close(&socket);
        }
        let mut lists = self.lists.borrow_mut();
        if lists.len() <= berth.number {
            lists.resize_with(berth.number + 1, || None);
        }
        let Some(place) = lists.get_mut(berth.number) else {
            return;
        };
        let list = place.get_or_insert_with(|| List {
            berth: Arc::clone(berth),
            idle: VecDeque::new(),
        });
        list.idle.push_back(Idle {
            socket,
            until,
            epoch,
        });
        if list.idle.len() > max
            && let Some(oldest) = list.idle.pop_front()
        {
            stream::close(&oldest.socket);
        }
        berth.note(self.worker, list.idle.len());
    }

    /// Asks which other worker could lend a connection to a server.
    pub fn lender(&self, berth: &Berth) -> Option<usize> {
        berth.lender(self.worker)
    }

    /// Closes all connections to a server.
    pub fn forget(&self, berth: &Berth) {
        if let Some(Some(list)) = self.lists.borrow_mut().get_mut(berth.number) {
            let all = list.idle.drain(..);
            all.for_each(|idle| stream::close(&idle.socket));
        }
        berth.note(self.worker, 0);
    }

    /// Closes what has been idle for too long or was closed by its server.
    pub fn sweep(&self, now: Instant) {
        for place in self.lists.borrow_mut().iter_mut() {
            let Some(list) = place else { continue };
            let before = list.idle.len();
            list.idle.retain(|idle| {
                let is_kept = now < idle.until && stream::is_quiet(&idle.socket);
                if !is_kept {
                    stream::close(&idle.socket);
                }
                is_kept
            });
            if list.idle.len() != before {
                list.berth.note(self.worker, list.idle.len());
            }
            if list.is_left() {
                *place = None;
            }
        }
    }

    /// How many connections are kept.
    pub fn len(&self) -> usize {
        let lists = self.lists.borrow();
        lists.iter().flatten().map(|list| list.idle.len()).sum()
    }

    /// Tells whether no connection is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_again_when_nobody_holds_its_berth() {
        let berths = Arc::new(Berths::default());
        let berth = || Arc::new(berths.berth(2));
        let (one, two) = (berth(), berth());
        assert_eq!((one.number(), two.number()), (0, 1));
        let held = Arc::clone(&one);
        drop(one);
        assert_eq!(berth().number(), 2);
        drop(held);
        assert_eq!(berth().number(), 0);
    }
}
