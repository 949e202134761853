//! The threads that write access logs. A sink that blocks costs lines, never requests.

mod syslog;

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use plimsoll_config::model::LogTarget;
use plimsoll_observe::sink::Drain;

use self::syslog::Syslog;

/// How soon a request to reopen is seen when there is nothing to write.
const LOOK: Duration = Duration::from_millis(500);

/// An access log that is being written.
#[derive(Debug)]
pub struct LogFile {
    reopen: Arc<AtomicBool>,
    lost: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl LogFile {
    /// Opens `target` and writes to it what comes through `drain`.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the thread cannot be made.
    pub fn open(target: &LogTarget, drain: Drain) -> io::Result<Self> {
        let mut output = Output::open(target)?;
        let (reopen, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (asked, counted) = (Arc::clone(&reopen), Arc::clone(&lost));
        let thread = thread::Builder::new()
            .name("access-log".into())
            .spawn(move || output.write_all(&drain, &asked, &counted))?;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            reopen,
            lost,
            thread,
        })
    }

    /// How many lines could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Makes the writer open its file again, for log rotation.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Tells whether all workers have let go of it, and all is written.
    pub(crate) fn is_finished(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until all that the workers handed over is written; the workers must be gone.
    pub fn finish(&self) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        // A writer that panicked has nothing left to write.
        let _ = thread.take().map(JoinHandle::join);
    }
}

enum Output {
    Stdout,
    File { path: PathBuf, file: File },
    Syslog(Box<Syslog>),
}

impl Output {
    fn open(target: &LogTarget) -> io::Result<Self> {
        Ok(match target {
            LogTarget::Stdout => Self::Stdout,
            LogTarget::File(path) => Self::File {
                path: path.clone(),
                file: append(path)?,
            },
            LogTarget::Syslog(syslog) => Self::Syslog(Box::new(Syslog::new(syslog))),
        })
    }

    fn write_all(&mut self, drain: &Drain, asked: &AtomicBool, lost: &AtomicU64) {
        let mut is_failing = false;
        loop {
            let batch = drain.wait(LOOK);
            if asked.swap(false, Ordering::Relaxed) {
                self.reopen();
            }
            let batch = match batch {
                Ok(batch) => batch,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let written = match self {
                Self::Stdout => io::stdout().write_all(batch.lines()),
                Self::File { file, .. } => file.write_all(batch.lines()),
                Self::Syslog(syslog) => {
                    lost.fetch_add(syslog.write(batch.lines()), Ordering::Relaxed);
                    drain.done(batch);
                    continue;
                }
            };
            if written.is_err() {
                let lines = batch.lines().iter().filter(|byte| **byte == b'\n').count();
                lost.fetch_add(lines as u64, Ordering::Relaxed);
            }
            // One line when it begins and one when it ends, however many batches are lost.
            match (&written, is_failing) {
                (Err(error), false) => tracing::error!(%error, "cannot write the access log"),
                (Ok(()), true) => tracing::info!("the access log is written again"),
                _ => {}
            }
            is_failing = written.is_err();
            drain.done(batch);
        }
    }

    fn reopen(&mut self) {
        let Self::File { path, file } = self else {
            return;
        };
        match append(path) {
            Ok(fresh) => *file = fresh,
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "cannot reopen the access log")
            }
        }
    }
}

fn append(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}
