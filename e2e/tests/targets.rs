//! Request targets and hosts: one canonical form reaches the server, or the request is refused.

use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Stand, assert_canonical};

fn get(target: &str) -> Vec<u8> {
    request(target.as_bytes(), "Host: x\r\n")
}

fn request(target: &[u8], host: &str) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1\r\n", host.as_bytes(), b"\r\n"].concat()
}

fn refused(vectors: Vec<Vec<u8>>) {
    let vectors: Vec<_> = vectors.into_iter().map(|vector| (vector, 400)).collect();
    Stand::ok().assert_refused(&vectors);
}

#[test]
fn one_path_reaches_the_server_for_all_its_spellings() {
    let stand = Stand::ok();
    let table = [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a/../admin", "/admin"),
        ("/a/%2e%2e/admin", "/admin"),
        ("/a/%2E./admin", "/admin"),
        ("/a/.%2e/admin", "/admin"),
        ("/a/./b", "/a/b"),
        ("/a/%2e/b", "/a/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/..", "/"),
        ("/a//admin", "/a/admin"),
        ("//admin", "/admin"),
        ("//evil.com/..", "/"),
        ("///a///b///", "/a/b/"),
        ("/%61dmin", "/admin"),
        ("/%7Eme", "/~me"),
        ("/A", "/A"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/%25", "/%25"),
        ("/a|b", "/a%7Cb"),
        ("/a\"<>^`{}b", "/a%22%3C%3E%5E%60%7B%7Db"),
        ("/a;b=c/d", "/a;b=c/d"),
        ("/...", "/..."),
        ("/..a", "/..a"),
        ("/a/..b/c", "/a/..b/c"),
        ("/a%3bb", "/a%3Bb"),
        ("/a%3fb", "/a%3Fb"),
        ("/a%23b", "/a%23b"),
        // A query is the application's: it is not touched.
        ("/?", "/?"),
        ("/a?b=../c", "/a?b=../c"),
        ("/a?b=%2f%2e%zz", "/a?b=%2f%2e%zz"),
        ("/a?b?c", "/a?b?c"),
        ("/a/..?b=//c", "/?b=//c"),
        ("/?u=http://evil/", "/?u=http://evil/"),
    ];
    for (target, expected) in table {
        assert_eq!(stand.ask("GET", get(target)).status(), 200, "{target}");
        let seen = stand.upstream.requests();
        let seen = seen.last().unwrap();
        assert_eq!(seen.head.target, expected, "{target}");
        assert_canonical(seen);
        // The canonical form is its own canonical form: a second hop sees the same path.
        assert_eq!(stand.ask("GET", get(expected)).status(), 200, "{expected}");
        let again = stand.upstream.requests();
        assert_eq!(again.last().unwrap().head.target, expected, "{target}");
    }
    assert_eq!(stand.upstream.malformed(), []);
}

/// Rules for paths, and steps that change them. Servers are told which route took the request.
const RULES: &str = "admin off\nsite * {\nlisten 127.0.0.1:{port}\n\
    route /admin/* { respond 403 }\n\
    route /api/* { strip-prefix /api ; request-header set X-Route api ; proxy {server} }\n\
    route /old/* { rewrite `^/old/(.*)$` /new/$1 ; request-header set X-Route old ; proxy {server} }\n\
    route /up/* { rewrite `^/up/(.*)$` /up/../$1 ; request-header set X-Route up ; proxy {server} }\n\
    route /a/* { request-header set X-Route a ; proxy {server} }\n\
    route { request-header set X-Route rest ; proxy {server} }\n}\n";

#[test]
fn rules_match_the_path_that_the_server_receives() {
    let stand = Stand::run(RULES, |_| Answer::ok("ok"));
    for (target, route, forwarded) in [
        ("/admin", "denied", ""),
        ("/admin/x", "denied", ""),
        ("/a/../admin", "denied", ""),
        ("/a/%2e%2e/admin", "denied", ""),
        ("/a/.%2E/%61dmin/x", "denied", ""),
        ("//admin", "denied", ""),
        ("/./admin/", "denied", ""),
        ("/admin/../admin/x", "denied", ""),
        ("/api/../admin", "denied", ""),
        ("/api/%2e%2e/admin", "denied", ""),
        ("http://x/a/../admin", "denied", ""),
        ("/admin/..", "rest", "/"),
        ("/a//admin", "a", "/a/admin"),
        ("/a/b/../../ADMIN", "rest", "/ADMIN"),
        ("/%252e%252e/admin", "rest", "/%252e%252e/admin"),
        ("/adm%25696e", "rest", "/adm%25696e"),
        // A `;` is a letter like others: rules and servers are told the same.
        ("/admin;x=y", "rest", "/admin;x=y"),
        ("/admin%3b", "rest", "/admin%3B"),
        ("/a;x/../admin", "denied", ""),
        // Prefixes are taken off, and texts put in, behind what rules have matched.
        ("/api", "api", "/"),
        ("/api/", "api", "/"),
        ("/api//admin", "api", "/admin"),
        ("/api/%252e%252e/x", "api", "/%252e%252e/x"),
        ("/api/..a/x", "api", "/..a/x"),
        ("/apis/x", "rest", "/apis/x"),
        ("/old/a/../b", "old", "/new/b"),
        ("/old/%2e./old/x", "old", "/new/x"),
        ("/old/", "old", "/new/"),
        ("/up/x", "up", "/x"),
    ] {
        let status = stand.ask("GET", get(target)).status();
        if route == "denied" {
            assert_eq!(status, 403, "{target}");
            continue;
        }
        assert_eq!(status, 200, "{target}");
        let seen = stand.upstream.requests().pop().unwrap();
        assert_canonical(&seen);
        let seen = (seen.head.fields.first("x-route"), &*seen.head.target);
        assert_eq!(seen, (Some(route), forwarded), "{target}");
        // What was passed on as it was matched is matched again as it was passed on.
        if matches!(route, "a" | "rest") {
            assert_eq!(stand.ask("GET", get(forwarded)).status(), 200);
            let again = stand.upstream.requests().pop().unwrap();
            let again = (again.head.fields.first("x-route"), &*again.head.target);
            assert_eq!(again, seen, "{target}");
        }
    }
    assert_eq!(stand.upstream.malformed(), []);
}

#[test]
fn no_prefix_makes_a_path_that_is_refused_a_good_one() {
    let stand = Stand::run(RULES, |_| Answer::ok("ok"));
    let mut vectors = Vec::new();
    for prefix in ["/api", "/old", "/up", "/a", "/admin", ""] {
        for rest in [
            "/..;/admin",
            "/.;/x",
            "/%2e%2e;/admin",
            "/%2e%2e%2fadmin",
            "/%2fadmin",
            "/a%5c..",
            "/\\admin",
            "/%00",
            "/%zz",
            "/%",
            "/../../admin",
            "/#",
        ] {
            vectors.push((get(&format!("{prefix}{rest}")), 400));
        }
    }
    stand.assert_refused(&vectors);
}

#[test]
fn paths_that_servers_read_in_several_ways_are_refused() {
    let targets = [
        "/..",
        "/../admin",
        "/a/../../admin",
        "/%2e%2e/admin",
        "/.%2e/",
        "/a/..;/admin",
        "/a/..;x=y/admin",
        "/.;/",
        "/a/%2e%2e;/b",
        "/a/%2e;/b",
        "/a\\admin",
        "/\\evil",
        "/%5c..",
        "/%5C",
        "/%2fadmin",
        "/a%2Fb",
        "/a/..%2fadmin",
        "/a/%2e%2e%2fadmin",
        "/%00",
        "/a%00.html",
        "/%",
        "/%4",
        "/%zz",
        "/%4g",
        "/%u002e",
        "/a#b",
        "/#",
        "/a?b#c",
        "#",
    ];
    refused(targets.map(get).into());
}

#[test]
fn bytes_that_no_target_may_hold_are_refused() {
    let bytes = (0..=b' ').chain(0x7f..=255);
    let vectors = bytes.flat_map(|b: u8| {
        let path = [b"/a", &[b][..], b"b"].concat();
        let query = [b"/a?b", &[b][..], b"c"].concat();
        [path, query].map(|target| request(&target, "Host: x\r\n"))
    });
    let mut vectors: Vec<_> = vectors.collect();
    for overlong in [&b"/\xc0\xae\xc0\xae/"[..], b"/\xe0\x80\xaf", b"/\xc3\xa9"] {
        vectors.push(request(overlong, "Host: x\r\n"));
    }
    refused(vectors);
}

#[test]
fn encoded_overlong_sequences_are_not_decoded() {
    let stand = Stand::ok();
    for (target, expected) in [
        ("/%c0%ae%c0%ae/", "/%C0%AE%C0%AE/"),
        ("/%e0%80%af", "/%E0%80%AF"),
    ] {
        assert_eq!(stand.ask("GET", get(target)).status(), 200);
        let seen = stand.upstream.requests();
        assert_eq!(seen.last().unwrap().head.target, expected);
    }
}

#[test]
fn the_authority_of_an_absolute_target_wins() {
    let stand = Stand::ok();
    let table = [
        ("GET", "http://a/x", "x", "/x", "a"),
        ("GET", "http://a:8080/x?y", "x", "/x?y", "a:8080"),
        ("GET", "HTTP://A/", "x", "/", "A"),
        ("GET", "http://a", "x", "/", "a"),
        ("GET", "http://a?q", "x", "/?q", "a"),
        ("GET", "http://a/b/../c", "x", "/c", "a"),
        ("GET", "http://[::1]:80/", "x", "/", "[::1]:80"),
        ("OPTIONS", "http://a", "x", "*", "a"),
        ("OPTIONS", "http://a/", "x", "/", "a"),
        ("OPTIONS", "*", "x", "*", "x"),
        ("OPTIONS", "/x", "x", "/x", "x"),
    ];
    for (method, target, host, path, expected) in table {
        let bytes = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(stand.ask(method, bytes).status(), 200, "{target}");
        let seen = stand.upstream.requests();
        let head = &seen.last().unwrap().head;
        let hosts: Vec<_> = head.fields.all("host").collect();
        assert_eq!((&*head.target, hosts), (path, vec![expected]), "{target}");
        assert_eq!(head.fields.first("x-forwarded-host"), Some(expected));
    }
}

#[test]
fn targets_of_other_forms_are_refused() {
    let targets = [
        "admin",
        "*",
        "a:443",
        "http:/x",
        "http:x",
        "http:///x",
        "http://",
        "http://?",
        "https://a/",
        "ftp://a/",
        "file:///etc/passwd",
        "://a/",
        "http://user@a/",
        "http://user:secret@a/",
        "http://a:b/",
        "http://a:0/",
        "http://a:65536/",
        "http://a:80:80/",
        "http://a%2eb/",
        "http://a,b/",
        "http://a#b",
        "http://[::1/",
        "http://a\\b/",
        "?x",
    ];
    let mut vectors: Vec<_> = targets.map(get).into();
    for target in ["http://a", "*"] {
        vectors.push(request(target.as_bytes(), "")); // Host is due beside it
    }
    vectors.push(request(b"http://a/", "Host: b,c\r\n"));
    refused(vectors);
}

#[test]
fn hosts_that_are_no_authority_are_refused() {
    let long = "a".repeat(300);
    let hosts = [
        "",
        " ",
        ":80",
        "a:",
        "a:x",
        "a:0",
        "a:65536",
        "a:-1",
        "a:80:80",
        "a,b",
        "a b",
        "a/b",
        "/",
        "http://a",
        "u@a",
        "a?b",
        "a#b",
        "a\\b",
        "a%2eb",
        "a..b",
        ".",
        ".a",
        "::1",
        "[::1",
        "[::1]x",
        "[::1]:",
        "[fe80::1%25eth0]",
        "[1.2.3.4]",
        "[]",
        "b\u{fc}cher.example",
        "<a>",
        &long,
    ];
    let line = |host: &str| request(b"/", &format!("Host: {host}\r\n"));
    let mut vectors: Vec<_> = hosts.map(line).into();
    vectors.push(request(b"/", ""));
    vectors.push(request(b"/", "Hos: x\r\n"));
    refused(vectors);
}

#[test]
fn hosts_are_forwarded_as_they_came() {
    let stand = Stand::ok();
    let hosts = [
        "example.com",
        "Example.COM",
        "example.com.",
        "example.com:8080",
        "xn--bcher-kva.example",
        "127.0.0.1",
        "[2001:db8::1]",
        "[::1]:8080",
        "a_b.example",
    ];
    for host in hosts {
        let bytes = request(b"/", &format!("Host: {host}\r\n"));
        assert_eq!(stand.ask("GET", bytes).status(), 200, "{host}");
        let seen = stand.upstream.requests();
        let seen = seen.last().unwrap();
        assert_eq!(seen.head.fields.first("host"), Some(host));
        assert_canonical(seen);
    }
}

#[test]
fn a_client_without_a_host_is_served_with_the_name_of_the_server() {
    let stand = Stand::ok();
    assert_eq!(stand.ask("GET", "GET /x HTTP/1.0\r\n\r\n").status(), 200);
    let seen = stand.upstream.requests().remove(0);
    let server = stand.upstream.address().to_string();
    assert_eq!(seen.head.fields.first("host"), Some(&*server));
    assert_eq!(seen.head.fields.first("via"), Some("1.0 plimsoll"));
    assert_canonical(&seen);
}

#[test]
fn max_forwards_counts_for_options_only() {
    let stand = Stand::ok();
    let ask = |method: &str, hops: &str| {
        let bytes = format!("{method} /x HTTP/1.1\r\nHost: x\r\nMax-Forwards: {hops}\r\n\r\n");
        stand.ask(method, bytes).status()
    };
    assert_eq!(ask("OPTIONS", "5"), 200);
    assert_eq!(ask("GET", "5"), 200);
    assert_eq!(ask("GET", "0"), 200);
    assert_eq!(ask("OPTIONS", "0"), 204);
    let seen = stand.upstream.requests();
    let hops: Vec<_> = seen
        .iter()
        .map(|request| request.head.fields.first("max-forwards").unwrap())
        .collect();
    assert_eq!(hops, ["4", "5", "0"]);
}
