//! Reloading when a file of the configuration has changed, and has stood still since: half of a file is a file too.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::{LoadError, Loader};

use crate::files::Files;
use crate::materials::Stamp;
use crate::reload::{Reloader, Wanted};

/// How often the files are looked at.
const TICK: Duration = Duration::from_millis(500);

/// Reloads what `reloader` reads whenever it has changed, for ever.
pub async fn watch(reloader: Arc<Reloader>) {
    let Some(path) = reloader.path().map(str::to_owned) else {
        return;
    };
    let mut look = true; // it may have changed since it was read
    let (mut known, mut moving) = (Vec::new(), None);
    loop {
        if std::mem::take(&mut look) {
            known = read(&reloader, &path).await;
        }
        tokio::time::sleep(TICK).await;
        let now = again(&known);
        if now == known {
            moving = None;
        } else if moving.as_ref() == Some(&now) {
            look = true;
            moving = None;
        } else {
            moving = Some(now);
        }
    }
}

/// What a file or a directory was like when it was looked at; nothing when it was not there.
type Seen = (String, Option<Stamp>);

/// Reads the configuration, and has it served if it is another one; returns what it was read from.
async fn read(reloader: &Arc<Reloader>, path: &str) -> Vec<Seen> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let recorder = Recorder::default();
        let loaded = plimsoll_config::load(&path, &recorder);
        (recorder.0.into_inner(), loaded.config)
    });
    let Ok((seen, config)) = read.await else {
        return Vec::new(); // the runtime ends
    };
    if config.is_none_or(|config| *reloader.engine().now().generation.config != config) {
        let _told = reloader.reload(Wanted::default()).await; // by the log
    }
    seen
}

fn again(known: &[Seen]) -> Vec<Seen> {
    known.iter().map(|(path, _)| see(path)).collect()
}

fn see(path: &str) -> Seen {
    let metadata = fs::metadata(path).ok();
    (
        path.to_owned(),
        metadata.map(|metadata| Stamp::of(&metadata)),
    )
}

/// Notes what is read, as it was just before.
#[derive(Debug, Default)]
struct Recorder(RefCell<Vec<Seen>>);

impl Loader for Recorder {
    fn read(&self, path: &str) -> Result<Vec<u8>, LoadError> {
        self.0.borrow_mut().push(see(path));
        Files.read(path)
    }

    fn glob(&self, pattern: &str) -> Result<Vec<String>, LoadError> {
        // Another file may come there.
        let directory = Path::new(pattern).parent();
        let directory = directory.map(Path::to_string_lossy).unwrap_or_default();
        let directory = if directory.is_empty() {
            "."
        } else {
            &directory
        };
        self.0.borrow_mut().push(see(directory));
        Files.glob(pattern)
    }

    fn env(&self, name: &str) -> Option<String> {
        Files.env(name)
    }

    fn state_directory(&self) -> String {
        Files.state_directory()
    }
}
