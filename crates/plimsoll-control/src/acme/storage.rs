//! Where accounts and certificates are kept. Nobody else may read them, what is written is there whole or
//! not at all, and of several processes one at a time works on a certificate.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::beside::Beside;
use crate::materials::{Secret, read_file};
use crate::private;

/// How often is looked whether another process is done.
const LOCK_CHECK: Duration = Duration::from_millis(250);

/// A directory.
#[derive(Clone, Debug)]
pub(super) struct Storage(PathBuf);

/// The right to work on something, until this is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock is the open file")] File);

impl Storage {
    pub(super) fn new(directory: &str) -> Self {
        Self(directory.into())
    }

    /// Makes the directories that are missing.
    ///
    /// # Errors
    /// Which one cannot be had, and why.
    pub(super) fn prepare(&self) -> Result<(), String> {
        for part in ["", "accounts", "certificates", "locks"] {
            let path = self.0.join(part);
            let made = private::directories().create(&path);
            made.map_err(|error| format!("cannot make `{}`: {error}", path.display()))?;
        }
        Ok(())
    }

    /// The file of the account with an issuer, which is told by a plain name.
    pub(super) fn account(&self, issuer: &str) -> PathBuf {
        self.0.join("accounts").join(format!("{issuer}.json"))
    }

    /// Waits for the right to work on what has this plain name.
    ///
    /// # Errors
    /// The file that stands for it cannot be had.
    pub(super) async fn lock(&self, name: &str) -> Result<Lock, String> {
        let path = self.0.join("locks").join(name);
        let failed = |error: io::Error| format!("cannot lock `{}`: {error}", path.display());
        let mut options = private::file();
        let file = options
            .read(true)
            .create(true)
            .open(&path)
            .map_err(failed)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Lock(file)),
                Err(rustix::io::Errno::WOULDBLOCK) => tokio::time::sleep(LOCK_CHECK).await,
                Err(error) => return Err(failed(error.into())),
            }
        }
    }
}

/// What stands in a file; nothing when there is none.
///
/// # Errors
/// It is there and cannot be read.
pub(super) fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot read `{}`: {error}", path.display())),
    }
}

/// What stands in a file that its owner has made for nobody else.
///
/// # Errors
/// Why it cannot be used; never what stands in it.
pub(super) fn secret(path: &str) -> Result<String, String> {
    let (_, bytes) = read_file(path, Secret::Yes).map_err(|fault| fault.to_string())?;
    String::from_utf8(bytes).map_err(|_| "it is no text".to_owned())
}

/// When what stands in a file was written, in seconds since 1970; 0 when that is not known.
pub(super) fn since(path: &Path) -> u64 {
    let time = fs::metadata(path).map_or(0, |metadata| metadata.mtime());
    u64::try_from(time).unwrap_or_default()
}

/// Puts `text` in the place of what stands in a file, in one step, so that it survives a fall of the
/// system.
///
/// # Errors
/// Why that cannot be done; then what was there is still there.
pub(super) fn write(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot write `{}`: {error}", path.display());
    let beside = Beside::write(path, path.with_extension("new"), text);
    beside.and_then(Beside::put).map_err(failed)
}

/// A name for a file that says what a URL is: nothing in it leads elsewhere.
pub(super) fn plain(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let plain = rest.chars().map(|c| if is_plain(c) { c } else { '_' });
    plain.collect::<String>().trim_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn nobody_else_can_read_and_nothing_is_half_written() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("deep").join("state");
        let storage = Storage::new(&place.display().to_string());
        storage.prepare().unwrap();
        storage.prepare().unwrap();
        assert_eq!(mode(&place), 0o700);
        assert_eq!(mode(&place.join("accounts")), 0o700);
        let path = storage.account("ca.example_directory");
        assert_eq!(read(&path).unwrap(), None);
        fs::write(path.with_extension("new"), "left behind").unwrap();
        for text in ["one", "two"] {
            write(&path, text).unwrap();
            assert_eq!(read(&path).unwrap().unwrap(), text);
        }
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(place.join("accounts")).unwrap().count(), 1);
        assert!(read(&place).is_err());
        assert!(write(Path::new("/proc/none/file"), "").is_err());
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let name = path.display().to_string();
        assert!(secret(&name).unwrap_err().contains("No such file"));
        fs::write(&path, "secret").unwrap();
        for (mode, is_taken) in [(0o600, true), (0o640, true), (0o644, false), (0o602, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            match secret(&name) {
                Ok(text) => assert!(is_taken && text == "secret", "{mode:o}"),
                Err(why) => assert!(!is_taken && why.contains("`chmod o= FILE`"), "{why}"),
            }
        }
        fs::write(&path, [0xff]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(secret(&name).unwrap_err(), "it is no text");
    }

    #[tokio::test]
    async fn one_at_a_time_has_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Storage::new(&directory.path().display().to_string());
        storage.prepare().unwrap();
        let first = storage.lock("a").await.unwrap();
        let _other = storage.lock("b").await.unwrap();
        let second = tokio::time::timeout(LOCK_CHECK * 2, storage.lock("a")).await;
        assert!(second.is_err(), "it waits");
        drop(first);
        assert!(storage.lock("a").await.is_ok());
    }

    #[test]
    fn no_url_leads_out_of_the_directory() {
        for (url, name) in [
            ("https://ca.example/directory", "ca.example_directory"),
            ("https://[::1]:14000/dir?a=b", "___1__14000_dir_a_b"),
            ("https://../../etc", "_.._etc"),
            ("..", ""),
        ] {
            assert_eq!(plain(url), name);
        }
    }
}
