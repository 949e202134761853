//! Reloads that change what clients with TLS are shown, or have to show.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::tls::{self, Session};
use std::io::{Read, Write};

fn with(pair: &str, statements: &str) -> String {
    format!(
        "admin unix:{{dir}}/admin.sock\nsite a.example {{ listen 127.0.0.1:{{port}}; {pair}; {statements} }}\n"
    )
}

const ONE: &str = "route { respond 200 one }";
const TWO: &str = "route { respond 200 two }";

fn start(authority: &Authority) -> Plimsoll {
    Start::run(&with(&tls::pair(authority), ONE)).start()
}

/// Asks, and reads what comes: an answer, or nothing.
fn ask(session: &mut Session) -> String {
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    if session.write_all(request).is_err() {
        return String::new();
    }
    while !answer.ends_with(b"one") && !answer.ends_with(b"two") {
        match session.read(&mut piece) {
            Ok(count @ 1..) => answer.extend(piece.get(..count).unwrap()),
            _ => return String::new(),
        }
    }
    String::from_utf8(answer.split_off(answer.len() - 3)).unwrap()
}

#[test]
fn who_has_agreed_on_tls_goes_on_and_who_comes_sees_the_new_certificate() {
    let (old, new) = (
        Authority::make("DNS:a.example"),
        Authority::make("DNS:a.example"),
    );
    let mut plimsoll = start(&old);
    let mut session = tls::session(&old, plimsoll.address());
    assert_eq!(ask(&mut session), "one");
    plimsoll.reload(&with(&tls::pair(&new), TWO)).expect_done();
    assert_eq!(ask(&mut session), "two");
    assert_eq!(ask(&mut tls::session(&new, plimsoll.address())), "two");
    assert_eq!(ask(&mut tls::session(&old, plimsoll.address())), "");
}

#[test]
fn a_certificate_that_stands_in_the_same_file_is_in_force_when_the_command_is_done() {
    let (old, new) = (
        Authority::make("DNS:a.example"),
        Authority::make("DNS:a.example"),
    );
    let mut plimsoll = start(&old);
    std::fs::copy(new.certificate(), old.certificate()).unwrap();
    std::fs::copy(new.key(), old.key()).unwrap();
    plimsoll.reload(&with(&tls::pair(&old), ONE)).expect_done();
    assert_eq!(ask(&mut tls::session(&new, plimsoll.address())), "one");
    // What cannot be used is refused, and what is in force stays.
    std::fs::write(old.key(), "no key").unwrap();
    let told = plimsoll.reload(&with(&tls::pair(&old), TWO));
    assert_eq!(told.code, Some(78), "{told:?}");
    assert!(
        told.err.contains("no private key that can be read"),
        "{told:?}"
    );
    assert_eq!(ask(&mut tls::session(&new, plimsoll.address())), "one");
}

#[test]
fn who_has_shown_no_certificate_is_not_served_once_one_is_asked_for() {
    let authority = Authority::make("DNS:a.example");
    let mut plimsoll = start(&authority);
    let mut session = tls::session(&authority, plimsoll.address());
    assert_eq!(ask(&mut session), "one");
    let asked = format!(
        "client-certificate required ca={}; {TWO}",
        authority.trusted()
    );
    plimsoll
        .reload(&with(&tls::pair(&authority), &asked))
        .expect_done();
    assert_eq!(ask(&mut session), "", "it has ended");
    assert_eq!(ask(&mut tls::session(&authority, plimsoll.address())), "");
}

#[test]
fn sessions_go_on_at_the_next_configuration() {
    let authority = Authority::make("DNS:a.example");
    let mut plimsoll = start(&authority);
    let resumed = |plimsoll: &Plimsoll, file: &str| {
        let to = plimsoll.directory().join("session").display().to_string();
        let options = format!("-ign_eof -servername a.example {file} {to}");
        tls::s_client(
            plimsoll,
            &options,
            "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
        )
    };
    assert!(resumed(&plimsoll, "-sess_out").contains("New, TLS"));
    plimsoll
        .reload(&with(&tls::pair(&authority), TWO))
        .expect_done();
    let again = resumed(&plimsoll, "-sess_in");
    assert!(
        again.contains("Reused, TLS") && again.contains("two"),
        "{again}"
    );
}
