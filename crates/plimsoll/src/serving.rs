//! A configuration being served, until a signal ends it.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use plimsoll_admin::server::Desk;
use plimsoll_config::model::{AdminAddress, Config};
use plimsoll_control::discovery::Names;
use plimsoll_control::launch::{LaunchError, Running, launch};
use plimsoll_control::{acme, care, checks, materials, memory};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::BadConfiguration;
use crate::{admin, allocator};

/// How long exchanges that are under way may take after the first TERM.
const GRACE: Duration = Duration::from_secs(30);

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

/// Serves `config` until told to stop. A one-liner has no say in where the dashboard is, and goes
/// without it when another process has the address; `beside` runs along on the control thread.
pub(crate) fn serve(
    config: &Config,
    is_one_liner: bool,
    beside: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::spawn(beside);
        let mut signals = Signals::listen()?;
        let unusable = |problem| explain(LaunchError::Materials(vec![problem]));
        let guard = admin::guard(&config.admin).map_err(unusable)?;
        let admin = admin::open(&config.admin, is_one_liner).await?;
        let (names, found) = Names::look_up(config)
            .await
            .context("cannot look names of servers up")?;
        for (name, why) in found.missing() {
            tracing::warn!(name, why, "no address for a server's name yet");
        }
        let known = (names.all(), &found);
        let running = launch(config, known, allocator::give_back).await;
        let running = Arc::new(running.map_err(explain)?);
        announce(&running);
        let desk = Desk::new(Arc::clone(&running), allocator::metrics, guard);
        for (place, listener) in admin {
            match &place {
                AdminAddress::Ip(address) => tracing::info!("dashboard on http://{address}/"),
                AdminAddress::Socket(_) => tracing::info!("changes over {place}"),
            }
            tokio::spawn(Arc::clone(&desk).serve(listener));
        }
        tokio::spawn(desk.watch());
        tokio::spawn(care::watch(Arc::clone(&running)));
        tokio::spawn(memory::watch(Arc::clone(&running)));
        tokio::spawn(materials::watch(Arc::clone(&running)));
        acme::start(config, &running);
        names.watch(config, &running);
        checks::start(config, &running);
        signals.wait(&running).await;
        tracing::info!(
            connections = running.peers.connections(),
            "draining; another signal stops now"
        );
        running.peers.drain().await;
        let drained = signals.drained(&running).await;
        tracing::info!(drained, "stopped");
        if drained {
            running.finish(); // else workers are in the middle of something
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

/// The signals of CONVENTIONS: TERM and INT stop, USR1 opens logs again.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reopen: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reopen: signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for the signal to stop.
    async fn wait(&mut self, running: &Running) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.reopen.recv() => running.reopen_logs(),
            }
        }
    }

    /// Waits until the last exchange has ended; false when time ran out or another signal came.
    async fn drained(&mut self, running: &Running) -> bool {
        let done = async {
            while !running.is_finished() {
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
