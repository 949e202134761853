//! Clients that belong to a server: they stay there, and nothing of it reaches servers or tells
//! clients where they are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Response;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

/// Three servers that answer with their number and what they set.
fn servers(set: &'static str) -> [Recorder; 3] {
    [0, 1, 2].map(|number| {
        Recorder::start(move |_| {
            let body = number.to_string();
            Answer::bytes(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n{set}\r\n{body}"
            ))
        })
    })
}

fn start(servers: &[Recorder], sticky: &str, more: &str) -> Plimsoll {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("server {} max-connections=4", server.address()))
        .collect();
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{\n{}\nsticky {sticky}\n{more}\n}}\n",
        servers.join(" ; ")
    );
    Start::run(&text).start()
}

fn ask(plimsoll: &Plimsoll, fields: &str) -> Response {
    let mut client = Raw::connect(plimsoll.address());
    client
        .send(format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n"))
        .unwrap();
    client.response("GET")
}

/// The part of `Set-Cookie` that a client sends back.
fn cookie(response: &Response) -> String {
    let field = response.field("set-cookie").unwrap();
    field.split(';').next().unwrap().to_owned()
}

#[test]
fn a_cookie_keeps_a_client_on_its_server_and_stays_between_the_two() {
    let servers = servers("");
    let plimsoll = start(&servers, "cookie=srv max-age=1h secure key=secret", "");
    let first = ask(&plimsoll, "");
    let cookie = cookie(&first);
    let field = first.field("set-cookie").unwrap();
    assert_eq!(
        field,
        format!("{cookie}; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax")
    );
    assert_eq!(first.field("cache-control"), Some("private"));
    assert!(!field.contains("127"), "{field}");
    for _ in 0..6 {
        let again = ask(&plimsoll, &format!("Cookie: a=1; {cookie}; b=2\r\n"));
        assert_eq!(again.text(), first.text());
        assert_eq!(
            (again.field("set-cookie"), again.field("cache-control")),
            (None, None)
        );
    }
    for request in servers.iter().flat_map(Recorder::requests) {
        assert!(
            matches!(request.head.fields.first("cookie"), None | Some("a=1; b=2")),
            "{request:?}"
        );
    }
    // Another node with the same file agrees; one with another key does not, and says so.
    let same = start(&servers, "cookie=srv key=secret", "");
    assert_eq!(
        ask(&same, &format!("Cookie: {cookie}\r\n")).text(),
        first.text()
    );
    let other = start(&servers, "cookie=srv key=other", "");
    assert!(
        ask(&other, &format!("Cookie: {cookie}\r\n"))
            .field("set-cookie")
            .is_some()
    );
    assert!(
        ask(&plimsoll, "Cookie: srv=forged\r\n")
            .field("set-cookie")
            .is_some()
    );
}

#[test]
fn a_cookie_whose_client_stayed_away_for_too_long_is_passed_over() {
    let servers = servers("");
    let plimsoll = start(&servers, "cookie=srv max-idle=1h max-life=2h", "");
    let first = ask(&plimsoll, "");
    let value = cookie(&first);
    let (token, stamp) = value.split_once('.').unwrap();
    let (seen, born) = stamp.split_once('.').unwrap();
    assert_eq!(seen, born);
    let now = i64::from_str_radix(seen, 16).unwrap();
    let aged =
        |seen: i64, born: i64| format!("Cookie: {token}.{:x}.{:x}\r\n", now - seen, now - born);
    for _ in 0..6 {
        let again = ask(&plimsoll, &aged(60, 600));
        assert_eq!(again.text(), first.text());
        assert_eq!(again.field("set-cookie"), None);
    }
    let late = ask(&plimsoll, &aged(1800, 5400));
    assert_eq!(late.text(), first.text());
    let renewed = cookie(&late);
    let (_, born) = renewed.rsplit_once('.').unwrap();
    assert_eq!(i64::from_str_radix(born, 16).unwrap(), now - 5400);
    for (seen, born) in [(3700, 3700), (60, 7300)] {
        let fresh = ask(&plimsoll, &aged(seen, born));
        let fresh = cookie(&fresh);
        let (_, born) = fresh.rsplit_once('.').unwrap();
        assert!(i64::from_str_radix(born, 16).unwrap() >= now, "{fresh}");
    }
}

#[test]
fn a_client_of_a_dead_server_gets_another_one_and_keeps_that() {
    let mut servers = Vec::from(servers(""));
    let plimsoll = start(
        &servers,
        "cookie=srv",
        "check tcp every=50ms fast=50ms timeout=50ms",
    );
    let first = ask(&plimsoll, "");
    let cookie_of_first = cookie(&first);
    let dead: usize = first.text().parse().unwrap();
    let address = servers.remove(dead).address();
    let moved = ask(&plimsoll, &format!("Cookie: {cookie_of_first}\r\n"));
    assert_ne!(moved.text(), first.text());
    let cookie_of_second = cookie(&moved);
    for _ in 0..6 {
        assert_eq!(
            ask(&plimsoll, &format!("Cookie: {cookie_of_second}\r\n")).text(),
            moved.text()
        );
    }
    // Its checks fail by now or soon; then it is not even tried.
    let down =
        format!("plimsoll_server_state{{pool=\"app\",server=\"{address}\",state=\"unreachable\"}}");
    wait::expect(&down, SOON, || plimsoll.metric(&down).is_some());
    assert_ne!(
        ask(&plimsoll, &format!("Cookie: {cookie_of_first}\r\n")).text(),
        first.text()
    );
}

#[test]
fn a_session_cookie_gets_a_prefix_that_its_server_does_not_see() {
    let servers = servers("Set-Cookie: other=1\r\nSet-Cookie: JSESSIONID=abc; Path=/app\r\n");
    let plimsoll = start(&servers, "prefix=JSESSIONID", "");
    let first = ask(&plimsoll, "");
    let fields: Vec<&str> = first.head.fields.all("set-cookie").collect();
    assert_eq!(fields[0], "other=1");
    assert!(
        fields[1].starts_with("JSESSIONID=") && fields[1].ends_with("~abc; Path=/app"),
        "{fields:?}"
    );
    let session = fields[1].split(';').next().unwrap().to_owned();
    for _ in 0..6 {
        assert_eq!(
            ask(&plimsoll, &format!("Cookie: {session}\r\n")).text(),
            first.text()
        );
    }
    let seen = servers
        .iter()
        .flat_map(Recorder::requests)
        .filter_map(|r| r.head.fields.first("cookie").map(str::to_owned));
    assert!(seen.into_iter().all(|cookie| cookie == "JSESSIONID=abc"));
}

#[test]
fn a_rewritten_cookie_is_the_server() {
    let servers = servers("Set-Cookie: srv=mine; HttpOnly\r\n");
    let plimsoll = start(&servers, "rewrite=srv", "");
    let first = ask(&plimsoll, "");
    let cookie = cookie(&first);
    assert!(first.field("set-cookie").unwrap().ends_with("; HttpOnly") && cookie != "srv=mine");
    for _ in 0..6 {
        assert_eq!(
            ask(&plimsoll, &format!("Cookie: {cookie}\r\n")).text(),
            first.text()
        );
    }
}

#[test]
fn sessions_are_learnt_from_answers() {
    for (sticky, set, field) in [
        (
            "learn=cookie:SID",
            "Set-Cookie: SID=42; Path=/\r\n",
            "Cookie: a=b; SID=42\r\n",
        ),
        (
            "learn=header:X-Session",
            "X-Session: 42\r\n",
            "X-Session: 42\r\n",
        ),
    ] {
        let servers = servers(set);
        let plimsoll = start(&servers, sticky, "");
        let first = ask(&plimsoll, "");
        for _ in 0..6 {
            assert_eq!(ask(&plimsoll, field).text(), first.text(), "{sticky}");
        }
    }
}

#[test]
fn a_part_of_the_request_is_remembered() {
    let servers = servers("");
    let plimsoll = start(&servers, "by=header:X-User", "balance random");
    for user in 0..5 {
        let field = format!("X-User: {user}\r\n");
        let first = ask(&plimsoll, &field);
        for _ in 0..5 {
            assert_eq!(ask(&plimsoll, &field).text(), first.text());
        }
    }
}

#[test]
fn those_who_belong_to_a_full_server_wait_for_it() {
    let servers = servers("");
    let plimsoll = start(&servers, "cookie=srv", "queue 100 timeout=60s");
    let first = ask(&plimsoll, "");
    let field = format!("Cookie: {}\r\n", cookie(&first));
    let answers: Vec<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| ask(&plimsoll, &field).text()))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect()
    });
    assert!(
        answers.iter().all(|answer| *answer == first.text()),
        "{answers:?}"
    );
}

#[test]
fn odd_cookies_pass_and_are_never_taken_for_ours() {
    let long = "a=b; ".repeat(5_000);
    let blanks = "; ".repeat(10_000);
    let marks = "srv~".repeat(5_000);
    let odd: [&[u8]; 12] = [
        b"",
        b";;; ;",
        b"=",
        b"srv",
        b"srv =x",
        b"SRV=x",
        b"xsrv=x; srvx=y",
        b"$Version=1; srv",
        b"a=\"b; c=d",
        b"a=\xff\x80; b=caf\xc3\xa9",
        long.as_bytes(),
        marks.as_bytes(),
    ];
    for sticky in [
        "cookie=srv",
        "rewrite=srv",
        "prefix=srv",
        "learn=cookie:srv",
    ] {
        let servers =
            servers("Set-Cookie2: srv=1; Version=1\r\nSet-Cookie: ;;=\r\nSet-Cookie: srv\r\n");
        let plimsoll = start(&servers, sticky, "");
        let asked = |cookie: &[u8]| {
            let mut client = Raw::connect(plimsoll.address());
            let request = [
                b"GET / HTTP/1.1\r\nHost: x\r\nCookie2: $Version=1\r\nCookie: ",
                cookie,
                b"\r\n\r\n",
            ]
            .concat();
            client.send(request).unwrap();
            client.response("GET")
        };
        for cookie in odd.into_iter().chain([blanks.as_bytes()]) {
            let response = asked(cookie);
            let case = format!("{sticky} {:.60}", cookie.escape_ascii());
            assert_eq!(response.status(), 200, "{case}");
            let set: Vec<_> = response.head.fields.all("set-cookie").collect();
            assert_eq!(set[..2], [";;=", "srv"], "{case}");
            assert_eq!(
                response.field("set-cookie2"),
                Some("srv=1; Version=1"),
                "{case}"
            );
            let seen = servers.iter().flat_map(Recorder::requests);
            let seen: Vec<_> = seen.flat_map(|request| request.head.fields.0).collect();
            let pairs = |text: &str| -> Vec<String> {
                let pairs = text.split(';').map(|pair| pair.trim().to_owned());
                pairs.filter(|pair| !pair.is_empty()).collect()
            };
            let sent: String = cookie.iter().map(|&b| char::from(b)).collect();
            let passed = |(name, value): &(String, String)| {
                name.eq_ignore_ascii_case("cookie") && pairs(value) == pairs(&sent)
            };
            let is_nothing = pairs(&sent).is_empty();
            assert!(is_nothing || seen.iter().any(passed), "{case}");
        }
    }
}
