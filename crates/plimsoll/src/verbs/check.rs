//! `plimsoll check`: every error and warning of a configuration.

use anyhow::bail;
use clap::ValueEnum;
use plimsoll_config::Loaded;
use plimsoll_config::model::Config;
use plimsoll_control::files::Files;
use plimsoll_control::verdict::Verdict;

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
    let mut verdict = verdict(&loaded)?;
    verdict.ok &= !(arguments.strict && verdict.has_warnings());
    match arguments.format {
        Format::Json => print(&format!("{:#}\n", serde_json::to_value(&verdict)?))?,
        Format::JsonModel => {
            configuration::show(&loaded.diagnostics, &loaded.sources);
            if let Some(config) = &loaded.config {
                print(&format!("{:#}\n", plimsoll_config::to_json(config)))?;
            }
        }
        Format::Text => {
            configuration::show(&loaded.diagnostics, &loaded.sources);
            let tally = configuration::tally(&loaded.diagnostics);
            print(&text(&verdict, &arguments.path.config, &tally))?;
        }
    }
    match verdict.ok {
        true => Ok(()),
        false => Err(BadConfiguration.into()),
    }
}

fn verdict(loaded: &Loaded) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let own = |config: &Config| {
        let token = admin::guard(&config.admin).err();
        token.into_iter().chain(privileges::find(config).err())
    };
    let verdict = Verdict::of(loaded, |config| own(config).collect());
    Ok(runtime.block_on(verdict)?)
}

fn text(verdict: &Verdict, path: &str, tally: &str) -> String {
    let line = |kind: &'static str| move |what: &String| format!("{kind}: {what}\n");
    let asked = verdict.certificates.iter().map(line("certificate"));
    let errors = verdict.unusable.iter().map(line("error"));
    let warnings = verdict.unresolved.iter().chain(&verdict.expiring);
    let mut text: String = asked
        .chain(errors)
        .chain(warnings.map(line("warning")))
        .collect();
    let word = if verdict.ok { "ok" } else { "not ok" };
    let comma = if tally.is_empty() { "" } else { ", " };
    text.push_str(&format!("{path}: {word}{comma}{tally}\n"));
    text
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
