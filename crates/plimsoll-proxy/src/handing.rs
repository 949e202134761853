//! Connections that another process goes on with: what it has to know of them, and how they leave. What is a state of
//! this process alone cannot go: sessions of TLS, many requests on one connection, an exchange that is under way.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use plimsoll_balance::ServerIndex;
use plimsoll_config::model;
use plimsoll_net::clock;
use plimsoll_net::socket::Socket;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::connection::Connection;
use crate::door::Door;
use crate::generation::{Generation, Pool, Server, Site};
use crate::http::exchange::Facts;

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
    /// The same, since a request of HTTP that a server has switched to another protocol for.
    Switched(Relayed, Box<Request>),
}

/// A request, as far as logs and counters want to know of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The site that has served it.
    pub site: String,
    /// Its method.
    pub method: String,
    /// The host that it asks for.
    pub host: String,
    /// The path that it asks for.
    pub path: String,
    /// Whom it is from: others may have passed it on.
    pub client: SocketAddr,
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
        let (is_relay, is_plain) = (at.relay.is_some(), at.tls.is_none());
        let has = |relayed: &Relayed| relayed.place(generation).is_some();
        is_plain
            && match &self.stage {
                Stage::Idle { .. } => !is_relay,
                Stage::Relayed(relayed) => is_relay && has(relayed),
                Stage::Switched(relayed, request) => {
                    !is_relay && has(relayed) && request.site(generation, self.listener).is_some()
                }
            }
    }
}

impl Request {
    /// The site that it belongs to, of those of a listener.
    pub(crate) fn site<'a>(
        &self,
        generation: &'a Generation,
        listener: SocketAddr,
    ) -> Option<&'a Site> {
        let is_it =
            |site: &model::Site| *site.name == *self.site && site.listen.contains(&listener);
        let at = generation.config.sites.iter().position(is_it)?;
        generation.sites.get(at)
    }
}

impl Relayed {
    /// What is known of what moves now.
    pub(crate) fn of(facts: &Facts<'_>, moved_up: u64) -> Self {
        Self {
            pool: facts.pool.unwrap_or_default().to_owned(),
            server: facts.server.unwrap_or_default().to_owned(),
            age: clock::now().duration_since(facts.started),
            connect: facts.connect,
            moved: [moved_up, facts.response_bytes.get()],
        }
    }

    /// Its pool, its server, and the number of that.
    pub(crate) fn place<'a>(
        &self,
        generation: &'a Generation,
    ) -> Option<(&'a Pool, &'a Server, ServerIndex)> {
        let mut pools = generation.pools.iter();
        let pool = pools.find(|pool| *pool.name == *self.pool)?;
        let mut servers = (0..).map(ServerIndex::new).zip(&pool.servers);
        let (index, server) = servers.find(|(_, server)| *server.name == *self.server)?;
        Some((pool, server, index))
    }

    /// Has what is known of it go on from here.
    pub(crate) fn go_on<'a>(
        &self,
        facts: &mut Facts<'a>,
        (pool, server, index): (&'a Pool, &'a Server, ServerIndex),
    ) {
        let now = facts.started;
        facts.started = now.checked_sub(self.age).unwrap_or(now);
        facts.at = facts.at.saturating_sub(self.age);
        facts.go_to(pool);
        facts.ask(server, index);
        facts.attempts = 1;
        facts.connect = self.connect;
        let [up, down] = self.moved;
        facts.request_bytes.set(up);
        facts.response_bytes.set(down);
    }
}

/// A connection that may leave.
#[derive(Clone, Copy)]
pub(crate) struct Leaving<'a> {
    pub(crate) door: &'a Door,
    pub(crate) client: &'a Socket,
    pub(crate) peer: SocketAddr,
    pub(crate) heard: Option<&'a [u8]>,
}

impl Leaving<'_> {
    /// Tells whether another process could go on with it now.
    pub(crate) fn may_leave(self) -> bool {
        self.door.has_heir() && self.client.is_direct()
    }

    /// Leaves it to another process, with its server where it has one; false when it is to go on here, and not to be
    /// offered again. Nobody reads from it in the meantime.
    pub(crate) async fn hand_on(self, stage: Stage, server: Option<&Socket>) -> bool {
        let sockets = std::iter::once(self.client).chain(server);
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
                heard: self.heard.map(<[u8]>::to_vec),
                stage,
            },
            sockets,
            taken,
        };
        heir.send(offered).await.is_ok() && answer.await.unwrap_or(false)
    }
}

impl Connection {
    /// The same as one that may leave.
    pub(crate) fn leaving(&self) -> Leaving<'_> {
        Leaving {
            door: &self.door,
            client: &self.socket,
            peer: self.peer,
            heard: self.heard.as_deref(),
        }
    }

    /// Tells whether another process could go on with it now.
    pub(crate) fn may_leave(&self) -> bool {
        !self.stays && self.leaving().may_leave()
    }

    /// How far it is, when it waits for a request.
    pub(crate) fn idle(&self) -> Stage {
        Stage::Idle {
            left: self.deadline.saturating_duration_since(clock::now()),
            is_new: self.is_new,
        }
    }
}

/// The header of the PROXY protocol, as connections have it.
pub(crate) fn heard(state: &State) -> Option<Rc<[u8]>> {
    state.heard.as_deref().map(Rc::from)
}
