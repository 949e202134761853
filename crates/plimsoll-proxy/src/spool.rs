//! Bodies on disk, for which there is no memory left. Whatever fails here, a body that is on its way
//! goes on; it only waits less.

use std::cell::{Cell, OnceCell};
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use plimsoll_config::model;

/// The most that is read at once.
const PIECE_BYTES: u64 = 64 * 1024;

/// The directory, and how much of it is taken. All workers share it.
#[derive(Debug)]
pub struct Spool {
    /// Where the files are.
    pub directory: PathBuf,
    /// How many bytes they may have together.
    pub max: u64,
    used: AtomicU64,
    errors: AtomicU64,
}

impl Spool {
    pub(crate) fn new(spool: &model::Spool) -> Self {
        Self {
            directory: PathBuf::from(&*spool.directory),
            max: spool.max,
            used: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        }
    }

    /// Makes the directory if it is missing, and sees whether files can be made in it.
    ///
    /// # Errors
    /// What the system said.
    pub fn prepare(&self) -> io::Result<()> {
        let mut builder = DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)?;
        self.file().map(drop)
    }

    /// Bytes that are taken.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// How often the disk failed.
    pub fn errors(&self) -> u64 {
        self.errors.load(Relaxed)
    }

    /// A file without a name.
    fn file(&self) -> io::Result<File> {
        tempfile::tempfile_in(&self.directory)
    }

    /// Takes room for `bytes` more, if there is any.
    fn take(&self, bytes: u64) -> bool {
        let taken = |used: u64| used.checked_add(bytes).filter(|&used| used <= self.max);
        self.used.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    fn note(&self, error: &io::Error) {
        // One line for each power of two: a disk that is full fails often.
        if self
            .errors
            .fetch_add(1, Relaxed)
            .wrapping_add(1)
            .is_power_of_two()
        {
            tracing::error!(
                directory = %self.directory.display(),
                %error,
                "the spool fails; bodies go on without it"
            );
        }
    }
}

/// One body, or what of it was written. It only grows; what was read stays.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    spool: Arc<Spool>,
    /// How many bytes it may have.
    most: u64,
    file: OnceCell<Arc<File>>,
    len: Cell<u64>,
}

impl SpoolFile {
    /// An empty one, of which the disk knows nothing yet.
    pub(crate) fn new(spool: &Arc<Spool>, most: u64) -> Self {
        Self {
            spool: Arc::clone(spool),
            most,
            file: OnceCell::new(),
            len: Cell::new(0),
        }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> u64 {
        self.len.get()
    }

    /// Writes `piece` behind the rest, not on this thread. One at a time.
    ///
    /// # Errors
    /// There is no room for it, or the disk failed; it is given back.
    pub(crate) async fn append(&self, piece: Vec<u8>) -> Result<(), Vec<u8>> {
        let (bytes, at) = (piece.len() as u64, self.len());
        if at.saturating_add(bytes) > self.most || !self.spool.take(bytes) {
            return Err(piece);
        }
        let (file, spool) = (self.file.get().cloned(), Arc::clone(&self.spool));
        let piece = Arc::new(piece);
        let data = Arc::clone(&piece);
        let job = move || {
            let file = match file {
                Some(file) => file,
                None => Arc::new(spool.file()?),
            };
            file.write_all_at(&data, at)?;
            Ok(file)
        };
        let written = tokio::task::spawn_blocking(job).await;
        let written = written.unwrap_or_else(|error| Err(io::Error::other(error)));
        match written {
            Ok(file) => {
                self.file.get_or_init(|| file);
                self.len.set(at + bytes);
                Ok(())
            }
            Err(error) => {
                self.spool.used.fetch_sub(bytes, Relaxed);
                self.spool.note(&error);
                Err(Arc::unwrap_or_clone(piece))
            }
        }
    }

    /// Reads what stands at `at`, not on this thread; nothing is the end.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) async fn read(&self, at: u64) -> io::Result<Vec<u8>> {
        let bytes = self.len().saturating_sub(at).min(PIECE_BYTES);
        let Some(file) = self.file.get().cloned().filter(|_| bytes > 0) else {
            return Ok(Vec::new());
        };
        let job = move || {
            let mut piece = vec![0; usize::try_from(bytes).unwrap_or_default()];
            file.read_exact_at(&mut piece, at).map(|()| piece)
        };
        let read = tokio::task::spawn_blocking(job).await;
        let read = read.unwrap_or_else(|error| Err(io::Error::other(error)));
        read.inspect_err(|error| self.spool.note(error))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.spool.used.fetch_sub(self.len(), Relaxed);
        // Giving the space back takes a disk its time.
        if let (Some(file), Ok(runtime)) = (self.file.take(), tokio::runtime::Handle::try_current())
        {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool(directory: &std::path::Path, max: u64) -> Arc<Spool> {
        Arc::new(Spool::new(&model::Spool {
            directory: directory.display().to_string().into(),
            max,
        }))
    }

    fn run<T>(main: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(main)
    }

    #[test]
    fn what_is_written_is_read_and_takes_room_until_it_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let spool = spool(&directory.path().join("a/b"), 200_000);
        spool.prepare().unwrap();
        run(async {
            let file = SpoolFile::new(&spool, 180_000);
            assert_eq!(file.read(0).await.unwrap(), b"");
            for piece in 0..18 {
                file.append(vec![piece; 10_000]).await.unwrap();
            }
            assert_eq!((file.len(), spool.used()), (180_000, 180_000));
            assert_eq!(file.append(b"x".to_vec()).await, Err(b"x".to_vec()));
            let mut all = Vec::new();
            while let Some(piece) = Some(file.read(all.len() as u64).await.unwrap())
                && !piece.is_empty()
            {
                all.extend(piece);
            }
            assert_eq!(all.len(), 180_000);
            assert!(
                all.iter()
                    .enumerate()
                    .all(|(at, byte)| at / 10_000 == usize::from(*byte))
            );
            let other = SpoolFile::new(&spool, 180_000);
            assert!(
                other.append(vec![0; 20_001]).await.is_err(),
                "of all, too much"
            );
            other.append(vec![0; 20_000]).await.unwrap();
            drop(file);
            assert_eq!(spool.used(), 20_000);
        });
        assert_eq!((spool.used(), spool.errors()), (0, 0));
        let names = std::fs::read_dir(&spool.directory).unwrap();
        assert_eq!(names.count(), 0, "files have no names");
    }

    #[test]
    fn a_disk_that_fails_gives_the_piece_back() {
        let directory = tempfile::tempdir().unwrap();
        let spool = spool(&directory.path().join("gone"), 1000);
        run(async {
            let file = SpoolFile::new(&spool, 1000);
            assert_eq!(file.append(b"kept".to_vec()).await, Err(b"kept".to_vec()));
            assert_eq!((file.len(), spool.used(), spool.errors()), (0, 0, 1));
            std::fs::create_dir(&spool.directory).unwrap();
            file.append(b"kept".to_vec()).await.unwrap();
            assert_eq!(file.read(2).await.unwrap(), b"pt");
        });
    }

    #[test]
    fn a_directory_that_is_none_is_found_out_before_anything_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(spool(&path, 1000).prepare().is_err());
    }
}
