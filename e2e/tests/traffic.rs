//! Trying things out with real requests: copies that go elsewhere, and failures on purpose.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::stand::{POISON, assert_canonical};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

fn start(routes: &str, server: &Recorder, copy: &Recorder) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{\nlisten 127.0.0.1:{{port}}\n{routes}\n}}\n\
         pool app {{ server {{server}} }}\npool copy {{ server {{copy}} }}\n"
    );
    let start = Start::run(&text).set("server", server.address());
    start.set("copy", copy.address()).start()
}

fn counted(plimsoll: &Plimsoll, result: &str, count: u32) {
    let name = format!("plimsoll_mirrored_total{{pool=\"copy\",result=\"{result}\"}}");
    wait::expect(&name, SOON, || {
        plimsoll.metric(&name) == Some(f64::from(count))
    });
}

#[test]
fn a_copy_is_what_the_server_receives_and_nobody_waits_for_it() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let copy = Recorder::start(|_| Answer(vec![Step::ReadBody, Step::Hold]));
    let plimsoll = start(
        "route /none { mirror copy share=0% ; proxy app }\n\
         route { mirror copy ; strip-prefix /api ; request-header set X-A b ; buffer 64KiB ; proxy app }",
        &server,
        &copy,
    );
    let mut client = Raw::connect(plimsoll.address());
    let began = Instant::now();
    client.send("POST /api/x?y HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
    std::thread::sleep(Duration::from_millis(20));
    client.send("6\r\n world\r\n0\r\n\r\n").unwrap();
    assert_eq!(client.response("POST").text(), "ok");
    assert!(began.elapsed() < SOON);
    wait::expect("the copy", SOON, || copy.completed() == 1);
    let (request, copied) = (server.requests().remove(0), copy.requests().remove(0));
    assert_canonical(&copied);
    assert_eq!(copied.body.bytes, b"hello world");
    assert_eq!(
        (copied.head.method.as_str(), copied.head.target.as_str()),
        ("POST", "/x?y")
    );
    for name in ["x-a", "host", "x-forwarded-for", "x-request-id"] {
        assert_eq!(
            copied.head.fields.first(name),
            request.head.fields.first(name),
            "{name}"
        );
    }
    client
        .send("GET /none HTTP/1.1\r\nHost: shop\r\n\r\n")
        .unwrap();
    assert_eq!(client.response("GET").text(), "ok");
    assert_eq!(copy.requests().len(), 1);
    // A body that never comes whole is not copied.
    let long = "x".repeat(100_000);
    client
        .send(format!(
            "PUT /long HTTP/1.1\r\nHost: shop\r\nContent-Length: 100000\r\n\r\n{long}"
        ))
        .unwrap();
    assert_eq!(client.response("PUT").text(), "ok");
    counted(&plimsoll, "skipped", 1);
    assert_eq!(copy.requests().len(), 1);
}

#[test]
fn answers_are_compared_and_what_differs_is_told() {
    let large = "y".repeat(300_000);
    let other = large.replace("yyyyyyyyyy", "yyyyyzyyyy");
    let server_large = large.clone();
    let server = Recorder::start(move |request| match request.head.target.as_str() {
        "/large" | "/other" => Answer::ok(&server_large),
        _ => Answer::ok("ok"),
    });
    let copy = Recorder::start(move |request| match request.head.target.as_str() {
        "/large" => Answer::ok(&large),
        "/other" => Answer::ok(&other),
        "/status" => Answer::status(500, "ok"),
        "/gone" => Answer(vec![Step::ReadBody, Step::Close]),
        _ => Answer::bytes(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
        ),
    });
    let plimsoll = start("route { mirror copy compare ; proxy app }", &server, &copy);
    let ask = |target: &str| {
        let mut client = Raw::connect(plimsoll.address());
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .unwrap();
        assert_eq!(client.response("GET").status(), 200);
    };
    ask("/");
    ask("/large");
    counted(&plimsoll, "same", 2);
    ask("/other");
    ask("/status");
    counted(&plimsoll, "different", 2);
    ask("/gone");
    counted(&plimsoll, "failed", 1);
    let said = plimsoll.stderr();
    assert!(
        said.contains("a mirrored request was answered differently"),
        "{said}"
    );
    assert!(
        said.contains("differs=\"body\"") && said.contains("differs=\"status\""),
        "{said}"
    );
}

#[test]
fn requests_fail_on_purpose() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let copy = Recorder::start(|_| Answer::ok("ok"));
    let plimsoll = start(
        "route /open { respond 200 }\n\
         route /abort { fault abort=503 ; proxy app }\n\
         route /reset { fault abort=reset ; proxy app }\n\
         route /never { fault abort=503 share=0% ; proxy app }\n\
         route /late { fault delay=100ms ; proxy app }\n\
         route /half { fault abort=500 share=50% ; respond 200 }",
        &server,
        &copy,
    );
    let mut client = Raw::connect(plimsoll.address());
    let mut ask = |target: &str| {
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
            .unwrap();
        client.response("GET").status()
    };
    assert_eq!((ask("/abort"), ask("/never")), (503, 200));
    let began = Instant::now();
    assert_eq!(ask("/late"), 200);
    assert!(began.elapsed() >= Duration::from_millis(100));
    let failed = (0..200).filter(|_| ask("/half") == 500).count();
    // 100 are expected; 200 draws are this far off once in 10^9 runs.
    assert!((55..=145).contains(&failed), "{failed}");
    let mut client = Raw::connect(plimsoll.address());
    client
        .send("GET /reset HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let left = client.read_to_close(SOON);
    assert_eq!((left.bytes.len(), left.close), (0, Close::Reset));
    assert_eq!(server.requests().len(), 2);
    // With a body under way, the connection ends.
    let mut client = Raw::connect(plimsoll.address());
    client
        .send(format!(
            "POST /abort HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            POISON.len()
        ))
        .unwrap();
    let response = client.response("POST");
    assert_eq!(
        (response.status(), response.head.wants_close()),
        (503, true)
    );
    let _ = client.send(POISON);
    assert_eq!(client.read_to_close(SOON).close, Close::Fin);
}
