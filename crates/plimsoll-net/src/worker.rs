//! Workers: one thread and one runtime a core, and what they say to each other.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::accept::Accepted;
use crate::buffer::BufferPool;
use crate::clock;
use crate::deadline::{self, Deadlines};
use crate::idle_pool::{Berth, IdlePool};
use crate::socket::{Detached, Socket};
use crate::splice::PipePool;
use crate::turns::Turns;

/// Messages that may wait for a worker.
const MAILBOX: usize = 1024;

/// A worker keeps what it accepts until it has this many connections more than another one.
const IMBALANCE: usize = 2;

/// How often idle upstream connections are looked at.
const SWEEP: Duration = Duration::from_secs(1);

/// What one worker says to another, or the control thread to all.
#[derive(Debug)]
pub enum Mail {
    /// A connection to serve.
    Connection(Accepted),
    /// A request for an idle connection to a server.
    Lend {
        /// Which server.
        server: Arc<Berth>,
        /// Where the connection goes, or nothing.
        reply: oneshot::Sender<Option<Detached>>,
    },
    /// A place came free at a server of this pool, for one who waits here.
    Room {
        /// Which pool, by a number that it keeps.
        pool: u64,
    },
    /// A server is down: keep no connection to it.
    Forget {
        /// Which server.
        server: Arc<Berth>,
    },
    /// Accept nothing more; let each connection end after its exchange.
    Drain,
}

/// All workers, as each of them and the control thread see them.
#[derive(Debug)]
pub struct Peers {
    mail: Box<[mpsc::Sender<Mail>]>,
    load: Box<[AtomicUsize]>,
    /// How many have a thread: the first ones.
    hired: AtomicUsize,
    /// How many of these accept connections: the first ones. The others only finish what they have.
    active: AtomicUsize,
}

impl Peers {
    /// Sends `mail` to `worker`; gives it back when its mailbox is full or closed.
    ///
    /// # Errors
    /// The mail could not be delivered.
    pub fn send(&self, worker: usize, mail: Mail) -> Result<(), Mail> {
        let Some(mailbox) = self.mail.get(worker) else {
            return Err(mail);
        };
        mailbox.try_send(mail).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(mail) | mpsc::error::TrySendError::Closed(mail) => mail,
        })
    }

    /// Has every worker close its idle connections to `server`, and keep none that is busy.
    pub async fn forget(&self, server: &Arc<Berth>) {
        server.forget();
        for mailbox in self.mail.iter().take(self.hired()) {
            let server = Arc::clone(server);
            let _ = mailbox.send(Mail::Forget { server }).await; // or it is gone
        }
    }

    /// Tells every worker to drain.
    pub async fn drain(&self) {
        for mailbox in self.mail.iter().take(self.hired()) {
            // A worker that is gone has nothing to drain.
            let _ = mailbox.send(Mail::Drain).await;
        }
    }

    /// How many workers accept connections.
    pub fn count(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// How many workers there are, those among them that only finish what they have.
    pub fn hired(&self) -> usize {
        self.hired.load(Ordering::Relaxed)
    }

    /// How many workers there can be.
    pub fn capacity(&self) -> usize {
        self.load.len()
    }

    /// Has the first `count` workers accept connections from now on.
    pub fn activate(&self, count: usize) {
        self.active.store(count, Ordering::Relaxed);
    }

    /// Client connections of all workers.
    pub fn connections(&self) -> usize {
        let hired = self.load.iter().take(self.hired());
        hired.map(|load| load.load(Ordering::Relaxed)).sum()
    }

    /// The worker that has the fewest connections.
    pub fn least_loaded(&self) -> usize {
        let loads = self.load.iter().take(self.count()).enumerate();
        let least = loads.min_by_key(|(_, load)| load.load(Ordering::Relaxed));
        least.map_or(0, |(worker, _)| worker)
    }

    /// The worker that should serve what `own` accepted.
    fn choose(&self, own: usize) -> usize {
        let mine = self
            .load
            .get(own)
            .map_or(0, |load| load.load(Ordering::Relaxed));
        let loads = self
            .load
            .iter()
            .take(self.count())
            .map(|load| load.load(Ordering::Relaxed))
            .enumerate();
        match loads.min_by_key(|&(_, load)| load) {
            Some((worker, load)) if load + IMBALANCE < mine => worker,
            _ => own,
        }
    }
}

/// What belongs to one worker, and is shared by its tasks without locks.
#[derive(Debug)]
pub struct Worker {
    /// Its number.
    pub index: usize,
    /// Its deadlines.
    pub deadlines: Rc<Deadlines>,
    /// Its buffers.
    pub buffers: Rc<BufferPool>,
    /// Its pipes.
    pub pipes: Rc<PipePool>,
    /// Its idle upstream connections.
    pub idle: IdlePool,
    /// Who waits to go on with a handshake: what that takes of the processor, nobody else gets.
    pub handshakes: Turns,
    /// All workers.
    pub peers: Arc<Peers>,
    random: Cell<u64>,
}

impl Worker {
    /// A random number: fast, seeded by the operating system, not for secrets.
    pub fn random(&self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Passes a connection that was accepted here on to another worker when that one has clearly
    /// less to do; gives it back when it is to be served here.
    pub fn hand_over(&self, socket: Socket, peer: SocketAddr, door: u64) -> Option<Socket> {
        let target = self.peers.choose(self.index);
        if target == self.index {
            return Some(socket);
        }
        let accepted = Accepted {
            socket: socket.detach()?, // what was accepted has one
            peer,
            door,
        };
        match self.peers.send(target, Mail::Connection(accepted)) {
            Err(Mail::Connection(accepted)) => Some(Socket::attach(accepted.socket)),
            _ => None,
        }
    }

    /// Client connections of this worker.
    pub fn own_connections(&self) -> usize {
        self.peers
            .load
            .get(self.index)
            .map_or(0, |load| load.load(Ordering::Relaxed))
    }

    /// Counts a client connection for as long as the guard lives.
    pub fn count_connection(self: &Rc<Self>) -> ConnectionCount {
        if let Some(load) = self.peers.load.get(self.index) {
            load.fetch_add(1, Ordering::Relaxed);
        }
        ConnectionCount {
            worker: Rc::clone(self),
        }
    }

    /// Asks another worker for an idle connection to `server`.
    pub async fn borrow_idle(&self, server: &Arc<Berth>) -> Option<Socket> {
        let lender = self.idle.lender(server)?;
        let (reply, answer) = oneshot::channel();
        let server = Arc::clone(server);
        self.peers.send(lender, Mail::Lend { server, reply }).ok()?;
        answer.await.ok().flatten().map(Socket::attach)
    }

    /// Answers [`Mail::Lend`].
    pub fn lend_idle(&self, server: &Berth, reply: oneshot::Sender<Option<Detached>>) {
        let socket = self
            .idle
            .take(server, clock::now())
            .and_then(Socket::detach);
        // If the asker has gone, the connection is closed with the answer.
        let _ = reply.send(socket);
    }

    async fn tend(self: Rc<Self>) {
        let mut ticks = tokio::time::interval(deadline::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept = clock::now();
        loop {
            ticks.tick().await;
            let now = clock::now();
            self.deadlines.advance(now);
            if now.duration_since(swept) >= SWEEP {
                self.idle.sweep(now);
                swept = now;
            }
        }
    }
}

/// A client connection that counts towards its worker's load.
#[derive(Debug)]
pub struct ConnectionCount {
    worker: Rc<Worker>,
}

impl Drop for ConnectionCount {
    fn drop(&mut self) {
        if let Some(load) = self.worker.peers.load.get(self.worker.index) {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Hires workers, each of which runs `main` until that returns.
pub struct Crew<M> {
    peers: Arc<Peers>,
    /// Those of workers that are not hired yet.
    mailboxes: VecDeque<mpsc::Receiver<Mail>>,
    seed: u64,
    main: M,
}

impl<M, F> Crew<M>
where
    M: Fn(Rc<Worker>, mpsc::Receiver<Mail>) -> F + Clone + Send + 'static,
    F: Future<Output = ()>,
{
    /// At most `capacity` workers can be hired, and nobody is yet.
    pub fn new(capacity: usize, seed: u64, main: M) -> Self {
        let (mail, mailboxes): (Vec<_>, _) = (0..capacity).map(|_| mpsc::channel(MAILBOX)).unzip();
        Self {
            peers: Arc::new(Peers {
                mail: mail.into(),
                load: (0..capacity).map(|_| AtomicUsize::new(0)).collect(),
                hired: AtomicUsize::new(0),
                active: AtomicUsize::new(0),
            }),
            mailboxes,
            seed,
            main,
        }
    }

    /// All workers.
    pub fn peers(&self) -> &Arc<Peers> {
        &self.peers
    }

    /// Hires one more. When this returns, it has all that it needs of the system.
    ///
    /// # Errors
    /// There are as many as there can be, or a thread or its runtime could not be made.
    pub fn hire(&mut self) -> io::Result<JoinHandle<()>> {
        let full = || io::Error::other("there are as many workers as there can be");
        let mailbox = self.mailboxes.pop_front().ok_or_else(full)?;
        let index = self.peers.hired();
        let (peers, main, seed) = (Arc::clone(&self.peers), self.main.clone(), self.seed);
        let (tell, made) = sync_channel(1);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default());
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let worker = Rc::new(Worker {
                index,
                deadlines: Deadlines::new(clock::now()),
                buffers: Rc::default(),
                pipes: Rc::default(),
                idle: IdlePool::new(index),
                handshakes: Turns::default(),
                peers,
                random: Cell::new(seed ^ (index as u64).rotate_left(32)),
            });
            drop(tell.send(Ok(())));
            runtime.block_on(async move {
                tokio::task::spawn_local(Rc::clone(&worker).tend());
                let own = Rc::clone(&worker);
                tokio::task::spawn_local(async move { own.handshakes.call().await });
                main(worker, mailbox).await;
            });
        };
        let name = format!("worker-{index}");
        let thread = thread::Builder::new().name(name).spawn(run)?;
        made.recv().map_err(io::Error::other)??;
        self.peers.hired.store(index + 1, Ordering::Relaxed);
        Ok(thread)
    }
}
