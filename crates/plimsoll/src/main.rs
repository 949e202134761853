//! The program: verbs, signals, exit codes.

mod admin;
mod allocator;
mod configuration;
mod exit;
mod output;
mod privileges;
mod running;
mod service_manager;
mod serving;
mod table;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::verbs::proxy::Service;

/// Load balancer and reverse proxy: one program, one configuration file.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve a configuration file
    Run(verbs::run::Arguments),
    /// Balance one address over servers, without a file
    Proxy(verbs::proxy::Arguments),
    /// Balance the connections to one address over servers, without a file
    Tcp(verbs::proxy::Arguments),
    /// Serve the files of a directory, without a file
    Serve(verbs::serve::Arguments),
    /// Two demo servers behind the balancer, nothing else needed
    Demo(verbs::demo::Arguments),
    /// Show every error and warning of a configuration file
    Check(verbs::check::Arguments),
    /// Show what becomes of a request, and why
    Trace(verbs::trace::Arguments),
    /// Have the program as it is on disk now take over from the one that runs
    Upgrade(verbs::upgrade::Arguments),
    /// Show what a running Plimsoll serves, and how that goes
    Status(verbs::status::Arguments),
    /// The same, each second
    Top(verbs::top::Arguments),
    /// Show the servers of a running Plimsoll, take them out, bring them back
    Pool(verbs::pool::Arguments),
    /// Show access log lines of a running Plimsoll as they come
    Logs(verbs::logs::Arguments),
    /// Show what is open on a running Plimsoll, and end it
    Sessions(Box<verbs::sessions::Arguments>),
    /// Have a running Plimsoll serve what its file says now
    Reload(verbs::reload::Arguments),
    /// Purge the caches of a running Plimsoll
    Cache(verbs::cache::Arguments),
    /// Lay configuration files out
    Fmt(verbs::fmt::Arguments),
    /// Explain an error or a warning by its code
    Explain(verbs::explain::Arguments),
    /// Print the JSON Schema of the configuration's JSON form
    Schema,
    /// Print what a shell completes words by
    Completions(verbs::pages::Completions),
    /// Write the pages of the manual
    #[command(hide = true)]
    Man(verbs::pages::Manual),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    serving::log_events();
    exit::code(match &arguments.verb {
        Verb::Run(arguments) => verbs::run::run(arguments),
        Verb::Proxy(arguments) => verbs::proxy::run(arguments, Service::Http),
        Verb::Tcp(arguments) => verbs::proxy::run(arguments, Service::Tcp),
        Verb::Serve(arguments) => verbs::serve::run(arguments),
        Verb::Demo(arguments) => verbs::demo::run(arguments),
        Verb::Check(arguments) => verbs::check::run(arguments),
        Verb::Trace(arguments) => verbs::trace::run(arguments),
        Verb::Upgrade(arguments) => verbs::upgrade::run(arguments),
        Verb::Status(arguments) => verbs::status::run(arguments),
        Verb::Top(arguments) => verbs::top::run(arguments),
        Verb::Pool(arguments) => verbs::pool::run(arguments),
        Verb::Logs(arguments) => verbs::logs::run(arguments),
        Verb::Sessions(arguments) => verbs::sessions::run(arguments),
        Verb::Reload(arguments) => verbs::reload::run(arguments),
        Verb::Cache(arguments) => verbs::cache::run(arguments),
        Verb::Fmt(arguments) => verbs::fmt::run(arguments),
        Verb::Explain(arguments) => verbs::explain::explain(arguments),
        Verb::Schema => verbs::explain::schema(),
        Verb::Completions(arguments) => verbs::pages::completions(arguments, Arguments::command()),
        Verb::Man(arguments) => verbs::pages::manual(arguments, Arguments::command()),
    })
}
