//! `plimsoll proxy LISTEN SERVER…` and `plimsoll tcp LISTEN SERVER…`: configurations without a file.

use plimsoll_config::model::Config;
use plimsoll_control::files::Files;

use crate::configuration;
use crate::output::print;
use crate::serving;

/// What `plimsoll proxy` and `plimsoll tcp` take.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where to listen: `:8080`, `127.0.0.1:8080`, `[::1]:8080`
    listen: String,
    /// The servers: `host:port`
    #[arg(required = true)]
    servers: Vec<String>,
    /// Write the access log to standard output
    #[arg(long)]
    log: bool,
    /// Leave out the checks that the servers take connections, every two seconds
    #[arg(long)]
    no_checks: bool,
    /// Print the configuration file that does the same, and end
    #[arg(long)]
    print_config: bool,
}

/// What is done with what clients send.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    /// Requests go to servers.
    Http,
    /// Connections do.
    Tcp,
}

pub(crate) fn run(arguments: &Arguments, service: Service) -> anyhow::Result<()> {
    let log = log(arguments.log);
    let check = if arguments.no_checks {
        "check off"
    } else {
        "check tcp"
    };
    let text = text(service, &arguments.listen, &arguments.servers, log, check);
    print_or_serve(&text, arguments.print_config)
}

/// The access log of a one-liner.
pub(crate) fn log(is_wanted: bool) -> &'static str {
    match is_wanted {
        true => "log stdout json",
        false => "log off",
    }
}

/// Serves a configuration, or prints it.
pub(crate) fn print_or_serve(text: &str, prints: bool) -> anyhow::Result<()> {
    let config = load(text)?;
    match prints {
        true => print(text),
        false => serving::serve(&config, None, async {}),
    }
}

/// The configuration that serves `listen` from `servers`.
pub(crate) fn configuration(listen: &str, servers: &[String]) -> anyhow::Result<Config> {
    let service = Service::Http;
    load(&text(service, listen, servers, "log off", "check off"))
}

fn text(service: Service, listen: &str, servers: &[String], log: &str, check: &str) -> String {
    let service = match service {
        Service::Http => {
            format!("site * {{\n    listen {listen}\n    {log}\n    route {{ proxy app }}\n}}\n")
        }
        Service::Tcp => format!("tcp {listen} {{\n    {log}\n    proxy app\n}}\n"),
    };
    let servers: String = servers
        .iter()
        .map(|server| format!("    server {server}\n"))
        .collect();
    format!("{service}\npool app {{\n    balance round-robin\n    {check}\n{servers}}}\n")
}

fn load(text: &str) -> anyhow::Result<Config> {
    let loaded = plimsoll_config::load_text("command line", text, &Files);
    configuration::show(&loaded.diagnostics, &loaded.sources);
    configuration::usable(loaded)
}
