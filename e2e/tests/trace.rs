//! `plimsoll trace`: what becomes of a request and why, said by the rules that serve it.

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::Raw;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

const TEXT: &str = "admin 127.0.0.1:{port:admin}
match staff header:x-staff=yes
site example.com {
    listen 127.0.0.1:{port}
    request-header set X-Client ${client.ip}
    route /static/* { respond 200 \"static ${request.path}\" }
    route /api/* header:x-canary=yes { proxy app }
    route /api/* method=POST is:staff { proxy app }
    route /api/* {
        strip-prefix /api
        rewrite `^/v1/(.*)` /$1?v=1
        limit 20/s
        proxy app
    }
    route /bad { rewrite `^/bad` /../x ; proxy app }
    route /old/* { redirect https://${request.host}${request.uri} permanent }
    route body:$.kind=video { proxy app }
    route /split { split 95 app ; split 5 10.0.0.3:80 }
}
pool app { balance least-connections ; server 127.0.0.1:1 weight=2 ; server 10.0.0.2:80 backup }
";

#[test]
fn connections_that_are_relayed_have_no_rules() {
    let text = "admin off\ntcp 127.0.0.1:{port} { proxy db }\npool db { server 127.0.0.1:1 }\n";
    let plimsoll = Start::run(text).start();
    let listener = plimsoll.address();
    let said = plimsoll.traced(&[&format!("http://{listener}/")]);
    let expected = format!(
        "listener {listener}\n\
         outcome  the connection goes to a server of `db`, whatever is asked on it\n\
         pool     db (round-robin)\nservers  127.0.0.1:1  eligible, weight 1\n"
    );
    assert_eq!(said, expected);
}

#[test]
fn datagrams_have_a_pool_and_no_rules() {
    let text = "admin off\nudp 127.0.0.1:{port:udp} { proxy dns }\n\
                pool dns { balance maglev client-ip ; server 127.0.0.1:1 }\n";
    let plimsoll = Start::run(text).start();
    let port = plimsoll.address_of("udp");
    let said = plimsoll.traced(&[&format!("udp://{port}")]);
    let expected = format!(
        "listener {port}/udp\n\
         outcome  the flow goes to a server of `dns`, whatever is in its datagrams\n\
         pool     dns (maglev client-ip)\nservers  127.0.0.1:1  eligible, weight 1\n"
    );
    assert_eq!(said, expected);
}

#[test]
fn each_rule_says_what_it_did_and_where_it_stands() {
    let plimsoll = Start::run(TEXT).start();
    let listener = plimsoll.address();
    let said = plimsoll.traced(&["http://example.com/api//v1/users?x=1"]);
    let expected = format!(
        "\
request  /api/v1/users?x=1
listener {listener}
site     * plimsoll.conf:3   site example.com                          answers for example.com
routes     plimsoll.conf:6   route /static/*                           not this path
           plimsoll.conf:7   route /api/* header:x-canary=yes          header:x-canary=yes does not hold
           plimsoll.conf:8   route /api/* method=POST is:staff         not for GET
         * plimsoll.conf:9   route /api/*                              takes it
steps      plimsoll.conf:5   request-header set X-Client `${{client.ip}}`  on the way to the server
           plimsoll.conf:10  strip-prefix /api                         the server receives /v1/users?x=1
           plimsoll.conf:11  rewrite ^/v1/(.*) /$1?v=1                 the server receives /users?v=1&x=1
           plimsoll.conf:12  limit 20/s burst=20 by=client-ip action=refuse entries=65536  counted
sent     /users?v=1&x=1
outcome  a server of `app` answers
pool     app (least-connections)
servers  127.0.0.1:1  eligible, weight 2
         10.0.0.2:80  eligible, weight 1, tier 1
"
    );
    let squeeze = |text: &str| {
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>()
    };
    assert_eq!(squeeze(&said), squeeze(&expected));
}

/// A request, more arguments, and how it ends.
const OUTCOMES: [(&str, &[&str], &str); 10] = [
    (
        "http://example.com/static/a",
        &[],
        "answered with 200: static /static/a",
    ),
    (
        "http://example.com/bad",
        &[],
        "answered with 400: the rewritten path has no canonical form: request path has an ambiguous dot segment",
    ),
    (
        "http://example.com/old/../old/x?y",
        &[],
        "the client is sent to https://example.com/old/x?y (301)",
    ),
    (
        "http://example.com/none",
        &[],
        "answered with 404: no route for this path",
    ),
    (
        "http://other/none",
        &[],
        "answered with 404: no site for this host",
    ),
    (
        "http://example.com/%2f",
        &[],
        "answered with 400: request path has an encoded slash, backslash or NUL",
    ),
    (
        "POST http://example.com/",
        &["-d", "{\"kind\":\"video\"}"],
        "a server of `app` answers",
    ),
    (
        "POST http://example.com/",
        &["-d", "{\"kind\":\"audio\"}"],
        "answered with 404: no route for this path",
    ),
    (
        "http://x/static/b",
        &["-H", "Host: example.com"],
        "answered with 200: static /static/b",
    ),
    (
        "http://example.com/split",
        &[],
        "95 of 100 to `app`, 5 of 100 to `10.0.0.3:80`",
    ),
];

#[test]
fn a_trace_ends_as_the_request_does() {
    let plimsoll = Start::run(TEXT).start();
    for (request, more, outcome) in &OUTCOMES {
        let said = plimsoll.traced(&[&[*request], *more].concat());
        let last = said
            .lines()
            .find(|line| line.starts_with("outcome"))
            .unwrap();
        assert_eq!(last, format!("outcome  {outcome}"), "{request}");
        // The running one says the same, but for what it knows of servers.
        let running = format!("--running={}", plimsoll.address_of("admin"));
        let live = plimsoll.traced(&[&[running.as_str(), request], *more].concat());
        assert!(live.contains(last), "{live}");
        // And it is what happens.
        if let Some(status) = outcome.strip_prefix("answered with ")
            && !request.starts_with("POST")
            && more.is_empty()
        {
            let (host, path) = request
                .strip_prefix("http://")
                .unwrap()
                .split_once('/')
                .unwrap();
            let mut client = Raw::connect(plimsoll.address());
            client
                .send(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
                .unwrap();
            assert_eq!(
                client.response("GET").status().to_string(),
                status[..3],
                "{request}"
            );
        }
    }
}

#[test]
fn a_running_plimsoll_tells_how_its_servers_are() {
    let text = TEXT.replace("backup }", "backup ; check tcp every=100ms fall=1 }");
    let plimsoll = Start::run(&text).start();
    let running = format!("--running={}", plimsoll.address_of("admin"));
    plimsoll_e2e::wait::expect("the server is down", SOON, || {
        let said = plimsoll.traced(&[&running, "http://example.com/api/x"]);
        said.contains("127.0.0.1:1  down, unreachable, weight 2")
    });
    let json = plimsoll.traced(&[&running, "--json", "http://example.com/api/x"]);
    assert!(json.contains("\"standing\": \"unreachable\""), "{json}");
}

#[test]
fn what_is_no_request_is_refused_with_a_hint() {
    let plimsoll = Start::run(TEXT).start();
    for (request, hint) in [
        ("/x", "write it like `http://example.com/path`"),
        ("ftp://x/", "write http, https, tls, ssh,"),
    ] {
        let output = Command::new(plimsoll_e2e::plimsoll::binary())
            .args(["trace", "-c", "plimsoll.conf", request])
            .current_dir(plimsoll.directory())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains(hint));
    }
    // The admin listener explains nothing to pages of other origins.
    let mut client = Raw::connect(plimsoll.address_of("admin"));
    client
        .send("POST /v1/trace HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}")
        .unwrap();
    assert_eq!(client.response("POST").status(), 400);
}

#[test]
fn rules_look_into_their_files_when_they_are_only_asked() {
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\nroute /open { respond 200 }\n\
                route { deny @{dir}/blocked ; respond 200 }\n}\n";
    let plimsoll = Start::run(text).spawn();
    std::fs::write(plimsoll.directory().join("blocked"), "10.0.0.1\n").unwrap();
    let of = |client: &str| plimsoll.traced(&["--client", client, "http://x/"]);
    assert!(of("10.0.0.1").contains("403"), "{}", of("10.0.0.1"));
    assert!(!of("10.0.0.2").contains("403"), "{}", of("10.0.0.2"));
}
