//! One process in the place of another: the new one gets the sockets, shows that it serves, and then the old one begins
//! nothing any more.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll_balance::Wish;
use plimsoll_config::model::AdminAddress;
use plimsoll_net::handover;
use plimsoll_net::listener::{self, Terms, TooLong};
use plimsoll_net::passed::Place;
use plimsoll_proxy::generation::Generation;
use serde::{Deserialize, Serialize};

use crate::passed::{self, Told};

/// The variable that tells a process whose child it is to get sockets from, on its standard input.
pub const VARIABLE: &str = "PLIMSOLL_UPGRADE";

/// What is said between the two; others are not understood.
const PROTOCOL: u32 = 1;

/// How long the new process may take until it serves, when nobody says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a socket is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Use {
    /// Connections are accepted.
    Connections {
        /// Where.
        address: SocketAddr,
        /// Whether they may have several paths.
        multipath: bool,
    },
    /// Datagrams come to it.
    Datagrams {
        /// Where.
        address: SocketAddr,
    },
    /// The admin listener at this place.
    Admin(String),
    /// The lock of the admin socket at this place.
    Lock(String),
    /// The lock of this directory of a cache.
    Cache(PathBuf),
}

/// What an operator wants of a server, whatever the configuration says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) pool: String,
    pub(crate) server: String,
    drains: bool,
    rests: bool,
    pub(crate) portion: u8,
}

impl Wanted {
    /// What is wanted of all servers that something is wanted of.
    pub(crate) fn all(generation: &Generation) -> Vec<Self> {
        let servers = generation.pools.iter().flat_map(|pool| {
            let servers = pool.balancer.servers().iter();
            servers.map(move |server| Self {
                pool: pool.name.to_string(),
                server: server.name().to_string(),
                drains: server.wish() == Wish::Drain,
                rests: server.wish() == Wish::Maintain,
                portion: server.portion_percent(),
            })
        });
        let is_something = |wanted: &Self| wanted.drains || wanted.rests || wanted.portion < 100;
        servers.filter(is_something).collect()
    }

    pub(crate) fn wish(&self) -> Wish {
        match (self.drains, self.rests) {
            (_, true) => Wish::Maintain,
            (true, _) => Wish::Drain,
            _ => Wish::Serve,
        }
    }
}

/// What the old process has, sockets apart.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    protocol: u32,
    sockets: Vec<Use>,
    wanted: Vec<Wanted>,
    /// What it was given itself when it was started: their sockets stand behind the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    passed: Vec<Told>,
}

/// What one process leaves to the next.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) sockets: Vec<(Use, OwnedFd)>,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) passed: Vec<(Told, OwnedFd)>,
}

/// What the new process says when it serves.
#[derive(Debug, Serialize, Deserialize)]
struct Ready {
    version: String,
    /// Where it accepts connections by sockets that it was given.
    taken: Vec<SocketAddr>,
    /// Whether it goes on with connections.
    #[serde(default)]
    adopts: bool,
}

/// The process that serves now.
#[derive(Debug)]
pub struct Successor {
    /// Its number.
    pub process: u32,
    /// The version of its program.
    pub version: String,
    /// Where it accepts connections by sockets that it was given.
    pub(crate) taken: Vec<SocketAddr>,
    /// Where it takes connections, if it does.
    pub(crate) line: Option<UnixStream>,
}

/// Why the old process goes on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It could not be started.
    #[error("cannot start {0}: {1}")]
    Start(String, io::Error),
    /// It ended.
    #[error("the new process has ended ({0}) before it served; its log says why")]
    Ended(String),
    /// It did not say in time that it serves.
    #[error("the new process did not serve within {} s, and was ended", .0.as_secs())]
    Late(Duration),
    /// It says something else than was expected.
    #[error("the new process is of another kind: {0}")]
    Unknown(String),
    /// There is one already.
    #[error("another process serves already, or this one is about to end")]
    Leaving,
    /// It is not decided yet what is served.
    #[error(
        "a part of the connections is served under another configuration: `plimsoll reload confirm` or `back` first"
    )]
    Tried,
}

/// Starts the program anew, as this process was started, with these sockets; returns when it serves. This blocks.
pub(crate) fn start(estate: Estate, patience: Duration) -> Result<Successor, Failure> {
    let program = program();
    let not_started = |error| Failure::Start(program.clone(), error);
    let (mut line, other) = UnixStream::pair().map_err(not_started)?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1));
    command.env(VARIABLE, std::process::id().to_string());
    // The watchdog waits for the word of one process.
    command.env_remove("WATCHDOG_PID");
    // What was passed to this one is handed over.
    command.env_remove("LISTEN_PID");
    let mut child = command
        .stdin(Stdio::from(OwnedFd::from(other)))
        .spawn()
        .map_err(not_started)?;
    drop(command); // with the other end of the line
    let ready = hand_over(&mut line, estate, patience);
    match ready {
        Ok(ready) => Ok(Successor {
            process: child.id(),
            version: ready.version,
            taken: ready.taken,
            line: ready.adopts.then_some(line),
        }),
        Err(error) => Err(end(&mut child, error, patience)),
    }
}

/// Ends a process that does not serve; says why it did not.
fn end(child: &mut Child, error: io::Error, patience: Duration) -> Failure {
    let is_late = matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    );
    // One that closed the line has ended, or is about to.
    if error.kind() == io::ErrorKind::InvalidData || is_late {
        let _ = child.kill();
    }
    let ended = child.wait();
    match (is_late, error.kind(), ended) {
        (true, ..) => Failure::Late(patience),
        (_, io::ErrorKind::InvalidData, _) => Failure::Unknown(error.to_string()),
        (_, _, Ok(status)) => Failure::Ended(status.to_string()),
        (_, _, Err(error)) => Failure::Ended(error.to_string()),
    }
}

/// The program on disk: what was started may have been replaced since.
fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let path = path.to_string_lossy().into_owned();
    let bare = path.strip_suffix(" (deleted)");
    bare.unwrap_or(&path).to_owned()
}

fn hand_over(line: &mut UnixStream, estate: Estate, patience: Duration) -> io::Result<Ready> {
    line.set_read_timeout(Some(patience))?;
    line.set_write_timeout(Some(patience))?;
    let (sockets, mut descriptors): (Vec<_>, Vec<_>) = estate.sockets.into_iter().unzip();
    let (passed, more): (Vec<_>, Vec<_>) = estate.passed.into_iter().unzip();
    descriptors.extend(more);
    let offer = Offer {
        protocol: PROTOCOL,
        sockets,
        wanted: estate.wanted,
        passed,
    };
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    handover::send(line, &serde_json::to_vec(&offer)?, &descriptors)?;
    let (ready, _) = handover::receive(line)?;
    Ok(serde_json::from_slice(&ready)?)
}

/// What this process was given by the one before; nothing when there is none.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Mutex<Vec<(Use, OwnedFd)>>,
    wanted: Vec<Wanted>,
    taken: Mutex<Vec<SocketAddr>>,
    line: Mutex<Option<UnixStream>>,
    passed: passed::Sockets,
}

impl Inherited {
    /// Takes what the process before offers on the standard input, if it does; or goes on with the sockets that were
    /// `passed` by whoever started this process.
    ///
    /// # Errors
    /// It offers something that is not understood.
    pub fn take(passed: passed::Sockets) -> io::Result<Self> {
        let parent = rustix::process::getppid().map(|parent| parent.as_raw_nonzero().to_string());
        if parent.is_none() || std::env::var(VARIABLE).ok() != parent {
            return Ok(Self {
                passed,
                ..Self::default()
            });
        }
        let mut line = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
        let (offer, descriptors) = handover::receive(&mut line)?;
        let offer: Offer = serde_json::from_slice(&offer)?;
        let count = offer.sockets.len() + offer.passed.len();
        if offer.protocol != PROTOCOL || count != descriptors.len() {
            let why = format!("protocol {} and not {PROTOCOL}", offer.protocol);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let mut descriptors = descriptors.into_iter();
        let sockets = offer.sockets.into_iter().zip(descriptors.by_ref());
        Ok(Self {
            sockets: Mutex::new(sockets.collect()),
            passed: passed::Sockets::passed_on(offer.passed, descriptors),
            wanted: offer.wanted,
            taken: Mutex::default(),
            line: Mutex::new(Some(line)),
        })
    }

    /// What operators wanted of servers.
    pub(crate) fn wanted(&self) -> &[Wanted] {
        &self.wanted
    }

    /// Takes the sockets for a use.
    pub fn take_all(&self, is_it: impl Fn(&Use) -> bool) -> Vec<OwnedFd> {
        let mut sockets = lock(&self.sockets);
        let all = std::mem::take(&mut *sockets);
        let (mine, others): (Vec<_>, _) = all.into_iter().partition(|(of, _)| is_it(of));
        *sockets = others;
        mine.into_iter().map(|(_, socket)| socket).collect()
    }

    /// The sockets for an address that were given, each of which has connections of its own waiting.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub(crate) fn given(&self, address: SocketAddr, terms: Terms) -> io::Result<Vec<TcpListener>> {
        let wanted = Use::Connections {
            address,
            multipath: terms.options.multipath,
        };
        let given = self.take_all(|of| *of == wanted);
        if given.is_empty() {
            return self.passed.listeners(address);
        }
        lock(&self.taken).push(address);
        Ok(given.into_iter().map(TcpListener::from).collect())
    }

    /// So many more sockets for an address.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) fn more(
        &self,
        address: SocketAddr,
        terms: Terms,
        count: usize,
    ) -> io::Result<Vec<TcpListener>> {
        let passed = self.passed.more(address, count)?;
        match passed.is_empty() {
            true => listener::bind(address, terms, count),
            false => Ok(passed),
        }
    }

    /// The same for datagrams.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) fn receive(
        &self,
        address: SocketAddr,
        too_long: TooLong,
        workers: usize,
    ) -> io::Result<Vec<UdpSocket>> {
        let given = self.take_all(|of| *of == Use::Datagrams { address });
        let mut sockets: Vec<_> = given.into_iter().map(UdpSocket::from).collect();
        if sockets.is_empty() {
            sockets = self.passed.datagrams(address, too_long)?;
            if !sockets.is_empty() {
                // What comes to one socket is for one worker: another one would not know the flow.
                return Ok(sockets);
            }
        }
        let missing = workers.saturating_sub(sockets.len());
        if missing > 0 {
            sockets.extend(listener::bind_datagrams(address, too_long, missing)?);
        }
        Ok(sockets)
    }

    /// The socket for an admin listener that was passed by whoever started this process.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn passed(&self, place: &AdminAddress) -> io::Result<Option<OwnedFd>> {
        self.passed.first(&match place {
            AdminAddress::Ip(address) => Place::Connections(*address),
            AdminAddress::Socket(path) => Place::Local(path.clone()),
        })
    }

    /// What whoever started the first process has passed, for the next one.
    pub(crate) fn pass_on(&self) -> Vec<(Told, OwnedFd)> {
        self.passed.pass_on()
    }

    /// The lock of a directory of a cache.
    pub(crate) fn cache(&self, directory: &Path) -> Option<OwnedFd> {
        let given = self.take_all(|of| *of == Use::Cache(directory.to_owned()));
        given.into_iter().next()
    }

    /// Tells the process before that this one serves. What of its sockets nobody wants is closed. Returns where
    /// connections come from that are under way there, if there is one.
    ///
    /// # Errors
    /// It is gone; what has arrived there is served here.
    pub fn ready(&self) -> io::Result<Option<UnixStream>> {
        lock(&self.sockets).clear();
        self.passed.tell_unused();
        let Some(mut line) = lock(&self.line).take() else {
            return Ok(None);
        };
        let ready = Ready {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            taken: std::mem::take(&mut lock(&self.taken)),
            adopts: true,
        };
        handover::send(&mut line, &serde_json::to_vec(&ready)?, &[])?;
        Ok(Some(line))
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
