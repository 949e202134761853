//! What responders say of certificates, asked for while we serve. OpenSSL is the responder; what no honest
//! one says is said by hand.

use plimsoll_e2e::certifier::{Certifier, Shown, put};
use plimsoll_e2e::daemon::Daemon;
use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::ports;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::tls::s_client;
use plimsoll_e2e::wait;
use std::fs;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const MUST_STAPLE: &str = "tlsfeature=status_request";

/// A certificate that names a responder at this port.
fn certify(ours: &Certifier, port: u16, more: &[&str]) -> Shown {
    certify_as("a", ours, port, more)
}

fn certify_as(file: &str, ours: &Certifier, port: u16, more: &[&str]) -> Shown {
    let responder = format!("authorityInfoAccess=OCSP;URI:http://127.0.0.1:{port}/");
    let extensions: Vec<&str> = [&[&*responder], more].concat();
    ours.certify_with(file, "a.example", &extensions)
}

fn text(shown: &Shown, more: &str) -> String {
    format!(
        "admin 127.0.0.1:{{port:admin}}\n\
         site a.example {{ listen 127.0.0.1:{{port}} ; tls {} {} {more} ; route {{ respond 200 here }} }}\n",
        shown.certificate, shown.key
    )
}

fn start(shown: &Shown) -> Plimsoll {
    Start::run(&text(shown, "")).start()
}

/// What a client sees that asks for a staple.
fn status(plimsoll: &Plimsoll) -> String {
    s_client(plimsoll, "-status -servername a.example", "Q\n")
}

fn reads(plimsoll: &Plimsoll, shown: &Shown, result: &str) -> Option<f64> {
    let file = &shown.certificate;
    let labels = format!("file=\"{file}\",kind=\"staple\",result=\"{result}\"");
    plimsoll.metric(&format!("plimsoll_file_reads_total{{{labels}}}"))
}

fn expect_read(plimsoll: &Plimsoll, shown: &Shown, result: &str) {
    wait::expect(result, SOON, || reads(plimsoll, shown, result) >= Some(1.0));
}

fn is_missing(plimsoll: &Plimsoll, shown: &Shown) -> Option<f64> {
    let file = &shown.certificate;
    plimsoll.metric(&format!(
        "plimsoll_certificate_staple_missing{{file=\"{file}\"}}"
    ))
}

#[test]
fn a_responder_is_asked_and_clients_see_what_it_says() {
    let ours = Certifier::make("ours");
    let port = ports::free();
    let shown = certify(&ours, port, &[]);
    for delegate in [None, Some("responder")] {
        let _responder = ours.responder(port, delegate, "7");
        let plimsoll = start(&shown);
        expect_read(&plimsoll, &shown, "taken");
        let said = status(&plimsoll);
        assert!(said.contains("Cert Status: good"), "{said}");
        assert_eq!(reads(&plimsoll, &shown, "refused"), Some(0.0));
        assert_eq!(is_missing(&plimsoll, &shown), None, "nobody insists on it");
    }
}

/// S-162: what does not come, or says nothing that holds, leaves the certificate without.
#[test]
fn what_is_revoked_or_not_there_is_not_shown() {
    let ours = Certifier::make("ours");
    let port = ports::free();
    let shown = certify(&ours, port, &[]);
    let is_without = |responder: Option<Daemon>, why: &str| {
        let plimsoll = start(&shown);
        expect_read(&plimsoll, &shown, "refused");
        let said = status(&plimsoll);
        assert!(said.contains("no response sent"), "{said}");
        let stderr = plimsoll.stderr();
        assert!(stderr.contains(why), "{stderr}");
        assert!(stderr.contains("is shown without"), "{stderr}");
        drop(responder);
    };
    is_without(None, "Connection refused");
    ours.revoke(&shown);
    let responder = ours.responder(port, None, "7");
    is_without(Some(responder), "the certificate was revoked");
}

/// S-162: whoever answers in place of the responder makes nothing be shown, and nobody wait.
#[test]
fn a_false_or_endless_answer_is_not_shown() {
    let ours = Certifier::make("ours");
    let other = ours.certify_with("b", "a.example", &[]);
    let directory = tempfile::tempdir().unwrap();
    let recorded = directory.path().join("other.ocsp");
    ours.respond(&other, "7", &recorded);
    // The same with other times than were signed.
    let mut forged = fs::read(&recorded).unwrap();
    for at in 0..forged.len() {
        if forged[at..].starts_with(b"\x18\x0f20") {
            forged[at + 2..at + 6].copy_from_slice(b"2098");
        }
    }
    let endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [b"1000\r\n", &[b'x'; 0x1000][..], b"\r\n"].concat();
    let endless = vec![
        Step::ReadBody,
        Step::Send(endless.to_vec()),
        Step::Repeat(chunk, 1_000_000),
    ];
    for (answer, why) in [
        (Answer::ok("nonsense"), "no answer of a responder"),
        (Answer::ok(""), "no answer of a responder"),
        (
            Answer::ok([0x30, 3, 10, 1, 3]),
            "the responder gave no answer",
        ),
        (
            Answer::ok(fs::read(&recorded).unwrap()),
            "about another certificate",
        ),
        (Answer::ok(forged), "it is not signed by the issuer"),
        (Answer(endless), "larger than 1 MiB"),
        (Answer::status(503, "later"), "the answer has status 503"),
    ] {
        let responder = Recorder::start(move |_| answer.clone());
        let shown = certify(&ours, responder.address().port(), &[]);
        let plimsoll = start(&shown);
        expect_read(&plimsoll, &shown, "refused");
        let said = status(&plimsoll);
        assert!(said.contains("no response sent"), "{why}: {said}");
        let stderr = plimsoll.stderr();
        assert!(stderr.contains(why), "{why}: {stderr}");
        let asked = responder.requests();
        assert_eq!(asked[0].head.method, "POST");
    }
}

#[test]
fn the_first_client_gets_what_it_insists_on() {
    let ours = Certifier::make("ours");
    let port = ports::free();
    let shown = certify(&ours, port, &[MUST_STAPLE]);
    let _responder = ours.responder(port, None, "7");
    let plimsoll = start(&shown);
    let said = status(&plimsoll);
    assert!(said.contains("Cert Status: good"), "{said}");
}

#[test]
fn a_responder_that_is_down_is_asked_again_and_its_answer_outlives_it() {
    let ours = Certifier::make("ours");
    let port = ports::free();
    let shown = certify(&ours, port, &[MUST_STAPLE]);
    let plimsoll = start(&shown);
    expect_read(&plimsoll, &shown, "refused");
    assert_eq!(is_missing(&plimsoll, &shown), Some(1.0));
    let stderr = plimsoll.stderr();
    assert!(stderr.contains("ERROR"), "{stderr}");
    assert!(stderr.contains("clients may refuse it"), "{stderr}");
    let responder = ours.responder(port, None, "7");
    expect_read(&plimsoll, &shown, "taken");
    drop(responder);
    assert!(status(&plimsoll).contains("Cert Status: good"));
    assert_eq!(is_missing(&plimsoll, &shown), Some(0.0));
}

/// S-162.
#[test]
fn an_answer_whose_time_is_over_is_not_shown() {
    let ours = Certifier::make("ours");
    let port = ports::free();
    let shown = certify(&ours, port, &[]);
    let directory = tempfile::tempdir().unwrap();
    let late = directory.path().join("late.ocsp");
    // The first is in force for a hundred years, so that it is only its time that keeps the other back.
    for (days, result, seen) in [
        ("36500", "taken", "Cert Status: good"),
        ("7", "refused", "no response sent"),
    ] {
        ours.respond_late(&shown, days, &late);
        let answer = Answer::ok(fs::read(&late).unwrap());
        let responder = Recorder::start_at(ports::local(port), move |_| answer.clone());
        let plimsoll = start(&shown);
        expect_read(&plimsoll, &shown, result);
        let said = status(&plimsoll);
        assert!(said.contains(seen), "{said}");
        let is_over = plimsoll.stderr().contains("its time is over");
        assert_eq!(is_over, result == "refused");
        drop(responder);
    }
}

#[test]
fn a_renewed_certificate_is_asked_about_anew() {
    let ours = Certifier::make("ours");
    let port = ports::free();
    let [old, new] = ["old", "new"].map(|file| certify_as(file, &ours, port, &[]));
    let _responder = ours.responder(port, None, "7");
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let serve = |shown: &Shown| {
        put(&shown.key, &file("a.key"));
        put(&shown.certificate, &file("a.pem"));
    };
    serve(&old);
    let served = Shown {
        certificate: file("a.pem").display().to_string(),
        key: file("a.key").display().to_string(),
    };
    let plimsoll = start(&served);
    expect_read(&plimsoll, &served, "taken");
    serve(&new);
    wait::expect("the new one", SOON, || {
        reads(&plimsoll, &served, "taken") == Some(2.0)
    });
    let said = status(&plimsoll);
    assert!(said.contains("Cert Status: good"), "{said}");
}

#[test]
fn nobody_is_asked_where_that_is_not_wanted_and_who_insists_is_spoken_of() {
    let ours = Certifier::make("ours");
    let responder = Recorder::start(|_| Answer::status(500, ""));
    let shown = certify(&ours, responder.address().port(), &[MUST_STAPLE]);
    let plimsoll = Start::run(&text(&shown, "staple=off")).start();
    wait::expect("a warning", SOON, || {
        plimsoll.stderr().contains("clients insist on")
    });
    assert_eq!(is_missing(&plimsoll, &shown), Some(1.0));
    assert_eq!(reads(&plimsoll, &shown, "refused"), None);
    assert!(responder.requests().is_empty());
    let check = || {
        let mut command = Command::new(binary());
        let file = plimsoll.directory().join("plimsoll.conf");
        let output = command.args(["check", "-c"]).arg(file).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let said = check();
    assert!(said.contains("warning: clients insist on"), "{said}");
    // Where the responder is asked, nothing is wrong as long as it answers; here nobody asks it.
    fs::write(
        plimsoll.directory().join("plimsoll.conf"),
        text(&shown, "")
            .replace("{port}", "1")
            .replace("{port:admin}", "2"),
    )
    .unwrap();
    let said = check();
    assert!(!said.contains("clients insist on"), "{said}");
    assert!(responder.requests().is_empty());
}
