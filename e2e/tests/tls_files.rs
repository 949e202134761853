//! Files with certificates and keys: read, changed, broken, out of date.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::certifier::put;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::tls::{curl, pair};
use plimsoll_e2e::wait;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn start(sites: &str) -> Plimsoll {
    let text = format!("admin 127.0.0.1:{{port:admin}}\n{sites}");
    Start::run(&text).start()
}

#[test]
fn a_certificate_is_changed_while_we_serve_and_a_bad_one_changes_nothing() {
    let (old, new) = (
        Authority::make("DNS:a.example"),
        Authority::make("DNS:a.example"),
    );
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (
        directory.path().join("a.pem"),
        directory.path().join("a.key"),
    );
    put(old.certificate(), &certificate);
    put(old.key(), &key);
    let site = format!(
        "site a.example {{ listen 127.0.0.1:{{port}} ; tls {} {} ; route {{ respond 200 here }} }}\n",
        certificate.display(),
        key.display()
    );
    let plimsoll = start(&site);
    let is_there = |authority| curl(&plimsoll, authority, "https://a.example/", &[]).is_some();
    assert!(is_there(&old) && !is_there(&new));
    let file = format!("file=\"{}\",kind=\"certificate\"", certificate.display());
    let reads = |result: &str| {
        let name = format!("plimsoll_file_reads_total{{{file},result=\"{result}\"}}");
        plimsoll.metric(&name)
    };
    // The certificate without its key: both are there only when both are new.
    put(new.certificate(), &certificate);
    wait::expect("a refusal", SOON, || reads("refused") == Some(1.0));
    assert!(is_there(&old));
    let stderr = plimsoll.stderr();
    assert!(
        stderr.contains("the key is not that of the certificate"),
        "{stderr}"
    );
    put(new.key(), &key);
    wait::expect("the new pair", SOON, || reads("taken") == Some(2.0));
    assert!(is_there(&new) && !is_there(&old));
}

#[test]
fn a_pair_that_cannot_be_used_costs_its_own_site_alone() {
    let (a, b) = (
        Authority::make("DNS:a.example"),
        Authority::make("DNS:b.example"),
    );
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open.key");
    fs::copy(a.key(), &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    for (certificate, key, problem) in [
        (
            a.certificate(),
            b.key(),
            "the key is not that of the certificate",
        ),
        (a.key(), a.key(), "no certificate stands in it"),
        (
            a.certificate(),
            open.display().to_string(),
            "everybody on the machine may use it",
        ),
        (a.certificate(), "/nowhere.key".to_owned(), "No such file"),
    ] {
        let site = |host: &str, pair: &str| {
            format!(
                "site {host} {{ listen 127.0.0.1:{{port}} ; {pair} ; route {{ respond 200 {host} }} }}\n"
            )
        };
        let sites =
            site("a.example", &format!("tls {certificate} {key}")) + &site("b.example", &pair(&b));
        let plimsoll = start(&sites);
        assert_eq!(curl(&plimsoll, &a, "https://a.example/", &[]), None);
        let here = curl(&plimsoll, &b, "https://b.example/", &[]);
        assert_eq!(here.unwrap(), "b.example 200");
        let stderr = plimsoll.stderr();
        assert!(stderr.contains(problem), "{stderr}");
        let current =
            format!("plimsoll_file_current{{file=\"{certificate}\",kind=\"certificate\"}}");
        assert_eq!(plimsoll.metric(&current), Some(0.0));
        let secret = fs::read_to_string(a.key()).unwrap();
        let secret = secret.lines().nth(1).unwrap();
        assert!(!stderr.contains(secret), "{stderr}");
        // What is to be served is checked as strictly as ever.
        let file = plimsoll.directory().join("plimsoll.conf");
        let arguments = [
            "check".to_owned(),
            "-c".to_owned(),
            file.display().to_string(),
        ];
        let mut check = Start::with(arguments.into()).spawn();
        assert_eq!(check.wait_exit(SOON).code(), Some(78));
    }
}
