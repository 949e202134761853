//! Upstream connections that wait for their next request.
//!
//! Each worker keeps its own, so that the common case touches nothing shared. A worker that has
//! none for a server looks at the board, where every worker writes how many it keeps, and asks one
//! that has some.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use crate::socket::Socket;
use crate::stream;

/// How many idle connections each worker keeps for each server.
#[derive(Debug)]
pub struct Board {
    workers: Box<[Box<[AtomicU32]>]>,
    /// By server: how often its connections were to be forgotten.
    epochs: Box<[AtomicU32]>,
}

impl Board {
    /// A board for `workers` workers and `servers` servers.
    pub fn new(workers: usize, servers: usize) -> Self {
        let row = || (0..servers).map(|_| AtomicU32::new(0)).collect();
        Self {
            workers: (0..workers).map(|_| row()).collect(),
            epochs: row(),
        }
    }

    /// A worker other than `own` that keeps connections to `server`.
    pub fn lender(&self, own: usize, server: usize) -> Option<usize> {
        self.workers.iter().enumerate().position(|(worker, row)| {
            worker != own
                && row
                    .get(server)
                    .is_some_and(|count| count.load(Ordering::Relaxed) > 0)
        })
    }

    /// Has no connection to `server` kept that was opened or taken before.
    pub(crate) fn forget(&self, server: usize) {
        if let Some(epoch) = self.epochs.get(server) {
            epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn epoch(&self, server: usize) -> u32 {
        let epoch = self.epochs.get(server);
        epoch.map_or(0, |epoch| epoch.load(Ordering::SeqCst))
    }

    fn note(&self, worker: usize, server: usize, count: usize) {
        if let Some(place) = self.workers.get(worker).and_then(|row| row.get(server)) {
            place.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Idle {
    socket: Socket,
    until: Instant,
    epoch: u32,
}

/// The idle connections of one worker, by server.
#[derive(Debug)]
pub struct IdlePool {
    servers: RefCell<Vec<VecDeque<Idle>>>,
    board: Arc<Board>,
    worker: usize,
}

impl IdlePool {
    /// An empty pool for `worker`.
    pub fn new(board: Arc<Board>, worker: usize) -> Self {
        let servers = board.workers.first().map_or(0, |row| row.len());
        let servers = (0..servers).map(|_| VecDeque::new()).collect();
        Self {
            servers: RefCell::new(servers),
            board,
            worker,
        }
    }

    /// What a connection to `server` is put back with; asked before it is opened or taken.
    pub fn epoch(&self, server: usize) -> u32 {
        self.board.epoch(server)
    }

    /// Takes the connection to `server` that was used last and is still open and silent.
    pub fn take(&self, server: usize, now: Instant) -> Option<Socket> {
        let mut servers = self.servers.borrow_mut();
        let list = servers.get_mut(server)?;
        let (mut found, epoch) = (None, self.board.epoch(server));
        while let Some(idle) = list.pop_back() {
            if idle.epoch == epoch && now < idle.until && stream::is_quiet(&idle.socket) {
                found = Some(idle.socket);
                break;
            }
            stream::close(&idle.socket);
        }
        self.board.note(self.worker, server, list.len());
        found
    }

    /// Keeps a connection to `server` for at most `idle`, unless those of its `epoch` were to be
    /// forgotten; of more than `max` the oldest goes.
    pub fn put(&self, server: usize, (socket, epoch): (Socket, u32), until: Instant, max: usize) {
        if epoch != self.board.epoch(server) {
            return stream::close(&socket);
        }
        let mut servers = self.servers.borrow_mut();
        let Some(list) = servers.get_mut(server) else {
            return;
        };
        list.push_back(Idle {
            socket,
            until,
            epoch,
        });
        if list.len() > max
            && let Some(oldest) = list.pop_front()
        {
            stream::close(&oldest.socket);
        }
        self.board.note(self.worker, server, list.len());
    }

    /// Asks which other worker could lend a connection to `server`.
    pub fn lender(&self, server: usize) -> Option<usize> {
        self.board.lender(self.worker, server)
    }

    /// Closes all connections to `server`.
    pub fn forget(&self, server: usize) {
        if let Some(list) = self.servers.borrow_mut().get_mut(server) {
            list.drain(..).for_each(|idle| stream::close(&idle.socket));
        }
        self.board.note(self.worker, server, 0);
    }

    /// Closes what has been idle for too long or was closed by its server.
    pub fn sweep(&self, now: Instant) {
        for (server, list) in self.servers.borrow_mut().iter_mut().enumerate() {
            let before = list.len();
            list.retain(|idle| {
                let is_kept = now < idle.until && stream::is_quiet(&idle.socket);
                if !is_kept {
                    stream::close(&idle.socket);
                }
                is_kept
            });
            if list.len() != before {
                self.board.note(self.worker, server, list.len());
            }
        }
    }

    /// How many connections are kept.
    pub fn len(&self) -> usize {
        self.servers.borrow().iter().map(VecDeque::len).sum()
    }

    /// Tells whether no connection is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
