//! Secrets of the process: where they may go, and where not.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, setrlimit};
use rustls::{KeyLog, KeyLogFile};

use crate::materials::{self, Secret};

/// The variable of the environment that browsers and other programs have for it too.
const KEY_LOG: &str = "SSLKEYLOGFILE";

/// Where secrets of sessions go, if somebody wants to look into what was recorded of them.
pub(crate) fn key_log() -> Option<Arc<dyn KeyLog>> {
    let path = std::env::var_os(KEY_LOG)?;
    let file = path.display();
    tracing::warn!(%file, "{KEY_LOG} is set: who reads the file can read all that clients and servers say");
    Some(Arc::new(KeyLogFile::new()))
}

/// Reads a secret from a file that not everybody on the machine may read.
///
/// # Errors
/// Why there is none to be had.
pub fn read(path: &str) -> Result<Vec<u8>, String> {
    let read = materials::read_file(path, Secret::Yes);
    read.map(|(_, secret)| secret)
        .map_err(|fault| fault.to_string())
}

/// Has the system write no image of the memory when the process fails: there are private keys in it.
pub(crate) fn keep_out_of_dumps() {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(%error, "private keys may get into a core dump");
    }
}
