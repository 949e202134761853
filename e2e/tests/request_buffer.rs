//! Requests that wait here, in memory and on disk, until a server is asked with all of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::wait;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// More than the kernel takes for a server that does not read.
const LARGE: usize = 16 * 1024 * 1024;

const SPOOLED: &str = "plimsoll_spool_bytes";

fn body(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

fn start(root: &str, route: &str, servers: &[&Recorder]) -> Plimsoll {
    let servers: String = servers
        .iter()
        .map(|server| format!("server {}\n", server.address()))
        .collect();
    let text = format!(
        "workers 1\nadmin 127.0.0.1:{{port:admin}}\nspool {{dir}}/spool {root}\n\
         site * {{ listen 127.0.0.1:{{port}} ; request-limits body=20MiB\n\
         route {{ {route} ; proxy app }} }}\n\
         pool app {{ balance first\n{servers}}}\n"
    );
    Start::run(&text).start()
}

/// The parts of a request: head, body as it is sent, end.
fn parts(coding: &str) -> [Vec<u8>; 3] {
    match coding {
        "chunked" => [
            b"PUT /x HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            [format!("{LARGE:x}\r\n").as_bytes(), &body(LARGE), b"\r\n"].concat(),
            b"0\r\nX-Sum: 7\r\n\r\n".to_vec(),
        ],
        _ => [
            format!("PUT /x HTTP/1.1\r\nHost: shop\r\nContent-Length: {LARGE}\r\n\r\n")
                .into_bytes(),
            body(LARGE - 1),
            vec![u8::try_from((LARGE - 1) % 251).unwrap()],
        ],
    }
}

#[test]
fn a_server_is_asked_when_all_of_the_body_is_here() {
    for coding in ["length", "chunked"] {
        let server = Recorder::start(|_| Answer::ok("ok"));
        let plimsoll = start("", "buffer 64KiB disk=64MiB", &[&server]);
        let mut client = Raw::connect(plimsoll.address());
        let [head, body, end] = parts(coding);
        client.send(head).unwrap();
        client.send(body).unwrap();
        wait::expect("the body on disk", SOON, || {
            plimsoll.metric(SPOOLED) > Some(LARGE as f64 - 1e6)
        });
        assert_eq!(server.connections().len(), 0, "{coding}");
        // The next request follows at once.
        let next = b"GET /next HTTP/1.1\r\nHost: shop\r\n\r\n".to_vec();
        client.send([end, next].concat()).unwrap();
        assert_eq!(client.response("PUT").text(), "ok");
        assert_eq!(client.response("GET").text(), "ok");
        let requests = server.requests();
        let received = &requests[0].body;
        assert_eq!(received.length, LARGE as u64, "{coding}");
        assert_eq!(received.digest, digest(&self::body(LARGE)), "{coding}");
        if coding == "chunked" {
            assert_eq!(received.trailers.first("x-sum"), Some("7"));
        }
        assert_eq!(requests[1].head.target, "/next");
        assert_eq!(server.connections().len(), 1, "{coding}: kept");
        wait::expect("an empty spool", SOON, || {
            plimsoll.metric(SPOOLED) == Some(0.0)
        });
    }
}

#[test]
fn a_body_on_disk_is_sent_again_whole() {
    let broken = Recorder::start(|_| Answer(vec![Step::ReadBody, Step::Reset]));
    let server = Recorder::start(|_| Answer::ok("ok"));
    let route = "buffer 64KiB disk=64MiB";
    let plimsoll = start("", route, &[&broken, &server]);
    let mut client = Raw::connect(plimsoll.address());
    for part in parts("chunked") {
        client.send(part).unwrap();
    }
    assert_eq!(client.response("PUT").text(), "ok");
    assert_eq!(broken.requests().len(), 1);
    assert_eq!(server.requests()[0].body.digest, digest(&body(LARGE)));
}

#[test]
fn what_has_no_room_goes_on_as_it_comes() {
    for (root, route) in [
        ("", "buffer 64KiB disk=1MiB"),
        ("max=2MiB", "buffer 64KiB disk=64MiB"),
        ("", "buffer 1MiB disk=1B"),
    ] {
        for coding in ["length", "chunked"] {
            let server = Recorder::start(|_| Answer::ok("ok"));
            let plimsoll = start(root, route, &[&server]);
            let mut client = Raw::connect(plimsoll.address());
            let [head, body, end] = parts(coding);
            client.send(head).unwrap();
            client.send(body).unwrap();
            wait::expect("the server to be asked", SOON, || {
                server.connections().len() == 1
            });
            client.send(end).unwrap();
            assert_eq!(client.response("PUT").text(), "ok");
            let received = server.requests().remove(0).body;
            assert_eq!(received.digest, digest(&self::body(LARGE)), "{route}");
        }
    }
}

#[test]
fn a_disk_that_fails_costs_nothing_but_the_waiting() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let plimsoll = start("", "buffer 64KiB disk=64MiB", &[&server]);
    std::fs::remove_dir(plimsoll.directory().join("spool")).unwrap();
    let mut client = Raw::connect(plimsoll.address());
    for part in parts("chunked") {
        client.send(part).unwrap();
    }
    assert_eq!(client.response("PUT").text(), "ok");
    assert_eq!(server.requests()[0].body.digest, digest(&body(LARGE)));
    assert_eq!(plimsoll.metric("plimsoll_spool_errors_total"), Some(1.0));
}

#[test]
fn an_early_answer_to_a_body_on_disk_reaches_its_client() {
    let server = Recorder::start(|request| match &*request.head.target {
        "/x" => Answer(vec![
            Step::Send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno".to_vec()),
            Step::Close,
        ]),
        _ => Answer::ok("ok"),
    });
    let plimsoll = start("", "buffer 64KiB disk=64MiB", &[&server]);
    let mut client = Raw::connect(plimsoll.address());
    for part in parts("length") {
        client.send(part).unwrap();
    }
    let answer = client.response("PUT");
    assert_eq!((answer.status(), &*answer.text()), (413, "no"));
    assert_eq!(get(plimsoll.address(), "/").text(), "ok");
}

#[test]
fn a_body_above_the_limit_or_broken_off_leaves_nothing_behind() {
    let server = Recorder::start(|_| Answer::ok("ok"));
    let plimsoll = start("", "buffer 64KiB disk=64MiB", &[&server]);
    let [head, body, _] = parts("chunked");
    let mut client = Raw::connect(plimsoll.address());
    client.send(&head).unwrap();
    client.send(&body).unwrap();
    client.send(&body[..5 * 1024 * 1024]).unwrap();
    assert_eq!(client.response("PUT").status(), 413);
    let mut client = Raw::connect(plimsoll.address());
    client.send(&head).unwrap();
    client.send(&body).unwrap();
    wait::expect("the body on disk", SOON, || {
        plimsoll.metric(SPOOLED) > Some(1e7)
    });
    client.abort();
    wait::expect("an empty spool", SOON, || {
        plimsoll.metric(SPOOLED) == Some(0.0)
    });
    assert_eq!(server.connections().len(), 0);
}
