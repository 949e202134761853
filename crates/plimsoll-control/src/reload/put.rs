//! Another text for the file: checked, served, and written only then.

use std::io;
use std::sync::Arc;

use plimsoll_config::Severity;
use plimsoll_config::model::Config;

use super::{ON_TRIAL, Refused, Reloaded, Reloader, refused, shown};
use crate::beside::Beside;
use crate::configuration_file::{self, NoText, Text};
use crate::files::Files;

/// Why the file is as it was, and so is what is served.
#[derive(Debug, thiserror::Error)]
pub enum NotPut {
    /// It cannot be replaced.
    #[error(transparent)]
    NoText(#[from] NoText),
    /// Another change came between.
    #[error("the file is another one by now: read it again")]
    Changed,
    /// It is not served.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It is not written.
    #[error("cannot write the file: {0}")]
    Unwritable(#[from] io::Error),
}

/// What stood in the file before, until a change is confirmed.
#[derive(Debug)]
pub(super) struct Before {
    path: String,
    text: String,
    /// What was put there.
    tag: String,
}

impl Reloader {
    /// What stands in the file now.
    ///
    /// # Errors
    /// Why there is no one file.
    pub async fn text(&self) -> Result<Text, NoText> {
        let path = self.path.clone().ok_or(NoText::Nothing)?;
        let read = tokio::task::spawn_blocking(move || configuration_file::read(&path)).await;
        read.unwrap_or(Err(NoText::Nothing)) // the runtime ends
    }

    /// Serves `text`, and has it stand in the file, if `may_replace` takes the tag of what stands there now. As
    /// a reload it goes back where it is not confirmed within so many seconds, and so does the file.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub async fn put(
        self: &Arc<Self>,
        text: Text,
        may_replace: impl FnOnce(&str) -> bool,
        within: Option<u64>,
    ) -> Result<Reloaded, NotPut> {
        let path = self.path.clone().ok_or(NoText::Nothing)?;
        let mut trial = self.trial.lock().await;
        if trial.is_some() {
            return Err(refused(ON_TRIAL).into());
        }
        let old = self.text().await?;
        if !may_replace(&old.tag) {
            return Err(NotPut::Changed);
        }
        let before = Arc::clone(&self.engine.now().generation.config);
        let reloaded = self.try_put(&path, &text, &before).await?;
        let undo = Before {
            path,
            text: old.text,
            tag: text.tag,
        };
        if let Some(seconds) = within {
            self.begin_trial(&mut trial, (&reloaded, before), Some(undo), seconds);
        }
        Ok(reloaded)
    }

    async fn try_put(&self, path: &str, text: &Text, before: &Config) -> Result<Reloaded, NotPut> {
        let (own, written) = (path.to_owned(), text.text.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&own, &written)).await;
        let (config, warnings, beside) = prepared.map_err(io::Error::other)??;
        // What is refused is told to whoever sent it, and is in no file: it counts as no reload.
        let reloaded = self.change(before, &config, warnings).await?;
        if let Err(error) = beside.put() {
            let back = self.change(&config, before, String::new()).await;
            self.note(&back);
            return Err(error.into());
        }
        let outcome = Ok(reloaded);
        self.note(&outcome);
        Ok(outcome?)
    }
}

/// Does all that can fail before anything changes.
fn prepare(path: &str, text: &str) -> Result<(Config, String, Beside), NotPut> {
    let loaded = plimsoll_config::load_text(path, text, &Files);
    configuration_file::only(&loaded)?;
    let problems = |severity| shown(&loaded.diagnostics, severity, &loaded.sources);
    match &loaded.config {
        None => Err(Refused(problems(Severity::Error)).into()),
        Some(config) => {
            let beside = configuration_file::write(path, text)?;
            Ok((config.clone(), problems(Severity::Warning), beside))
        }
    }
}

impl Before {
    /// Has it stand in the file again, unless somebody has written something else there.
    pub(super) fn put_back(&self) {
        let is_ours = configuration_file::read(&self.path).is_ok_and(|text| text.tag == self.tag);
        if !is_ours {
            return;
        }
        let put = configuration_file::write(&self.path, &self.text).and_then(Beside::put);
        if let Err(error) = put {
            tracing::error!(%error, path = self.path, "cannot put back what stood in the file");
        }
    }
}
