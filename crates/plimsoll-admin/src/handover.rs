//! Leaving everything to another process, the admin listeners among it.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use plimsoll_control::upgrade::{Failure, PATIENCE, Successor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use crate::listen::Listener;
use crate::server::Desk;

/// An admin listener that is served.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) place: String,
    pub(crate) listener: Arc<Listener>,
    pub(crate) serving: AbortHandle,
}

/// How another process is to take over.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Upgrade {
    /// Within how many seconds it has to serve.
    pub within: u16,
}

impl Default for Upgrade {
    fn default() -> Self {
        let within = u16::try_from(PATIENCE.as_secs()).unwrap_or(u16::MAX);
        Self { within }
    }
}

/// The process that serves now.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Upgraded {
    /// Its number.
    pub process: u32,
    /// The version of its program.
    pub version: String,
}

impl Desk {
    /// Has another process, of the program as it is on disk now, serve what begins from now on. When this returns, it does;
    /// what is under way here goes on to its end.
    ///
    /// # Errors
    /// Why it does not; then nothing has changed.
    pub async fn hand_over(&self, patience: Duration) -> Result<Upgraded, Failure> {
        let shown = {
            let open = self.listeners();
            let shown = open.iter().map(|open| open.listener.show(&open.place));
            let shown: Result<Vec<_>, _> = shown.collect();
            shown.map_err(|error| Failure::Start("the new process".to_owned(), error))?
        };
        let sockets = shown.into_iter().flatten().collect();
        let handed = self.reloader.engine().hand_over(sockets, patience).await;
        let successor = match handed {
            Ok(successor) => successor,
            Err(failure) => {
                tracing::error!(%failure, "this process goes on");
                return Err(failure);
            }
        };
        for open in self.listeners().drain(..) {
            open.listener.give();
            open.serving.abort();
        }
        let Successor {
            process, version, ..
        } = successor;
        tracing::info!(
            process,
            version,
            "another process serves what begins from now on"
        );
        self.successor.send_replace(Some(process));
        Ok(Upgraded { process, version })
    }

    /// Waits until everything was left to another process; returns its number.
    pub async fn left(&self) -> u32 {
        let mut successor = self.successor.subscribe();
        let left = successor.wait_for(Option::is_some).await;
        let process = left.ok().and_then(|process| *process);
        match process {
            Some(process) => process,
            None => std::future::pending().await,
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Vec<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
