//! Looking at how much memory is in use, so that requests are refused before the kernel ends the
//! process.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll_config::model::Overload;

use crate::engine::Engine;

/// How often it is looked at, while there is plenty and when there is little left.
const SELDOM: Duration = Duration::from_millis(100);
const OFTEN: Duration = Duration::from_millis(10);

/// Looks after the memory for ever, as long as there is a limit to it.
pub(crate) async fn watch(engine: Arc<Engine>) {
    let mut known = None;
    let mut was_short = false;
    let mut pause = Duration::ZERO;
    loop {
        tokio::time::sleep(pause).await;
        pause = SELDOM;
        let generation = Arc::clone(&engine.now().generation);
        let memory = &generation.memory;
        if known
            .as_ref()
            .is_none_or(|(of, _)| *of != generation.overload)
        {
            known = Some((
                generation.overload,
                generation.overload.and_then(Budget::of),
            ));
            memory.note(0, u64::MAX);
        }
        let budget = known.as_ref().and_then(|(_, budget)| budget.as_ref());
        let Some((used, limit)) = budget.and_then(Budget::look) else {
            continue;
        };
        pause = until_next_look(used, limit);
        memory.note(used, limit);
        let is_short = memory.strain() > 0;
        if is_short != was_short {
            let percent = used.saturating_mul(100) / limit.max(1);
            match is_short {
                true => tracing::warn!(percent, "memory runs out; refusing requests"),
                false => tracing::info!(percent, "there is memory again"),
            }
        }
        was_short = is_short;
    }
}

/// Workers count the buffers that they make between two looks, but not all else that a client
/// needs: near the limit, that must not become much.
fn until_next_look(used: u64, limit: u64) -> Duration {
    match used < limit / 4 * 3 {
        true => SELDOM,
        false => OFTEN,
    }
}

/// What limits the memory.
enum Budget {
    /// What the process may have, as configured.
    Own { limit: u64 },
    /// What the control group may have.
    Group(Group),
}

impl Budget {
    fn of(overload: Overload) -> Option<Self> {
        match overload.memory {
            Some(limit) => Some(Self::Own { limit }),
            None => Group::find(Path::new("/")).map(Self::Group),
        }
    }

    /// How much is in use, and how much may be.
    fn look(&self) -> Option<(u64, u64)> {
        match self {
            Self::Own { limit } => Some((resident()?, *limit)),
            Self::Group(group) => group.look(),
        }
    }
}

/// What is resident of this process and stands in no file, such as its program: that can be had back at
/// once (proc_pid_statm(5)).
fn resident() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, of_files) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(of_files) * rustix::param::page_size() as u64)
}

/// The nearest control group with a limit, cgroups(7).
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    files: &'static Files,
}

/// How a version of control groups names its files.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// The row of `memory.stat` with what is kept of files and can be had back at once.
    cache: &'static str,
}

const FIRST: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: "total_inactive_file",
};

const SECOND: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    cache: "inactive_file",
};

/// The first version writes no limit as the largest number of pages.
const UNLIMITED: u64 = 1 << 62;

impl Group {
    /// The group of this process; `root` is `/` but for tests.
    fn find(root: &Path) -> Option<Self> {
        let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
        let mounts = fs::read_to_string(root.join("proc/self/mountinfo")).ok()?;
        let first = || {
            Self::within(
                root,
                &mount(&mounts, is_first)?,
                path(&groups, "memory")?,
                &FIRST,
            )
        };
        let second = || {
            Self::within(
                root,
                &mount(&mounts, is_second)?,
                path(&groups, "")?,
                &SECOND,
            )
        };
        first().or_else(second)
    }

    /// The nearest group with a limit, from `path` upwards.
    fn within(root: &Path, mount: &Mount<'_>, path: &str, files: &'static Files) -> Option<Self> {
        let top = root.join(mount.point.trim_start_matches('/'));
        // A container may see its own group only, whatever its path outside is.
        let path = Path::new(path)
            .strip_prefix(mount.root)
            .unwrap_or_else(|_| Path::new(""));
        let mut folder = top.join(path);
        while folder.starts_with(&top) {
            let group = Self {
                folder: folder.clone(),
                files,
            };
            if group.limit().is_some() {
                return Some(group);
            }
            folder.pop();
        }
        None
    }

    fn limit(&self) -> Option<u64> {
        self.number(self.files.limit)
            .filter(|limit| (1..UNLIMITED).contains(limit))
    }

    fn look(&self) -> Option<(u64, u64)> {
        let used = self.number(self.files.usage)?;
        let cache = self.cache().unwrap_or_default();
        Some((used.saturating_sub(cache), self.limit()?))
    }

    fn cache(&self) -> Option<u64> {
        let stat = fs::read_to_string(self.folder.join("memory.stat")).ok()?;
        let rows = stat.lines().filter_map(|line| line.split_once(' '));
        let mut rows = rows.filter(|(name, _)| *name == self.files.cache);
        rows.next()?.1.trim().parse().ok()
    }

    fn number(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        text.trim().parse().ok()
    }
}

/// The path of this process in the hierarchy of `controller`; the second version has no name.
fn path<'a>(groups: &'a str, controller: &str) -> Option<&'a str> {
    groups.lines().find_map(|line| {
        let (_, line) = line.split_once(':')?;
        let (controllers, path) = line.split_once(':')?;
        controllers
            .split(',')
            .any(|c| c == controller)
            .then_some(path)
    })
}

/// Where a hierarchy is mounted, and which part of it.
struct Mount<'a> {
    root: &'a str,
    point: &'a str,
}

fn mount<'a>(mounts: &'a str, is_it: fn(&str) -> bool) -> Option<Mount<'a>> {
    mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        is_it(kind).then_some(Mount { root, point })
    })
}

fn is_first(kind: &str) -> bool {
    let options = kind.rsplit(' ').next().unwrap_or_default();
    kind.starts_with("cgroup ") && options.split(',').any(|option| option == "memory")
}

fn is_second(kind: &str) -> bool {
    kind.starts_with("cgroup2 ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    const SECOND_MOUNT: (&str, &str) = (
        "proc/self/mountinfo",
        "29 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
    );

    #[test]
    fn the_second_version_is_read_without_what_files_take() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/system.slice/plimsoll.service\n"),
            SECOND_MOUNT,
            (
                "sys/fs/cgroup/system.slice/plimsoll.service/memory.max",
                "1000\n",
            ),
            (
                "sys/fs/cgroup/system.slice/plimsoll.service/memory.current",
                "900\n",
            ),
            (
                "sys/fs/cgroup/system.slice/plimsoll.service/memory.stat",
                "anon 5\ninactive_file 400\n",
            ),
        ]);
        let group = Group::find(root.path()).unwrap();
        assert_eq!(group.look(), Some((500, 1000)));
    }

    #[test]
    fn the_first_version_is_read_where_it_is_mounted() {
        let root = machine(&[
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/a\n4:memory:/outside/box\n0::/\n",
            ),
            (
                "proc/self/mountinfo",
                "30 25 0:27 /outside/box /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
                 31 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "500\n"),
        ]);
        let group = Group::find(root.path()).unwrap();
        assert_eq!(group.look(), Some((500, 2000)));
    }

    #[test]
    fn without_a_limit_of_its_own_a_group_has_that_of_the_one_around_it() {
        let root = machine(&[
            ("proc/self/cgroup", "0::/box/inner\n"),
            SECOND_MOUNT,
            ("sys/fs/cgroup/box/inner/memory.max", "max\n"),
            ("sys/fs/cgroup/box/memory.max", "100\n"),
            ("sys/fs/cgroup/box/memory.current", "10\n"),
        ]);
        let group = Group::find(root.path()).unwrap();
        assert_eq!(group.look(), Some((10, 100)));
    }

    #[test]
    fn where_nothing_is_limited_nothing_is_watched() {
        let root = machine(&[
            ("proc/self/cgroup", "4:memory:/a\n0::/a\n"),
            (
                "proc/self/mountinfo",
                "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            ),
            (
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(Group::find(root.path()), None);
        assert_eq!(Group::find(machine(&[]).path()), None);
    }
}
