//! Answers that wait here, so that a slow client keeps no server busy.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

/// More than the kernel takes for a client that does not read.
const LARGE: usize = 16 * 1024 * 1024;

/// Two seconds' worth of a limit of 200 KiB a second, and a little more.
const MEDIUM: usize = 500 * 1024;

fn body(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

fn chunked(length: usize) -> Vec<u8> {
    let mut message = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let _ = write!(message, "{length:x}\r\n");
    [
        message.as_bytes(),
        &body(length),
        b"\r\n0\r\nX-Sum: 7\r\n\r\n",
    ]
    .concat()
}

/// Plimsoll before a server that has one slot, and is asked for `/large`, `/chunked`, `/endless`.
fn start(route: &str, spool: &str, server: &Recorder) -> Plimsoll {
    let text = format!(
        "workers 1\nadmin 127.0.0.1:{{port:admin}}\n{spool}\n\
         site * {{ listen 127.0.0.1:{{port}} ; log {{dir}}/access.log json\n\
         route {{ {route} ; proxy app }} }}\n\
         pool app {{ server {{server}} max-connections=1 ; queue 10 timeout=60s }}\n"
    );
    Start::run(&text).set("server", server.address()).start()
}

fn server() -> Recorder {
    Recorder::start(|request| match request.head.target.as_str() {
        "/large" => Answer::ok(body(LARGE)),
        "/medium" => Answer::ok(body(MEDIUM)),
        "/chunked" => Answer::bytes(chunked(LARGE)),
        "/until-close" => Answer(vec![
            Step::ReadBody,
            Step::Send([b"HTTP/1.1 200 OK\r\n\r\n", &*body(LARGE)].concat()),
            Step::Close,
        ]),
        "/short" => Answer(vec![
            Step::ReadBody,
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec()),
            Step::Close,
        ]),
        _ => Answer::ok("ok"),
    })
}

/// A client with little room of its own, that has asked, and takes nothing yet.
fn ask(plimsoll: &Plimsoll, target: &str) -> Raw {
    let mut client = Raw::connect_narrow(plimsoll.address(), 4096);
    client
        .send(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n"))
        .unwrap();
    client
}

/// Plimsoll with room for all of any answer, and where its spool is.
fn buffered(server: &Recorder) -> (tempfile::TempDir, Plimsoll) {
    let directory = tempfile::tempdir().unwrap();
    let route = "response-buffer 64KiB disk=64MiB";
    let plimsoll = start(route, &spool(&directory), server);
    (directory, plimsoll)
}

fn spool(directory: &tempfile::TempDir) -> String {
    format!("spool {}", directory.path().join("spool").display())
}

#[test]
fn a_server_is_free_when_it_has_sent_its_answer() {
    let directory = tempfile::tempdir().unwrap();
    let server = server();
    let plimsoll = start(
        "response-buffer 256KiB disk=64MiB",
        &spool(&directory),
        &server,
    );
    for target in ["/large", "/chunked", "/until-close"] {
        let mut slow = ask(&plimsoll, target);
        wait::expect("bytes on disk", SOON, || {
            plimsoll.metric("plimsoll_spool_bytes") > Some(1e6)
        });
        // There is one slot, and the slow client has it until the server is done.
        assert_eq!(get(plimsoll.address(), "/").text(), "ok");
        let answer = slow.response("GET");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.body.length, LARGE as u64, "{target}");
        assert_eq!(answer.body.digest, digest(&body(LARGE)), "{target}");
        if target == "/chunked" {
            assert_eq!(answer.body.trailers.first("x-sum"), Some("7"));
        }
        wait::expect("an empty spool", SOON, || {
            plimsoll.metric("plimsoll_spool_bytes") == Some(0.0)
        });
        // The connection goes on.
        slow.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").unwrap();
        assert_eq!(slow.response("GET").text(), "ok");
    }
}

#[test]
fn without_room_the_server_waits_as_it_would_without() {
    let directory = tempfile::tempdir().unwrap();
    for (route, spool) in [
        ("", String::new()),
        ("response-buffer 1MiB", String::new()),
        ("response-buffer 64KiB disk=1MiB", spool(&directory)),
        (
            "response-buffer 64KiB disk=64MiB",
            format!("{} max=2MiB", spool(&directory)),
        ),
    ] {
        let server = server();
        let plimsoll = start(route, &spool, &server);
        let mut slow = ask(&plimsoll, "/large");
        wait::expect("the server to be asked", SOON, || {
            server.requests().len() == 1
        });
        let mut second = ask(&plimsoll, "/");
        let waiting = "plimsoll_queue_length{pool=\"app\"}";
        wait::expect("the second to wait", SOON, || {
            plimsoll.metric(waiting) == Some(1.0)
        });
        let answer = slow.response("GET");
        assert_eq!(answer.body.length, LARGE as u64, "{route}");
        assert_eq!(answer.body.digest, digest(&body(LARGE)), "{route}");
        assert_eq!(second.response("GET").text(), "ok");
    }
}

/// What the access log says of a request for `target`, in a field that has a plain value.
fn logged(plimsoll: &Plimsoll, target: &str, field: &str) -> String {
    let asked = format!("\"path\":\"{target}\"");
    let line = wait::until(SOON, || {
        let lines = plimsoll.log("access.log").into_iter();
        lines.rev().find(|line| line.contains(&asked))
    });
    let line = line.unwrap();
    let (_, value) = line.split_once(&format!("\"{field}\":")).unwrap();
    let end = value.find([',', '}']).unwrap();
    value[..end].trim_matches('"').to_owned()
}

#[test]
fn an_answer_that_its_server_cuts_off_does_not_look_whole() {
    let server = server();
    let (_directory, plimsoll) = buffered(&server);
    let capture = ask(&plimsoll, "/short").read_to_close(SOON);
    assert_eq!(capture.close, Close::Reset);
    let reason = logged(&plimsoll, "/short", "reason");
    assert_eq!(reason, "http_response_incomplete");
}

#[test]
fn a_client_that_leaves_is_not_waited_for() {
    let server = server();
    let (_directory, plimsoll) = buffered(&server);
    let bytes = "plimsoll_spool_bytes";
    let slow = ask(&plimsoll, "/large");
    wait::expect("bytes on disk", SOON, || plimsoll.metric(bytes) > Some(1e6));
    assert_eq!(get(plimsoll.address(), "/").text(), "ok");
    slow.abort();
    wait::expect("an empty spool", SOON, || {
        plimsoll.metric(bytes) == Some(0.0)
    });
    assert_eq!(logged(&plimsoll, "/large", "reason"), "client_aborted");
    // What it has got is counted, not what had come.
    let got: usize = logged(&plimsoll, "/large", "res_bytes").parse().unwrap();
    assert!(got < LARGE / 2, "{got}");
}

#[test]
fn a_client_that_takes_nothing_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let root = format!("{}\ndefaults {{ timeout body=1s }}", spool(&directory));
    let server = server();
    let plimsoll = start("response-buffer 64KiB disk=64MiB", &root, &server);
    let _slow = ask(&plimsoll, "/large");
    assert_eq!(logged(&plimsoll, "/large", "reason"), "client_stalled");
    assert_eq!(get(plimsoll.address(), "/").text(), "ok");
}

#[test]
fn a_limit_of_bytes_holds_up_the_client_and_not_the_server() {
    let directory = tempfile::tempdir().unwrap();
    let server = server();
    let plimsoll = start(
        "response-buffer 64KiB disk=64MiB ; limit 200KiB/s by=request",
        &spool(&directory),
        &server,
    );
    let began = Instant::now();
    let mut slow = ask(&plimsoll, "/medium");
    wait::expect("bytes on disk", SOON, || {
        plimsoll.metric("plimsoll_spool_bytes") > Some(0.0)
    });
    assert_eq!(get(plimsoll.address(), "/").text(), "ok");
    assert_eq!(slow.response("GET").body.digest, digest(&body(MEDIUM)));
    // It takes so long at least on a machine of any speed: the first 200 KiB are free.
    assert!(began.elapsed() > Duration::from_secs(1));
}

#[test]
fn a_disk_that_fails_costs_nothing_but_the_waiting() {
    let server = server();
    let (directory, plimsoll) = buffered(&server);
    std::fs::remove_dir(directory.path().join("spool")).unwrap();
    let mut slow = ask(&plimsoll, "/large");
    wait::expect("the disk to fail", SOON, || {
        plimsoll.metric("plimsoll_spool_errors_total") > Some(0.0)
    });
    let answer = slow.response("GET");
    assert_eq!(answer.body.digest, digest(&body(LARGE)));
    assert!(plimsoll.stderr().contains("the spool fails"));
}

#[test]
fn a_directory_that_cannot_be_used_is_found_out_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let text = format!(
        "admin off\nspool {}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ respond 200 }} }}\n",
        file.display()
    );
    let mut plimsoll = Start::run(&text).spawn();
    assert_eq!(plimsoll.wait_exit(SOON).code(), Some(1));
    let stderr = plimsoll.stderr();
    assert!(
        stderr.contains(&format!("cannot use spool {}: ", file.display())),
        "{stderr}"
    );
}

#[test]
fn what_comes_goes_on_at_once() {
    let gate = Gate::new();
    let opened = gate.clone();
    let server = Recorder::start(move |_| {
        Answer(vec![
            Step::ReadBody,
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nevent".to_vec()),
            Step::Await(gate.clone()),
            Step::Send(b" two".to_vec()),
        ])
    });
    let plimsoll = start("response-buffer 64KiB", "", &server);
    let mut client = ask(&plimsoll, "/");
    let mut came = Vec::new();
    while !came.ends_with(b"event") {
        came.extend(client.read_at_least(1, SOON).unwrap());
    }
    opened.open();
    assert_eq!(client.read_at_least(4, SOON).unwrap(), b" two");
}

#[test]
fn an_early_answer_is_whole_and_the_request_read_no_further() {
    let server = Recorder::start(|_| Answer::ok(body(1_000_000)).early());
    let (_directory, plimsoll) = buffered(&server);
    let mut client = Raw::connect(plimsoll.address());
    client
        .send("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100\r\n\r\nhalf")
        .unwrap();
    let answer = client.response("POST");
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(answer.body.digest, digest(&body(1_000_000)));
}
