//! `plimsoll proxy LISTEN SERVER…`: a configuration without a file.

use anyhow::anyhow;
use plimsoll_config::model::Config;

use crate::{serving, verbs::one_line};

/// What `plimsoll proxy` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen: `:8080`, `127.0.0.1:8080`, `[::1]:8080`
    listen: String,
    /// The servers: `host:port`
    #[arg(required = true)]
    servers: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    serving::serve(
        &configuration(&arguments.listen, &arguments.servers)?,
        true,
        async {},
    )
}

/// The configuration that serves `listen` from `servers`.
pub(crate) fn configuration(listen: &str, servers: &[String]) -> anyhow::Result<Config> {
    one_line::proxy(listen, servers).map_err(|error| anyhow!(error))
}
