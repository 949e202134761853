//! The data plane over all generations: it is launched once, and goes from one configuration to the next as a
//! transaction. All that can fail is done before anything changes.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use plimsoll_balance::ServerIndex;
use plimsoll_config::model::Config;
use plimsoll_net::clock;
use plimsoll_proxy::handing::Handed;
use plimsoll_proxy::plane::GiveBack;
use plimsoll_proxy::tls::sessions::Sessions;
use tokio::sync::Mutex as Turn;

use crate::crew::{Crew, Orders, Threads, lock};
use crate::former::Former;
use crate::launch::{Beside, House, LaunchError, Running, prepare, random};
use crate::log_file::LogFile;
use crate::stalls::Stalls;
use crate::upgrade::{self, Estate, Failure, Inherited, Successor, Use, Wanted};
use crate::watches::Watches;
use crate::{
    acme, care, checks, discovery, heir, key_sets, materials, memory, secrets, stalls, stapling,
};

pub mod canary;

/// How often generations are looked for that nobody uses any more.
const SWEEP: Duration = Duration::from_secs(1);

/// So many workers there can be at least, whatever there are at the start.
const CAPACITY_MIN: usize = 64;

/// A data plane.
#[derive(Debug)]
pub struct Engine {
    now: ArcSwap<Running>,
    tried: ArcSwapOption<canary::Tried>,
    /// How going from one generation to the next went.
    pub reloads: Reloads,
    /// Workers that did not go on.
    pub stalls: Stalls,
    /// Whoever changes something has it.
    turn: Turn<Tasks>,
    threads: Threads,
    /// Where workers are asked what nobody has to wait his turn for.
    pub(crate) orders: Orders,
    /// The access logs, those among them that only generations before write to.
    logs: Mutex<Vec<Arc<LogFile>>>,
    is_draining: AtomicBool,
    /// Whether another process serves what begins now.
    is_leaving: AtomicBool,
    start: Instant,
}

/// How often another configuration was to be served, and what came of it.
#[derive(Debug, Default)]
pub struct Reloads {
    /// It is, or was until the next one.
    pub done: AtomicU64,
    /// It could not be.
    pub refused: AtomicU64,
    /// Whether the last one could not be.
    pub is_last_refused: AtomicBool,
    /// Generations whose exchanges were ended because there were too many.
    pub ended: AtomicU64,
}

/// What goes on beside the traffic, and what is kept for it.
#[derive(Debug)]
struct Tasks {
    house: House,
    crew: Crew,
    checks: Watches<checks::Checking>,
    names: Watches<discovery::Asked>,
    certificates: Watches<acme::Asked>,
    /// What looks after what is tried.
    tried: Option<Beside>,
    /// Generations before in which something may be under way.
    former: Former,
}

/// Why another configuration is not served.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Something that it needs could not be had.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// It says something else of what cannot be changed.
    #[error("`{0}` changes with a restart")]
    Fixed(&'static str),
    /// The process is about to end.
    #[error("the process is about to end")]
    Draining,
    /// There would be too many workers.
    #[error("more than {0} workers need a restart")]
    Workers(usize),
    /// Something of it cannot be served to a part of those who come.
    #[error("{0} cannot be another one for a part of the connections: reload it for all")]
    Whole(String),
    /// The workers do not answer.
    #[error("the workers do not answer")]
    Gone,
}

impl Engine {
    /// Starts serving `config`, with what the process before has given; workers call `give_back` for the allocator.
    ///
    /// # Errors
    /// What could not be had; then nothing was started.
    pub async fn launch(
        config: &Config,
        inherited: &Arc<Inherited>,
        give_back: GiveBack,
    ) -> Result<Arc<Self>, LaunchError> {
        let (start, workers) = (clock::now(), workers(config));
        let house = House {
            inherited: Arc::clone(inherited),
            epoch: clock::unix_time(),
            number: 0,
            workers,
            hired: workers,
            capacity: workers.max(cores() * 4).max(CAPACITY_MIN),
            sessions: Arc::new(Sessions::with_key_log(secrets::key_log())),
            quays: Vec::new(),
            key_sets: Watches::default(),
            stapling: Watches::default(),
        };
        let mut prepared = prepare(config, &house, None).await?;
        let mut crew = Crew::new(house.capacity, (start, give_back), random()?);
        crew.hire(workers).map_err(LaunchError::Workers)?;
        let next = std::mem::take(&mut prepared.next);
        if !crew.serve(next, workers).await {
            let why = io::Error::other("a worker has ended at once");
            return Err(LaunchError::Workers(why));
        }
        let (threads, orders) = (Arc::clone(&crew.threads), Arc::clone(&crew.orders));
        let running = prepared.running(crew.peers(), start, None);
        let tasks = Tasks {
            house,
            crew,
            checks: Watches::default(),
            names: Watches::default(),
            certificates: Watches::default(),
            tried: None,
            former: Former::default(),
        };
        let engine = Arc::new(Self {
            now: ArcSwap::from_pointee(running),
            tried: ArcSwapOption::empty(),
            reloads: Reloads::default(),
            stalls: Stalls::default(),
            turn: Turn::new(tasks),
            threads,
            orders,
            logs: Mutex::default(),
            is_draining: AtomicBool::new(false),
            is_leaving: AtomicBool::new(false),
            start,
        });
        engine.note_logs();
        engine
            .turn
            .lock()
            .await
            .look_after(&engine, prepared.beside, None);
        inherited
            .wanted()
            .iter()
            .for_each(|wanted| engine.want(wanted));
        tokio::spawn(Arc::clone(&engine).sweep());
        tokio::spawn(care::watch(Arc::clone(&engine)));
        tokio::spawn(memory::watch(Arc::clone(&engine)));
        tokio::spawn(materials::watch(Arc::clone(&engine)));
        tokio::spawn(stalls::watch(Arc::clone(&engine)));
        Ok(engine)
    }

    /// What is served now.
    pub fn now(&self) -> Arc<Running> {
        self.now.load_full()
    }

    /// Serves `config` from now on. When this returns, nothing begins any more under the one before.
    ///
    /// # Errors
    /// Why it is not; then nothing has changed.
    pub async fn change(self: &Arc<Self>, config: &Config) -> Result<(), Refusal> {
        let mut tasks = self.turn.lock().await;
        let before = self.now();
        before.allows(config)?;
        let workers = std::mem::replace(&mut tasks.house.workers, workers(config));
        let changed = self.try_change(&mut tasks, config, &before).await;
        if changed.is_err() {
            tasks.house.workers = workers;
        }
        changed
    }

    async fn try_change(
        self: &Arc<Self>,
        tasks: &mut Tasks,
        config: &Config,
        before: &Arc<Running>,
    ) -> Result<(), Refusal> {
        let workers = tasks.house.workers;
        if workers > tasks.house.capacity {
            return Err(Refusal::Workers(tasks.house.capacity));
        }
        let mut prepared = prepare(config, &tasks.house, Some(before)).await?;
        let hired = tokio::task::block_in_place(|| tasks.crew.hire(workers));
        tasks.house.hired = before.peers.hired();
        hired.map_err(LaunchError::Workers)?;
        self.goes_on()?;
        let running = prepared.running(&before.peers, self.start, Some(before));
        // From here on nothing fails but what would not go on anyway.
        let next = std::mem::take(&mut prepared.next);
        if !tasks.crew.serve(next, workers).await {
            return Err(Refusal::Gone);
        }
        self.now.store(Arc::new(running));
        self.look_after(tasks, prepared.beside, before).await;
        Ok(())
    }

    /// Tells whether something else may be served yet.
    fn goes_on(&self) -> Result<(), Refusal> {
        match self.is_draining() || self.is_leaving.load(Relaxed) {
            true => Err(Refusal::Draining),
            false => Ok(()),
        }
    }

    /// Goes on with all that is beside the traffic as what is served now needs it.
    async fn look_after(
        self: &Arc<Self>,
        tasks: &mut Tasks,
        beside: Beside,
        before: &Arc<Running>,
    ) {
        self.note_logs();
        tasks.look_after(self, beside, Some(before));
        tasks.forget_servers(before, &self.now()).await;
        self.end_oldest(tasks, before).await;
    }

    /// Ends what is under way in generations that are too many.
    async fn end_oldest(&self, tasks: &mut Tasks, before: &Running) {
        let Some(number) = tasks.former.add(&before.generation) else {
            return;
        };
        tracing::warn!(
            generation = number,
            "too many configurations are still in use; what is under way in the oldest one is ended"
        );
        self.reloads.ended.fetch_add(1, Relaxed);
        tasks.crew.end(number).await;
    }

    /// Tells whether everything ends.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// Has a server be what an operator wanted of it in the process before, if there is one of this name.
    fn want(&self, wanted: &Wanted) {
        let running = self.now();
        let mut pools = running.generation.pools.iter();
        let Some(pool) = pools.find(|pool| *pool.name == *wanted.pool) else {
            return;
        };
        let mut servers = (0..).map(ServerIndex::new).zip(pool.balancer.servers());
        let server = servers.find(|(_, server)| **server.name() == *wanted.server);
        if let Some((index, server)) = server {
            server.set_wish(wanted.wish());
            let now = running.since_start(clock::now());
            pool.balancer.set_portion(index, wanted.portion, now);
        }
    }

    /// Has another process serve what begins from now on: it is started with the sockets of this one, and those of `more`. When this
    /// returns, it serves; what is under way here goes on to its end.
    ///
    /// # Errors
    /// Why it does not; then nothing has changed.
    pub async fn hand_over(
        &self,
        more: Vec<(Use, OwnedFd)>,
        patience: Duration,
    ) -> Result<Successor, Failure> {
        let tasks = self.turn.lock().await;
        if self.is_leaving.load(Relaxed) || self.is_draining() {
            return Err(Failure::Leaving);
        }
        if tasks.tried.is_some() {
            return Err(Failure::Tried);
        }
        let mut sockets = self.now().sockets();
        sockets.extend(more);
        let estate = Estate {
            sockets,
            wanted: Wanted::all(&self.now().generation),
            passed: tasks.house.inherited.pass_on(),
        };
        let start = move || upgrade::start(estate, patience);
        let started = tokio::task::spawn_blocking(start).await;
        let mut successor = started.map_err(|error| Failure::Ended(error.to_string()))??;
        self.is_leaving.store(true, Relaxed);
        let taken: Arc<[_]> = successor.taken.clone().into();
        let running = self.now();
        running.leave_listening();
        let heir = successor.line.take().map(heir::offer);
        tasks.crew.leave(&taken, heir.as_ref()).await;
        let disks = running.generation.caches.iter();
        let disks = disks.filter_map(|keeping| keeping.cache.disk.as_ref());
        disks.for_each(|disk| disk.close());
        Ok(successor)
    }

    /// Goes on with a connection of the process before, if it can: `tell` says so there, before anything is done. False when
    /// that is gone.
    pub(crate) async fn adopt(
        &self,
        handed: Handed,
        tell: impl FnOnce(bool) -> io::Result<()>,
    ) -> bool {
        let tasks = self.turn.lock().await;
        let fits = !self.is_draining() && handed.state.fits(&self.now().generation);
        let is_told = tell(fits).is_ok();
        if fits && is_told {
            tasks.crew.adopt(handed).await;
        }
        is_told
    }

    /// Tells whether nothing is under way that this process has to see to an end.
    pub fn is_idle(&self) -> bool {
        self.now().peers.connections() == 0
    }

    /// Lets go of generations that nobody uses any more, again and again.
    async fn sweep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(SWEEP).await;
            self.turn.lock().await.former.sweep();
        }
    }

    /// Tells every worker to accept nothing more, and to end.
    pub async fn drain(&self) {
        self.is_draining.store(true, Relaxed);
        let running = self.now();
        running.leave_listening();
        running.peers.drain().await;
    }

    /// Tells whether every worker has ended.
    pub fn is_finished(&self) -> bool {
        lock(&self.threads).iter().all(JoinHandle::is_finished)
    }

    /// Waits for the last worker and the last log line.
    pub fn finish(&self) {
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker ended in a panic");
            }
        }
        self.logs().iter().for_each(|log| log.finish());
    }

    /// Opens every access log again, for log rotation.
    pub fn reopen_logs(&self) {
        self.logs().iter().for_each(|log| log.reopen());
    }

    /// Takes note of the logs of what is served now, and of those that are done.
    fn note_logs(&self) {
        let mut logs = self.logs();
        logs.retain(|log| !log.is_finished());
        for running in self.all() {
            for log in running.logs() {
                if !logs.iter().any(|known| Arc::ptr_eq(known, log)) {
                    logs.push(Arc::clone(log));
                }
            }
        }
    }

    fn logs(&self) -> MutexGuard<'_, Vec<Arc<LogFile>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    /// Looks after what is new in what is served now, and no more after what is gone.
    fn look_after(&mut self, engine: &Arc<Engine>, beside: Beside, before: Option<&Running>) {
        let running = engine.now();
        let generation = &running.generation;
        self.house.number = generation.number;
        let quays = &mut self.house.quays;
        let now: Vec<_> = running.quays().collect();
        quays.retain(|(address, left)| {
            left.strong_count() > 0 && !now.iter().any(|(other, _)| other == address)
        });
        quays.extend(now);
        self.house
            .key_sets
            .change(&key_sets::wanted(generation), beside.key_sets);
        self.house
            .stapling
            .change(&stapling::wanted(generation), beside.stapling);
        beside.names.change(&mut self.names, engine);
        checks::change(&mut self.checks, engine, before);
        acme::change(&mut self.certificates, &running);
    }

    /// Has connections closed that are kept to servers that are gone, or reached in another way.
    async fn forget_servers(&self, before: &Running, now: &Running) {
        let servers = |running: &'_ Running| -> Vec<_> {
            let pools = running.generation.pools.iter();
            let servers = pools.flat_map(|pool| &pool.servers);
            servers.map(|server| Arc::clone(&server.berth)).collect()
        };
        let mut known: Vec<usize> = servers(now).iter().map(|berth| berth.number()).collect();
        known.sort_unstable();
        for berth in servers(before) {
            if known.binary_search(&berth.number()).is_err() {
                now.peers.forget(&berth).await;
            }
        }
    }
}

/// How many workers a configuration wants.
fn workers(config: &Config) -> usize {
    let wanted = config.workers.map(|workers| usize::from(workers.get()));
    wanted.unwrap_or_else(cores)
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
