//! What was asked for, on standard output.

use std::io::{self, Write};

/// Prints `text`. A reader that has seen enough (`plimsoll explain | head`) is no error: the program
/// ends where it stands.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => Ok(outcome?),
    }
}
