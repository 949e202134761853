//! The files and variables that a configuration may name.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use plimsoll_config::{FILE_BYTES_MAX, LoadError, Loader};
use rustix::fs::Access;

/// Where services keep what they make.
const STATE: &str = "/var/lib/plimsoll";

/// Reads from the file system and the environment of the process.
#[derive(Clone, Copy, Debug)]
pub struct Files;

impl Loader for Files {
    fn read(&self, path: &str) -> Result<Vec<u8>, LoadError> {
        let failed = |error: std::io::Error| LoadError::Failed(error.to_string());
        let mut bytes = Vec::new();
        // One byte more than is allowed tells a file that is too large, whatever its size says.
        let file = File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            Err(LoadError::TooLarge)
        } else {
            Ok(bytes)
        }
    }

    fn glob(&self, pattern: &str) -> Result<Vec<String>, LoadError> {
        let failed = |error: String| LoadError::Failed(error);
        let paths = glob::glob(pattern).map_err(|error| failed(error.to_string()))?;
        paths
            .map(|path| path.map_err(|error| failed(error.to_string())))
            .map(|path| path.map(|path| path.to_string_lossy().into_owned()))
            .collect()
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn state_directory(&self) -> String {
        let of = |name: &str| self.env(name).filter(|path| path.starts_with('/'));
        if let Some(state) = of("XDG_STATE_HOME") {
            return format!("{state}/plimsoll");
        }
        // It may have to be made.
        let is_ours = |path: &str| rustix::fs::access(path, Access::WRITE_OK).is_ok();
        match of("HOME") {
            Some(home)
                if !is_ours(STATE) && (Path::new(STATE).exists() || !is_ours("/var/lib")) =>
            {
                format!("{home}/.local/state/plimsoll")
            }
            _ => STATE.to_owned(),
        }
    }
}
