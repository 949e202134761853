//! Servers that fail: another one answers if that is safe, and a failure is never made to look
//! like a success.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::fault::{Fault, Mode, RESPONSE_HEAD, response};
use plimsoll_e2e::load::{Expect, Fate, Load};
use plimsoll_e2e::network::{ip, isolated};
use plimsoll_e2e::nginx::Nginx;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::{Close, Response, Stop, Unfinished};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const PUT: &str = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
const POST: &str = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";

fn ask(plimsoll: &Plimsoll, request: &str) -> Response {
    let mut client = Raw::connect(plimsoll.address());
    client.send(request).unwrap();
    client.response("GET")
}

fn status(plimsoll: &Plimsoll, request: &str) -> (u16, String) {
    let response = ask(plimsoll, request);
    let token = response.field("proxy-status").unwrap_or_default();
    (response.status(), token.replace("plimsoll; error=", ""))
}

/// Asks a Plimsoll with one server in this mode.
fn alone(mode: Mode, request: &str) -> (u16, String) {
    let fault = Fault::start(mode);
    status(&Start::proxy(&[fault.address()]).start(), request)
}

fn truncated(address: SocketAddr) -> Unfinished {
    let mut client = Raw::connect(address);
    client.send(GET).unwrap();
    let outcome = client.try_response("GET");
    outcome
        .err()
        .unwrap_or_else(|| panic!("a part was made to look complete"))
}

#[test]
fn a_server_that_refuses_costs_no_request() {
    let (down, up) = (Fault::start(Mode::Refuse), Recorder::echo());
    let plimsoll = Start::proxy(&[down.address(), up.address()]).start();
    for method in ["GET", "POST"] {
        let load = Load {
            method,
            body: b"hello".to_vec(),
            ..Load::on(plimsoll.address())
        };
        load.run(200).assert_all_ok();
    }
    assert_eq!(up.completed(), 400);
}

#[test]
fn when_all_refuse_the_answer_is_502() {
    let faults = [Fault::start(Mode::Refuse), Fault::start(Mode::Refuse)];
    let plimsoll = Start::proxy(&faults.each_ref().map(Fault::address)).start();
    for request in [GET, POST] {
        assert_eq!(
            status(&plimsoll, request),
            (502, "connection_refused".to_owned())
        );
    }
    // The client's connection is not to blame.
    let mut client = Raw::connect(plimsoll.address());
    for _ in 0..3 {
        client.send(GET).unwrap();
        assert_eq!(client.response("GET").status(), 502);
    }
}

#[test]
fn a_server_that_cannot_be_reached_in_time_is_passed_over() {
    let (down, up) = (
        Fault::start(Mode::BlackHole),
        Recorder::start(|_| Answer::ok("up")),
    );
    let plimsoll = Start::proxy(&[down.address(), up.address()]).start();
    for request in [POST, GET] {
        assert_eq!(ask(&plimsoll, request).text(), "up");
    }
    assert_eq!(
        alone(Mode::BlackHole, GET),
        (504, "connection_timeout".to_owned())
    );
}

#[test]
fn a_server_without_a_route_is_passed_over_at_once() {
    let nowhere: SocketAddr = "224.0.0.1:80".parse().unwrap(); // TCP has no way to a group
    let up = Recorder::start(|_| Answer::ok("up"));
    let plimsoll = Start::proxy(&[nowhere, up.address()]).start();
    for request in [POST, GET, POST, GET] {
        assert_eq!(ask(&plimsoll, request).text(), "up");
    }
    let alone = Start::proxy(&[nowhere]).start();
    assert_eq!(
        status(&alone, GET),
        (502, "destination_ip_unroutable".to_owned())
    );
}

#[test]
fn a_server_behind_an_unreachable_route_is_passed_over_at_once() {
    let name = "a_server_behind_an_unreachable_route_is_passed_over_at_once";
    isolated(name, || {
        ip("route add unreachable 198.51.100.1");
        let up = Recorder::start(|_| Answer::ok("up"));
        // The first is told to be unreachable; to the second no route leads at all.
        for nowhere in ["198.51.100.1:80", "203.0.113.1:80"] {
            let nowhere: SocketAddr = nowhere.parse().unwrap();
            let plimsoll = Start::proxy(&[nowhere, up.address()]).start();
            for request in [POST, GET, POST, GET] {
                assert_eq!(ask(&plimsoll, request).text(), "up", "{nowhere}");
            }
            let alone = Start::proxy(&[nowhere]).start();
            let unroutable = (502, "destination_ip_unroutable".to_owned());
            assert_eq!(status(&alone, GET), unroutable, "{nowhere}");
        }
    });
}

#[test]
fn a_request_that_may_be_repeated_goes_to_another_server() {
    for mode in [Mode::ResetAt(0), Mode::CloseAt(0)] {
        let (down, up) = (Fault::start(mode), Recorder::start(|_| Answer::ok("up")));
        let plimsoll = Start::proxy(&[down.address(), up.address()]).start();
        for request in [GET, PUT, GET, PUT] {
            assert_eq!(ask(&plimsoll, request).text(), "up", "{mode:?}");
        }
        assert_eq!(up.completed(), 4);
        assert!(down.connections() > 0);
    }
}

#[test]
fn a_post_that_reached_a_server_is_not_sent_again() {
    for mode in [Mode::ResetAt(0), Mode::CloseAt(0)] {
        let faults = [Fault::start(mode), Fault::start(mode)];
        let plimsoll = Start::proxy(&faults.each_ref().map(Fault::address)).start();
        assert_eq!(
            status(&plimsoll, POST),
            (502, "connection_terminated".to_owned()),
            "{mode:?}"
        );
        let seen: usize = faults
            .iter()
            .map(|fault| fault.recorder().unwrap().requests().len())
            .sum();
        assert_eq!(seen, 1, "{mode:?}");
    }
}

#[test]
fn repeats_have_an_end() {
    let faults: Vec<_> = (0..6).map(|_| Fault::start(Mode::ResetAt(0))).collect();
    let addresses: Vec<_> = faults.iter().map(Fault::address).collect();
    let plimsoll = Start::proxy(&addresses).start();
    assert_eq!(
        status(&plimsoll, GET),
        (502, "connection_terminated".to_owned())
    );
    let seen: usize = faults.iter().map(Fault::connections).sum();
    assert_eq!(seen, 3);
}

#[test]
fn a_response_head_that_breaks_off_becomes_502_and_is_not_repeated() {
    let length = RESPONSE_HEAD.len();
    for at in [1, 8, 20, length - 1] {
        for mode in [Mode::ResetAt(at), Mode::CloseAt(at)] {
            let (down, up) = (Fault::start(mode), Recorder::echo());
            let plimsoll = Start::proxy(&[down.address(), up.address()]).start();
            let answers = [status(&plimsoll, GET), status(&plimsoll, GET)];
            let failed = answers.iter().filter(|(status, _)| *status == 502);
            assert_eq!(failed.count(), 1, "{mode:?}: {answers:?}");
            let token = &answers.iter().find(|(status, _)| *status == 502).unwrap().1;
            assert_eq!(token, "connection_terminated", "{mode:?}");
        }
    }
}

#[test]
fn garbage_becomes_502_and_is_not_repeated() {
    let (down, up) = (Fault::start(Mode::Garbage), Recorder::echo());
    let plimsoll = Start::proxy(&[down.address(), up.address()]).start();
    let mut answers = [status(&plimsoll, GET), status(&plimsoll, GET)];
    answers.sort();
    assert_eq!(answers[1], (502, "http_protocol_error".to_owned()));
    assert_eq!(answers[0].0, 200);
}

#[test]
fn a_body_that_breaks_off_is_never_made_complete() {
    let half = RESPONSE_HEAD.len() + 500;
    for mode in [
        Mode::ResetAt(half),
        Mode::CloseAt(half),
        Mode::TruncatedLength,
        Mode::TruncatedChunked,
    ] {
        let fault = Fault::start(mode);
        let plimsoll = Start::proxy(&[fault.address()]).start();
        let unfinished = truncated(plimsoll.address());
        assert!(
            matches!(unfinished.stop, Stop::Ended(Close::Fin | Close::Reset, _)),
            "{unfinished:?}"
        );
        let sent = if mode == Mode::TruncatedChunked {
            5
        } else {
            500
        };
        assert!(unfinished.body.length <= sent, "{mode:?}: {unfinished:?}");
        // Whatever came is a true part.
        let whole = response().split_off(RESPONSE_HEAD.len());
        let part = &unfinished.body.bytes;
        assert!(
            whole.starts_with(part) || b"hello".starts_with(part),
            "{mode:?}"
        );
    }
}

#[test]
fn a_close_delimited_body_that_is_reset_is_incomplete() {
    for (version, request) in [
        ("1.1", GET),
        ("1.0", GET),
        ("1.0", "GET / HTTP/1.0\r\n\r\n"),
    ] {
        let head = format!("HTTP/{version} 200 OK\r\n\r\nhello");
        let passed = Gate::new();
        let upstream = Recorder::start({
            let passed = passed.clone();
            move |_| {
                Answer::bytes(head.clone())
                    .then(Step::Await(passed.clone()))
                    .then(Step::Reset)
            }
        });
        let plimsoll = Start::proxy(&[upstream.address()]).start();
        let mut client = Raw::connect(plimsoll.address());
        client.send(request).unwrap();
        let mut seen = Vec::new();
        while !seen.windows(5).any(|part| part == b"hello") {
            seen.extend(client.read_at_least(1, SOON).unwrap());
        }
        passed.open();
        let left = client.read_to_close(SOON);
        assert_eq!(
            (left.bytes.len(), left.close),
            (0, Close::Reset),
            "{version} {request}"
        );
    }
}

/// Answers, and closes the connection at moments that differ from request to request: at once, or
/// when the next request is just about to come.
fn moody() -> Recorder {
    Recorder::start(|request| {
        let id = request
            .head
            .fields
            .first("x-load-id")
            .unwrap_or("")
            .to_owned();
        let answer = Answer::ok(id);
        match request.number % 5 {
            0 | 1 => answer,
            2 => answer.then(Step::Close),
            3 => answer
                .then(Step::Wait(Duration::from_micros(200)))
                .then(Step::Close),
            _ => answer
                .then(Step::Wait(Duration::from_millis(1)))
                .then(Step::Reset),
        }
    })
}

#[test]
fn connections_that_a_server_closes_while_idle_cost_no_get() {
    let upstream = moody();
    let plimsoll = Start::proxy(&[upstream.address()]).start();
    let report = Load {
        threads: 8,
        ..Load::on(plimsoll.address())
    }
    .run(6_000);
    report.assert_all_ok();
    assert_eq!(report.count(Fate::Ok), 6_000);
    assert!(
        upstream.connections().len() > 1_000,
        "connections were closed under it"
    );
}

#[test]
fn no_post_reaches_a_server_twice_when_it_closes_idle_connections() {
    let upstream = moody();
    let plimsoll = Start::proxy(&[upstream.address()]).start();
    let load = Load {
        threads: 8,
        method: "POST",
        body: b"once".to_vec(),
        ..Load::on(plimsoll.address())
    };
    let report = load.run(3_000);
    assert!(report.count(Fate::Ok) > 2_000, "{:?}", report.counts);
    let mut seen = BTreeMap::new();
    for request in upstream.requests() {
        *seen.entry(request.head.target).or_insert(0) += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // What failed failed as 502, and nothing was invented.
    assert_eq!(
        report.count(Fate::Ok) + report.count(Fate::ServerError),
        3_000,
        "{:?}",
        report.counts
    );
}

#[test]
fn a_server_killed_under_load_costs_no_get() {
    let site = "location / { return 200 'from nginx'; }";
    let (doomed, safe) = (Nginx::start(site), Nginx::start(site));
    let plimsoll = Start::proxy(&[doomed.address(), safe.address()]).start();
    let load = Load {
        expect: Expect::Bytes(b"from nginx".to_vec()),
        ..Load::on(plimsoll.address())
    };
    let running = load.start();
    wait::expect("some requests", SOON, || running.ended() > 300);
    drop(doomed);
    let so_far = running.ended();
    wait::expect("more requests", SOON, || running.ended() > so_far + 1_000);
    running.stop().assert_all_ok();
}

const LOGGED: &str = "admin 127.0.0.1:{port:admin}\n\
    site * {\nlisten 127.0.0.1:{port}\nlog {dir}/access.log json\nroute { proxy app }\n}\n\
    pool app { server {server} }\n";

#[test]
fn a_failure_is_logged_with_its_reason_and_both_byte_counts() {
    let half = RESPONSE_HEAD.len() + 500;
    for (mode, expected) in [
        (
            Mode::Refuse,
            "\"status\":502,|\"reason\":\"connection_refused\"",
        ),
        (
            Mode::ResetAt(0),
            "\"status\":502,|\"reason\":\"connection_terminated\"",
        ),
        (
            Mode::ResetAt(20),
            "\"reason\":\"connection_terminated\"|in the middle of the response head",
        ),
        (
            Mode::CloseAt(half),
            "\"status\":200,|\"req_bytes\":2,\"res_bytes\":500,|\"http_response_incomplete\"",
        ),
        (
            Mode::Garbage,
            "\"status\":502,|\"reason\":\"http_protocol_error\"",
        ),
    ] {
        let fault = Fault::start(mode);
        let plimsoll = Start::run(LOGGED).set("server", fault.address()).start();
        let mut client = Raw::connect(plimsoll.address());
        client.send(POST).unwrap();
        let _ = client.try_response("POST"); // the line is what counts
        let line = plimsoll.wait_log("access.log", 1, SOON).remove(0);
        for part in expected.split('|') {
            assert!(line.contains(part), "{mode:?}: {part} in {line}");
        }
    }
}

#[test]
fn a_server_that_was_passed_over_is_named_in_the_log() {
    let (down, up) = (Fault::start(Mode::Refuse), Recorder::echo());
    let both = format!("{} ; server {}", down.address(), up.address());
    let plimsoll = Start::run(LOGGED).set("server", both).start();
    for _ in 0..2 {
        assert_eq!(ask(&plimsoll, GET).status(), 200);
    }
    let lines = plimsoll.wait_log("access.log", 2, SOON).concat();
    let failed = format!("\"attempts\":2,\"failed_server\":\"{}\"", down.address());
    assert_eq!(lines.matches(&failed).count(), 1, "{lines}");
    assert!(
        lines.contains("\"failed_reason\":\"connection_refused\""),
        "{lines}"
    );
}

#[test]
fn a_body_that_was_passed_on_in_pieces_is_not_sent_again_and_hides_no_request_behind_it() {
    let server = Recorder::start(|request| match &*request.head.target {
        "/dies" => Answer(vec![Step::ReadBody, Step::Close]),
        target => Answer::ok(target),
    });
    let text = "admin off\nsite * { listen 127.0.0.1:{port} ; route { proxy app } }\n\
                pool app { server {server} ; outlier off }\n";
    let plimsoll = Start::run(text).set("server", server.address()).start();
    let mut client = Raw::connect(plimsoll.address());
    for method in ["POST", "PUT"] {
        // The next request then goes out on a kept connection.
        client
            .send("GET /kept HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert_eq!(client.response("GET").text(), "/kept");
        let dies = format!("{method} /dies HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345");
        client.send(dies).unwrap();
        let begun = |request: &plimsoll_e2e::recorder::Request| request.head.method == method;
        wait::expect("its head", SOON, || server.requests().iter().any(begun));
        client
            .send("67890GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        assert_eq!(client.response(method).status(), 502);
        assert_eq!(client.response("GET").text(), "/next");
        assert_eq!(server.requests().into_iter().filter(begun).count(), 1);
    }
}
