//! A configuration being served, until a signal ends it.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use plimsoll_admin::server::Desk;
use plimsoll_config::model::{AdminAddress, Config};
use plimsoll_control::engine::Engine;
use plimsoll_control::heir;
use plimsoll_control::launch::{LaunchError, Running};
use plimsoll_control::passed;
use plimsoll_control::reload::Reloader;
use plimsoll_control::upgrade::{Inherited, PATIENCE};
use plimsoll_control::watching;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::BadConfiguration;
use crate::{admin, allocator, privileges, service_manager};

/// How long exchanges that are under way may take after the first TERM.
const GRACE: Duration = Duration::from_secs(30);

/// How often a process that serves nothing new looks whether something is under way.
const IDLE_CHECK: Duration = Duration::from_millis(500);

/// How often a draining process looks whether it is done.
const DRAIN_CHECK: Duration = Duration::from_millis(20);

/// Sends events to standard error; `PLIMSOLL_LOG` says which (`info`, `debug`, `plimsoll_net=debug`).
pub(crate) fn log_events() {
    use tracing_subscriber::filter::{EnvFilter, LevelFilter};
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var("PLIMSOLL_LOG");
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter.from_env_lossy())
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .init();
}

/// Where a configuration stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File<'a> {
    pub(crate) path: &'a str,
    /// Whether it is read again when it changes.
    pub(crate) is_watched: bool,
}

/// Serves `config`, which stands in `file`, until told to stop. A one-liner has no file; it has no
/// say in where the dashboard is, and goes without it when another process has the address. `beside` runs along on
/// the control thread.
pub(crate) fn serve(
    config: &Config,
    file: Option<File<'_>>,
    beside: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let passed = passed::take()?;
    let unusable = |problem| explain(LaunchError::Materials(vec![problem]));
    if let Some(user) = privileges::find(config).map_err(unusable)? {
        privileges::give_up(&user, config)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::spawn(beside);
        let mut signals = Signals::listen()?;
        let guard = admin::guard(&config.admin).map_err(unusable)?;
        let inherited =
            Inherited::take(passed).context("cannot take over from the process before")?;
        let inherited = Arc::new(inherited);
        let admin = admin::open(&config.admin, file.is_none(), &inherited).await?;
        let engine = Engine::launch(config, &inherited, allocator::give_back).await;
        let engine = engine.map_err(explain)?;
        announce(&engine.now());
        let reloader = Reloader::new(Arc::clone(&engine), file.map(|file| file.path.to_owned()));
        let reloader = Arc::new(reloader);
        tokio::spawn(Arc::clone(&reloader).run());
        if file.is_some_and(|file| file.is_watched) {
            tokio::spawn(watching::watch(Arc::clone(&reloader)));
        }
        let desk = Desk::new(Arc::clone(&reloader), allocator::metrics, guard);
        for (place, listener) in admin {
            match &place {
                AdminAddress::Ip(address) => tracing::info!("dashboard on http://{address}/"),
                AdminAddress::Socket(_) => tracing::info!("changes over {place}"),
            }
            desk.open(&place, listener);
        }
        tokio::spawn(Arc::clone(&desk).watch());
        match inherited.ready() {
            Ok(line) => {
                if let Some(line) = line {
                    heir::adopt(line, Arc::clone(&engine));
                }
            }
            Err(error) => tracing::warn!(%error, "the process before is gone"),
        }
        service_manager::ready();
        let watched = Arc::clone(&engine);
        tokio::spawn(service_manager::reassure(move || watched.stalls.now()));
        match signals.wait(&desk, &reloader).await {
            Wanted::Stop => service_manager::stopping(),
            Wanted::Leave(successor) => {
                service_manager::succeeded_by(successor);
                signals.wait_for_idle(&engine).await;
            }
        }
        tracing::info!(
            connections = engine.now().peers.connections(),
            "draining; another signal stops now"
        );
        engine.drain().await;
        let drained = signals.drained(&engine).await;
        tracing::info!(drained, "stopped");
        if drained {
            engine.finish(); // else workers are in the middle of something
        }
        Ok(())
    })
}

/// A configuration that names files which cannot be used is a bad one.
#[expect(
    clippy::print_stderr,
    reason = "problems are for whoever started the program"
)]
fn explain(error: LaunchError) -> anyhow::Error {
    let LaunchError::Materials(problems) = error else {
        return error.into();
    };
    for problem in problems {
        eprintln!("error: {problem}");
    }
    BadConfiguration.into()
}

fn announce(running: &Running) {
    for listener in &running.generation.listeners {
        tracing::info!(address = %listener.address, "listening");
    }
    for port in &running.generation.ports {
        tracing::info!(address = %port.address, "listening for datagrams");
    }
}

/// The signals of CONVENTIONS: TERM and INT stop, HUP reloads, USR1 opens logs again, USR2 upgrades.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    reopen: Signal,
    upgrade: Signal,
}

/// Why this process serves nothing new.
enum Wanted {
    /// It was told to stop.
    Stop,
    /// The process with this number does.
    Leave(u32),
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
            reopen: signal(SignalKind::user_defined1())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for the signal to stop, or for another process that serves.
    async fn wait(&mut self, desk: &Arc<Desk>, reloader: &Reloader) -> Wanted {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Wanted::Stop,
                _ = self.interrupt.recv() => return Wanted::Stop,
                _ = self.reload.recv() => reloader.ask(),
                _ = self.reopen.recv() => reloader.engine().reopen_logs(),
                _ = self.upgrade.recv() => {
                    let desk = Arc::clone(desk);
                    tokio::spawn(async move { desk.hand_over(PATIENCE).await.is_ok() }); // told by the log
                }
                process = desk.left() => return Wanted::Leave(process),
            }
        }
    }

    /// Waits until nothing is under way, or for the signal to stop.
    async fn wait_for_idle(&mut self, engine: &Engine) {
        let idle = async {
            while !engine.is_idle() {
                tokio::time::sleep(IDLE_CHECK).await;
            }
        };
        tokio::select! {
            () = idle => {}
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits until the last exchange has ended; false when time ran out or another signal came.
    async fn drained(&mut self, engine: &Engine) -> bool {
        let done = async {
            while !engine.is_finished() {
                tokio::time::sleep(DRAIN_CHECK).await;
            }
        };
        tokio::select! {
            () = done => true,
            () = tokio::time::sleep(GRACE) => false,
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
        }
    }
}
