//! Which crate may use which: an arrow may only point down.

use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// A crate of the workspace and what it may depend on, development dependencies included.
struct Room {
    name: &'static str,
    /// Layers of which it may use every crate.
    layers: &'static [&'static [&'static str]],
    /// Further crates it may use.
    crates: &'static [&'static str],
    /// Pure: no sockets, clock, randomness, threads, files or environment.
    pure: bool,
}

impl Room {
    fn may_use(&self) -> impl Iterator<Item = &'static str> {
        let layers = self.layers.iter().copied().flatten();
        layers.chain(self.crates).copied()
    }
}

const fn pure(name: &'static str) -> Room {
    Room {
        name,
        layers: &[],
        crates: &[],
        pure: true,
    }
}

const fn room(name: &'static str, crates: &'static [&'static str]) -> Room {
    Room {
        name,
        layers: &[],
        crates,
        pure: false,
    }
}

/// A room above the mechanisms.
const fn above(name: &'static str, crates: &'static [&'static str]) -> Room {
    Room {
        layers: &[PURE, MECHANISMS],
        ..room(name, crates)
    }
}

const ROOMS: &[Room] = &[
    pure("plimsoll-config"),
    pure("plimsoll-http"),
    pure("plimsoll-balance"),
    pure("plimsoll-access"),
    pure("plimsoll-vrrp"),
    room("plimsoll-check", &[]),
    room("plimsoll-observe", &["plimsoll-http"]),
    room("plimsoll-net", &["plimsoll-observe", "plimsoll-http"]),
    room("plimsoll-cache", &["plimsoll-observe", "plimsoll-http"]),
    room("plimsoll-kernel", &["plimsoll-observe", "plimsoll-balance"]),
    room(
        "plimsoll-proxy",
        &[
            "plimsoll-config",
            "plimsoll-http",
            "plimsoll-balance",
            "plimsoll-access",
            "plimsoll-observe",
            "plimsoll-net",
            "plimsoll-cache",
        ],
    ),
    above("plimsoll-control", &["plimsoll-check", "plimsoll-proxy"]),
    above("plimsoll-admin", PLANES),
    above("plimsoll-cluster", PLANES),
    room(
        "plimsoll",
        &[
            "plimsoll-admin",
            "plimsoll-cluster",
            "plimsoll-control",
            "plimsoll-config",
        ],
    ),
    room("plimsoll-e2e", &[]),
    room("xtask", &["plimsoll-e2e"]),
];

const PURE: &[&str] = &[
    "plimsoll-config",
    "plimsoll-http",
    "plimsoll-balance",
    "plimsoll-vrrp",
    "plimsoll-access",
];

const MECHANISMS: &[&str] = &[
    "plimsoll-observe",
    "plimsoll-net",
    "plimsoll-cache",
    "plimsoll-kernel",
];

const PLANES: &[&str] = &["plimsoll-proxy", "plimsoll-control"];

/// What the `clippy.toml` of a pure crate must forbid. Clippy reads that file instead of the one
/// of the workspace, so it must be there.
const IMPURE: [&str; 4] = [
    "std::time::Instant::now",
    "std::thread::spawn",
    "std::net::TcpStream",
    "std::env::var",
];

/// A crate as Cargo sees it.
#[derive(Debug)]
struct Package {
    name: String,
    manifest: String,
    uses: Vec<String>,
}

/// Examines the output of `cargo metadata`.
pub(super) fn examine(metadata: &str) -> Result<Vec<String>> {
    let packages = packages(metadata)?;
    let mut problems = forbidden(&packages);
    for package in packages
        .iter()
        .filter(|package| find(&package.name).is_some_and(|r| r.pure))
    {
        let file = Path::new(&package.manifest).with_file_name("clippy.toml");
        let rules = fs::read_to_string(file).unwrap_or_default();
        let missing = IMPURE.iter().filter(|name| !rules.contains(*name));
        let name = &package.name;
        problems.extend(missing.map(|rule| format!("{name}: `clippy.toml` must forbid `{rule}`")));
    }
    Ok(problems)
}

fn find(name: &str) -> Option<&'static Room> {
    ROOMS.iter().find(|room| room.name == name)
}

fn forbidden(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    for Package { name, uses, .. } in packages {
        let Some(room) = find(name) else {
            problems.push(format!("{name}: give it a row in `tidy/layers.rs`"));
            continue;
        };
        let wrong = uses
            .iter()
            .filter(|used| !room.may_use().any(|allowed| allowed == *used));
        problems.extend(wrong.map(|used| format!("{name} may not depend on {used}")));
    }
    problems
}

fn packages(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let packages = metadata
        .get("packages")
        .and_then(Value::as_array)
        .context("no packages")?;
    packages
        .iter()
        .map(|package| read(package).context("a package without its keys"))
        .collect()
}

fn read(package: &Value) -> Option<Package> {
    let text = |value: &Value, key| Some(value.get(key)?.as_str()?.to_owned());
    let dependencies = package.get("dependencies")?.as_array()?.iter();
    // Only a crate of this workspace has a path.
    let ours = dependencies.filter(|dependency| dependency.get("path").is_some());
    Some(Package {
        name: text(package, "name")?,
        manifest: text(package, "manifest_path")?,
        uses: ours
            .map(|dependency| text(dependency, "name"))
            .collect::<Option<_>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, uses: &[&str]) -> Package {
        let uses = uses.iter().map(|&used| used.to_owned()).collect();
        Package {
            name: name.to_owned(),
            manifest: String::new(),
            uses,
        }
    }

    #[test]
    fn arrows_point_down() {
        let good = [
            package("plimsoll-net", &["plimsoll-observe"]),
            package("xtask", &[]),
        ];
        assert_eq!(forbidden(&good), Vec::<String>::new());
        let bad = [
            package("plimsoll-balance", &["plimsoll-http"]),
            package("plimsoll-proxy", &["plimsoll-control", "plimsoll-net"]),
            package("plimsoll-new", &[]),
        ];
        assert_eq!(
            forbidden(&bad),
            [
                "plimsoll-balance may not depend on plimsoll-http",
                "plimsoll-proxy may not depend on plimsoll-control",
                "plimsoll-new: give it a row in `tidy/layers.rs`",
            ]
        );
    }

    #[test]
    fn the_table_itself_has_no_cycle_and_no_stranger() {
        for room in ROOMS {
            for used in room.may_use() {
                let below = find(used).unwrap();
                assert!(
                    !below.may_use().any(|name| name == room.name),
                    "{} and {used}",
                    room.name
                );
            }
        }
    }

    #[test]
    fn reads_what_cargo_says() {
        let metadata = r#"{"packages": [
            {"name": "a", "manifest_path": "/a/Cargo.toml", "dependencies": [{"name": "b", "path": "/b", "kind": "dev"}, {"name": "serde", "kind": null}]}]}"#;
        let packages = packages(metadata).unwrap();
        assert_eq!(
            (&*packages[0].name, &*packages[0].uses),
            ("a", &["b".to_owned()][..])
        );
        assert!(super::packages("{}").is_err());
    }
}
