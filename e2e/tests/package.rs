//! The Debian package is installed, upgraded and removed on a copy of this system; what it ships speaks of what there is.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Start, binary};
use plimsoll_e2e::raw::get;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// A package of this binary, without what only debuggers read.
fn package(version: &str, directory: &Path) -> PathBuf {
    let program = directory.join("plimsoll");
    run(Command::new("strip").arg("-o").arg(&program).arg(binary()));
    let mut build = Command::new("sh");
    build
        .arg(format!("{ROOT}/packaging/deb/build"))
        .arg(program);
    run(build.arg(version).arg(directory).env("COMPRESSION", "none"));
    let mut files = std::fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path());
    let is_it = |path: &PathBuf| {
        path.to_string_lossy()
            .contains(&format!("plimsoll_{version}_"))
    };
    files.find(is_it).unwrap()
}

#[test]
fn it_installs_serves_upgrades_and_goes() {
    let directory = tempfile::tempdir().unwrap();
    let system = tempfile::tempdir().unwrap();
    let [old, new] = ["0.0.1", "0.0.2"].map(|version| package(version, directory.path()));
    let mut install = Command::new("unshare");
    install.args(["--mount", "--net", "--pid", "--fork", "sh"]);
    install.arg(format!("{ROOT}/e2e/tests/package/install.sh"));
    let said = run(install.arg(system.path()).args([old, new]));
    let page = "serves: Plimsoll serves. Say what in /etc/plimsoll/plimsoll.conf.";
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "installed 0.0.1 install ok installed",
            "/etc/plimsoll/plimsoll.conf: ok",
            page,
            "as plimsoll, rights: 0000000000000400",
            "told: 01",
            "stopped",
            "upgraded 0.0.2, kept: # by people",
            page,
            "stopped",
            "left: ",
        ]
    );
}

/// The names of metrics that a text speaks of.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c| !is_part(c));
    let names = words.filter(|word| word.starts_with("plimsoll_") || word.starts_with("process_"));
    let plain = |name: &str| name.trim_end_matches("_bucket").to_owned();
    names.map(plain).collect()
}

#[test]
fn dashboards_and_alerts_speak_of_metrics_that_there_are() {
    let text = "admin 127.0.0.1:{port:admin}\nsite a.example { listen 127.0.0.1:{port} ; tls {certificate} {key} ; log off ; route { cache c ; proxy app } }\n\
        cache c { memory 1MiB }\n\
        pool app { server 127.0.0.1:1 ; queue 10 timeout=1s }\n";
    let authority = Authority::make("DNS:a.example");
    let plimsoll = Start::run(text)
        .set("certificate", authority.certificate())
        .set("key", authority.key())
        .start();
    let page = get(plimsoll.address_of("admin"), "/metrics").text();
    let there: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|rest| rest.split(' ').next())
        .map(str::to_owned)
        .collect();
    for shipped in ["grafana/plimsoll.json", "prometheus/plimsoll.rules.yml"] {
        let text = std::fs::read_to_string(format!("{ROOT}/packaging/{shipped}")).unwrap();
        let missing: Vec<_> = metrics(&text).difference(&there).cloned().collect();
        assert_eq!(missing, [""; 0], "{shipped}");
    }
}
