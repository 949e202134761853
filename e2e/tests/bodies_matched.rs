//! Routes that ask for the body of a request: it is read before its turn, and reaches the server whole.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::stand::{Cut, Stand, assert_canonical, check_all};
use plimsoll_e2e::wire::Close;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// The upstream answers with the team that the route names, and the length of the body.
fn stand(routes: &str) -> Stand {
    let text = format!(
        "admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\n{routes}\nroute {{ request-header set X-Route none ; proxy {{server}} }}\n}}\n"
    );
    Stand::run(&text, |request| {
        let route = request.head.fields.first("x-route").unwrap_or("none");
        Answer::ok(route)
    })
}

fn route(number: usize, conditions: &str) -> String {
    format!("route {conditions} {{ request-header set X-Route {number} ; proxy {{server}} }}\n")
}

fn post(fields: &str, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn messages_are_matched_by_what_they_say() {
    let conditions = [
        "body:$.kind=video,audio",
        "body:$.items[*].price~^1[0-9]$ not:body:$.draft=true",
        "body:$.list[1]",
        "`body:name=a b`",
        "body:token",
        "`body~^<\\?xml`",
    ];
    let routes: String = (0..).zip(conditions).map(|(at, c)| route(at, c)).collect();
    let stand = stand(&routes);
    for (body, route) in [
        (r#"{"kind":"video"}"#, "0"),
        (r#"{"kind":"\u0076ideo"}"#, "0"),
        (r#"{"a":{"kind":"video"}}"#, "none"),
        (r#"{"kind":["video"]}"#, "none"),
        (r#"{"items":[{"price":9},{"price":12}]}"#, "1"),
        (r#"{"items":[{"price":12}],"draft":true}"#, "none"),
        (r#"{"list":[0,null]}"#, "2"),
        (r#"{"list":[0]}"#, "none"),
        (r#"{"kind":"video""#, "none"),
        ("x=1&name=a+b", "3"),
        ("n%61me=a%20b", "3"),
        ("token", "4"),
        ("<?xml version='1.0'?>", "5"),
        (" <?xml", "none"),
        ("", "none"),
    ] {
        let response = stand.ask("POST", post("", body));
        assert_eq!(response.text(), route, "{body}");
        let request = stand.upstream.requests().pop().unwrap();
        assert_canonical(&request);
        assert_eq!(request.body.bytes, body.as_bytes(), "{body}");
    }
}

#[test]
fn the_verdict_does_not_depend_on_how_a_body_arrives() {
    let stand = stand(&route(0, "body:$.kind=video"));
    let plain = post("", r#"{"kind":"video","more":[1,2,3]}"#);
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                   9\r\n{\"kind\":\"\r\n7\r\nvideo\"}\r\n0\r\n\r\n";
    let cases: Vec<_> = [plain.as_str(), chunked]
        .into_iter()
        .flat_map(|message| Cut::all(message.len()).map(move |cut| (message, cut)))
        .collect();
    check_all(&cases, |(message, cut)| {
        let mut client = stand.connect();
        // The next request stands right behind.
        let bytes = [message.as_bytes(), b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
        let sent = cut.send(&mut client, &bytes);
        sent.map_err(|error| error.to_string())?;
        let (first, second) = (
            client.response("POST").text(),
            client.response("GET").text(),
        );
        match (first.as_str(), second.as_str()) {
            ("0", "none") => Ok(()),
            other => Err(format!("{cut:?}: {other:?}")),
        }
    });
    assert_eq!(stand.upstream.malformed(), []);
}

#[test]
fn a_body_that_cannot_be_looked_at_is_not_taken_and_passes_whole() {
    let stand = stand(
        "route body:a { buffer 1KiB ; request-header set X-Route 0 ; proxy {server} }\n\
         route not:body:a=x { buffer 64KiB ; request-header set X-Route 1 ; proxy {server} }",
    );
    let long = |length: usize| format!("a=x&b={}", "y".repeat(length - 6));
    for (fields, body, route) in [
        ("", long(1024), "0"),
        ("", long(1025), "none"),
        ("", "b".repeat(1025), "1"),
        ("", "b".repeat(65_536), "1"),
        ("", "b".repeat(65_537), "none"),
        ("", "b".repeat(3_000_000), "none"),
        ("Content-Encoding: gzip\r\n", "a=x".into(), "none"),
        ("Content-Encoding: identity\r\n", "a=x".into(), "0"),
    ] {
        let response = stand.ask("POST", post(fields, &body));
        assert_eq!(response.text(), route, "{} {fields}", body.len());
        let request = stand.upstream.requests().pop().unwrap();
        assert_eq!(request.body.length, body.len() as u64);
        assert!(request.complete);
    }
}

#[test]
fn a_client_that_waits_is_told_to_send() {
    let stand = stand(&route(0, "body:$.kind=video"));
    let body = r#"{"kind":"video"}"#;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = stand.connect();
    client.send(head).unwrap();
    assert_eq!(client.response("POST").status(), 100);
    client.send(body).unwrap();
    assert_eq!(client.response("POST").text(), "0");
    let request = stand.upstream.requests().pop().unwrap();
    assert_eq!(request.head.fields.first("expect"), None);
}

#[test]
fn a_client_that_stops_within_its_body_is_told_or_forgotten() {
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\ntimeout body=300ms\nrequest-limits body=100B\n\
                route body:a { proxy {server} }\n}\n";
    let stand = Stand::run(text, |_| Answer::ok("ok").then(Step::Close));
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\na=";
    let mut client = stand.connect();
    client.send(head).unwrap();
    assert_eq!(client.response("POST").status(), 408);
    assert_eq!(client.read_to_close(SOON).close, Close::Fin);
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, status) in [
        ("1\r\na\r\nx", 400),
        (&format!("{:x}\r\n{}", 200, "a".repeat(120)), 413),
    ] {
        let mut client = stand.connect();
        client
            .send_split(
                format!("{chunked}{body}"),
                &[chunked.len() + 1],
                Duration::from_millis(1),
            )
            .unwrap();
        let response = client.response("POST");
        assert_eq!(
            (response.status(), response.head.wants_close()),
            (status, true),
            "{body}"
        );
    }
    assert_eq!(stand.upstream.requests().len(), 0);
}

#[test]
fn a_buffered_request_keeps_no_server_busy_and_is_sent_again_whole() {
    let text = "admin off\nsite * {\nlisten 127.0.0.1:{port}\nroute { buffer 64KiB ; proxy app }\n}\n\
                pool app { balance first ; server {first} ; server {server} ; retry 2 on=reset }\n";
    let first = Recorder::start(|_| Answer(vec![Step::ReadBody, Step::Reset]));
    let second = Recorder::start(|_| Answer::ok("ok"));
    let start = Start::run(text).set("first", first.address());
    let plimsoll = start.set("server", second.address()).start();
    let body = "x".repeat(40_000);
    let head = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n";
    let mut client = Raw::connect(plimsoll.address());
    client.send(head).unwrap();
    client.send(&body[..100]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(first.connections().len(), 0, "nothing is asked yet");
    client.send(&body[100..]).unwrap();
    assert_eq!(client.response("PUT").text(), "ok");
    for server in [first, second] {
        let request = server.requests().pop().unwrap();
        assert_eq!((request.number, request.body.length), (0, 40_000));
    }
}
