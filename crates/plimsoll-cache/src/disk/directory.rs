//! The directory of a disk tier: files by their ids, in 256 rooms, each made aside and moved to its place when it is
//! whole. Nothing but the directory itself is ever reached by a path, and no symbolic link in it is followed.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::disk::file::Id;

/// How many rooms there are.
pub(super) const ROOMS: u16 = 256;

/// Where files are made.
const NEW: &str = "new";

/// What is locked for as long as the directory is in use, and holds the latest time that was seen.
const LOCK: &str = "lock";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system said no.
    #[error("{0}")]
    System(#[from] io::Error),
    /// Another process has it.
    #[error("it is in use: give each Plimsoll, and each cache, a directory of its own")]
    InUse,
    /// Whoever may write there could have anything served.
    #[error("users beside its owner may write to it: take that from them (`chmod go-w`)")]
    Open,
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        Self::System(error.into())
    }
}

/// The directory, open and locked.
#[derive(Debug)]
pub(super) struct Directory {
    root: OwnedFd,
    new: OwnedFd,
    lock: File,
}

/// Sees whether a directory could be used: it is there and ours, or can be made. Nothing is made, and nobody is asked whether
/// it is in use.
///
/// # Errors
/// Why not.
pub fn check(path: &Path) -> Result<(), OpenError> {
    match open(path) {
        Ok(root) => check_mode(&root),
        Err(Errno::NOENT) => {
            let mut parents = path.ancestors().skip(1);
            let parent = parents.find(|parent| parent.exists());
            let parent = parent
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or_else(|| Path::new("."));
            Ok(rustix::fs::access(parent, rustix::fs::Access::WRITE_OK)?)
        }
        Err(error) => Err(error.into()),
    }
}

fn open(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty())
}

fn check_mode(root: &OwnedFd) -> Result<(), OpenError> {
    let stat = rustix::fs::fstat(root)?;
    let is_open = Mode::from_raw_mode(stat.st_mode).intersects(Mode::WGRP | Mode::WOTH);
    if is_open {
        return Err(OpenError::Open);
    }
    Ok(rustix::fs::accessat(
        root,
        ".",
        rustix::fs::Access::WRITE_OK,
        AtFlags::EACCESS,
    )?)
}

impl Directory {
    /// Opens it, makes it if it is missing, and removes what was left half made. `given` is the lock of the process before, where
    /// this one follows it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn open(path: &Path, given: Option<OwnedFd>) -> Result<Self, OpenError> {
        use std::os::unix::fs::DirBuilderExt;
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path)?;
        let root = open(path)?;
        check_mode(&root)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = match given {
            Some(lock) => lock,
            None => rustix::fs::openat(&root, LOCK, flags, Mode::RUSR | Mode::WUSR)?,
        };
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(OpenError::InUse),
            locked => locked?,
        }
        let new = room(&root, NEW)?;
        let this = Self {
            root,
            new,
            lock: lock.into(),
        };
        for name in names(&this.new)? {
            rustix::fs::unlinkat(&this.new, &*name, AtFlags::empty())?;
        }
        Ok(this)
    }

    /// Its lock, for the process that follows.
    pub(super) fn lock(&self) -> io::Result<OwnedFd> {
        Ok(self.lock.try_clone()?.into())
    }

    /// The latest time that was noted.
    pub(super) fn latest(&self) -> u64 {
        let mut text = [0; 8];
        match self.lock.read_exact_at(&mut text, 0) {
            Ok(()) => u64::from_le_bytes(text),
            Err(_) => 0,
        }
    }

    /// Notes the latest time that was seen.
    pub(super) fn note_latest(&self, time: u64) -> io::Result<()> {
        self.lock.write_all_at(&time.to_le_bytes(), 0)
    }

    /// A file that is being made.
    pub(super) fn create(&self, id: Id) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(rustix::fs::openat(&self.new, name(id), flags, mode)?.into())
    }

    /// Moves a file that was made to its place, over one that is there.
    pub(super) fn commit(&self, id: Id) -> io::Result<()> {
        let room = self.room_of(id)?;
        Ok(rustix::fs::renameat(&self.new, name(id), &room, name(id))?)
    }

    /// Removes a file that was not made to its end.
    pub(super) fn discard(&self, id: Id) {
        // What stays is removed at the next start.
        let _ = rustix::fs::unlinkat(&self.new, name(id), AtFlags::empty());
    }

    /// The file with this id; nothing where there is none, or something else.
    pub(super) fn find(&self, id: Id) -> io::Result<Option<File>> {
        self.open_file(id, OFlags::RDONLY)
    }

    /// Tells whether anything has the name of this id, whatever it is.
    pub(super) fn is_there(&self, id: Id) -> bool {
        let room = self.room_of(id);
        room.is_ok_and(|room| {
            rustix::fs::statat(&room, name(id), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        })
    }

    /// Writes `bytes` into the file with this id, if there is one.
    pub(super) fn change(&self, id: Id, bytes: &[u8], at: u64) -> io::Result<()> {
        match self.open_file(id, OFlags::WRONLY)? {
            Some(file) => file.write_all_at(bytes, at),
            None => Ok(()),
        }
    }

    fn open_file(&self, id: Id, access: OFlags) -> io::Result<Option<File>> {
        // A pipe must not make us wait for whoever is at its other end.
        let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat(&self.room_of(id)?, name(id), flags, Mode::empty());
        let file = match opened {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR) => {
                return Ok(None);
            }
            opened => opened?,
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
        Ok((kind == FileType::RegularFile).then(|| file.into()))
    }

    /// Removes the file with this id.
    pub(super) fn remove(&self, id: Id) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.room_of(id)?, name(id), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// The ids of the files in one room. What has another name is not ours, and is left alone.
    pub(super) fn list(&self, number: u16) -> io::Result<Vec<Id>> {
        let room = match open_room(&self.root, &format!("{number:02x}")) {
            Err(Errno::NOENT) => return Ok(Vec::new()),
            room => room?,
        };
        let ids = names(&room)?
            .into_iter()
            .filter_map(|name| Id::from_str_radix(name.to_str().ok()?, 16).ok())
            .filter(|id| room_number(*id) == number);
        Ok(ids.collect())
    }

    fn room_of(&self, id: Id) -> io::Result<OwnedFd> {
        room(&self.root, &format!("{:02x}", room_number(id)))
    }
}

fn room_number(id: Id) -> u16 {
    u16::from(id.to_be_bytes()[0])
}

fn name(id: Id) -> String {
    format!("{id:032x}")
}

/// A directory in the directory, which is made if it is missing.
fn room(root: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    match open_room(root, name) {
        Err(Errno::NOENT) => {
            match rustix::fs::mkdirat(root, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(open_room(root, name)?)
        }
        room => Ok(room?),
    }
}

fn open_room(root: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(root, name, flags, Mode::empty())
}

/// The names in a directory.
fn names(directory: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut all = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            all.push(name);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::{Read, Write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    const ID: Id = 0xAB << 120 | 5;

    fn place(path: &Path) -> std::path::PathBuf {
        path.join("ab").join(format!("{ID:032x}"))
    }

    #[test]
    fn files_are_there_when_they_are_whole() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("a/b");
        let directory = Directory::open(&path, None).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let mut file = directory.create(ID).unwrap();
        file.write_all(b"text").unwrap();
        assert!(directory.find(ID).unwrap().is_none());
        directory.commit(ID).unwrap();
        let mut text = String::new();
        let mut found = directory.find(ID).unwrap().unwrap();
        found.read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        let mode = fs::metadata(place(&path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(directory.list(0xAB).unwrap(), [ID]);
        directory.change(ID, b"T", 0).unwrap();
        assert_eq!(fs::read(place(&path)).unwrap(), b"Text");
        directory.remove(ID).unwrap();
        directory.remove(ID).unwrap();
        assert!(directory.find(ID).unwrap().is_none() && directory.list(0xAB).unwrap().is_empty());
    }

    #[test]
    fn what_was_left_half_made_goes_and_what_is_not_ours_stays() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = Directory::open(temporary.path(), None).unwrap();
        directory.create(ID).unwrap();
        directory.note_latest(77).unwrap();
        drop(directory);
        fs::create_dir(temporary.path().join("ab")).unwrap();
        fs::write(temporary.path().join("ab/foreign"), "").unwrap();
        let directory = Directory::open(temporary.path(), None).unwrap();
        assert_eq!(directory.latest(), 77);
        assert!(directory.create(ID).is_ok());
        assert!(directory.list(0xAB).unwrap().is_empty());
        assert!(temporary.path().join("ab/foreign").exists());
    }

    #[test]
    fn one_at_a_time_uses_it_and_nobody_else_may_write_there() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path();
        let directory = Directory::open(path, None).unwrap();
        assert!(matches!(Directory::open(path, None), Err(OpenError::InUse)));
        assert!(check(path).is_ok());
        drop(directory);
        fs::set_permissions(path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(matches!(Directory::open(path, None), Err(OpenError::Open)));
        assert!(matches!(check(path), Err(OpenError::Open)));
        assert!(check(&path.join("a/b")).is_ok());
        fs::write(path.join("file"), "").unwrap();
        assert!(check(&path.join("file")).is_err() && check(&path.join("file/a")).is_err());
    }

    #[test]
    fn links_lead_nowhere() {
        let temporary = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let path = temporary.path();
        let directory = Directory::open(path, None).unwrap();
        fs::create_dir(path.join("ab")).unwrap();
        symlink(&secret, place(path)).unwrap();
        assert!(directory.find(ID).unwrap().is_none());
        directory.change(ID, b"x", 0).unwrap();
        symlink(&secret, path.join("new").join(format!("{ID:032x}"))).unwrap();
        assert!(directory.create(ID).is_err());
        directory.discard(ID);
        directory.create(ID).unwrap();
        directory.commit(ID).unwrap();
        assert!(directory.find(ID).unwrap().is_some());
        directory.remove(ID).unwrap();
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        fs::remove_dir(path.join("ab")).unwrap();
        symlink(outside.path(), path.join("ab")).unwrap();
        assert!(directory.find(ID).is_err() && directory.list(0xAB).is_err());
        directory.create(ID).unwrap();
        assert!(directory.commit(ID).is_err());
    }
}
