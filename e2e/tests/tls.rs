//! Clients that come with TLS. OpenSSL and curl are the clients.

use plimsoll_e2e::body::digest;
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::tls::{curl, pair as tls, s_client};
use plimsoll_e2e::wire::Close;
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Plimsoll with these sites; `tls NAME` in them stands for the pair of files that `place` made.
fn start(sites: &str, server: &Recorder) -> Plimsoll {
    let text = format!("admin 127.0.0.1:{{port:admin}}\n{sites}");
    Start::run(&text).set("server", server.address()).start()
}

const LAST: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

#[test]
fn each_site_shows_its_own_certificate_and_servers_are_told() {
    let (a, b) = (
        Authority::make("DNS:a.example"),
        Authority::make("DNS:*.b.example"),
    );
    let server = Recorder::start(|_| Answer::ok("app"));
    let plimsoll = start(
        &format!(
            "site a.example {{ listen 127.0.0.1:{{port}} ; {} ; route {{ proxy {{server}} }} }}\n\
             site *.b.example {{ listen 127.0.0.1:{{port}} ; {} ; route scheme=http {{ respond 500 }}\n\
             route {{ respond 200 ${{request.scheme}} }} }}\n",
            tls(&a),
            tls(&b)
        ),
        &server,
    );
    let get = |authority, url| curl(&plimsoll, authority, url, &[]);
    assert_eq!(get(&a, "https://a.example/").unwrap(), "app 200");
    assert_eq!(get(&b, "https://x.b.example/").unwrap(), "https 200");
    assert_eq!(get(&b, "https://a.example/"), None, "it is not trusted");
    let head = server.requests().remove(0).head;
    assert_eq!(head.fields.first("x-forwarded-proto"), Some("https"));
    let whole = "GET https://a.example/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";
    let said = s_client(&plimsoll, "-quiet -servername a.example", whole);
    assert!(said.contains("HTTP/1.1 200"), "{said}");
    let foreign = whole.replace("https:", "http:");
    let said = s_client(&plimsoll, "-quiet -servername a.example", &foreign);
    assert!(said.contains("400 Bad Request"), "{said}");
}

#[test]
fn a_name_that_no_site_has_is_refused() {
    let a = Authority::make("DNS:a.example");
    let server = Recorder::start(|_| Answer::ok("app"));
    let site = |host| {
        let pair = tls(&a);
        format!(
            "site {host} {{ listen 127.0.0.1:{{port}} ; {pair} ; route {{ respond 200 here }} }}\n"
        )
    };
    let plimsoll = start(&site("a.example"), &server);
    let said = s_client(&plimsoll, "-servername c.example", LAST);
    assert!(said.contains("alert number 112"), "{said}");
    // Who says no name gets the first site; who asks there for a host that is none gets 404.
    let said = s_client(&plimsoll, "-quiet -noservername", LAST);
    assert!(said.contains("200 OK"), "{said}");
    let failures = format!(
        "plimsoll_tls_failures_total{{listener=\"{}\"}}",
        plimsoll.address()
    );
    assert_eq!(plimsoll.metric(&failures), Some(1.0));
    let plimsoll = start(&site("*"), &server);
    let said = s_client(&plimsoll, "-quiet -servername c.example", LAST);
    assert!(said.contains("200 OK"), "{said}");
}

#[test]
fn a_connection_is_for_the_sites_with_its_certificates() {
    let (a, b) = (
        Authority::make("DNS:a.example,DNS:c.example"),
        Authority::make("DNS:b.example"),
    );
    let server = Recorder::start(|_| Answer::ok("app"));
    let site = |host, authority| {
        let pair = tls(authority);
        format!(
            "site {host} {{ listen 127.0.0.1:{{port}} ; {pair} ; route {{ respond 200 {host} }} }}\n"
        )
    };
    let sites = [
        site("a.example", &a),
        site("b.example", &b),
        site("c.example", &a),
    ]
    .concat();
    let plimsoll = start(&sites, &server);
    let ask = |host: &str| {
        let host = format!("Host: {host}");
        curl(&plimsoll, &a, "https://a.example/", &["-H", &host]).unwrap()
    };
    assert_eq!(ask("a.example"), "a.example 200");
    assert_eq!(ask("c.example"), "c.example 200");
    assert!(ask("b.example").ends_with(" 421"));
}

#[test]
fn bodies_pass_whole_either_way() {
    const LARGE: usize = 16 * 1024 * 1024;
    let body: Vec<u8> = (0..LARGE)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let a = Authority::make("DNS:a.example");
    let down = body.clone();
    let server = Recorder::start(move |request| match &*request.head.method {
        "GET" => Answer::ok(&down),
        _ => Answer::ok("taken"),
    });
    let site = format!(
        "site a.example {{ listen 127.0.0.1:{{port}} ; {} ; route {{ proxy {{server}} }} }}\n",
        tls(&a)
    );
    let plimsoll = start(&site, &server);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("body");
    fs::write(&file, &body).unwrap();
    let (file, url) = (file.to_str().unwrap(), "https://a.example/");
    for more in [
        &["-T", file, "--http2"][..],
        &["-T", file, "--http1.1"],
        &["-T", file, "--http1.1", "-H", "Transfer-Encoding: chunked"],
    ] {
        assert_eq!(curl(&plimsoll, &a, url, more).unwrap(), "taken 200");
        let received = server.requests().pop().unwrap().body;
        assert_eq!(received.digest, digest(&body), "{more:?}");
    }
    let out = directory.path().join("out");
    for version in [
        "--http2 --tlsv1.3",
        "--http1.1 --tlsv1.3",
        "--http2 --tls-max 1.2",
    ] {
        let version: Vec<&str> = version.split(' ').collect();
        let more = [&version[..], &["-o", out.to_str().unwrap()]].concat();
        assert_eq!(curl(&plimsoll, &a, url, &more).unwrap(), " 200");
        assert!(fs::read(&out).unwrap() == body, "{version:?}");
    }
}

#[test]
fn what_the_two_ends_agree_on_is_safe() {
    let a = Authority::make("DNS:a.example");
    let server = Recorder::start(|_| Answer::ok("app"));
    let site = format!(
        "site a.example {{ listen 127.0.0.1:{{port}} ; {} ; route {{ respond 200 here }} }}\n",
        tls(&a)
    );
    let plimsoll = start(&site, &server);
    let said = s_client(
        &plimsoll,
        "-servername a.example -tls1_1 -cipher ALL@SECLEVEL=0",
        LAST,
    );
    assert!(!said.contains("200 OK"), "{said}");
    for version in ["-tls1_2", "-tls1_3"] {
        let options = format!("-ign_eof -servername a.example -alpn x,http/1.1 {version}");
        let said = s_client(&plimsoll, &options, LAST);
        assert!(said.contains("200 OK"), "{said}");
        assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
        // The end is said, not only made.
        assert!(!said.contains("unexpected eof"), "{said}");
    }
    let directory = tempfile::tempdir().unwrap();
    let session = directory.path().join("session").display().to_string();
    let first = format!("-ign_eof -servername a.example -sess_out {session}");
    assert!(s_client(&plimsoll, &first, LAST).contains("New, TLSv1.3"));
    let again = format!("-ign_eof -servername a.example -sess_in {session}");
    assert!(s_client(&plimsoll, &again, LAST).contains("Reused, TLSv1.3"));
}

#[test]
fn each_client_gets_a_certificate_that_it_can_check() {
    let (elliptic, rsa) = (
        Authority::make("DNS:a.example"),
        Authority::make_rsa("DNS:a.example"),
    );
    let server = Recorder::start(|_| Answer::ok("app"));
    let site = format!(
        "site a.example {{ listen 127.0.0.1:{{port}} ; {} ; {} ; route {{ respond 200 here }} }}\n",
        tls(&rsa),
        tls(&elliptic)
    );
    let plimsoll = start(&site, &server);
    for (algorithms, kind) in [
        ("RSA-PSS+SHA256", "RSA-PSS"),
        ("ECDSA+SHA256", "ECDSA"),
        ("RSA-PSS+SHA256:ECDSA+SHA256", "ECDSA"),
    ] {
        let options = format!("-servername a.example -sigalgs {algorithms}");
        let said = s_client(&plimsoll, &options, "Q\n");
        assert!(
            said.contains(&format!("Peer signature type: {kind}")),
            "{said}"
        );
    }
}

#[test]
fn a_client_that_does_not_greet_is_left() {
    let a = Authority::make("DNS:a.example");
    let server = Recorder::start(|_| Answer::ok("app"));
    let site = format!(
        "site a.example {{ listen 127.0.0.1:{{port}} ; timeout header=300ms ; {} ; route {{ respond 200 }} }}\n",
        tls(&a)
    );
    let plimsoll = start(&site, &server);
    // The beginning of a record that says it has 512 bytes.
    for silent in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"] {
        let mut client = Raw::connect(plimsoll.address());
        client.send(silent).unwrap();
        assert_eq!(client.read_to_close(SOON).close, Close::Fin);
    }
}
