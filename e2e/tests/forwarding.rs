//! What Plimsoll adds, takes away and tells: forwarding fields, its own answers, logs, metrics.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::fault::{Fault, Mode};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Stand, assert_canonical};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Response;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

fn get(fields: &str) -> String {
    format!("GET /a/../b?q=1&token=hidden HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

#[test]
fn what_a_client_says_about_itself_is_replaced() {
    let stand = Stand::ok();
    let said = "X-Forwarded-For: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
                X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\n\
                Forwarded: for=6.6.6.6;proto=https\r\nX-Request-ID: mine\r\n";
    assert_eq!(stand.ask("GET", get(said)).status(), 200);
    let request = stand.upstream.requests().remove(0);
    assert_canonical(&request);
    let all = |name: &str| {
        request
            .head
            .fields
            .all(name)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(all("x-forwarded-proto"), ["http"]);
    assert_eq!(all("x-forwarded-host"), ["x"]);
    assert_eq!(all("forwarded"), ["for=127.0.0.1;proto=http;host=\"x\""]);
    assert_eq!(
        (all("x-forwarded-port").len(), all("x-real-ip").len()),
        (0, 0)
    );
    let id = all("x-request-id");
    assert_eq!((id.len(), id[0].len(), id[0].as_bytes()[14]), (1, 36, b'7'));
}

#[test]
fn what_an_earlier_proxy_says_in_via_is_kept() {
    let stand = Stand::ok();
    let fields = "Via: 1.0 first, 1.1 second\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    assert_eq!(stand.ask("GET", get(fields)).status(), 200);
    let request = stand.upstream.requests().remove(0);
    let via: Vec<_> = request.head.fields.all("via").collect();
    assert_eq!(via, ["1.0 first, 1.1 second", "1.1 plimsoll"]);
    assert!(request.head.fields.first("traceparent").is_some());
}

#[test]
fn a_client_cannot_have_our_fields_taken_away() {
    let stand = Stand::ok();
    let protected = [
        "X-Forwarded-For",
        "X-Forwarded-Proto",
        "X-Forwarded-Host",
        "Forwarded",
        "X-Real-IP",
        "X-Request-ID",
        "Via",
        "Host",
        "Authorization",
        "Cookie",
    ];
    for name in protected {
        let fields = format!("Connection: close, {name}\r\nAuthorization: a\r\nCookie: c\r\n");
        assert_eq!(stand.ask("GET", get(&fields)).status(), 200);
        let requests = stand.upstream.requests();
        let request = requests.last().unwrap();
        assert_canonical(request);
        for name in protected.iter().filter(|name| **name != "X-Real-IP") {
            assert_eq!(request.head.fields.all(name).count(), 1, "{name}");
        }
    }
}

#[test]
fn fields_of_the_client_connection_end_here() {
    let stand = Stand::ok();
    let fields = "Connection: keep-alive, X-Hop\r\nConnection: x-other\r\nX-Hop: 1\r\nX-Other: 2\r\n\
                  Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers, chunked\r\n\
                  Trailer: X\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\
                  Proxy-Authorization: Basic eDp5\r\nX-Kept: 3\r\n";
    assert_eq!(stand.ask("GET", get(fields)).status(), 200);
    let request = stand.upstream.requests().remove(0);
    assert_canonical(&request);
    assert_eq!(
        request.head.fields.names(),
        [
            "Host",
            "X-Kept",
            "Via",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Host",
            "Forwarded",
            "X-Request-ID"
        ]
    );
}

/// A Plimsoll whose only server refuses.
fn refusing() -> (Fault, Plimsoll) {
    let fault = Fault::start(Mode::Refuse);
    let plimsoll = Start::proxy(&[fault.address()]).start();
    (fault, plimsoll)
}

fn ask(plimsoll: &Plimsoll, request: &str) -> Response {
    let mut client = Raw::connect(plimsoll.address());
    client.send(request).unwrap();
    client.response(request.split(' ').next().unwrap_or_default())
}

#[test]
fn an_error_comes_in_the_form_the_client_likes() {
    let (_fault, plimsoll) = refusing();
    let (html, problem, plain) = (
        "text/html; charset=utf-8",
        "application/problem+json",
        "text/plain; charset=utf-8",
    );
    for (accept, expected) in [
        ("", plain),
        ("Accept: */*\r\n", plain),
        ("Accept: text/html\r\n", html),
        (
            "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n",
            html,
        ),
        ("Accept: application/json\r\n", problem),
        ("Accept: application/problem+json\r\n", problem),
        ("Accept: text/html;q=0.5, application/json\r\n", problem),
        ("Accept: text/html;q=0, application/json;q=0.1\r\n", problem),
        ("Accept: text/plain, text/html;q=0.9\r\n", plain),
        ("Accept: image/png\r\n", plain),
    ] {
        let response = ask(&plimsoll, &get(accept));
        assert_eq!(response.status(), 502);
        assert_eq!(response.field("content-type"), Some(expected), "{accept}");
        assert_eq!(response.field("cache-control"), Some("no-store"));
        assert_eq!(
            response.field("proxy-status"),
            Some("plimsoll; error=connection_refused")
        );
        assert_eq!(response.field("server"), Some("plimsoll"));
        let id = response.field("x-request-id").unwrap().to_owned();
        let text = response.text();
        assert!(text.contains(&id), "{text}");
        match expected {
            e if e == html => assert!(text.starts_with("<!doctype html>"), "{text}"),
            e if e == problem => {
                let start = "{\"type\":\"about:blank\",\"title\":\"Bad Gateway\",\"status\":502,";
                assert!(text.starts_with(start), "{text}");
            }
            _ => assert!(text.starts_with("502 Bad Gateway"), "{text}"),
        }
    }
}

#[test]
fn an_error_shows_nothing_of_the_request_and_nothing_of_the_server() {
    let (fault, plimsoll) = refusing();
    let mark = "<script>alert(1)</script>";
    for accept in ["text/html", "application/json", "text/plain"] {
        let request = format!(
            "GET /marker HTTP/1.1\r\nHost: marker.example\r\nAccept: {accept}\r\nX: {mark}\r\n\r\n"
        );
        let response = ask(&plimsoll, &request);
        let all = response.text() + &String::from_utf8_lossy(&response.raw_head);
        for hidden in ["marker", mark, &fault.address().to_string()] {
            assert!(!all.contains(hidden), "{hidden} in {all}");
        }
    }
}

#[test]
fn an_answer_to_head_has_the_length_and_not_the_body() {
    let (_fault, plimsoll) = refusing();
    let mut client = Raw::connect(plimsoll.address());
    let bodies: Vec<_> = ["HEAD", "GET"]
        .map(|method| {
            client
                .send(format!("{method} / HTTP/1.1\r\nHost: x\r\n\r\n"))
                .unwrap();
            client.response(method)
        })
        .into();
    assert_eq!(
        bodies[0].field("content-length"),
        bodies[1].field("content-length")
    );
    assert_eq!(
        (bodies[0].body.length, bodies[1].body.length > 0),
        (0, true)
    );
}

const LOGGED: &str = "admin 127.0.0.1:{port:admin}\n\
    site app.example other.example {\n\
      listen 127.0.0.1:{port}\n\
      log {dir}/access.log {format}\n\
      route /hi { respond 200 \"hello\" }\n\
      route /only-get method=GET { respond 200 \"got\" }\n\
      route /only-get { respond 405 \"no\" }\n\
      route /static/* { respond 418 \"tea\" }\n\
      route { proxy app }\n\
    }\n\
    pool app { server {server} }\n";

fn logged(format: &str) -> Stand {
    Stand::run(&LOGGED.replace("{format}", format), |_| Answer::ok("ok"))
}

fn app(line: &str, fields: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: app.example\r\n{fields}\r\n")
}

/// The keys of a flat JSON object with their values, strings without their quotes.
fn members(line: &str) -> Vec<(String, String)> {
    let inner = line
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'));
    let mut rest = inner.unwrap_or_else(|| panic!("no object: {line}"));
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest[1..].split_once("\":").unwrap();
        let (value, after) = match after.strip_prefix('"') {
            Some(text) => {
                let mut escaped = false;
                let end = text.find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                let (value, after) = text.split_at(end.unwrap());
                (value, after[1..].strip_prefix(',').unwrap_or_default())
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        members.push((key.to_owned(), value.to_owned()));
        rest = after;
    }
    members
}

#[test]
fn routes_answer_by_path_method_and_host() {
    let stand = logged("json");
    for (line, status, body) in [
        ("GET /hi", 200, "hello"),
        ("GET /x/../hi", 200, "hello"),
        ("GET /hi?x", 200, "hello"),
        ("GET /hi/", 200, "ok"),
        ("GET /HI", 200, "ok"),
        ("GET /only-get", 200, "got"),
        ("POST /only-get", 405, "no"),
        ("GET /static/x/y", 418, "tea"),
        ("GET /a/%2e%2e/static/x", 418, "tea"),
        ("GET //static//x", 418, "tea"),
        ("GET /staticx", 200, "ok"),
    ] {
        let response = stand.ask("GET", app(line, ""));
        assert_eq!(
            (response.status(), &*response.text()),
            (status, body),
            "{line}"
        );
    }
    for (host, status) in [
        ("app.example", 200),
        ("APP.Example", 200),
        ("app.example.", 200),
        ("app.example:80", 200),
        ("other.example", 200),
        ("third.example", 404),
        ("sub.app.example", 404),
        ("127.0.0.1", 404),
    ] {
        let request = format!("GET /hi HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(stand.ask("GET", request).status(), status, "{host}");
    }
    // The authority of the target rules, whatever Host says.
    let absolute = "GET http://app.example/hi HTTP/1.1\r\nHost: third.example\r\n\r\n";
    assert_eq!(stand.ask("GET", absolute).status(), 200);
}

/// The keys of a line about a request that a server answered.
const KEYS: &str = "ts id client client_port site route generation method scheme host path query proto status \
    req_bytes res_bytes pool server attempts t_connect t_first_byte t_total ua \
    referer trace_id";

/// The keys of a line about a request that was answered here and says little of itself.
const OWN_KEYS: &str = "ts id client client_port site route generation method scheme host path proto status \
    req_bytes res_bytes attempts reason t_total";

fn keys(members: &[(String, String)]) -> String {
    let keys: Vec<&str> = members.iter().map(|(key, _)| &**key).collect();
    keys.join(" ")
}

#[test]
fn a_json_line_has_these_keys_and_values() {
    let stand = logged("json");
    let fields = "User-Agent: curl \"8\"\r\nReferer: http://r/\r\nCookie: secret\r\nAuthorization: Basic secret\r\n\
                  traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let mut client = stand.connect();
    client
        .send(app("GET /a/../b?q=1&token=hidden", fields))
        .unwrap();
    assert_eq!(client.response("GET").status(), 200);
    let line = stand.plimsoll.wait_log("access.log", 1, SOON).remove(0);
    let members = members(&line);
    assert_eq!(keys(&members), KEYS);
    let value = |key: &str| {
        let found = members.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| &**value).unwrap_or_default()
    };
    let request = stand.upstream.requests().remove(0);
    assert_eq!(Some(value("id")), request.head.fields.first("x-request-id"));
    let port = client.local_address().port().to_string();
    let server = stand.upstream.address().to_string();
    for (key, expected) in [
        ("client", "127.0.0.1"),
        ("client_port", &*port),
        ("site", "app.example"),
        ("method", "GET"),
        ("scheme", "http"),
        ("host", "app.example"),
        ("path", "/b"),
        ("query", "q=1&token=***"),
        ("proto", "HTTP/1.1"),
        ("status", "200"),
        ("req_bytes", "0"),
        ("res_bytes", "2"),
        ("pool", "app"),
        ("server", &*server),
        ("attempts", "1"),
        ("ua", "curl \\\"8\\\""),
        ("referer", "http://r/"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    assert!(value("route").ends_with("plimsoll.conf:9"), "{line}");
    assert!(
        !line.contains("secret") && !line.contains("hidden"),
        "{line}"
    );
}

#[test]
fn a_line_leaves_out_what_there_was_not() {
    let stand = logged("json");
    let own = stand.ask("POST", app("POST /hi", "Content-Length: 5\r\n") + "12345");
    let line = stand.plimsoll.wait_log("access.log", 1, SOON).remove(0);
    assert_eq!(keys(&members(&line)), OWN_KEYS);
    let id = own.field("x-request-id").unwrap();
    assert!(line.contains(&format!("\"id\":\"{id}\"")), "{line}");
    assert!(line.contains("\"req_bytes\":5,\"res_bytes\":5,"), "{line}");
}

#[test]
fn every_request_has_one_line_and_refused_ones_their_reason() {
    let stand = logged("json");
    let mut client = stand.connect();
    for _ in 0..20 {
        client.send(app("GET /x", "")).unwrap();
        assert_eq!(client.response("GET").status(), 200);
    }
    assert_eq!(stand.ask("GET", app("GET /%zz", "")).status(), 400);
    assert_eq!(stand.ask("GET", "GARBAGE\r\n\r\n").status(), 400);
    assert_eq!(stand.ask("GET", app("GET /\u{1b}[31m", "")).status(), 400);
    let lines = stand.plimsoll.wait_log("access.log", 23, SOON);
    let forwarded = lines
        .iter()
        .filter(|line| line.contains("\"server\":"))
        .count();
    assert_eq!(
        (lines.len(), forwarded, stand.upstream.completed()),
        (23, 20, 20)
    );
    // Each worker writes its own lines, so the order says nothing.
    for line in lines.iter().filter(|line| !line.contains("\"server\":")) {
        assert!(
            line.contains("\"status\":400") && line.contains("\"reason\":\"http_request_error\""),
            "{line}"
        );
        assert!(line.bytes().all(|b| b >= b' '), "{line:?}");
    }
}

#[test]
fn the_combined_and_the_haproxy_line() {
    let fields = "User-Agent: a\"b\r\n";
    let stand = logged("combined");
    assert_eq!(
        stand
            .ask("GET", app("GET /a/../b?token=hidden", fields))
            .status(),
        200
    );
    let line = stand.plimsoll.wait_log("access.log", 1, SOON).remove(0);
    let (before, after) = line.split_once(" - - [").unwrap();
    let (date, after) = after.split_once("] ").unwrap();
    assert_eq!(before, "127.0.0.1");
    assert!(date.ends_with(" +0000") && date.len() == 26, "{date}");
    assert_eq!(
        after,
        "\"GET /a/../b?token=*** HTTP/1.1\" 200 2 \"-\" \"a\\x22b\""
    );

    let stand = logged("haproxy");
    let mut client = stand.connect();
    client.send(app("GET /b", fields)).unwrap();
    assert_eq!(client.response("GET").status(), 200);
    let line = stand.plimsoll.wait_log("access.log", 1, SOON).remove(0);
    assert!(
        line.starts_with(&format!("{} [", client.local_address())),
        "{line}"
    );
    let (_, after) = line.split_once("] ").unwrap();
    let start = format!("app.example app/{} 0/0/", stand.upstream.address());
    assert!(after.starts_with(&start), "{line}");
    assert!(
        after.ends_with(" 200 2 - - ---- 0/0/0/0/0 0/0 \"GET /b HTTP/1.1\""),
        "{line}"
    );
}

/// Waits until the page has these samples; `{listener}` and `{server}` stand for the addresses.
fn assert_metrics(stand: &Stand, samples: &[(&str, f64)]) {
    let fill = |name: &str| {
        let name = name.replace("{listener}", &stand.address().to_string());
        name.replace("{server}", &stand.upstream.address().to_string())
    };
    for (name, value) in samples {
        let name = fill(name);
        // A connection is counted as closed a moment after its client has read the end.
        let seen = || {
            stand
                .plimsoll
                .metric(&name)
                .filter(|seen| (seen - value).abs() < 0.5)
        };
        let last = || stand.plimsoll.metric(&name);
        assert!(
            wait::until(SOON, seen).is_some(),
            "{name} is {:?}, not {value}",
            last()
        );
    }
}

#[test]
fn the_metrics_page_counts_what_happened() {
    let stand = logged("json");
    let mut client = stand.connect();
    for _ in 0..3 {
        client.send(app("GET /x", "X_A: 1\r\nX_B: 2\r\n")).unwrap();
        assert_eq!(client.response("GET").status(), 200);
    }
    let tea = stand.ask("GET", app("GET /static/a", "Connection: close\r\n"));
    assert_eq!(tea.status(), 418);
    assert_eq!(stand.ask("GET", app("GET /%zz", "")).status(), 400);
    let requests = "plimsoll_requests_total{site=\"app.example\",method=\"GET\",code=";
    assert_metrics(
        &stand,
        &[
            (&format!("{requests}\"200\"}}"), 3.0),
            (&format!("{requests}\"418\"}}"), 1.0),
            (&format!("{requests}\"400\"}}"), 1.0),
            (
                "plimsoll_request_duration_seconds_count{site=\"app.example\"}",
                5.0,
            ),
            (
                "plimsoll_request_errors_total{reason=\"http_request_error\"}",
                1.0,
            ),
            ("plimsoll_request_fields_dropped_total", 6.0),
            (
                "plimsoll_connections_accepted_total{listener=\"{listener}\"}",
                3.0,
            ),
            (
                "plimsoll_connections{listener=\"{listener}\",state=\"idle\"}",
                1.0,
            ),
            (
                "plimsoll_connections{listener=\"{listener}\",state=\"active\"}",
                0.0,
            ),
            (
                "plimsoll_upstream_requests_total{pool=\"app\",server=\"{server}\",code=\"200\"}",
                3.0,
            ),
            (
                "plimsoll_upstream_connections_total{pool=\"app\",reused=\"false\"}",
                1.0,
            ),
            (
                "plimsoll_upstream_connections_total{pool=\"app\",reused=\"true\"}",
                2.0,
            ),
            ("plimsoll_panics_total", 0.0),
        ],
    );
}
