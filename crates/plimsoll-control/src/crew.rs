//! The workers. As many are hired as were ever needed at once; those that are not needed any more finish what they
//! have, and wait.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use plimsoll_balance::canary::Share;
use plimsoll_net::worker::{self, Peers, Worker};
use plimsoll_proxy::changeover::{Next, Order};
use plimsoll_proxy::handing::{Handed, Heir};
use plimsoll_proxy::plane::GiveBack;
use plimsoll_proxy::serving::{self, Start};
use tokio::sync::{mpsc, oneshot};

/// Orders that may wait for a worker.
const ORDERS: usize = 16;

/// The threads of workers.
pub(crate) type Threads = Arc<Mutex<Vec<JoinHandle<()>>>>;

/// Where workers take orders that have begun.
pub(crate) type Orders = Arc<Mutex<Vec<mpsc::Sender<Order>>>>;

pub(crate) fn lock<T>(list: &Mutex<Vec<T>>) -> MutexGuard<'_, Vec<T>> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All workers.
pub(crate) struct Crew {
    hire: Box<dyn FnMut() -> io::Result<JoinHandle<()>> + Send + Sync>,
    peers: Arc<Peers>,
    /// What each worker waits for before it begins.
    starts: Vec<Option<oneshot::Sender<Start>>>,
    pub(crate) orders: Orders,
    pub(crate) threads: Threads,
    began: Instant,
    give_back: GiveBack,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

impl Crew {
    /// Nobody is hired yet, and at most `capacity` workers can be.
    pub(crate) fn new(capacity: usize, (began, give_back): (Instant, GiveBack), seed: u64) -> Self {
        let start = || oneshot::channel::<Start>();
        let (starts, waits): (Vec<_>, Vec<_>) = (0..capacity).map(|_| start()).unzip();
        let waits: Vec<_> = waits.into_iter().map(Some).collect();
        let waits = Arc::new(Mutex::new(waits));
        let main = move |worker: std::rc::Rc<Worker>, mailbox| {
            let mut waits = waits.lock().unwrap_or_else(PoisonError::into_inner);
            let start = waits.get_mut(worker.index).and_then(Option::take);
            async move {
                let Some(start) = start else { return };
                if let Ok(start) = start.await {
                    serving::run(worker, start, mailbox).await;
                }
            }
        };
        let mut crew = worker::Crew::new(capacity, seed, main);
        Self {
            peers: Arc::clone(crew.peers()),
            hire: Box::new(move || crew.hire()),
            starts: starts.into_iter().map(Some).collect(),
            orders: Arc::default(),
            threads: Arc::default(),
            began,
            give_back,
        }
    }

    /// All workers, as they see each other.
    pub(crate) fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Hires workers until there are `count`. They wait until they are set to work.
    pub(crate) fn hire(&mut self, count: usize) -> io::Result<()> {
        while self.peers.hired() < count {
            let thread = (self.hire)()?;
            lock(&self.threads).push(thread);
        }
        Ok(())
    }

    /// Has all workers serve what is `next`, the first `count` of them for new connections, too. When this returns,
    /// all do; false when one is gone.
    pub(crate) async fn serve(&mut self, mut next: Vec<Next>, count: usize) -> bool {
        self.peers.activate(count);
        let begun = lock(&self.orders).len();
        let first = next.split_off(begun.min(next.len()));
        for first in first {
            let (send, orders) = mpsc::channel(ORDERS);
            let begun = lock(&self.orders).len();
            let start = self.starts.get_mut(begun);
            let start = start.and_then(Option::take);
            lock(&self.orders).push(send);
            let own = Start {
                first,
                orders,
                began: self.began,
                give_back: self.give_back,
            };
            let has_begun = start.is_some_and(|start| start.send(own).is_ok());
            if !has_begun {
                return false;
            }
        }
        let change = |(next, done)| Order::Change(Box::new(next), done);
        self.tell_all(next, change).await
    }

    /// Has all workers serve a part of what comes under what is `next`. As [`Crew::serve`] returns.
    pub(crate) async fn try_part(&self, next: Vec<Next>, share: Share) -> bool {
        let change = |(next, done)| Order::Try(Box::new(next), share, done);
        self.tell_all(next, change).await
    }

    /// Has all workers serve all under what is tried, or nothing any more. As [`Crew::serve`] returns.
    pub(crate) async fn decide(&self, takes_all: bool) -> bool {
        let decide = |((), done)| Order::Decide { takes_all, done };
        let all = std::iter::repeat_n((), self.workers().len());
        self.tell_all(all, decide).await
    }

    fn workers(&self) -> Vec<mpsc::Sender<Order>> {
        lock(&self.orders).clone()
    }

    /// Gives an order to each worker, and waits until all have done it; false when one is gone.
    async fn tell_all<T>(
        &self,
        what: impl IntoIterator<Item = T>,
        order: impl Fn((T, oneshot::Sender<()>)) -> Order,
    ) -> bool {
        let mut answers = Vec::new();
        for (worker, what) in self.workers().into_iter().zip(what) {
            let (done, answer) = oneshot::channel();
            if worker.send(order((what, done))).await.is_err() {
                return false;
            }
            answers.push(answer);
        }
        for answer in answers {
            if answer.await.is_err() {
                return false;
            }
        }
        true
    }

    /// Has all workers serve what is under way, and nothing that comes to `addresses`, nor datagrams.
    /// Connections that can go are offered to `heir`.
    pub(crate) async fn leave(&self, addresses: &Arc<[SocketAddr]>, heir: Option<&Heir>) {
        for worker in self.workers() {
            let order = Order::Leave(Arc::clone(addresses), heir.cloned());
            let _ = worker.send(order).await; // or it is gone
        }
    }

    /// Has the worker with the fewest connections go on with one of the process before.
    pub(crate) async fn adopt(&self, handed: Handed) {
        let worker = lock(&self.orders).get(self.peers.least_loaded()).cloned();
        if let Some(worker) = worker {
            let _ = worker.send(Order::Adopt(Box::new(handed))).await; // or it is gone
        }
    }

    /// Ends what is under way in generation `number`, and in those before.
    pub(crate) async fn end(&self, number: u64) {
        for worker in self.workers() {
            let _ = worker.send(Order::End(number)).await; // or it is gone
        }
    }
}
