//! All that is to be said of a configuration before it is served.

use std::io;

use plimsoll_config::model::{Config, KeyPair};
use plimsoll_config::{Loaded, Severity};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::acme;
use crate::discovery::Names;
use crate::explain::Rules;

/// What was found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Verdict {
    /// Whether it can be served.
    pub ok: bool,
    /// Errors and warnings in its files.
    pub problems: Vec<Value>,
    /// Servers' names that have no address now: they may have one tomorrow.
    pub unresolved: Vec<String>,
    /// Files and directories that cannot be used, and what else stands in the way.
    pub unusable: Vec<String>,
    /// Certificates that end.
    pub expiring: Vec<String>,
    /// Certificates that would be asked for.
    pub certificates: Vec<String>,
    #[serde(skip)]
    has_warnings: bool,
}

impl Verdict {
    /// Of what was loaded: its problems, what it names that cannot be used, `more` of that, and what has no address. This blocks,
    /// but for the look-ups.
    ///
    /// # Errors
    /// Names cannot be looked up at all.
    pub async fn of(
        loaded: &Loaded,
        more: impl FnOnce(&Config) -> Vec<String>,
    ) -> io::Result<Self> {
        let problems = loaded.diagnostics.iter();
        let problems = problems.map(|problem| problem.to_json(&loaded.sources));
        let is_warned = |problems: &[plimsoll_config::Diagnostic]| {
            problems.iter().any(|p| p.severity() == Severity::Warning)
        };
        let mut verdict = Self {
            ok: !loaded.has_errors(),
            problems: problems.collect(),
            unresolved: Vec::new(),
            unusable: Vec::new(),
            expiring: Vec::new(),
            certificates: Vec::new(),
            has_warnings: is_warned(&loaded.diagnostics),
        };
        if let Some(config) = &loaded.config {
            verdict.unresolved = unresolved(config).await?;
            (verdict.unusable, verdict.expiring) = files(config);
            verdict.unusable.extend(more(config));
            verdict.certificates = asked(config);
            verdict.ok &= verdict.unusable.is_empty();
        }
        Ok(verdict)
    }

    /// Tells whether anything is said that does not keep it from being served.
    pub fn has_warnings(&self) -> bool {
        self.has_warnings || !(self.unresolved.is_empty() && self.expiring.is_empty())
    }
}

/// Which certificates would be asked for, of whom, and how. Nobody is asked.
fn asked(config: &Config) -> Vec<String> {
    let Some(acme) = &config.acme else {
        return Vec::new();
    };
    let issuers = acme.issuers.iter();
    let issuers: Vec<&str> = issuers.map(|issuer| &*issuer.directory.text).collect();
    let issuers = issuers.join(", else ");
    let text = |pair: &KeyPair| {
        let (names, way) = (pair.names.join(" "), acme.challenge.name());
        format!("{names} by {way} from {issuers}, in {}", pair.certificate)
    };
    acme::asked(config).into_iter().map(text).collect()
}

/// What is wrong with the files that rules read, and the directories that caches have, and which certificates among them end.
fn files(config: &Config) -> (Vec<String>, Vec<String>) {
    let rules = Rules::new(config);
    let mut unusable = rules.load().err().unwrap_or_default();
    unusable.extend(rules.unusable_disks());
    (unusable, rules.expiring())
}

async fn unresolved(config: &Config) -> io::Result<Vec<String>> {
    let (_, found) = Names::look_up(config, None).await?;
    let missing = found.missing();
    let text = |(name, why)| format!("no address for `{name}`: {why}");
    Ok(missing.map(text).collect())
}
