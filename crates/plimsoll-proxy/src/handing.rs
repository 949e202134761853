//! Connections that another process goes on with: what it has to know of them, and how they leave. What is a state of
//! this process alone cannot go: sessions of TLS, many requests on one connection, an exchange that is under way.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use plimsoll_net::clock;
use plimsoll_net::socket::Socket;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::connection::Connection;
use crate::generation::Generation;

/// A connection, without its sockets.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    /// Where it came in.
    pub listener: SocketAddr,
    /// Whom it is from.
    pub peer: SocketAddr,
    /// The header of the PROXY protocol that it came with, if that said more.
    pub heard: Option<Vec<u8>>,
    /// How far it is.
    pub stage: Stage,
}

/// How far a connection is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Stage {
    /// It waits for a request.
    Idle {
        /// For how long it may yet do so.
        left: Duration,
        /// Whether it has carried none yet.
        is_new: bool,
    },
    /// Its bytes pass to a server and back.
    Relayed(Relayed),
}

/// A connection that is relayed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Relayed {
    /// The pool.
    pub pool: String,
    /// The server in it.
    pub server: String,
    /// How long it has lasted.
    pub age: Duration,
    /// How long it took to connect.
    pub connect: Option<Duration>,
    /// How many bytes have come from the client, and from the server.
    pub moved: [u64; 2],
}

/// A connection that this process would leave.
#[derive(Debug)]
pub struct Offered {
    /// What is known of it.
    pub state: State,
    /// The client's socket, and the server's.
    pub sockets: Vec<OwnedFd>,
    /// To be told whether another process has it now.
    pub taken: oneshot::Sender<bool>,
}

/// A connection that another process has left.
#[derive(Debug)]
pub struct Handed {
    /// What is known of it.
    pub state: State,
    /// The client's socket.
    pub client: TcpStream,
    /// The server's.
    pub server: Option<TcpStream>,
}

/// Where connections are offered.
pub type Heir = mpsc::Sender<Offered>;

impl State {
    /// Tells whether a process that serves `generation` can go on with it.
    pub fn fits(&self, generation: &Generation) -> bool {
        let mut listeners = generation.listeners.iter();
        let Some(at) = listeners.find(|at| at.address == self.listener) else {
            return false;
        };
        match &self.stage {
            Stage::Idle { .. } => at.relay.is_none() && at.tls.is_none(),
            Stage::Relayed(relayed) => {
                at.relay.is_some() && at.tls.is_none() && relayed.place(generation).is_some()
            }
        }
    }
}

impl Relayed {
    /// The numbers of its pool and its server.
    pub(crate) fn place(&self, generation: &Generation) -> Option<(usize, usize)> {
        let mut pools = generation.pools.iter();
        let pool = pools.find(|pool| *pool.name == *self.pool)?;
        let mut servers = pool.servers.iter();
        let server = servers.position(|server| *server.name == *self.server)?;
        Some((pool.index, server))
    }
}

impl Connection {
    /// Tells whether another process could go on with it now.
    pub(crate) fn may_leave(&self) -> bool {
        !self.stays && self.door.has_heir() && self.socket.is_direct()
    }

    /// How far it is, when it waits for a request.
    pub(crate) fn idle(&self) -> Stage {
        Stage::Idle {
            left: self.deadline.saturating_duration_since(clock::now()),
            is_new: self.is_new,
        }
    }

    /// Leaves it to another process, with its server where it has one; false when it is to go on here, and not to be
    /// offered again. Nobody reads from it in the meantime.
    pub(crate) async fn hand_on(&self, stage: Stage, server: Option<&Socket>) -> bool {
        let sockets = std::iter::once(&self.socket).chain(server);
        let sockets: Option<Vec<OwnedFd>> = sockets.map(Socket::share).collect();
        let listener = self.door.with(|_, at| at.address);
        let ((Some(heir), Some(sockets)), Some(listener)) = ((self.door.heir(), sockets), listener)
        else {
            return false;
        };
        let (taken, answer) = oneshot::channel();
        let offered = Offered {
            state: State {
                listener,
                peer: self.peer,
                heard: self.heard.as_deref().map(<[u8]>::to_vec),
                stage,
            },
            sockets,
            taken,
        };
        heir.send(offered).await.is_ok() && answer.await.unwrap_or(false)
    }
}

/// When something began that has lasted so long.
pub(crate) fn began(age: Duration) -> Instant {
    let now = clock::now();
    now.checked_sub(age).unwrap_or(now)
}

/// The header of the PROXY protocol, as connections have it.
pub(crate) fn heard(state: &State) -> Option<Rc<[u8]>> {
    state.heard.as_deref().map(Rc::from)
}
