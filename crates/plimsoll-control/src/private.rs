//! Files that nobody else may read.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// How a directory that nobody else may enter is made, with those above it that are missing.
pub(crate) fn directories() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
}

/// How a file that nobody else may read is opened to write into it.
pub(crate) fn file() -> OpenOptions {
    let mut options = File::options();
    options.write(true).mode(0o600);
    options
}

/// Writes a file where none is, so that it survives a fall of the system; its directory is not seen to.
///
/// # Errors
/// As those of files; one of this name among them.
pub(crate) fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = file().create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
