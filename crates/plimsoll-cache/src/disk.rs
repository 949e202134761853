//! The disk behind the memory of a cache: one file for each answer, read and written by threads of its own. Nobody else
//! waits for it: what is too much passes by, and what fails is as if it was not there.

mod breaker;
mod directory;
mod file;
mod index;
mod queue;
mod read;
mod scan;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use plimsoll_http::head::RequestHead;

use crate::disk::breaker::{Breaker, Turn};
use crate::disk::directory::Directory;
pub use crate::disk::directory::{OpenError, check};
use crate::disk::file::Id;
pub(crate) use crate::disk::file::id;
use crate::disk::index::Index;
pub use crate::disk::index::Size;
use crate::disk::queue::Queue;
pub(crate) use crate::disk::read::Load;
use crate::disk::scan::Missed;
use crate::disk::write::Work;
use crate::purge::Selector;

/// How many reads go on at once.
const READERS: usize = 4;

/// Where a cache has its disk, and how much of it.
#[derive(Clone, Debug)]
pub struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// How much.
    pub limits: Limits,
}

/// How much a cache may have on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes that all files may have, each counted in blocks of 4 KiB.
    pub max: u64,
    /// The most bytes of memory that keeping track of them may take.
    pub memory: u64,
}

/// What the disk has done.
#[derive(Debug, Default)]
pub struct Stats {
    /// Answers that were read.
    pub read: AtomicU64,
    /// Answers that were written.
    pub written: AtomicU64,
    /// Answers that made room for others.
    pub evicted: AtomicU64,
    /// Files that were not what was written.
    pub corrupt: AtomicU64,
    /// What the system refused to do.
    pub errors: AtomicU64,
    /// Answers that were not read or not written, as there was too much to do.
    pub skipped: AtomicU64,
}

/// The disk of a cache. Nothing is there before it has been opened.
#[derive(Debug)]
pub struct Disk {
    /// Where it is.
    pub place: Place,
    tier: OnceLock<Arc<Open>>,
}

/// A directory that is in use, by whichever caches have it: its threads end with the last of them.
#[derive(Debug)]
struct Open(Arc<Tier>);

/// A file that answers a request.
#[derive(Clone, Copy, Debug)]
pub struct OnDisk(index::Found);

/// What the threads of a disk share.
#[derive(Debug)]
pub(crate) struct Tier {
    pub(crate) stats: Stats,
    place: Place,
    directory: Directory,
    index: Mutex<Index>,
    /// What was purged while files were still being looked for; nothing once all are known.
    missed: Mutex<Option<Missed>>,
    /// The time at which times are counted from, in milliseconds since 1970: that of the clock at the start, or later
    /// where anything here was written later, by a clock that has been set back since.
    epoch: AtomicU64,
    /// The latest time that was noted.
    noted: AtomicU64,
    loads: Queue<Load>,
    works: Queue<Work>,
    /// Bytes of bodies that wait to be written.
    waiting: AtomicU64,
    reading: Mutex<Breaker>,
    writing: Mutex<Breaker>,
    is_closed: AtomicBool,
}

impl Disk {
    /// The disk at this place.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            tier: OnceLock::new(),
        }
    }

    /// The disk at this place, of which another one has the directory already.
    pub fn after(place: Place, before: &Self) -> Self {
        Self {
            place,
            tier: before.tier.clone(),
        }
    }

    /// Opens the directory, unless it is open, and begins to look for what is there; times are counted from `epoch`, which is
    /// one since 1970.
    /// `given` is the lock of the process before, where this one follows it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(&self, epoch: Duration, given: Option<OwnedFd>) -> Result<(), OpenError> {
        if self.tier.get().is_some() {
            return Ok(()); // the configuration before had it, too
        }
        let directory = Directory::open(&self.place.directory, given)?;
        let epoch = milliseconds(epoch).max(directory.latest());
        let tier = Arc::new(Tier {
            stats: Stats::default(),
            place: self.place.clone(),
            directory,
            index: Mutex::default(),
            missed: Mutex::new(Some(Missed::default())),
            epoch: AtomicU64::new(epoch),
            noted: AtomicU64::new(0),
            loads: Queue::new(),
            works: Queue::new(),
            waiting: AtomicU64::new(0),
            reading: Mutex::default(),
            writing: Mutex::default(),
            is_closed: AtomicBool::new(false),
        });
        tier.start()?;
        // A second one would not have got the lock.
        let _ = self.tier.set(Arc::new(Open(tier)));
        Ok(())
    }

    pub(crate) fn tier(&self) -> Option<&Arc<Tier>> {
        self.tier.get().map(|open| &open.0)
    }

    /// What it has done, once it is open.
    pub fn stats(&self) -> Option<&Stats> {
        self.tier().map(|tier| &tier.stats)
    }

    /// How much is there.
    pub fn size(&self) -> Size {
        let size = |tier: &Arc<Tier>| tier.index().size();
        self.tier().map(size).unwrap_or_default()
    }

    /// Tells whether all that was there at the start is known.
    pub fn is_known(&self) -> bool {
        let tier = self.tier();
        tier.is_some_and(|tier| lock(&tier.missed).is_none())
    }

    /// Tells whether it is in use, and has not failed too often.
    pub fn is_up(&self) -> bool {
        let up = |tier: &Arc<Tier>| lock(&tier.reading).is_on() && lock(&tier.writing).is_on();
        self.tier().is_some_and(up)
    }

    /// Waits until all that is to be done by now has been done, or for a while. This blocks.
    pub fn settle(&self) {
        if let Some(tier) = self.tier() {
            tier.settle();
        }
    }
}

impl Disk {
    /// Its lock, for the process that follows; nothing when it is not open.
    pub fn lock(&self) -> Option<OwnedFd> {
        self.tier()?.directory.lock().ok()
    }

    /// Reads and writes nothing more.
    pub fn close(&self) {
        if let Some(tier) = self.tier() {
            tier.close();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Tier {
    fn close(&self) {
        self.is_closed.store(true, Relaxed);
        self.loads.close();
        self.works.close();
    }

    fn start(self: &Arc<Self>) -> io::Result<()> {
        let spawn = |name: &str, main: fn(&Self)| {
            let tier = Arc::clone(self);
            let builder = thread::Builder::new().name(name.to_owned());
            builder.spawn(move || main(&tier)).map(drop)
        };
        for _ in 0..READERS {
            spawn("cache-read", Self::read_all)?;
        }
        spawn("cache-write", Self::write_all)?;
        spawn("cache-scan", Self::scan)
    }

    /// The file that answers a request, where the disk may be asked.
    pub(crate) fn find(
        &self,
        key: &[u8],
        (request, bytes): (&RequestHead, &[u8]),
        now: Duration,
    ) -> Option<OnDisk> {
        if self.is_closed.load(Relaxed) {
            return None;
        }
        let found = self.index().find(key, request, bytes)?;
        let may = lock(&self.reading).allows(now);
        if !may {
            count(&self.stats.skipped);
        }
        may.then_some(OnDisk(found))
    }

    /// Forgets what is stored for `key`.
    pub(crate) fn remove(&self, key: &[u8]) {
        self.miss(&Selector::Prefix(key));
        let mut index = self.index();
        for id in index.of_key(key) {
            index.take(key, id);
            self.order(Work::Remove(id));
        }
    }

    /// The time since 1970, in milliseconds, as far as is known.
    fn time(&self, now: Duration) -> u64 {
        self.epoch.load(Relaxed).saturating_add(milliseconds(now))
    }

    /// Notes the time, so that a clock that is set back before the next start is found out.
    fn note_time(&self, now: Duration) {
        let time = self.time(now);
        if time >= self.noted.load(Relaxed).saturating_add(1000) {
            self.noted.store(time, Relaxed);
            // Where it cannot be noted nothing can be written either.
            let _ = self.directory.note_latest(time);
        }
    }

    /// Notes how something went that the disk was asked for.
    fn judge(&self, breaker: &Mutex<Breaker>, outcome: Result<(), &io::Error>, now: Duration) {
        let turn = match outcome {
            Ok(()) => lock(breaker).succeed(),
            Err(_) => {
                count(&self.stats.errors);
                lock(breaker).fail(now)
            }
        };
        let directory = self.place.directory.display();
        match (turn, outcome) {
            (Some(Turn::Off), Err(error)) => {
                tracing::error!(%directory, %error, "the disk of a cache fails; answers go on without it");
            }
            (Some(Turn::On), _) => tracing::info!(%directory, "the disk of a cache works again"),
            _ => {}
        }
    }

    /// Takes note that a read did not come in time.
    pub(crate) fn note_slow(&self, now: Duration) {
        let late = io::Error::from(io::ErrorKind::TimedOut);
        self.judge(&self.reading, Err(&late), now);
    }

    /// Forgets a file that is not what was written.
    fn forget_corrupt(&self, key: Option<&[u8]>, id: Id) {
        count(&self.stats.corrupt);
        let mut index = self.index();
        if let Some(key) = key {
            index.take(key, id);
        }
        self.order(Work::Remove(id));
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
