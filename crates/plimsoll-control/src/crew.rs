//! The workers. As many are hired as were ever needed at once; those that are not needed any more finish what they
//! have, and wait.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use plimsoll_net::worker::{self, Peers, Worker};
use plimsoll_proxy::changeover::{Next, Order};
use plimsoll_proxy::connection::{self, Start};
use plimsoll_proxy::plane::GiveBack;
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
                    connection::run(worker, start, mailbox).await;
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
        self.change(next).await
    }

    fn workers(&self) -> Vec<mpsc::Sender<Order>> {
        lock(&self.orders).clone()
    }

    /// Has workers go over to their next plane.
    async fn change(&self, next: Vec<Next>) -> bool {
        let mut answers = Vec::new();
        for (worker, next) in self.workers().into_iter().zip(next) {
            let (done, answer) = oneshot::channel();
            let order = Order::Change(Box::new(next), done);
            if worker.send(order).await.is_err() {
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
    pub(crate) async fn leave(&self, addresses: &Arc<[SocketAddr]>) {
        for worker in self.workers() {
            let _ = worker.send(Order::Leave(Arc::clone(addresses))).await; // or it is gone
        }
    }

    /// Ends what is under way in generation `number`, and in those before.
    pub(crate) async fn end(&self, number: u64) {
        for worker in self.workers() {
            let _ = worker.send(Order::End(number)).await; // or it is gone
        }
    }
}
