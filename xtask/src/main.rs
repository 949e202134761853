//! The developer's commands: `cargo xtask VERB`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command prints")]

mod bench;
mod command;
mod fuzz;
mod lint;
mod package;
mod packages;
mod test;
mod tidy;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask VERB

  test                    install what the tests need, build the binary, run all tests
  lint                    formatting, clippy, tidy, licences and advisories
  tidy                    the rules of this repository that no other tool knows
  bench [OPTION...]       Plimsoll beside NGINX and HAProxy; see `bench --help`
  package                 a Debian package of the program
  fuzz NAME [SECONDS]     one fuzz target, for 60 seconds if not said otherwise";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["test"] => test::run(),
        ["lint"] => lint::run(),
        ["tidy"] => tidy::run(),
        ["bench", options @ ..] => bench::run(options),
        ["package"] => package::build(),
        ["fuzz", name] => fuzz::run(name, 60),
        ["fuzz", name, seconds] => fuzz::run(name, seconds.parse()?),
        [] | ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("`{}` is no command\n{USAGE}", words.join(" ")),
    }
}
