//! Files below a directory, which no name and no symbolic link leads out of: the kernel sees to that
//! while it looks a name up, so that nobody can change the way in between.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::{Errno, ReadWriteFlags};

/// How often a name is looked up again when directories are moved meanwhile.
const RETRIES_MAX: usize = 8;

/// A directory, by what it is and not by its name.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

/// Whether a call may wait for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// It fails with [`io::ErrorKind::WouldBlock`] instead: for threads that others depend on.
    Never,
    /// As long as it takes.
    Allowed,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Bytes.
    pub size: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub modified: u64,
    /// Which file it is, of all on the machine.
    identity: (u64, u64),
}

impl Meta {
    fn of(stat: &Stat) -> Self {
        let seconds = u64::try_from(stat.st_mtime).unwrap_or_default();
        Self {
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            modified: seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(stat.st_mtime_nsec),
            identity: (stat.st_dev, stat.st_ino),
        }
    }

    /// The state of an open file.
    ///
    /// # Errors
    /// What the system said.
    pub fn now(file: &File) -> io::Result<Self> {
        Ok(Self::of(&rustix::fs::fstat(file)?))
    }
}

/// What a name stands for.
#[derive(Debug)]
pub enum Found {
    /// A regular file, open for reading.
    File(File, Meta),
    /// A directory.
    Directory,
    /// Nothing, or nothing that is served: a device, a pipe, a socket, a way out.
    Nothing,
}

/// A file or directory in a directory.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: Vec<u8>,
    /// What is known of it.
    pub meta: Meta,
    /// Whether it is a directory.
    pub is_directory: bool,
}

impl Tree {
    /// Opens the directory `path`, and sees whether the kernel keeps names in it.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let tree = Self { root };
        match tree.open_once(b".", OFlags::PATH, ResolveFlags::empty()) {
            Ok(_) => Ok(tree),
            // A sandbox without this call leaves no safe way to open files for others.
            Err(error @ (Errno::NOSYS | Errno::PERM)) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the system call openat2 is needed: {error}"),
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Looks `name` up.
    ///
    /// # Errors
    /// It may not be read, or the system failed.
    pub fn find(&self, name: &[u8], wait: Wait) -> io::Result<Found> {
        // A pipe must not make us wait for a writer, nor a terminal become ours.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = match self.open_at(name, flags, wait) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP | Errno::NAMETOOLONG) => {
                return Ok(Found::Nothing);
            }
            Err(Errno::NXIO | Errno::NODEV) => return Ok(Found::Nothing), // a socket, a device
            opened => opened?,
        };
        let stat = rustix::fs::fstat(&opened)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Found::File(opened.into(), Meta::of(&stat)),
            FileType::Directory => Found::Directory,
            _ => Found::Nothing,
        })
    }

    /// Lists the directory `name`, which is empty for the one at the top; `most` entries that `keep` lets
    /// through, and whether there are more. This waits for the disk.
    ///
    /// # Errors
    /// What the system said.
    pub fn list(
        &self,
        name: &[u8],
        most: usize,
        keep: impl Fn(&[u8]) -> bool,
    ) -> io::Result<(Vec<Listed>, bool)> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = self.open_at(name, flags, Wait::Allowed)?;
        let mut out = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let own = entry.file_name().to_bytes();
            if matches!(own, b"." | b"..") || !keep(own) {
                continue;
            }
            if out.len() >= most {
                return Ok((out, true));
            }
            out.extend(self.listed(&directory, name, own));
        }
        Ok((out, false))
    }

    /// What is known of an entry; nothing if it is not served.
    fn listed(&self, directory: &OwnedFd, parent: &[u8], name: &[u8]) -> Option<Listed> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let mut stat = rustix::fs::statat(directory, OsStr::from_bytes(name), flags).ok()?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let whole = [parent, name].concat();
            let target = self.open_at(&whole, OFlags::PATH, Wait::Allowed).ok()?;
            stat = rustix::fs::fstat(&target).ok()?;
        }
        let kind = FileType::from_raw_mode(stat.st_mode);
        matches!(kind, FileType::RegularFile | FileType::Directory).then(|| Listed {
            name: name.to_vec(),
            meta: Meta::of(&stat),
            is_directory: kind == FileType::Directory,
        })
    }

    fn open_at(&self, name: &[u8], flags: OFlags, wait: Wait) -> rustix::io::Result<OwnedFd> {
        let name = if name.is_empty() { b"." } else { name };
        if wait == Wait::Never {
            return match self.open_once(name, flags, ResolveFlags::CACHED) {
                // Kernels before 5.12 do not know what is asked.
                Err(Errno::INVAL) => Err(Errno::AGAIN),
                opened => opened,
            };
        }
        for _ in 0..RETRIES_MAX {
            match self.open_once(name, flags, ResolveFlags::empty()) {
                Err(Errno::AGAIN | Errno::INTR) => {} // something was moved on the way
                opened => return opened,
            }
        }
        Err(Errno::NOENT)
    }

    fn open_once(
        &self,
        name: &[u8],
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> rustix::io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let (name, flags) = (OsStr::from_bytes(name), flags | OFlags::CLOEXEC);
        rustix::fs::openat2(&self.root, name, flags, Mode::empty(), resolve)
    }
}

/// Reads from `at` on into `room`; 0 is the end of the file.
///
/// # Errors
/// What the system said; with [`Wait::Never`] also that a disk would have to be waited for.
pub fn read_at(file: &File, at: u64, room: &mut [u8], wait: Wait) -> io::Result<usize> {
    if wait == Wait::Allowed {
        return file.read_at(room, at);
    }
    let mut room = [IoSliceMut::new(room)];
    match rustix::io::preadv2(file, &mut room, at, ReadWriteFlags::NOWAIT) {
        // Not every file system can tell.
        Err(Errno::OPNOTSUPP) => Err(Errno::AGAIN.into()),
        read => Ok(read?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    fn tree() -> (tempfile::TempDir, Tree) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        fs::write(root.join("a"), "abc").unwrap();
        fs::write(root.join("sub/b"), "b").unwrap();
        symlink("a", root.join("inner")).unwrap();
        symlink("../a", root.join("sub/up")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("/proc/self/fd/0", root.join("magic")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let tree = Tree::open(&root).unwrap();
        (directory, tree)
    }

    fn kind(tree: &Tree, name: &str) -> String {
        match tree.find(name.as_bytes(), Wait::Allowed).unwrap() {
            Found::File(file, meta) => {
                let mut room = [0; 16];
                let read = read_at(&file, 0, &mut room, Wait::Allowed).unwrap();
                assert_eq!(read as u64, meta.size);
                String::from_utf8(room[..read].to_vec()).unwrap()
            }
            Found::Directory => "directory".into(),
            Found::Nothing => "nothing".into(),
        }
    }

    #[test]
    fn names_lead_to_what_is_below_alone() {
        let (directory, tree) = tree();
        let _socket = UnixListener::bind(directory.path().join("root/socket")).unwrap();
        let pipe = directory.path().join("root/pipe");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        for (name, expected) in [
            ("a", "abc"),
            ("sub/b", "b"),
            ("inner", "abc"),
            ("sub/up", "abc"),
            ("sub/../a", "abc"),
            ("", "directory"),
            ("sub", "directory"),
            ("sub/", "directory"),
            ("a/", "nothing"),
            ("a/b", "nothing"),
            ("none", "nothing"),
            ("../secret", "nothing"),
            ("/etc/passwd", "nothing"),
            ("out", "nothing"),
            ("absolute", "nothing"),
            ("magic", "nothing"),
            ("loop", "nothing"),
            ("pipe", "nothing"),
            ("socket", "nothing"),
        ] {
            assert_eq!(kind(&tree, name), expected, "{name}");
        }
        let long = "x".repeat(5000);
        assert_eq!(kind(&tree, &long), "nothing");
    }

    /// A link that is turned round while names are looked up leads out at no time.
    #[test]
    fn links_that_are_turned_round_meanwhile_lead_nowhere_else() {
        const TIMES: usize = 100_000;
        let (directory, tree) = tree();
        let path = directory.path().to_path_buf();
        fs::create_dir(path.join("outside")).unwrap();
        fs::write(path.join("outside/b"), "out").unwrap();
        symlink("sub", path.join("root/turned")).unwrap();
        let ends = AtomicBool::new(false);
        let (mut inside, mut nowhere) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for target in ["../outside", "sub"].iter().cycle() {
                    symlink(target, path.join("root/next")).unwrap();
                    fs::rename(path.join("root/next"), path.join("root/turned")).unwrap();
                    if ends.load(Relaxed) {
                        return;
                    }
                }
            });
            for _ in 0..TIMES {
                match &*kind(&tree, "turned/b") {
                    "b" => inside += 1,
                    "nothing" => nowhere += 1,
                    other => panic!("{other}"),
                }
            }
            ends.store(true, Relaxed);
        });
        assert!(inside > 0 && nowhere > 0, "{inside} {nowhere}");
    }

    #[test]
    fn a_directory_is_listed_without_what_is_not_served() {
        let (_directory, tree) = tree();
        let listed = |most| {
            let listed = tree.list(b"", most, |name| name != b"a").unwrap();
            let mut names: Vec<_> = listed.0.into_iter().map(|l| l.name).collect();
            names.sort();
            (names, listed.1)
        };
        assert_eq!(listed(9), (vec![b"inner".to_vec(), b"sub".to_vec()], false));
        assert!(listed(0).1);
        assert!(tree.list(b"a", 9, |_| true).is_err());
        assert!(tree.list(b"..", 9, |_| true).is_err());
    }
}
