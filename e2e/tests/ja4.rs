//! What kind of program a client is, by how it begins TLS.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::tls::{curl, pair, s_client};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

/// A site that answers with nothing but what its rules say of the fingerprint.
fn start(ours: &Authority, rules: &str, log: &str) -> Plimsoll {
    Start::run(&format!(
        "admin 127.0.0.1:{{port:admin}}\nsite a.example {{ listen 127.0.0.1:{{port}} ; {} ; log {{dir}}/access.log {log} ; {rules} }}\n",
        pair(ours)
    ))
    .start()
}

/// The fingerprint that the last line of the log has.
fn logged(plimsoll: &Plimsoll, lines: usize) -> Option<String> {
    let line = plimsoll.wait_log("access.log", lines, SOON).pop().unwrap();
    let (_, rest) = line.split_once("\"ja4\":\"")?;
    Some(rest.split('"').next().unwrap().to_owned())
}

#[test]
fn the_log_has_it_where_it_is_asked_for() {
    let ours = Authority::make("DNS:a.example");
    let plimsoll = start(&ours, "route { respond 200 }", "json+ja4");
    let of = |options: &str, lines| {
        let said = s_client(&plimsoll, &format!("-quiet {options}"), GET);
        assert!(said.contains("HTTP/1.1 200"), "{said}");
        logged(&plimsoll, lines).unwrap()
    };
    let named = of("-servername a.example -alpn http/1.1", 1);
    assert!(
        named.starts_with("t13d") && named.get(8..11) == Some("h1_"),
        "{named}"
    );
    assert_eq!(of("-servername a.example -alpn http/1.1", 2), named);
    let nameless = of("-noservername", 3);
    assert!(
        nameless.starts_with("t13i") && nameless.get(8..11) == Some("00_"),
        "{nameless}"
    );
    // The ends of both are the same: neither the name nor the protocol is part of them.
    assert_eq!(named.get(11..), nameless.get(11..));
    let old = of("-servername a.example -tls1_2", 4);
    assert!(old.starts_with("t12d"), "{old}");
    let plimsoll = start(&ours, "route { respond 200 }", "json");
    assert!(s_client(&plimsoll, "-quiet -servername a.example", GET).contains("200"));
    assert_eq!(logged(&plimsoll, 1), None);
}

#[test]
fn rules_and_servers_see_it_on_every_request_of_a_connection() {
    let ours = Authority::make("DNS:a.example");
    let server =
        Recorder::start(|request| Answer::ok(request.head.fields.first("x-ja4").unwrap_or("none")));
    let rules = format!(
        "request-header set X-JA4 ${{client.ja4}}\n route ja4~^t12 {{ respond 403 old }}\n route {{ proxy {} }}",
        server.address()
    );
    let plimsoll = start(&ours, &rules, "json+ja4");
    let urls = ["https://a.example/1", "https://a.example/2"];
    for protocol in ["--http1.1", "--http2"] {
        let both = curl(&plimsoll, &ours, urls[0], &[protocol, urls[1]]).unwrap();
        let shown: Vec<&str> = both.split(" 200").collect();
        assert_eq!(shown[0], shown[1], "{both}");
        let alpn = if protocol == "--http2" { "h2_" } else { "h1_" };
        assert!(
            shown[0].starts_with("t13d") && shown[0].get(8..11) == Some(alpn),
            "{both}"
        );
    }
    let old = curl(&plimsoll, &ours, urls[0], &["--tls-max", "1.2"]);
    assert_eq!(old.unwrap(), "old 403");
}

#[test]
fn limits_count_by_it() {
    let ours = Authority::make("DNS:a.example");
    let rules = "limit 1/h by=ja4 ; route { respond 200 }";
    let plimsoll = start(&ours, rules, "json");
    let status = |more: &[&str]| {
        let said = curl(&plimsoll, &ours, "https://a.example/", more).unwrap();
        said.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(status(&["--http2"]), "200");
    assert_eq!(status(&["--http2"]), "429");
    assert_eq!(status(&["--http1.1"]), "200");
    assert_eq!(status(&["--http1.1"]), "429");
}
