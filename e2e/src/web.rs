//! Plimsoll with a directory of files.

use crate::plimsoll::{Plimsoll, Start};
use crate::raw::Raw;
use crate::wire::Response;
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};
use tempfile::TempDir;

/// When files of a directory were changed, in seconds since 1970: Sunday, 6 November 1994, 08:49:37 GMT.
const CHANGED: u64 = 784_111_777;

/// The same, as HTTP writes it.
pub const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A directory with files, and another one beside it.
pub struct Web(TempDir);

impl Web {
    /// Makes both.
    ///
    /// # Panics
    /// If the temporary directory is not writable, as all that writes here.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it is not one of many")]
    pub fn new() -> Self {
        let web = Self(tempfile::tempdir().expect("the temporary directory is writable"));
        fs::create_dir_all(web.path("www")).expect("it is writable");
        web
    }

    /// Returns where something in the outer directory is; `www` is the one that is served.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that was changed in 1994.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path("www").join(name);
        let parent = path.parent().expect("it is below the directory");
        fs::create_dir_all(parent).expect("it is writable");
        fs::write(&path, content).expect("it is writable");
        let changed = UNIX_EPOCH + Duration::from_secs(CHANGED);
        File::options()
            .write(true)
            .open(&path)
            .expect("it was written")
            .set_modified(changed)
            .expect("its time can be set");
        self
    }

    /// Starts Plimsoll with this route, in which `{www}` is the directory.
    #[must_use]
    pub fn serve(&self, route: &str) -> Plimsoll {
        self.serve_with("", route)
    }

    /// Starts Plimsoll with this route, and this in its site.
    #[must_use]
    pub fn serve_with(&self, site: &str, route: &str) -> Plimsoll {
        Start::run(&format!(
            "admin off\nworkers 1\nsite * {{ listen 127.0.0.1:{{port}}; log {{dir}}/access.log; {site}\n{route}\n}}\n"
        ))
        .set("www", self.path("www").display())
        .start()
    }
}

/// A route that serves the directory.
pub const PLAIN: &str = "route { files {www} }";

/// Asks for `target` with these fields.
///
/// # Panics
/// If there is no answer.
#[must_use]
pub fn ask(plimsoll: &Plimsoll, method: &str, target: &str, lines: &str) -> Response {
    let mut client = Raw::connect(plimsoll.address());
    let request = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
    client.send(request).expect("Plimsoll reads");
    client.response(method)
}

/// Gets `target`.
#[must_use]
pub fn get(plimsoll: &Plimsoll, target: &str) -> Response {
    ask(plimsoll, "GET", target, "")
}

/// Returns the entity tag of a file of this size.
#[must_use]
pub fn tag(size: usize) -> String {
    format!("\"{:x}-{size:x}\"", CHANGED * 1_000_000_000)
}

/// Returns bytes that differ from place to place.
///
/// # Panics
/// Never.
#[must_use]
pub fn noise(length: usize) -> Vec<u8> {
    let low = |number: usize| u8::try_from(number % 251).expect("it is below 251");
    (0..length).map(|at| low(at) ^ low(at / 65_536)).collect()
}
