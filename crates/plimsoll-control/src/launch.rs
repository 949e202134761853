//! From a configuration to a running data plane: resolve, bind, open, start.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use plimsoll_config::model::{Config, LogFormat, LogTarget};
use plimsoll_net::connect::{self, Source};
use plimsoll_net::worker::{self, Peers};
use plimsoll_net::{clock, listener};
use plimsoll_observe::format::Format;
use plimsoll_observe::metrics::WorkerMetrics;
use plimsoll_observe::sink;
use plimsoll_proxy::caching::BadDisk;
use plimsoll_proxy::compile::{self, Machine};
use plimsoll_proxy::connection;
use plimsoll_proxy::generation::{Generation, Listener};
use plimsoll_proxy::plane::{GiveBack, Log, Plane};
use plimsoll_proxy::tls::sessions::Sessions;
use tokio::task::JoinSet;

use crate::acme::Orders;
use crate::checks::{self, Count};
use crate::discovery::{Found, Name};
use crate::internal;
use crate::key_sets;
use crate::log_file::LogFile;
use crate::materials::{self, Issue, Known, Loaded};
use crate::secrets;
use crate::stapling;

/// Why the data plane did not start. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An access log cannot be opened.
    #[error("cannot open access log {}: {source}", path.display())]
    Log {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No bodies can wait on disk.
    #[error("cannot use spool {}: {source}", directory.display())]
    Spool {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A cache cannot keep files.
    #[error(transparent)]
    CacheDisk(#[from] BadDisk),
    /// Connections cannot be made from the addresses of clients.
    #[error("pool {pool}: `source transparent` needs the capability CAP_NET_ADMIN: {source}")]
    Transparent {
        /// The pool that says so.
        pool: Arc<str>,
        /// What the system said.
        source: io::Error,
    },
    /// Files that rules read cannot be used.
    #[error("{}", .0.join("; "))]
    Materials(Vec<String>),
    /// A thread cannot be started, or the system gives no random numbers.
    #[error("cannot start workers: {0}")]
    Workers(#[source] io::Error),
}

/// A running data plane.
#[derive(Debug)]
pub struct Running {
    /// What it serves.
    pub generation: Arc<Generation>,
    /// What each worker counts.
    pub metrics: Vec<Arc<WorkerMetrics>>,
    /// The workers.
    pub peers: Arc<Peers>,
    /// What checks of each server said, by its number over all pools.
    pub checks: Box<[Count]>,
    /// How orders of certificates went.
    pub orders: Arc<Orders>,
    /// The names of servers.
    pub names: Vec<Arc<Name>>,
    /// What is known of the files that rules read, until they are looked after.
    known: Mutex<Vec<Known>>,
    /// Who looks after key sets that are fetched, and asks what issuers say of certificates: they end with
    /// this.
    _watches: [JoinSet<()>; 2],
    /// The ports of all workers: the kernel spreads clients over those that are open, so that none is closed before
    /// the last flow of any has ended.
    _ports: Vec<UdpSocket>,
    /// When the clock of balancing began.
    start: Instant,
    logs: Vec<LogFile>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Starts serving `config`; servers are where `names` and `found` say, and workers call `give_back`
/// for the allocator.
///
/// # Errors
/// What could not be had; then nothing was started.
pub async fn launch(
    config: &Config,
    (names, found): (Vec<Arc<Name>>, &Found),
    give_back: GiveBack,
) -> Result<Running, LaunchError> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let count = config
        .workers
        .map_or(cores, |workers| usize::from(workers.get()));
    let (generation, log_specs) = build(config, found, count)?;
    if generation.listeners.iter().any(Listener::is_secure) {
        secrets::keep_out_of_dumps();
    }
    let known = load(&generation)?;
    if let Some(spool) = &generation.spool {
        let failed = |source| LaunchError::Spool {
            directory: spool.directory.clone(),
            source,
        };
        spool.prepare().map_err(failed)?;
    }
    let (stapling, key_sets) = tokio::join!(
        stapling::start(&generation, &config.resolver),
        key_sets::start(&generation, &config.resolver)
    );
    check_sources(&generation)?;
    let sockets = bind(&generation, count)?;
    let ports = sockets.iter().flat_map(|(_, ports)| ports);
    let ports: io::Result<Vec<_>> = ports.map(UdpSocket::try_clone).collect();
    let ports = ports.map_err(LaunchError::Workers)?;
    let mut taps: Vec<Vec<Log>> = (0..count).map(|_| Vec::new()).collect();
    let mut logs = Vec::new();
    for spec in &log_specs {
        let (ends, drain) = sink::sink(count);
        logs.push(LogFile::open(&spec.to, drain).map_err(|source| log_error(&spec.to, source))?);
        for (worker, tap) in taps.iter_mut().zip(ends) {
            worker.push(Log {
                format: format(spec.format),
                tap,
            });
        }
    }
    let metrics: Vec<_> = (0..count)
        .map(|_| Arc::new(WorkerMetrics::new(&generation.labels)))
        .collect();
    // Each worker takes its own parts when it starts, on its own thread.
    let parts = sockets.into_iter().zip(taps).map(Some).collect();
    let began = clock::now();
    let epoch = clock::unix_time();
    let mut caches = generation.caches.iter();
    caches.try_for_each(|keeping| keeping.open(epoch))?;
    let parts = Arc::new(Mutex::new(parts));
    let beside = (began, give_back);
    let (peers, threads) = start(count, &generation, &metrics, beside, parts)?;
    let checks = checks::counts(generation.servers);
    Ok(Running {
        generation,
        metrics,
        peers,
        checks,
        orders: Arc::default(),
        names,
        known: Mutex::new(known),
        _watches: [key_sets, stapling],
        _ports: ports,
        start: began,
        logs,
        threads: Mutex::new(threads),
    })
}

/// What each worker listens on: connections, and datagrams.
fn bind(generation: &Generation, workers: usize) -> Result<Vec<Sockets>, LaunchError> {
    let mut sockets: Vec<Sockets> = (0..workers).map(|_| Sockets::default()).collect();
    let failed = |address| move |source| LaunchError::Bind { address, source };
    for at in &generation.listeners {
        let bound = listener::bind(at.address, at.terms(), workers);
        let bound = bound.map_err(failed(at.address))?;
        let workers = sockets.iter_mut().zip(bound);
        workers.for_each(|(worker, socket)| worker.0.push(socket));
    }
    for at in &generation.ports {
        let bound = listener::bind_datagrams(at.address, at.too_long(), workers);
        let bound = bound.map_err(failed(at.address))?;
        let workers = sockets.iter_mut().zip(bound);
        workers.for_each(|(worker, socket)| worker.1.push(socket));
    }
    Ok(sockets)
}

/// Refuses to promise what the system forbids.
fn check_sources(generation: &Generation) -> Result<(), LaunchError> {
    let mut pools = generation.pools.iter();
    let Some(pool) = pools.find(|pool| matches!(pool.connector.source, Source::Client)) else {
        return Ok(());
    };
    connect::check_transparent().map_err(|source| LaunchError::Transparent {
        pool: Arc::clone(&pool.name),
        source,
    })
}

/// Reads the files of a generation. Where one certificate cannot be used, other sites are served all the
/// same.
fn load(generation: &Generation) -> Result<Vec<Known>, LaunchError> {
    let Loaded {
        known,
        degraded,
        problems,
    } = materials::load(generation, Issue::Yes);
    if !problems.is_empty() {
        return Err(LaunchError::Materials(
            problems.into_iter().chain(degraded).collect(),
        ));
    }
    for problem in degraded {
        tracing::error!("{problem}");
    }
    internal::announce(generation);
    Ok(known)
}

/// What one worker listens on, in the order of the generation.
type Sockets = (Vec<TcpListener>, Vec<UdpSocket>);

type Parts = Arc<Mutex<Vec<Option<(Sockets, Vec<Log>)>>>>;

fn start(
    count: usize,
    generation: &Arc<Generation>,
    metrics: &[Arc<WorkerMetrics>],
    (start, give_back): (Instant, GiveBack),
    parts: Parts,
) -> Result<(Arc<Peers>, Vec<JoinHandle<()>>), LaunchError> {
    let seed = random()?;
    let (generation, metrics) = (Arc::clone(generation), metrics.to_vec());
    let servers = generation.servers;
    let main = move |worker: std::rc::Rc<worker::Worker>, mailbox| {
        let index = worker.index;
        let own = parts
            .lock()
            .ok()
            .and_then(|mut parts| parts.get_mut(index)?.take());
        let plane = metrics
            .get(index)
            .cloned()
            .zip(own)
            .map(|(metrics, (sockets, logs))| {
                (
                    Plane::new(
                        worker,
                        Arc::clone(&generation),
                        metrics,
                        logs,
                        start,
                        give_back,
                    ),
                    sockets,
                )
            });
        async move {
            if let Some((plane, sockets)) = plane {
                connection::run(plane, sockets, mailbox).await;
            }
        }
    };
    worker::start(count, servers, seed, main).map_err(LaunchError::Workers)
}

impl Running {
    /// The time as balancing counts it.
    pub fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// Opens every access log again, for log rotation.
    pub fn reopen_logs(&self) {
        self.logs.iter().for_each(LogFile::reopen);
    }

    /// What is known of the files that rules read, for who looks after them.
    pub(crate) fn take_known(&self) -> Vec<Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut known)
    }

    /// Tells whether every worker has ended.
    pub fn is_finished(&self) -> bool {
        self.workers().iter().all(JoinHandle::is_finished)
    }

    /// Waits for the last worker and the last log line.
    pub fn finish(&self) {
        for thread in self.workers().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
        self.logs.iter().for_each(LogFile::finish);
    }

    fn workers(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises the limit of descriptors as far as it goes; returns it.
fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let current = match setrlimit(Resource::Nofile, most) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    current.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

fn random() -> Result<u64, LaunchError> {
    getrandom::u64().map_err(|error| LaunchError::Workers(io::Error::other(error)))
}

type Built = (Arc<Generation>, Vec<plimsoll_config::model::AccessLog>);

fn build(config: &Config, found: &Found, workers: usize) -> Result<Built, LaunchError> {
    let machine = Machine {
        name: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        seed: random()?,
        workers,
        // Each client's connection may need one to a server, and there is more to open.
        connections_max: descriptors() / 2,
        sessions: Arc::new(Sessions::with_key_log(secrets::key_log())),
    };
    let (generation, logs) = compile::compile(config, |address| found.known(address), machine);
    Ok((Arc::new(generation), logs))
}

fn log_error(target: &LogTarget, source: io::Error) -> LaunchError {
    let path = match target {
        LogTarget::Stdout => PathBuf::from("stdout"),
        LogTarget::File(path) => path.clone(),
    };
    LaunchError::Log { path, source }
}

fn format(format: LogFormat) -> Format {
    match format {
        LogFormat::Json => Format::Json,
        LogFormat::JsonFingerprint => Format::JsonFingerprint,
        LogFormat::Combined => Format::Combined,
        LogFormat::Haproxy => Format::Haproxy,
    }
}
