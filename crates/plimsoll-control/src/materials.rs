//! Files that rules read: read before serving, and again when they change. What cannot be used changes
//! nothing.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_net::clock;
use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::material::Material;
use rustix::fs::OFlags;

use crate::engine::Engine;
use crate::expiry;
use crate::{fetch, internal, key_sets};

/// How often files are looked at. One that has changed is read when it has stood still for as long:
/// half of a list is a list too.
const TICK: Duration = Duration::from_secs(1);

/// How often people are told that a certificate ends.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            // A file that is put in place of another by `mv` keeps its time; its inode tells.
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// The state of a file, and of the one beside it.
type State = (Stamp, Option<Stamp>);

/// What is known of a file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// The state that was read last, whether it could be used or not; nothing while it is not known.
    read: Option<State>,
    /// The state at the last look, if that was another one.
    moving: Option<Option<State>>,
    /// What people were told is wrong with it.
    told: Option<String>,
    /// Whether people were told that the time of what it says is over.
    is_stale: bool,
}

impl Known {
    /// Tells whether what was read last is what stands in the file.
    fn holds(&self, material: &Material) -> bool {
        let is_same = || self.read.is_some() && self.read == state(material);
        self.told.is_none() && (material.issued.is_some() || is_same())
    }
}

/// Why a file is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// It cannot be read, which may change without the file.
    #[error("{0}")]
    Unreadable(String),
    /// What stands in it cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// It changed while it was read.
    #[error("it is being written")]
    Moving,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// What came of reading every file of a generation.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// What is known of each.
    pub(crate) known: Vec<Known>,
    /// What is wrong with those that cannot be used, and what happens without them.
    pub(crate) degraded: Vec<String>,
    /// What is wrong with the others that cannot be used.
    pub(crate) problems: Vec<String>,
}

/// Whether certificates are issued that we issue ourselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Issue {
    /// They are, and so is their issuer made.
    Yes,
    /// Nothing is made: it is only looked.
    No,
}

/// Reads every file of a generation, before it serves. Fetches nothing.
pub(crate) fn load(generation: &Generation, issue: Issue) -> Loaded {
    load_after(generation, issue, |_| None)
}

/// The same, for a generation after another one: `before` tells what is known of a file that goes on, and is not
/// read again while it is the same.
pub(crate) fn load_after(
    generation: &Generation,
    issue: Issue,
    before: impl Fn(&Material) -> Option<Known>,
) -> Loaded {
    let mut loaded = Loaded::default();
    for material in &generation.materials {
        if let Some(known) = before(material).filter(|known| known.holds(material)) {
            loaded.known.push(known);
            continue;
        }
        if material.issued.is_some() && issue == Issue::No {
            loaded.known.push(Known::default());
            continue;
        }
        // Whoever asks for it says so.
        if material.is_awaited && state(material).is_none() {
            loaded.known.push(Known::default());
            continue;
        }
        let (read, problem) = match read(material) {
            Ok(stamp) => (stamp, None),
            Err(Fault::Unreadable(problem)) => (None, Some(problem)),
            Err(Fault::Unusable(problem)) => (state(material), Some(problem)),
            Err(fault @ Fault::Moving) => (None, Some(fault.to_string())),
        };
        material.note(problem.is_none());
        if let Some(problem) = &problem {
            let text = format!("cannot use `{}`: {problem}", material.path);
            match material.when_missing() {
                Some(then) => loaded.degraded.push(format!("{text}; {then}")),
                None => loaded.problems.push(text),
            }
        }
        loaded.known.push(Known {
            read,
            told: problem,
            ..Known::default()
        });
    }
    if let Some(trusted) = &generation.system_roots {
        match fetch::system_roots() {
            Ok(roots) => trusted.take(roots),
            Err(problem) => loaded.problems.push(problem),
        }
    }
    loaded.problems.extend(key_sets::unusable(generation));
    loaded.problems.extend(unserved(generation));
    loaded
}

/// What keeps files of directories from being served.
fn unserved(generation: &Generation) -> impl Iterator<Item = String> {
    generation.files.iter().filter_map(|files| {
        let problem = files.prepare().err()?;
        let directory = files.directory.display();
        Some(format!("cannot serve files from `{directory}`: {problem}"))
    })
}

/// Looks after the files for ever.
pub(crate) async fn watch(engine: Arc<Engine>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last = Duration::ZERO;
    loop {
        ticks.tick().await;
        let running = engine.now();
        if running.generation.materials.is_empty() {
            continue;
        }
        warn_of_ends(&running.generation, &mut last);
        let looked = tokio::task::spawn_blocking(move || {
            let mut known = running.known();
            for (material, known) in running.generation.materials.iter().zip(&mut *known) {
                look(material, known);
            }
        });
        if let Err(error) = looked.await {
            return tracing::error!(%error, "files are not looked at any more");
        }
    }
}

/// Says every day which certificates have expired, or will soon.
fn warn_of_ends(generation: &Generation, last: &mut Duration) {
    let now = clock::unix_time();
    if now.saturating_sub(*last) >= DAY {
        *last = now;
        for warning in expiry::warnings(generation, now.as_secs()) {
            tracing::warn!("{warning}");
        }
    }
}

/// Reads a file again if it is another than was read, and has stood still since the last look.
fn look(material: &Material, known: &mut Known) {
    if material.issued.is_some() {
        return look_at_issued(material, known);
    }
    let path = &*material.path;
    let now = state(material);
    if material.is_switch() {
        if now.is_some() != known.read.is_some() {
            material.switch(now.is_some());
            tracing::info!(
                file = path,
                is_there = now.is_some(),
                "a switch has changed"
            );
        }
        known.read = now;
        return;
    }
    let is_awaited = material.is_awaited && now.is_none();
    if is_awaited || now.is_some() && now == known.read {
        known.moving = None;
        look_for_end(material, known, clock::unix_time().as_secs());
        return;
    }
    if known.moving != Some(now) {
        known.moving = Some(now);
        return;
    }
    let problem = match read(material) {
        Ok(stamp) => {
            material.note(true);
            tracing::info!(file = path, "a file was read again");
            *known = Known {
                read: stamp,
                ..Known::default()
            };
            return;
        }
        Err(Fault::Moving) => return,
        Err(Fault::Unusable(problem)) => {
            known.read = now;
            problem
        }
        Err(Fault::Unreadable(problem)) => {
            known.read = None;
            problem
        }
    };
    tell(material, known, problem);
}

/// Says once what is wrong with a file.
fn tell(material: &Material, known: &mut Known, problem: String) {
    if known.told.as_ref() != Some(&problem) {
        material.note(false);
        tracing::error!(
            file = &*material.path,
            problem,
            "a file cannot be used; what it held before still counts"
        );
        known.told = Some(problem);
    }
}

/// Says once that the time of what an issuer said of a certificate is over, and counts it as a read that
/// brought nothing.
fn look_for_end(material: &Material, known: &mut Known, now: u64) {
    if material.is_stale(now) && !known.is_stale {
        known.is_stale = true;
        material.note(false);
        tracing::warn!(
            file = &*material.path,
            "what the issuer says of the certificate is out of date; it is shown without that"
        );
    }
}

/// Renews a certificate that we issue ourselves, when it is time.
fn look_at_issued(material: &Material, known: &mut Known) {
    let now = clock::unix_time().as_secs();
    if !internal::is_due(material.expires(), now) {
        return;
    }
    match internal::renew(material, now) {
        Ok(()) => {
            material.note(true);
            tracing::info!(certificate = &*material.path, "a certificate was renewed");
            known.told = None;
        }
        Err(problem) => tell(material, known, problem),
    }
}

/// The state of a file now; nothing when a part is missing.
fn state(material: &Material) -> Option<State> {
    let of = |path: &str| fs::metadata(path).ok().map(|metadata| Stamp::of(&metadata));
    let beside = match &material.beside {
        Some(beside) => Some(of(beside)?),
        None => None,
    };
    Some((of(&material.path)?, beside))
}

/// Puts what stands in a file in force, and returns which state of it that was.
fn read(material: &Material) -> Result<Option<State>, Fault> {
    if material.is_switch() {
        let state = state(material);
        material.switch(state.is_some());
        return Ok(state);
    }
    if material.issued.is_some() {
        let renewed = internal::renew(material, clock::unix_time().as_secs());
        return renewed.map(|()| None).map_err(Fault::Unusable);
    }
    let secret = |is| if is { Secret::Yes } else { Secret::No };
    let (stamp, bytes) = read_file(&material.path, secret(material.is_secret()))?;
    let Some(path) = &material.beside else {
        material.take(bytes, None).map_err(Fault::Unusable)?;
        return Ok(Some((stamp, None)));
    };
    let is_key = material.is_beside_secret();
    let what = if is_key { "the key " } else { "" };
    let of_it = |fault| match fault {
        Fault::Unreadable(problem) => Fault::Unreadable(format!("{what}`{path}`: {problem}")),
        fault => fault,
    };
    let (of_beside, beside) = read_file(path, secret(is_key)).map_err(of_it)?;
    material
        .take(bytes, Some(&beside))
        .map_err(Fault::Unusable)?;
    Ok(Some((stamp, Some(of_beside))))
}

/// Whether others on the machine may know what stands in a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Secret {
    Yes,
    No,
}

/// Reads one file, and returns which state of it that was.
pub(crate) fn read_file(path: &str, secret: Secret) -> Result<(Stamp, Vec<u8>), Fault> {
    // A pipe would hold us up for ever when it is opened.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut file = File::options().read(true).custom_flags(flags).open(path)?;
    let before = file.metadata()?;
    let stamp = Stamp::of(&before);
    if !before.is_file() {
        return Err(Fault::Unreadable("it is not a file".to_owned()));
    }
    if secret == Secret::Yes && before.mode() & 0o007 != 0 {
        let problem = "everybody on the machine may use it: `chmod o= FILE`";
        return Err(Fault::Unreadable(problem.to_owned()));
    }
    let bytes = contents(&mut file)?;
    if Stamp::of(&file.metadata()?) != stamp {
        return Err(Fault::Moving);
    }
    let too_large = || Fault::Unusable("the file is larger than 256 MiB".to_owned());
    let bytes = bytes.ok_or_else(too_large)?;
    Ok((stamp, bytes))
}

/// All that stands in a file; nothing when that is too much.
fn contents(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    // One byte more than is allowed tells a file that is too large, whatever its size says.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= FILE_BYTES_MAX).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_proxy::compile::{Machine, compile};
    use std::path::Path;
    use std::sync::atomic::Ordering::Relaxed;

    /// A generation with one rule that looks into `path`.
    fn generation(rule: &str, path: &Path) -> Generation {
        let text = format!(
            "site * {{ listen :80\n{}\nroute {{ respond 200 }} }}",
            rule.replace("FILE", &path.display().to_string())
        );
        let loaded = plimsoll_config::load_text("test", &text, &crate::files::Files);
        let machine = Machine {
            number: 1,
            name: String::new(),
            seed: 0,
            workers: 1,
            capacity: 1,
            connections_max: 1,
            sessions: Arc::default(),
            before: None,
        };
        compile(&loaded.config.unwrap(), |_| Ok(Box::default()), machine).0
    }

    #[test]
    fn a_file_is_read_when_it_has_stood_still_for_a_look() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list");
        fs::write(&path, "10.0.0.1\n").unwrap();
        let generation = generation("deny @FILE", &path);
        let material = &generation.materials[0];
        let counts = || (material.taken.load(Relaxed), material.refused.load(Relaxed));
        let mut known = load(&generation, Issue::Yes).known.remove(0);
        assert_eq!(counts(), (1, 0));
        look(material, &mut known);
        look(material, &mut known);
        assert_eq!(counts(), (1, 0), "it has not changed");
        // Between reading and looking after it, nothing is missed.
        fs::write(&path, "10.0.0.1\n10.0").unwrap();
        look(material, &mut known);
        fs::write(&path, "10.0.0.1\n10.0.0.22\n").unwrap();
        look(material, &mut known);
        assert_eq!(counts(), (1, 0), "it is still being written");
        look(material, &mut known);
        assert_eq!(counts(), (2, 0));
        look(material, &mut known);
        assert_eq!(counts(), (2, 0));
    }

    #[test]
    fn what_cannot_be_used_is_told_once_and_what_cannot_be_read_is_tried_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("list");
        fs::write(&path, "10.0.0.1\n").unwrap();
        let generation = generation("deny @FILE", &path);
        let material = &generation.materials[0];
        let mut known = load(&generation, Issue::Yes).known.remove(0);
        let mut after = |change: &dyn Fn()| {
            change();
            for _ in 0..4 {
                look(material, &mut known);
            }
            let is_current = material.is_current.load(Relaxed);
            let counts = (material.taken.load(Relaxed), material.refused.load(Relaxed));
            (counts, is_current, known.told.clone().unwrap_or_default())
        };
        let (counts, is_current, told) = after(&|| fs::write(&path, "nonsense\n").unwrap());
        assert_eq!((counts, is_current), ((1, 1), false));
        assert!(told.starts_with("line 1: `nonsense`"), "{told}");
        let (counts, _, told) = after(&|| fs::write(&path, "").unwrap());
        assert_eq!(counts, (1, 2));
        assert!(told.starts_with("the file is empty"), "{told}");
        let (counts, _, told) = after(&|| fs::remove_file(&path).unwrap());
        assert_eq!(counts, (1, 3));
        assert!(told.starts_with("No such file"), "{told}");
        let (counts, _, told) = after(&|| fs::create_dir(&path).unwrap());
        assert_eq!((counts, &*told), ((1, 4), "it is not a file"));
        let (counts, is_current, told) = after(&|| {
            fs::remove_dir(&path).unwrap();
            fs::write(&path, "10.0.0.1\n").unwrap();
        });
        assert_eq!((counts, is_current, &*told), ((2, 4), true, ""));
    }

    #[test]
    fn pipes_and_endless_files_are_no_files() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
        for path in [&*pipe, Path::new("/dev/zero"), directory.path()] {
            let problems = load(&generation("deny @FILE", path), Issue::Yes).problems;
            assert_eq!(problems.len(), 1);
            assert!(problems[0].ends_with("it is not a file"), "{problems:?}");
        }
    }

    /// Whatever happens to a file that rules read, it is refused or taken, and nothing panics.
    #[test]
    fn no_file_breaks_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let contents: [&[u8]; 6] = [
            b"",
            b"\0\0\0",
            &[0xff; 1000],
            b"{\"keys\":[",
            b"ada:$2y$10$",
            b"\xab\xcd\xefMaxMind.com\xe9",
        ];
        for rule in [
            "deny @FILE",
            "basic-auth FILE",
            "jwt FILE algorithms=RS256",
            "api-key FILE",
            "deny country=DE\n}\ngeo FILE\nsite other { listen :80",
        ] {
            for content in contents {
                fs::write(&path, content).unwrap();
                let generation = generation(rule, &path);
                assert_eq!(generation.materials.len(), 1, "{rule}");
                assert!(
                    !load(&generation, Issue::Yes).problems.is_empty(),
                    "{rule} {content:?}"
                );
            }
        }
    }

    #[test]
    fn a_switch_is_whether_its_file_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("down");
        let generation = generation("maintenance file=FILE", &path);
        let mut known = load(&generation, Issue::Yes).known.remove(0);
        assert!(known.read.is_none());
        fs::write(&path, "").unwrap();
        look(&generation.materials[0], &mut known);
        assert!(known.read.is_some());
        fs::remove_file(&path).unwrap();
        look(&generation.materials[0], &mut known);
        assert!(known.read.is_none());
    }
}
