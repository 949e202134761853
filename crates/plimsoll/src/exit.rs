//! From an outcome to an exit code: the only place.

use std::process::ExitCode;

/// A configuration that cannot be used (`EX_CONFIG`), so that a service manager stops restarting.
const CONFIGURATION: u8 = 78;

/// What has been told to the user already: the configuration is bad.
#[derive(Debug)]
pub(crate) struct BadConfiguration;

impl std::fmt::Display for BadConfiguration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("bad configuration")
    }
}

impl std::error::Error for BadConfiguration {}

/// Prints what went wrong, if anything did, and returns the code.
#[expect(clippy::print_stderr, reason = "the last words of the program")]
pub(crate) fn code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<BadConfiguration>() => ExitCode::from(CONFIGURATION),
        Err(error) => {
            eprintln!("plimsoll: {error:#}");
            ExitCode::FAILURE
        }
    }
}
