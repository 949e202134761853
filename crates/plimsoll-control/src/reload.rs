//! Serving what the configuration file says now, when somebody asks for it.

pub mod canary;
pub mod put;

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use plimsoll_config::model::Config;
use plimsoll_config::{Diagnostic, Severity, Sources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, Notify};

use crate::difference::{self, Difference};
use crate::engine::{Engine, Refusal};
use crate::files::Files;
use crate::launch::LaunchError;
use canary::{Canary, Decided, Waiting, Why};

/// Reads the file of an engine again.
#[derive(Debug)]
pub struct Reloader {
    engine: Arc<Engine>,
    /// The file; nothing for what was started without one.
    path: Option<String>,
    /// Whether somebody has asked who does not wait for the answer.
    asked: Notify,
    /// What waits to be confirmed. Whoever changes anything has it.
    trial: Mutex<Option<Trial>>,
}

/// What is wanted of a reload.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Reload")]
pub struct Wanted {
    /// Within how many seconds it has to be confirmed; after that, what was served before is served again.
    pub confirm_within: Option<u64>,
    /// How much of what comes is served so first.
    pub canary: Option<Canary>,
}

/// A configuration that is served until nobody has confirmed it in time, or to a part of those who come.
#[derive(Debug)]
struct Trial {
    /// The generation on trial.
    number: u64,
    /// What was served before.
    before: Arc<Config>,
    /// Who waits for the decision, if it is served to a part.
    part: Option<Waiting>,
    /// What stood in the file before, where that was replaced.
    undo: Option<put::Before>,
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// The generation that is served now.
    pub generation: u64,
    /// What is different from before.
    pub differences: Vec<Difference>,
    /// Warnings, as `plimsoll check` shows them.
    pub warnings: String,
    /// What became of it, if it was served to a part of those who came first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Decided>,
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
            trial: Mutex::default(),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
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
            let _told = self.reload(Wanted::default()).await; // by the log
        }
    }

    /// Serves what stands in the file now. When this returns, nothing begins any more as it was before.
    ///
    /// # Errors
    /// Why it does not; then nothing has changed.
    pub async fn reload(self: &Arc<Self>, wanted: Wanted) -> Result<Reloaded, Refused> {
        match (wanted.canary, wanted.confirm_within) {
            (None, within) => self.reload_all(within).await,
            (Some(canary), None) => self.reload_part(canary).await,
            (Some(_), Some(_)) => Err(refused(
                "what is served to a part is decided by how that goes, or by hand: nothing else is to be confirmed",
            )),
        }
    }

    async fn reload_all(self: &Arc<Self>, within: Option<u64>) -> Result<Reloaded, Refused> {
        let mut trial = self.trial.lock().await;
        let before = Arc::clone(&self.engine.now().generation.config);
        let outcome = match &*trial {
            Some(_) => Err(refused(ON_TRIAL)),
            None => self.try_reload(&before).await,
        };
        self.note(&outcome);
        if let (Ok(reloaded), Some(seconds)) = (&outcome, within) {
            self.begin_trial(&mut trial, (reloaded, before), None, seconds);
        }
        outcome
    }

    /// Has what is served now go back, unless it is confirmed within so many seconds.
    fn begin_trial(
        self: &Arc<Self>,
        trial: &mut Option<Trial>,
        (reloaded, before): (&Reloaded, Arc<Config>),
        undo: Option<put::Before>,
        seconds: u64,
    ) {
        let number = reloaded.generation;
        *trial = Some(Trial {
            number,
            before,
            part: None,
            undo,
        });
        let reloader = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            reloader.give_up(number).await;
        });
    }

    /// Keeps what waits to be confirmed.
    ///
    /// # Errors
    /// Nothing does.
    pub async fn confirm(&self) -> Result<Reloaded, Refused> {
        let mut trial = self.trial.lock().await;
        let Trial { number, part, .. } = trial.take().ok_or_else(|| refused(NO_TRIAL))?;
        if let Some(part) = part {
            return self.decide(part, Why::Confirmed).await;
        }
        tracing::info!(generation = number, "the configuration was confirmed");
        Ok(Reloaded {
            generation: number,
            differences: Vec::new(),
            warnings: String::new(),
            canary: None,
        })
    }

    /// Serves what was served before what waits to be confirmed.
    ///
    /// # Errors
    /// Nothing waits, or why it cannot be served any more; then nothing has changed.
    pub async fn go_back(&self) -> Result<Reloaded, Refused> {
        let mut trial = self.trial.lock().await;
        let trial = trial.take().ok_or_else(|| refused(NO_TRIAL))?;
        if let Some(part) = trial.part {
            return self.decide(part, Why::TakenBack).await;
        }
        let Trial { before, undo, .. } = trial;
        let left = Arc::clone(&self.engine.now().generation.config);
        let outcome = self.change(&left, &before, String::new()).await;
        self.note(&outcome);
        if let Some(undo) = undo {
            tokio::task::block_in_place(|| undo.put_back());
        }
        // Whatever came of it: the file says something else than is served, or was not confirmed.
        self.engine.reloads.is_last_refused.store(true, Relaxed);
        outcome
    }

    /// Goes back if generation `number` still waits to be confirmed.
    async fn give_up(&self, number: u64) {
        let waits = |trial: &Trial| trial.number == number;
        if self.trial.lock().await.as_ref().is_some_and(waits) {
            tracing::warn!(
                generation = number,
                "the configuration was not confirmed in time"
            );
            let _told = self.go_back().await; // by the log
        }
    }

    fn note(&self, outcome: &Result<Reloaded, Refused>) {
        self.count(outcome.is_ok());
        match outcome {
            Ok(reloaded) => {
                let generation = reloaded.generation;
                let differences = reloaded.differences.iter();
                let differences: Vec<String> = differences.map(ToString::to_string).collect();
                let what = differences.join(", ");
                tracing::info!(generation, what, "the configuration was reloaded");
            }
            Err(Refused(why)) => {
                tracing::error!("not reloaded, and nothing has changed:\n{}", why.trim_end());
            }
        }
    }

    fn count(&self, is_served: bool) {
        let reloads = &self.engine.reloads;
        reloads.is_last_refused.store(!is_served, Relaxed);
        let counter = match is_served {
            true => &reloads.done,
            false => &reloads.refused,
        };
        counter.fetch_add(1, Relaxed);
    }

    async fn try_reload(&self, before: &Config) -> Result<Reloaded, Refused> {
        let (config, warnings) = self.read().await?;
        self.change(before, &config, warnings).await
    }

    /// Reads the file; returns what it says, and the warnings about it.
    async fn read(&self) -> Result<(Config, String), Refused> {
        let path = self.path.clone();
        let path = path.ok_or_else(|| refused("this was started without a file to reload"))?;
        let load = move || plimsoll_config::load(&path, &Files);
        let loaded = tokio::task::spawn_blocking(load).await;
        let loaded = loaded.map_err(|error| refused(&error.to_string()))?;
        let problems = |severity| shown(&loaded.diagnostics, severity, &loaded.sources);
        match &loaded.config {
            Some(config) => Ok((config.clone(), problems(Severity::Warning))),
            None => Err(Refused(problems(Severity::Error))),
        }
    }

    async fn change(
        &self,
        before: &Config,
        config: &Config,
        warnings: String,
    ) -> Result<Reloaded, Refused> {
        self.engine.change(config).await.map_err(explained)?;
        Ok(Reloaded {
            generation: self.engine.now().generation.number,
            differences: difference::between(before, config),
            warnings,
            canary: None,
        })
    }
}

/// Why nothing is reloaded while something waits to be confirmed.
const ON_TRIAL: &str = "the last reload waits to be confirmed: `plimsoll reload confirm` keeps it, \
                        `plimsoll reload back` takes it back";

const NO_TRIAL: &str = "no reload waits to be confirmed";

fn refused(why: &str) -> Refused {
    Refused(format!("error: {why}\n"))
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
