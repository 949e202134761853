//! Replacing what stands in a file, in one step, so that it survives a fall of the system.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::private;

/// A text that is to stand in a file, written beside it where nobody else can read it. It is gone when it is not put there.
#[derive(Debug)]
pub(crate) struct Beside {
    path: PathBuf,
    beside: PathBuf,
}

impl Beside {
    /// Writes it under the name `beside`, in the same directory. What was left behind there is replaced: whoever writes has
    /// a lock.
    pub(crate) fn write(path: &Path, beside: PathBuf, text: &str) -> io::Result<Self> {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        private::write_new(&beside, text)?;
        Ok(Self {
            path: path.to_owned(),
            beside,
        })
    }

    /// Where it stands now.
    pub(crate) fn place(&self) -> &Path {
        &self.beside
    }

    /// Has it stand in the file.
    pub(crate) fn put(self) -> io::Result<()> {
        fs::rename(&self.beside, &self.path)?;
        let directory = self.path.parent().unwrap_or_else(|| Path::new("."));
        File::open(directory)?.sync_all()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.beside); // once it was put it is not there
    }
}
