//! `plimsoll check`: every error and warning of a configuration.

use clap::ValueEnum;
use plimsoll_config::Severity;
use plimsoll_control::files::Files;
use plimsoll_control::names;
use serde_json::json;

use crate::configuration::{self, Path};
use crate::exit::BadConfiguration;

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

#[expect(clippy::print_stdout, reason = "the result is what was asked for")]
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let loaded = plimsoll_config::load(&arguments.path.config, &Files);
    let mut unresolved = Vec::new();
    for server in loaded
        .config
        .iter()
        .flat_map(|config| &config.pools)
        .flat_map(|pool| &pool.servers)
    {
        if let Err(error) = names::resolve(&server.address) {
            unresolved.push(format!("cannot resolve server `{}`: {error}", server.name));
        }
    }
    let strictly_bad = arguments.strict
        && loaded
            .diagnostics
            .iter()
            .any(|p| p.severity() == Severity::Warning);
    let is_good = !loaded.has_errors() && !strictly_bad && unresolved.is_empty();
    match arguments.format {
        Format::Json => {
            let problems: Vec<_> = loaded
                .diagnostics
                .iter()
                .map(|problem| problem.to_json(&loaded.sources))
                .collect();
            println!(
                "{:#}",
                json!({ "ok": is_good, "problems": problems, "unresolved": unresolved })
            );
        }
        Format::JsonModel => {
            configuration::show(&loaded.diagnostics, &loaded.sources);
            if let Some(config) = &loaded.config {
                println!("{:#}", plimsoll_config::to_json(config));
            }
        }
        Format::Text => {
            configuration::show(&loaded.diagnostics, &loaded.sources);
            unresolved
                .iter()
                .for_each(|problem| println!("error: {problem}"));
            let path = &arguments.path.config;
            match (is_good, configuration::tally(&loaded.diagnostics)) {
                (true, tally) if tally.is_empty() => println!("{path}: ok"),
                (true, tally) => println!("{path}: ok, {tally}"),
                (false, tally) if tally.is_empty() => println!("{path}: not ok"),
                (false, tally) => println!("{path}: {tally}"),
            }
        }
    }
    if is_good {
        Ok(())
    } else {
        Err(BadConfiguration.into())
    }
}
