//! From a configuration to all that serving it needs: resolve, compile, load, bind, open.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use plimsoll_config::model::{AccessLog, Config, LogFormat, LogTarget};
use plimsoll_net::connect::{self, Source};
use plimsoll_net::listener::Terms;
use plimsoll_net::worker::Peers;
use plimsoll_observe::format::Format;
use plimsoll_observe::metrics::WorkerMetrics;
use plimsoll_observe::outcomes::Tally;
use plimsoll_observe::sink;
use plimsoll_proxy::caching::BadDisk;
use plimsoll_proxy::changeover::{LogPlace, Next, Quay};
use plimsoll_proxy::compile::{self, Machine};
use plimsoll_proxy::generation::{Generation, Listener};
use plimsoll_proxy::material::Material;
use plimsoll_proxy::plane::Log;
use plimsoll_proxy::tls::sessions::Sessions;

use crate::acme::Orders;
use crate::checks::{self, Count};
use crate::discovery::{Found, Name, Names};
use crate::engine::Refusal;
use crate::internal;
use crate::key_sets;
use crate::log_file::LogFile;
use crate::materials::{self, Issue, Known, Loaded};
use crate::secrets;
use crate::stapling;
use crate::upgrade::{Inherited, Use};
use crate::watches::{Begun, Key, Watches};

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
    /// It is not known whom to ask where servers are.
    #[error("cannot look names of servers up: {0}")]
    Names(#[source] io::Error),
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

/// One generation, being served.
#[derive(Debug)]
pub struct Running {
    /// What is served.
    pub generation: Arc<Generation>,
    /// What each worker counts.
    pub metrics: Vec<Arc<WorkerMetrics>>,
    /// The workers.
    pub peers: Arc<Peers>,
    /// What checks of each server said, by its number.
    pub checks: Box<[Arc<Count>]>,
    /// How orders of certificates went.
    pub orders: Arc<Orders>,
    /// The names of servers.
    pub names: Vec<Arc<Name>>,
    /// What is known of the files that rules read.
    known: Mutex<Vec<Known>>,
    /// How many workers accept connections.
    workers: usize,
    /// The sockets of listeners, of all workers.
    listening: Mutex<Vec<Listening>>,
    /// The sockets of ports, of all workers.
    quays: Vec<(SocketAddr, Arc<[UdpSocket]>)>,
    /// When the clock of balancing began.
    start: Instant,
    logs: Vec<(AccessLog, Arc<LogFile>)>,
}

/// What a generation needs before it can be served: all of it is there, and nothing of it is in force.
pub(crate) struct Prepared {
    pub(crate) generation: Arc<Generation>,
    pub(crate) beside: Beside,
    /// By worker.
    pub(crate) next: Vec<Next>,
    metrics: Vec<Arc<WorkerMetrics>>,
    known: Vec<Known>,
    workers: usize,
    listening: Vec<Listening>,
    quays: Vec<(SocketAddr, Arc<[UdpSocket]>)>,
    logs: Vec<(AccessLog, Arc<LogFile>)>,
}

/// What of it goes on beside the traffic.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) names: Names,
    pub(crate) key_sets: Begun<Key>,
    pub(crate) stapling: Begun<Key>,
}

/// What outlives generations, and each of them is prepared with.
#[derive(Debug)]
pub(crate) struct House {
    /// What the process before has given.
    pub(crate) inherited: Arc<Inherited>,
    /// What the time was when the clock of balancing began, since 1970.
    pub(crate) epoch: Duration,
    /// The number of the last generation; 0 before the first.
    pub(crate) number: u64,
    /// How many workers are to accept connections.
    pub(crate) workers: usize,
    /// How many there are, those among them that only finish what they have.
    pub(crate) hired: usize,
    /// How many there can be.
    pub(crate) capacity: usize,
    pub(crate) sessions: Arc<Sessions>,
    /// The sockets of ports, those among them that were left and where flows may be under way.
    pub(crate) quays: Vec<(SocketAddr, Weak<[UdpSocket]>)>,
    /// Who fetches key sets, and who asks what issuers say of certificates.
    pub(crate) key_sets: Watches<Key>,
    pub(crate) stapling: Watches<Key>,
}

impl House {
    /// How many workers need something.
    fn hands(&self) -> usize {
        self.workers.max(self.hired)
    }
}

/// Gets all that `config` needs, beside what the generation `before` has.
///
/// # Errors
/// What could not be had; then nothing is left of the rest.
pub(crate) async fn prepare(
    config: &Config,
    house: &House,
    before: Option<&Running>,
) -> Result<Prepared, LaunchError> {
    let looked_up = Names::look_up(config, before).await;
    let (names, found) = looked_up.map_err(LaunchError::Names)?;
    for (name, why) in found.missing() {
        tracing::warn!(name, why, "no address for a server's name yet");
    }
    let compile = || build(config, &found, house, before);
    let (generation, log_specs) = tokio::task::block_in_place(compile)?;
    if generation.listeners.iter().any(Listener::is_secure) {
        secrets::keep_out_of_dumps();
    }
    let known = tokio::task::block_in_place(|| load(&generation, before))?;
    if let Some(spool) = &generation.spool {
        let failed = |source| LaunchError::Spool {
            directory: spool.directory.clone(),
            source,
        };
        spool.prepare().map_err(failed)?;
    }
    check_sources(&generation)?;
    let mut caches = generation.caches.iter();
    let given = |directory: &Path| house.inherited.cache(directory);
    caches.try_for_each(|keeping| keeping.open(house.epoch, given))?;
    let sockets = bind(&generation, house, before)?;
    let (logs, places) = open_logs(log_specs, house.hands(), before)?;
    let metrics = metrics(&generation, house.hands(), before);
    // Last, as they wait for others.
    let (stapling, key_sets) = tokio::join!(
        stapling::start(&generation, &house.stapling, &config.resolver),
        key_sets::start(&generation, &house.key_sets, &config.resolver)
    );
    let quays = sockets.quays;
    let workers = sockets.workers.into_iter().zip(places).zip(&metrics);
    let next = workers.map(|(((listeners, ports), logs), metrics)| Next {
        generation: Arc::clone(&generation),
        metrics: Arc::clone(metrics),
        workers: house.workers,
        listeners,
        rebound: sockets.rebound.clone(),
        ports,
        logs,
    });
    Ok(Prepared {
        next: next.collect(),
        workers: house.workers,
        listening: sockets.listening,
        generation,
        beside: Beside {
            names,
            key_sets,
            stapling,
        },
        metrics,
        known,
        quays,
        logs,
    })
}

impl Prepared {
    /// What it is once it is served.
    pub(crate) fn running(
        &mut self,
        peers: &Arc<Peers>,
        start: Instant,
        before: Option<&Running>,
    ) -> Running {
        let orders = before.map(|before| Arc::clone(&before.orders));
        Running {
            checks: checks::counts(&self.generation, before),
            generation: Arc::clone(&self.generation),
            metrics: std::mem::take(&mut self.metrics),
            peers: Arc::clone(peers),
            orders: orders.unwrap_or_default(),
            names: self.beside.names.all(),
            known: Mutex::new(std::mem::take(&mut self.known)),
            workers: self.workers,
            listening: Mutex::new(std::mem::take(&mut self.listening)),
            quays: std::mem::take(&mut self.quays),
            start,
            logs: std::mem::take(&mut self.logs),
        }
    }
}

/// Counters, those of `before` among them.
fn metrics(
    generation: &Generation,
    hands: usize,
    before: Option<&Running>,
) -> Vec<Arc<WorkerMetrics>> {
    let labels = &generation.labels;
    let known = before.iter().flat_map(|before| {
        let old = &before.generation.labels;
        let next = |metrics: &Arc<WorkerMetrics>| metrics.succeed(old, labels);
        before.metrics.iter().map(next)
    });
    let new = std::iter::repeat_with(|| WorkerMetrics::new(labels));
    known.chain(new).take(hands).map(Arc::new).collect()
}

/// What one worker has not got yet: sockets of listeners, with their numbers and slots, and of ports.
type OfWorker = (Vec<(usize, usize, TcpListener)>, Vec<(usize, Quay)>);

/// All sockets of one address.
type Listening = (SocketAddr, Arc<[TcpListener]>);

/// What is bound.
struct Sockets {
    workers: Vec<OfWorker>,
    /// All listeners, those that stay among them.
    listening: Vec<Listening>,
    /// Which of them have other sockets than before.
    rebound: Vec<usize>,
    /// All ports, those that stay among them.
    quays: Vec<(SocketAddr, Arc<[UdpSocket]>)>,
}

/// Binds what `before` does not listen on, or not on these terms, and finds out who serves which socket.
fn bind(
    generation: &Generation,
    house: &House,
    before: Option<&Running>,
) -> Result<Sockets, LaunchError> {
    let mut sockets = Sockets {
        workers: (0..house.hands()).map(|_| OfWorker::default()).collect(),
        listening: Vec::new(),
        rebound: Vec::new(),
        quays: Vec::new(),
    };
    let failed = |address| move |source| LaunchError::Bind { address, source };
    for (number, at) in generation.listeners.iter().enumerate() {
        let known = before.and_then(|before| before.listening(at.address));
        let is_known = known.is_some();
        let kept = known.filter(|(terms, _)| at.terms().fit(terms));
        if is_known && kept.is_none() {
            sockets.rebound.push(number);
        }
        let open = kept.map(|(_, open)| open).unwrap_or_default();
        let all = listen(at, &open, house).map_err(failed(at.address))?;
        for (slot, socket) in all.iter().enumerate() {
            // Who had it goes on with it.
            let had = before.map(|before| slot % before.workers);
            let has = slot % house.workers;
            if slot < open.len() && had == Some(has) {
                continue;
            }
            let socket = socket.try_clone().map_err(failed(at.address))?;
            if let Some((listeners, _)) = sockets.workers.get_mut(has) {
                listeners.push((number, slot, socket));
            }
        }
        sockets.listening.push((at.address, all));
    }
    for (number, at) in generation.ports.iter().enumerate() {
        let mut open = before.iter().flat_map(|before| &before.quays);
        if let Some(open) = open.find(|(address, _)| *address == at.address) {
            sockets.quays.push(open.clone());
            continue;
        }
        let left = house
            .quays
            .iter()
            .find(|(address, _)| *address == at.address);
        let all: Arc<[_]> = match left.and_then(|(_, left)| left.upgrade()) {
            Some(left) => left, // flows are under way there
            None => {
                let bound = house
                    .inherited
                    .receive(at.address, at.too_long(), house.workers);
                bound.map_err(failed(at.address))?.into()
            }
        };
        let bound: io::Result<Vec<_>> = all.iter().map(UdpSocket::try_clone).collect();
        let bound = bound.map_err(failed(at.address))?;
        for (at, socket) in bound.into_iter().enumerate() {
            let all = Arc::clone(&all);
            if let Some((_, ports)) = sockets.workers.get_mut(at % house.workers.max(1)) {
                ports.push((number, Quay { socket, all }));
            }
        }
        sockets.quays.push((at.address, all));
    }
    Ok(sockets)
}

/// The sockets of an address, of which some are `open`: one a worker at least. Where there are fewer workers
/// than before, some have several, so that nobody is lost who waits in one.
fn listen(at: &Listener, open: &[TcpListener], house: &House) -> io::Result<Arc<[TcpListener]>> {
    let open: io::Result<Vec<_>> = open.iter().map(TcpListener::try_clone).collect();
    let (mut all, inherited) = (open?, &house.inherited);
    if all.is_empty() {
        all.extend(inherited.given(at.address, at.terms())?);
    }
    let missing = house.workers.saturating_sub(all.len());
    all.extend(inherited.more(at.address, at.terms(), missing)?);
    Ok(all.into())
}

type OpenLogs = (Vec<(AccessLog, Arc<LogFile>)>, Vec<Vec<LogPlace>>);

/// Opens the logs that `before` has not open, or that not all of so many workers have; returns them all, and where
/// each worker has each from.
fn open_logs(
    specs: Vec<AccessLog>,
    hands: usize,
    before: Option<&Running>,
) -> Result<OpenLogs, LaunchError> {
    let before = before.filter(|before| before.metrics.len() == hands);
    let mut logs = Vec::new();
    let mut places: Vec<Vec<LogPlace>> = (0..hands).map(|_| Vec::new()).collect();
    for spec in specs {
        let open = before.map_or(&[][..], |before| &before.logs);
        let known = open
            .iter()
            .enumerate()
            .find(|(_, (known, _))| *known == spec);
        if let Some((number, (_, file))) = known {
            logs.push((spec, Arc::clone(file)));
            let kept = |worker: &mut Vec<LogPlace>| worker.push(LogPlace::Kept(number));
            places.iter_mut().for_each(kept);
            continue;
        }
        let (taps, drain) = sink::sink(hands);
        let file = LogFile::open(&spec.to, drain).map_err(|source| log_error(&spec.to, source))?;
        for (worker, tap) in places.iter_mut().zip(taps) {
            let format = format(spec.format);
            worker.push(LogPlace::New(Log { format, tap }));
        }
        logs.push((spec, Arc::new(file)));
    }
    Ok((logs, places))
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

/// Reads the files of a generation. At the start, where one certificate cannot be used, other sites are served all
/// the same; a generation that would have less than the one before is not served.
fn load(generation: &Generation, before: Option<&Running>) -> Result<Vec<Known>, LaunchError> {
    let known = |material: &Material| before?.known_of(material);
    let Loaded {
        known,
        degraded,
        problems,
    } = materials::load_after(generation, Issue::Yes, known);
    if !problems.is_empty() || before.is_some() && !degraded.is_empty() {
        return Err(LaunchError::Materials(
            problems.into_iter().chain(degraded).collect(),
        ));
    }
    for problem in degraded {
        tracing::error!("{problem}");
    }
    if before.is_none() {
        internal::announce(generation);
    }
    Ok(known)
}

impl Running {
    /// The time as balancing counts it.
    pub fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// The access logs, and where they go.
    pub fn written_logs(&self) -> impl Iterator<Item = (&AccessLog, &LogFile)> {
        self.logs.iter().map(|(spec, log)| (spec, &**log))
    }

    /// What has come of all that was served under it.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for worker in &self.metrics {
            tally.add(&worker.outcomes);
        }
        tally
    }

    /// Refuses what says something else of what cannot be changed.
    pub(crate) fn allows(&self, config: &Config) -> Result<(), Refusal> {
        let own = &self.generation.config;
        if own.user != config.user {
            return Err(Refusal::Fixed("user"));
        }
        if own.admin != config.admin {
            return Err(Refusal::Fixed("admin"));
        }
        Ok(())
    }

    /// The access logs.
    pub(crate) fn logs(&self) -> impl Iterator<Item = &Arc<LogFile>> {
        self.logs.iter().map(|(_, log)| log)
    }

    /// The sockets of its ports.
    pub(crate) fn quays(&self) -> impl Iterator<Item = (SocketAddr, Weak<[UdpSocket]>)> {
        let quays = self.quays.iter();
        quays.map(|(address, sockets)| (*address, Arc::downgrade(sockets)))
    }

    /// All that it listens on, and the locks of what it has on disk.
    pub(crate) fn sockets(&self) -> Vec<(Use, OwnedFd)> {
        let listeners = self.generation.listeners.iter().flat_map(|at| {
            let (address, multipath) = (at.address, at.terms().options.multipath);
            let open = self.listening(address);
            let open: Vec<_> = open.iter().flat_map(|(_, open)| open.iter()).collect();
            let sockets = open
                .into_iter()
                .filter_map(|socket| socket.try_clone().ok());
            let of = Use::Connections { address, multipath };
            let sockets = sockets.map(|socket| (of.clone(), socket.into()));
            sockets.collect::<Vec<_>>()
        });
        let ports = self.quays.iter().flat_map(|(address, all)| {
            let sockets = all.iter().filter_map(|socket| socket.try_clone().ok());
            sockets.map(|socket| (Use::Datagrams { address: *address }, socket.into()))
        });
        let disks = self.generation.caches.iter();
        let disks = disks.filter_map(|keeping| keeping.cache.disk.as_ref());
        let locks =
            disks.filter_map(|disk| Some((Use::Cache(disk.place.directory.clone()), disk.lock()?)));
        listeners.chain(ports).chain(locks).collect()
    }

    /// What is known of the files that rules read, in the order of the generation.
    pub(crate) fn known(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a file that a later generation has, too.
    fn known_of(&self, material: &Material) -> Option<Known> {
        let mut own = self.generation.materials.iter();
        let at = own.position(|own| material.goes_on_from(own))?;
        self.known().get(at).cloned()
    }

    /// The sockets of an address, and the terms that they listen on.
    fn listening(&self, address: SocketAddr) -> Option<(Terms, Arc<[TcpListener]>)> {
        let open = self.lock_listening();
        let (_, open) = open.iter().find(|(at, _)| *at == address)?;
        let mut listeners = self.generation.listeners.iter();
        let listener = listeners.find(|at| at.address == address)?;
        Some((listener.terms(), Arc::clone(open)))
    }

    /// Leaves the sockets of listeners to the workers, who close them.
    pub(crate) fn leave_listening(&self) {
        self.lock_listening().clear();
    }

    fn lock_listening(&self) -> MutexGuard<'_, Vec<Listening>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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

pub(crate) fn random() -> Result<u64, LaunchError> {
    getrandom::u64().map_err(|error| LaunchError::Workers(io::Error::other(error)))
}

type Built = (Arc<Generation>, Vec<AccessLog>);

fn build(
    config: &Config,
    found: &Found,
    house: &House,
    before: Option<&Running>,
) -> Result<Built, LaunchError> {
    let machine = Machine {
        number: house.number + 1,
        name: rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned(),
        seed: random()?,
        workers: house.workers,
        capacity: house.capacity,
        // Each client's connection may need one to a server, and there is more to open.
        connections_max: descriptors() / 2,
        sessions: Arc::clone(&house.sessions),
        before: before.map(|before| Arc::clone(&before.generation)),
    };
    let (generation, logs) = compile::compile(config, |address| found.known(address), machine);
    Ok((Arc::new(generation), logs))
}

fn log_error(target: &LogTarget, source: io::Error) -> LaunchError {
    let path = match target {
        LogTarget::Stdout => PathBuf::from("stdout"),
        LogTarget::File(path) => path.clone(),
        LogTarget::Syslog(syslog) => PathBuf::from(syslog.to.to_string()),
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
