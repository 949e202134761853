//! `plimsoll check`: every error and warning of a configuration.

use anyhow::bail;
use clap::ValueEnum;
use plimsoll_config::model::{Config, KeyPair};
use plimsoll_config::{Loaded, Severity};
use plimsoll_control::acme;
use plimsoll_control::discovery::Names;
use plimsoll_control::explain::Rules;
use plimsoll_control::files::Files;
use serde_json::json;

use crate::admin;
use crate::configuration::{self, Path};
use crate::exit::BadConfiguration;
use crate::output::print;
use crate::privileges;
use crate::verbs::against;

/// What `plimsoll check` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    path: Path,
    /// Warnings count as errors
    #[arg(long)]
    strict: bool,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Replay the requests of this JSON access log, and list those that end in another way than by
    /// the configuration given with --was; with --strict, any of them is a failure
    #[arg(long, value_name = "LOG", requires = "was")]
    against: Option<String>,
    /// The configuration that is compared with
    #[arg(long, value_name = "FILE", requires = "against")]
    was: Option<String>,
}

/// How the result is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// Problems as JSON
    Json,
    /// The whole configuration in its JSON form
    JsonModel,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let (Some(log), Some(was)) = (&arguments.against, &arguments.was) {
        return replay(arguments, was, log);
    }
    let loaded = plimsoll_config::load(&arguments.path.config, &Files);
    let unresolved = unresolved(&loaded)?;
    let (unusable, expiring) = loaded.config.as_ref().map(files).unwrap_or_default();
    let has_warnings = !(unresolved.is_empty() && expiring.is_empty())
        || loaded
            .diagnostics
            .iter()
            .any(|p| p.severity() == Severity::Warning);
    let is_broken = loaded.has_errors() || !unusable.is_empty();
    let is_good = !(is_broken || arguments.strict && has_warnings);
    match arguments.format {
        Format::Json => {
            let problems: Vec<_> = loaded
                .diagnostics
                .iter()
                .map(|p| p.to_json(&loaded.sources))
                .collect();
            let asked: Vec<String> = loaded.config.iter().flat_map(asked).collect();
            let result = json!({
                "ok": is_good, "problems": problems, "unresolved": unresolved, "unusable": unusable,
                "expiring": expiring, "certificates": asked,
            });
            print(&format!("{result:#}\n"))?;
        }
        Format::JsonModel => {
            configuration::show(&loaded.diagnostics, &loaded.sources);
            if let Some(config) = &loaded.config {
                print(&format!("{:#}\n", plimsoll_config::to_json(config)))?;
            }
        }
        Format::Text => {
            configuration::show(&loaded.diagnostics, &loaded.sources);
            let warnings = unresolved.iter().chain(&expiring);
            let warnings = warnings.map(|what| format!("warning: {what}\n"));
            let errors = unusable.iter().map(|file| format!("error: {file}\n"));
            let asked = loaded.config.iter().flat_map(asked);
            let asked = asked.map(|text| format!("certificate: {text}\n"));
            let mut text: String = asked.chain(errors).chain(warnings).collect();
            let verdict = if is_good { "ok" } else { "not ok" };
            let tally = configuration::tally(&loaded.diagnostics);
            let comma = if tally.is_empty() { "" } else { ", " };
            text.push_str(&format!(
                "{}: {verdict}{comma}{tally}\n",
                arguments.path.config
            ));
            print(&text)?;
        }
    }
    if is_good {
        Ok(())
    } else {
        Err(BadConfiguration.into())
    }
}

/// Lists which recorded requests end in another way than by an older configuration.
fn replay(arguments: &Arguments, was: &str, log: &str) -> anyhow::Result<()> {
    let (was, is) = (
        configuration::load(was)?,
        configuration::load(&arguments.path.config)?,
    );
    let comparison = against::compare(&was, &is, log)?;
    print(&comparison.text())?;
    match arguments.strict && comparison.changed > 0 {
        true => bail!("requests of `{log}` end in another way"),
        false => Ok(()),
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
    unusable.extend(admin::guard(&config.admin).err());
    unusable.extend(privileges::find(config).err());
    (unusable, rules.expiring())
}

/// The names of servers that have no address now: a warning, as they may have one tomorrow.
fn unresolved(loaded: &Loaded) -> anyhow::Result<Vec<String>> {
    let Some(config) = &loaded.config else {
        return Ok(Vec::new());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (_, found) = runtime.block_on(Names::look_up(config, None))?;
    let missing = found.missing();
    let text = |(name, why)| format!("no address for `{name}`: {why}");
    Ok(missing.map(text).collect())
}
