//! `plimsoll serve DIRECTORY [LISTEN]`: the files of a directory, without a file.

use plimsoll_config::text::word;

use crate::verbs::proxy;

/// What `plimsoll serve` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The directory
    directory: String,
    /// Where to listen: `:8080`, `127.0.0.1:8080`, `[::1]:8080`
    #[arg(default_value = "127.0.0.1:8080")]
    listen: String,
    /// Write the access log to standard output
    #[arg(long)]
    log: bool,
    /// Do not list directories that have no `index.html`
    #[arg(long)]
    no_listing: bool,
    /// Print the configuration file that does the same, and end
    #[arg(long)]
    print_config: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let log = proxy::log(arguments.log);
    let listing = if arguments.no_listing { "" } else { " listing" };
    let (listen, directory) = (word(&arguments.listen), word(&arguments.directory));
    let text = format!(
        "site * {{\n    listen {listen}\n    {log}\n    route {{ files {directory}{listing} }}\n}}\n"
    );
    proxy::print_or_serve(&text, arguments.print_config)
}
