//! Files with certificates and keys: read, changed, broken, out of date.

use plimsoll_e2e::certifier::{Certifier, Shown, put};
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::tls::{curl, pair, s_client};
use plimsoll_e2e::wait;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

#[test]
fn certificates_that_end_are_spoken_of() {
    let ours = Certifier::make("ours");
    let seconds = |days: u32| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let day = Duration::from_secs(24 * 60 * 60);
        (since + day * days + day / 24).as_secs_f64().floor()
    };
    let stamp = |unix: f64| {
        let mut date = Command::new("date");
        let output = date
            .args(["-u", "-d", &format!("@{unix}"), "+%Y%m%d%H%M%SZ"])
            .output();
        String::from_utf8(output.unwrap().stdout)
            .unwrap()
            .trim()
            .to_owned()
    };
    let (soon, later) = (seconds(3), seconds(400));
    let past = ours.certify_until("past", "past.example", "20240101000000Z");
    let near = ours.certify_until("near", "near.example", &stamp(soon));
    let far = ours.certify_until("far", "far.example", &stamp(later));
    let all = [
        (&past, "past.example", 1_704_067_200.0, Some("has expired")),
        (
            &near,
            "near.example",
            soon,
            Some("expires in less than 4 days"),
        ),
        (&far, "far.example", later, None),
    ];
    let sites = all.map(|(shown, host, _, _)| {
        format!(
            "site {host} {{ listen 127.0.0.1:{{port}} ; tls {} {} ; route {{ respond 200 }} }}\n",
            shown.certificate, shown.key
        )
    });
    let plimsoll = start(&sites.concat());
    let file = plimsoll.directory().join("plimsoll.conf");
    let output = Command::new(binary())
        .args(["check", "-c"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success());
    let output = String::from_utf8(output.stdout).unwrap();
    wait::expect("a warning", SOON, || plimsoll.stderr().contains("expired"));
    let stderr = plimsoll.stderr();
    for (shown, _, end, says) in all {
        let name = "plimsoll_certificate_expiry_timestamp_seconds";
        let metric = format!("{name}{{file=\"{}\"}}", shown.certificate);
        assert_eq!(plimsoll.metric(&metric), Some(end));
        let about = format!("the certificate `{}` ", shown.certificate);
        for text in [&output, &stderr] {
            let said = text.lines().find_map(|line| line.split_once(&about));
            assert_eq!(said.map(|(_, said)| said), says, "{text}");
        }
    }
}

/// While certificates change, every client gets the old one or the new one, whole; which site it gets
/// does not depend on the order in which they are written.
#[test]
fn certificates_change_under_load_and_the_nearest_name_decides() {
    let (exact, wild) = (
        Authority::make("DNS:a.b.example"),
        Authority::make("DNS:*.b.example"),
    );
    let next = Authority::make("DNS:a.b.example");
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("both.pem");
    let trusted = [exact.trusted(), next.trusted()].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&bundle, trusted.concat()).unwrap();
    let both = ["--cacert", bundle.to_str().unwrap()];
    let certificate = directory.path().join("a.pem");
    let key = directory.path().join("a.key");
    put(exact.certificate(), &certificate);
    put(exact.key(), &key);
    let a = format!("tls {} {}", certificate.display(), key.display());
    let site = |host: &str, pair: &str| {
        format!(
            "site {host} {{ listen 127.0.0.1:{{port}} ; {pair} ; route {{ respond 200 \"{host}\" }} }}\n"
        )
    };
    let (one, other) = (site("*.b.example", &pair(&wild)), site("a.b.example", &a));
    for sites in [one.clone() + &other, other + &one] {
        let plimsoll = start(&sites);
        let get = |authority, url| curl(&plimsoll, authority, url, &[]);
        assert_eq!(
            get(&wild, "https://x.b.example/").unwrap(),
            "*.b.example 200"
        );
        assert_eq!(get(&wild, "https://a.b.example/"), None);
        let turns = [(&next, 2.0), (&exact, 3.0), (&next, 4.0), (&exact, 5.0)];
        for (pair, taken) in turns {
            put(pair.certificate(), &certificate);
            put(pair.key(), &key);
            let reads = format!(
                "plimsoll_file_reads_total{{file=\"{}\",kind=\"certificate\",result=\"taken\"}}",
                certificate.display()
            );
            wait::expect("the new pair", SOON, || {
                let either = curl(&plimsoll, &exact, "https://a.b.example/", &both);
                assert_eq!(either.unwrap(), "a.b.example 200");
                plimsoll.metric(&reads) >= Some(taken)
            });
        }
    }
}

/// What a responder says of `shown`, signed by its issuer.
fn respond(ours: &Certifier, shown: &Shown, days: &str, to: &Path) {
    let next = to.with_extension("answer");
    ours.respond(shown, days, &next);
    put(&next, to);
}

#[test]
fn what_the_issuer_says_is_shown_while_it_is_in_force() {
    let ours = Certifier::make("ours");
    let end = "20990101000000Z";
    let shown = ours.certify_until("a", "a.example", end);
    let renewed = ours.certify_until("b", "a.example", end);
    let directory = tempfile::tempdir().unwrap();
    let answer = directory.path().join("a.ocsp");
    fs::write(&answer, "nonsense").unwrap();
    let site = format!(
        "site a.example {{ listen 127.0.0.1:{{port}} ; tls {} {} staple={} ; route {{ respond 200 here }} }}\n",
        shown.certificate,
        shown.key,
        answer.display()
    );
    let plimsoll = start(&site);
    let status = || s_client(&plimsoll, "-status -servername a.example", "Q\n");
    let reads = |result: &str| {
        let file = format!(
            "file=\"{}\",kind=\"staple\",result=\"{result}\"",
            answer.display()
        );
        plimsoll.metric(&format!("plimsoll_file_reads_total{{{file}}}"))
    };
    assert!(status().contains("no response sent"));
    assert!(
        plimsoll
            .stderr()
            .contains("the certificate is shown without it")
    );
    respond(&ours, &shown, "7", &answer);
    wait::expect("the answer", SOON, || reads("taken") == Some(1.0));
    let said = status();
    assert!(said.contains("Cert Status: good"), "{said}");
    // One that is about another certificate, or that is bad.
    respond(&ours, &renewed, "7", &answer);
    wait::expect("the other answer", SOON, || reads("taken") == Some(2.0));
    assert!(status().contains("no response sent"));
    respond(&ours, &shown, "7", &answer);
    wait::expect("a good answer", SOON, || reads("taken") == Some(3.0));
    ours.revoke(&shown);
    respond(&ours, &shown, "7", &answer);
    wait::expect("a refusal", SOON, || reads("refused") == Some(2.0));
    assert!(status().contains("Cert Status: good"), "what holds is kept");
}

#[test]
fn what_the_issuer_says_no_more_is_spoken_of_once() {
    let ours = Certifier::make("ours");
    let shown = ours.certify_until("a", "a.example", "20990101000000Z");
    let directory = tempfile::tempdir().unwrap();
    let answer = directory.path().join("a.ocsp");
    respond(&ours, &shown, "7", &answer);
    // The same as it was said years ago. Whether it is signed is for clients to find out.
    let mut der = fs::read(&answer).unwrap();
    let times: Vec<usize> = (0..der.len())
        .filter(|at| der[*at..].starts_with(b"\x18\x0f20"))
        .collect();
    for at in times {
        der[at + 2..at + 6].copy_from_slice(b"2020");
    }
    fs::write(&answer, der).unwrap();
    let plimsoll = start(&format!(
        "site a.example {{ listen 127.0.0.1:{{port}} ; tls {} {} staple={} ; route {{ respond 200 here }} }}\n",
        shown.certificate,
        shown.key,
        answer.display()
    ));
    let labels = format!("file=\"{}\",kind=\"staple\"", answer.display());
    let metric = |name: &str| plimsoll.metric(name);
    let refused = format!("plimsoll_file_reads_total{{{labels},result=\"refused\"}}");
    let current = format!("plimsoll_file_current{{{labels}}}");
    wait::expect("a count", SOON, || metric(&refused) == Some(1.0));
    assert_eq!(metric(&current), Some(0.0));
    let said = s_client(&plimsoll, "-status -servername a.example", "Q\n");
    assert!(said.contains("no response sent"), "{said}");
    respond(&ours, &shown, "7", &answer);
    wait::expect("a new answer", SOON, || metric(&current) == Some(1.0));
    let said = s_client(&plimsoll, "-status -servername a.example", "Q\n");
    assert!(said.contains("Cert Status: good"), "{said}");
    let stderr = plimsoll.stderr();
    assert_eq!(stderr.matches("is out of date").count(), 1, "{stderr}");
}
