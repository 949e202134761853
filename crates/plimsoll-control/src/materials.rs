//! Files that rules read: read before serving, and again when they change. What cannot be used changes
//! nothing.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::material::Material;

use crate::launch::Running;

/// How often files are looked at.
const TICK: Duration = Duration::from_secs(1);

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            // A file that is put in place of another by `mv` keeps its time; its inode tells.
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// Reads every file of a generation, before it serves.
///
/// # Errors
/// Those that cannot be used, and why.
pub fn load(generation: &Generation) -> Result<(), Vec<String>> {
    let problem = |material: &Material| {
        let problem = read(material).err()?;
        Some(format!("cannot use `{}`: {problem}", material.path))
    };
    let problems: Vec<_> = generation.materials.iter().filter_map(problem).collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems),
    }
}

/// Looks after the files for ever.
pub async fn watch(running: Arc<Running>) {
    let count = running.generation.materials.len();
    if count == 0 {
        return;
    }
    let stamp = |material: &Material| fs::metadata(&*material.path).ok().map(|m| Stamp::of(&m));
    let mut stamps: Vec<_> = running.generation.materials.iter().map(stamp).collect();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let running = Arc::clone(&running);
        let looked = tokio::task::spawn_blocking(move || {
            let materials = running.generation.materials.iter();
            for (material, seen) in materials.zip(&mut stamps) {
                look(material, seen);
            }
            stamps
        });
        match looked.await {
            Ok(looked) => stamps = looked,
            Err(error) => return tracing::error!(%error, "files are not looked at any more"),
        }
    }
}

/// Reads a file again if it is another than was seen.
fn look(material: &Material, seen: &mut Option<Stamp>) {
    let path = &*material.path;
    let now = match fs::metadata(path) {
        Ok(metadata) => Some(Stamp::of(&metadata)),
        Err(_) => None,
    };
    if now == *seen {
        return;
    }
    *seen = now;
    if material.is_switch() {
        material.switch(now.is_some());
        return tracing::info!(
            file = path,
            is_there = now.is_some(),
            "a switch has changed"
        );
    }
    match read(material) {
        Ok(()) => tracing::info!(file = path, "a file was read again"),
        Err(problem) => {
            tracing::error!(
                file = path,
                problem,
                "a file cannot be used; what it held before still counts"
            );
        }
    }
}

fn read(material: &Material) -> Result<(), String> {
    let path = &*material.path;
    if material.is_switch() {
        material.switch(fs::metadata(path).is_ok());
        return Ok(());
    }
    let metadata = fs::metadata(path).map_err(text)?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err("the file is larger than 256 MiB".to_owned());
    }
    material.take(fs::read(path).map_err(text)?)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` hands over"
)]
fn text(error: io::Error) -> String {
    error.to_string()
}
