//! Which site a request belongs to: the same answer for one host and for ten thousand, in capitals
//! and without.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Stand, assert_canonical};
use std::collections::BTreeSet;

/// Sizes on both sides of where a program may turn from a list to a table.
const SIZES: [usize; 5] = [1, 99, 100, 101, 10_000];

/// Asks for `path` on each host, one after the other on one connection, and compares the bodies.
fn assert_answers(plimsoll: &Plimsoll, path: &str, expected: &[(String, String)]) {
    let mut client = Raw::connect(plimsoll.address());
    for (host, body) in expected {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        client.send(request).unwrap();
        assert_eq!(client.response("GET").text(), *body, "{host}{path}");
    }
}

/// The text as it is, in capitals, and twice in both, so that every letter is each.
fn spellings(text: &str) -> [String; 4] {
    let alternating = |first: usize| {
        let letters = text.chars().enumerate();
        let letter = |(at, letter): (usize, char)| match (at + first) % 2 {
            0 => letter.to_ascii_uppercase(),
            _ => letter,
        };
        letters.map(letter).collect()
    };
    [
        text.to_owned(),
        text.to_ascii_uppercase(),
        alternating(0),
        alternating(1),
    ]
}

/// Hosts at both ends and in the middle, in each spelling, and what must answer them.
fn expected(
    size: usize,
    host: impl Fn(usize) -> String,
    owner: impl Fn(usize) -> String,
) -> Vec<(String, String)> {
    let places = [0, size / 2, size - 1];
    let all = places.into_iter().flat_map(|place| {
        let owner = owner(place);
        spellings(&host(place)).map(|host| (host, owner.clone()))
    });
    all.collect()
}

#[test]
fn the_hosts_of_a_site_match_in_any_case() {
    for size in SIZES {
        let hosts: String = (0..size)
            .map(|n| format!(" Host-{n}.example *.Wide-{n}.example"))
            .collect();
        let configuration = format!(
            "admin 127.0.0.1:{{port:admin}}\n\
             site{hosts} {{\nlisten 127.0.0.1:{{port}}\n\
             route /Case {{ respond 200 upper }}\nroute /case {{ respond 200 lower }}\n}}\n\
             site * {{ listen 127.0.0.1:{{port}} ; route {{ respond 200 other }} }}\n"
        );
        let plimsoll = Start::run(&configuration).start();
        for (path, body) in [("/Case", "upper"), ("/case", "lower")] {
            let exact = expected(size, |n| format!("host-{n}.example"), |_| body.to_owned());
            assert_answers(&plimsoll, path, &exact);
            let wide = expected(
                size,
                |n| format!("a.b.wide-{n}.example"),
                |_| body.to_owned(),
            );
            assert_answers(&plimsoll, path, &wide);
            let near = [
                "host-x.example",
                "ahost-0.example",
                "wide-0.example",
                "host-0.exampl",
            ];
            let near = near.map(|host| (host.to_owned(), "other".to_owned()));
            assert_answers(&plimsoll, path, &near);
        }
    }
}

#[test]
fn each_of_many_sites_is_found() {
    for size in SIZES {
        let sites: String = (0..size)
            .map(|n| {
                format!(
                    "site site-{n}.example *.site-{n}.example {{\nlisten 127.0.0.1:{{port}}\n\
                     route {{ respond 200 {n} }}\n}}\n"
                )
            })
            .collect();
        let configuration = format!("admin 127.0.0.1:{{port:admin}}\n{sites}");
        let plimsoll = Start::run(&configuration).start();
        for prefix in ["", "www."] {
            let host = |n| format!("{prefix}site-{n}.example");
            assert_answers(&plimsoll, "/", &expected(size, host, |n| n.to_string()));
        }
    }
}

#[test]
fn sites_of_one_name_are_counted_together() {
    let text = "admin 127.0.0.1:{port:admin}\n\
                site app.example { listen 127.0.0.1:{port} ; route { respond 200 } }\n\
                site app.example { listen 127.0.0.1:{port:other} ; route { respond 200 } }\n";
    let plimsoll = Start::run(text).start();
    for address in [plimsoll.address(), plimsoll.address_of("other")] {
        let mut client = Raw::connect(address);
        client
            .send("GET / HTTP/1.1\r\nHost: app.example\r\n\r\n")
            .unwrap();
        assert_eq!(client.response("GET").status(), 200);
    }
    let page = get(plimsoll.address_of("admin"), "/metrics").text();
    let series = page.lines().filter(|line| !line.starts_with('#'));
    let series = series.map(|line| line.rsplit_once(' ').unwrap().0);
    let mut seen = BTreeSet::new();
    for name in series {
        assert!(seen.insert(name), "{name} is there twice");
    }
    let count = "plimsoll_requests_total{site=\"app.example\",method=\"GET\",code=\"200\"}";
    assert_eq!(plimsoll.metric(count), Some(2.0));
}

#[test]
fn a_host_that_no_site_names_reaches_no_server() {
    let named =
        "admin off\nsite a.example { listen 127.0.0.1:{port} ; route { proxy {server} } }\n";
    let stand = Stand::run(named, |_| Answer::ok("ok"));
    for (target, host) in [
        ("/", "evil.example"),
        ("/", "a.example.evil"),
        ("/", "127.0.0.1"),
        ("/", "[::1]"),
        ("http://evil.example/", "a.example"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(stand.ask("GET", request).status(), 404, "{target} {host}");
    }
    let nobody = "GET / HTTP/1.0\r\n\r\n";
    assert_eq!(stand.ask("GET", nobody).status(), 404);
    assert!(stand.upstream.requests().is_empty());
    // A site for every host can say itself what servers are told.
    let any = "admin off\nsite * { listen 127.0.0.1:{port} ; request-header set Host app.internal ; route { proxy {server} } }\n";
    let stand = Stand::run(any, |_| Answer::ok("ok"));
    for request in ["GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", nobody] {
        assert_eq!(stand.ask("GET", request).status(), 200);
        let seen = stand.upstream.requests().pop().unwrap();
        assert_eq!(seen.head.fields.first("host"), Some("app.internal"));
        assert_canonical(&seen);
    }
}
