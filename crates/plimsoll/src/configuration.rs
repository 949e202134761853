//! Loading a configuration, and showing what is wrong with it.

use std::io::IsTerminal;

use plimsoll_config::model::Config;
use plimsoll_config::{Diagnostic, Loaded, Severity, Sources};
use plimsoll_control::files::Files;

use crate::exit::BadConfiguration;

/// Where the configuration is when nothing says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/etc/plimsoll/plimsoll.conf";

/// Which file to load.
#[derive(Debug, clap::Args)]
pub(crate) struct Path {
    /// The configuration file
    #[arg(short, long = "config", value_name = "FILE", env = "PLIMSOLL_CONFIG", default_value = DEFAULT_PATH)]
    pub(crate) config: String,
}

/// Loads `path` and shows every problem; the configuration, unless one is an error.
pub(crate) fn load(path: &str) -> anyhow::Result<Config> {
    let loaded = plimsoll_config::load(path, &Files);
    show(&loaded.diagnostics, &loaded.sources);
    usable(loaded)
}

/// The configuration that `loaded` holds.
pub(crate) fn usable(loaded: Loaded) -> anyhow::Result<Config> {
    loaded.config.ok_or_else(|| BadConfiguration.into())
}

/// Shows problems on standard error.
#[expect(
    clippy::print_stderr,
    reason = "problems are for whoever started the program"
)]
pub(crate) fn show(diagnostics: &[Diagnostic], sources: &Sources) {
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for problem in diagnostics {
        eprintln!("{}\n", problem.render(sources, color));
    }
}

/// `2 errors, 1 warning`, or nothing when there is none.
pub(crate) fn tally(diagnostics: &[Diagnostic]) -> String {
    let count = |severity, name: &str| {
        let n = diagnostics
            .iter()
            .filter(|problem| problem.severity() == severity)
            .count();
        (n > 0).then(|| format!("{n} {name}{}", if n == 1 { "" } else { "s" }))
    };
    let parts = [
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
