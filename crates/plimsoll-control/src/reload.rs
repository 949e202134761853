//! Serving what the configuration file says now, when somebody asks for it.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use plimsoll_config::{Diagnostic, Severity, Sources};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::difference::{self, Difference};
use crate::engine::{Engine, Refusal};
use crate::files::Files;
use crate::launch::LaunchError;

/// Reads the file of an engine again.
#[derive(Debug)]
pub struct Reloader {
    engine: Arc<Engine>,
    /// The file; nothing for what was started without one.
    path: Option<String>,
    /// Whether somebody has asked who does not wait for the answer.
    asked: Notify,
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// The generation that is served now.
    pub generation: u64,
    /// What is different from before.
    pub differences: Vec<Difference>,
    /// Warnings, as `plimsoll check` shows them.
    pub warnings: String,
}

/// Why nothing was changed, for people: as `plimsoll check` shows it, where it is the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl Reloader {
    /// For `engine`, which serves what stands in the file at `path`, if it is one.
    pub fn new(engine: Arc<Engine>, path: Option<String>) -> Self {
        Self {
            engine,
            path,
            asked: Notify::new(),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// Has the file read again, without waiting. Asked again before that is done, it is done once more, and not
    /// more often.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Does what is asked for, for ever.
    pub async fn run(self: Arc<Self>) {
        loop {
            self.asked.notified().await;
            let _told = self.reload().await; // by the log
        }
    }

    /// Serves what stands in the file now. When this returns, nothing begins any more as it was before.
    ///
    /// # Errors
    /// Why it does not; then nothing has changed.
    pub async fn reload(&self) -> Result<Reloaded, Refused> {
        let outcome = self.try_reload().await;
        let reloads = &self.engine.reloads;
        reloads.is_last_refused.store(outcome.is_err(), Relaxed);
        match &outcome {
            Ok(reloaded) => {
                reloads.done.fetch_add(1, Relaxed);
                let generation = reloaded.generation;
                let differences: Vec<String> = reloaded
                    .differences
                    .iter()
                    .map(ToString::to_string)
                    .collect();
                let what = differences.join(", ");
                tracing::info!(generation, what, "the configuration was reloaded");
            }
            Err(Refused(why)) => {
                reloads.refused.fetch_add(1, Relaxed);
                tracing::error!("not reloaded, and nothing has changed:\n{}", why.trim_end());
            }
        }
        outcome
    }

    async fn try_reload(&self) -> Result<Reloaded, Refused> {
        let Some(path) = self.path.clone() else {
            let why = "there is no file to reload: this was started without one";
            return Err(Refused(format!("error: {why}\n")));
        };
        let load = move || plimsoll_config::load(&path, &Files);
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded.map_err(|error| Refused(format!("error: {error}\n")))?;
        let problems = |severity| shown(&loaded.diagnostics, severity, &loaded.sources);
        let Some(config) = &loaded.config else {
            return Err(Refused(problems(Severity::Error)));
        };
        let before = Arc::clone(&self.engine.now().generation.config);
        self.engine.change(config).await.map_err(explained)?;
        Ok(Reloaded {
            generation: self.engine.now().generation.number,
            differences: difference::between(&before, config),
            warnings: problems(Severity::Warning),
        })
    }
}

/// The diagnostics of a severity, as `plimsoll check` shows them.
fn shown(diagnostics: &[Diagnostic], severity: Severity, sources: &Sources) -> String {
    let mut text = String::new();
    let those = diagnostics
        .iter()
        .filter(|problem| problem.severity() == severity);
    for problem in those {
        let _ = writeln!(text, "{}\n", problem.render(sources, false)); // a string takes all
    }
    text
}

fn explained(refusal: Refusal) -> Refused {
    let lines = match refusal {
        Refusal::Launch(LaunchError::Materials(problems)) => problems,
        refusal => vec![refusal.to_string()],
    };
    let lines = lines.into_iter().map(|line| format!("error: {line}\n"));
    Refused(lines.collect())
}
