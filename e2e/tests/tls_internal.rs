//! `tls internal`: certificates from an issuer of our own.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

const SITES: &str = "admin 127.0.0.1:{port:admin}
site shop.localhost *.shop.localhost { listen 127.0.0.1:{port} ; tls internal ; route { respond 200 shop } }
site other.localhost { listen 127.0.0.1:{port} ; tls internal ; route { respond 200 other } }
site * { listen 127.0.0.1:{port:any} ; tls internal ; route { respond 200 any } }
";

fn start(state: &Path) -> Plimsoll {
    let start = Start::run(SITES).environment("XDG_STATE_HOME", &state.display().to_string());
    start.start()
}

fn root(state: &Path) -> PathBuf {
    state.join("plimsoll/internal/root.pem")
}

/// What a client gets that trusts the issuer in `state`.
fn curl(plimsoll: &Plimsoll, port: &str, state: &Path, url: &str) -> Option<String> {
    let to = format!("::127.0.0.1:{}", plimsoll.address_of(port).port());
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--max-time", "30", "--cacert"]);
    command.arg(root(state)).args(["--connect-to", &to, url]);
    let output = command.output().expect("install the Debian package curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(text)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn sites_get_certificates_that_the_issuer_vouches_for() {
    let state = tempfile::tempdir().unwrap();
    let plimsoll = start(state.path());
    for (port, url, body) in [
        ("", "https://shop.localhost/", Some("shop")),
        ("", "https://a.shop.localhost/", Some("shop")),
        // A wildcard stands for one label.
        ("", "https://b.a.shop.localhost/", None),
        ("", "https://other.localhost/", Some("other")),
        ("any", "https://localhost/", Some("any")),
        ("any", "https://127.0.0.1/", Some("any")),
        ("any", "https://[::1]/", Some("any")),
        ("any", "https://elsewhere.example/", None),
    ] {
        let got = curl(&plimsoll, port, state.path(), url);
        assert_eq!(got.as_deref(), body, "{url}");
    }
    let root = root(state.path());
    let said = plimsoll.stderr();
    let trust = format!("--cacert {}", root.display());
    assert_eq!(said.matches(&trust).count(), 1, "{said}");
    assert!(!said.contains("expires"), "{said}");
    let directory = root.parent().unwrap();
    assert_eq!(mode(directory), 0o700);
    assert_eq!(mode(&directory.join("root.key")), 0o600);
    let name = "file=\"internal:other.localhost\",kind=\"certificate\"";
    let current = format!("plimsoll_file_current{{{name}}}");
    assert_eq!(plimsoll.metric(&current), Some(1.0));
}

#[test]
fn a_restart_keeps_the_issuer() {
    let state = tempfile::tempdir().unwrap();
    let mut before = start(state.path());
    let first = fs::read(root(state.path())).unwrap();
    before.signal(Signal::TERM);
    assert!(before.wait_exit(SOON).success());
    let after = start(state.path());
    assert_eq!(fs::read(root(state.path())).unwrap(), first);
    let got = curl(&after, "", state.path(), "https://shop.localhost/");
    assert_eq!(got.as_deref(), Some("shop"));
}

#[test]
fn processes_that_start_together_have_one_issuer() {
    let state = tempfile::tempdir().unwrap();
    let spawned = [(); 4].map(|()| {
        let start = Start::run(SITES);
        start
            .environment("XDG_STATE_HOME", &state.path().display().to_string())
            .spawn()
    });
    for mut plimsoll in spawned {
        let ports = ["", "any"].map(|name| plimsoll.address_of(name).port());
        plimsoll.daemon().wait_listening(&ports);
        let got = curl(&plimsoll, "", state.path(), "https://shop.localhost/");
        assert_eq!(got.as_deref(), Some("shop"));
    }
    let there = fs::read_dir(state.path().join("plimsoll")).unwrap();
    assert_eq!(there.count(), 1, "the issuer and nothing half-made");
}

#[test]
fn a_check_makes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let arguments = ["check", "--strict", "-c", "{dir}/plimsoll.conf"].map(str::to_owned);
    let start = Start::with(arguments.into()).configuration(SITES);
    let mut check = start
        .environment("XDG_STATE_HOME", &state.path().display().to_string())
        .spawn();
    assert!(check.wait_exit(SOON).success(), "{}", check.stderr());
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn a_site_whose_issuer_cannot_be_had_serves_nobody_and_others_are_served() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("plimsoll");
    fs::write(&file, "").unwrap();
    let sites = "admin 127.0.0.1:{port:admin}
site shop.localhost { listen 127.0.0.1:{port} ; tls internal ; route { respond 200 shop } }
site * { listen 127.0.0.1:{port:plain} ; route { respond 200 plain } }
";
    let start = Start::run(sites);
    let start = start.environment("XDG_STATE_HOME", &state.path().display().to_string());
    let plimsoll = start.start();
    let got = curl(&plimsoll, "", state.path(), "https://shop.localhost/");
    assert_eq!(got, None);
    let got = plimsoll_e2e::raw::get(plimsoll.address_of("plain"), "/");
    assert_eq!(got.text(), "plain");
    let said = plimsoll.stderr();
    assert!(
        said.contains("cannot use `internal:shop.localhost`: the issuer in"),
        "{said}"
    );
    // It is tried again.
    fs::remove_file(&file).unwrap();
    let again = || curl(&plimsoll, "", state.path(), "https://shop.localhost/");
    plimsoll_e2e::wait::expect("the issuer", SOON, || again().as_deref() == Some("shop"));
}
