//! The program: verbs, signals, exit codes.

mod allocator;
mod exit;
mod serving;
mod verbs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load balancer and reverse proxy.
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Balance one address over servers, without a file
    Proxy(verbs::proxy::Arguments),
    /// Two demo servers behind the balancer, nothing else needed
    Demo(verbs::demo::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    serving::log_events();
    exit::code(match arguments.verb {
        Verb::Proxy(arguments) => verbs::proxy::run(&arguments),
        Verb::Demo(arguments) => verbs::demo::run(&arguments),
    })
}
