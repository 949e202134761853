//! Clients that leave before they have their answer, at every stage.

use plimsoll_e2e::fault::{Fault, Mode};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::{ports, wait};
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A Plimsoll with this server, a log, and this time to connect.
fn logged(server: SocketAddr, connect: &str) -> Plimsoll {
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\n\
         site * {{\nlisten 127.0.0.1:{{port}}\nlog {{dir}}/access.log json\nroute {{ proxy app }}\n}}\n\
         pool app {{ server {server} ; timeout connect={connect} }}\n"
    );
    Start::run(&text).start()
}

#[test]
fn a_client_that_resets_while_we_connect_is_not_waited_for() {
    let upload = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
    for (request, ends) in [(GET, false), (GET, true), (upload, false)] {
        let fault = Fault::start(Mode::BlackHole);
        let plimsoll = logged(fault.address(), "10m");
        let opening = || ports::opening(fault.address().port());
        let others = opening();
        let connects = || !opening().is_subset(&others);
        let mut client = Raw::connect(plimsoll.address());
        client.send(request).unwrap();
        wait::expect("an attempt to connect", SOON, connects);
        client.send("more").unwrap();
        if ends {
            client.finish();
        }
        client.abort();
        let line = plimsoll.wait_log("access.log", 1, SOON).remove(0);
        assert!(line.contains("\"status\":499,"), "{line}");
        assert!(line.contains("\"reason\":\"client_aborted\""), "{line}");
        wait::expect("the attempt to end", SOON, || !connects());
    }
}

#[test]
fn a_client_that_resets_while_the_server_thinks_is_not_waited_for() {
    for (more, ends) in [("", false), ("", true), (GET, false), (GET, true)] {
        let silent = Fault::start(Mode::Silent);
        let plimsoll = logged(silent.address(), "1s");
        let mut client = Raw::connect(plimsoll.address());
        client.send(GET).unwrap();
        wait::expect("a connection", SOON, || silent.connections() == 1);
        client.send(more).unwrap();
        if ends {
            client.finish();
        }
        client.abort();
        let line = plimsoll.wait_log("access.log", 1, SOON).remove(0);
        assert!(line.contains("\"reason\":\"client_aborted\""), "{line}");
    }
}

#[test]
fn a_client_that_only_stops_sending_while_we_connect_is_answered() {
    let fault = Fault::start(Mode::BlackHole);
    let plimsoll = logged(fault.address(), "1s");
    let mut client = Raw::connect(plimsoll.address());
    client.send(GET).unwrap();
    client.finish();
    assert_eq!(client.response("GET").status(), 504);
}

#[test]
fn clients_that_take_a_little_of_a_gibibyte_and_leave_cost_nothing() {
    const PIECE: usize = 1 << 20;
    const PIECES: usize = 1 << 10;
    const CLIENTS: usize = 20;
    for (field, line) in [
        (format!("Content-Length: {}", PIECE * PIECES), String::new()),
        (
            "Transfer-Encoding: chunked".to_owned(),
            format!("{:x}\r\n", PIECE * PIECES),
        ),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n{line}");
        let upstream = Recorder::start(move |_| {
            Answer::bytes(head.clone()).then(Step::Repeat(vec![b'x'; PIECE], PIECES as u64))
        });
        let plimsoll = logged(upstream.address(), "3s");
        let (memory, descriptors) = (plimsoll.resident(), plimsoll.descriptors());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = Raw::connect_narrow(plimsoll.address(), 4096);
                client.send(GET).unwrap();
                let first = client.read_at_least(PIECE, SOON).unwrap();
                assert!(first.len() < 2 * PIECE, "it reads slowly");
                client
            })
            .collect();
        assert_eq!(upstream.open(), CLIENTS);
        let grown = plimsoll.resident().saturating_sub(memory);
        assert!(grown < 16 << 20, "{grown} bytes grown");
        clients.into_iter().for_each(Raw::abort);
        let lines = plimsoll.wait_log("access.log", CLIENTS, SOON);
        for line in lines {
            assert!(line.contains("\"reason\":\"client_aborted\""), "{line}");
        }
        wait::expect("no server to send any more", SOON, || upstream.open() == 0);
        // Pipes are kept for the next ones, two descriptors each.
        let kept = plimsoll.descriptors().saturating_sub(descriptors);
        assert!(kept <= 2 * CLIENTS, "{kept} descriptors kept");
        let grown = plimsoll.resident().saturating_sub(memory);
        assert!(grown < 16 << 20, "{grown} bytes grown");
    }
}

#[test]
fn a_client_that_leaves_takes_its_upstream_request_along() {
    let gate = Gate::new();
    let stand = Stand::start({
        let gate = gate.clone();
        move |request| match &*request.head.target {
            "/streaming" => Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 9000000000\r\n\r\n")
                .then(Step::Repeat(vec![b'x'; 64 << 10], 1 << 17)),
            _ => Answer::ok("late").after(Step::Await(gate.clone())),
        }
    });
    for target in ["/waiting", "/streaming"] {
        let before = stand.upstream.requests().len();
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let mut client = stand.connect();
                client
                    .send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
                    .unwrap();
                client
            })
            .collect();
        wait::expect("all upstream", SOON, || {
            stand.upstream.requests().len() == before + 20
        });
        clients.into_iter().for_each(Raw::abort);
        if target == "/waiting" {
            gate.open();
        }
        wait::expect("nothing in flight", SOON, || stand.upstream.open() <= 20);
    }
    wait::expect("the streams to end", SOON, || {
        let ended = stand
            .upstream
            .connections()
            .into_iter()
            .filter(|c| c.end.is_some());
        ended.count() >= 20
    });
}

#[test]
fn a_client_that_leaves_is_logged_as_one() {
    let upstream = Recorder::start(|_| Answer::ok("never").after(Step::Hold));
    let plimsoll = logged(upstream.address(), "3s");
    let mut client = Raw::connect(plimsoll.address());
    client.send(GET).unwrap();
    wait::expect("the request upstream", SOON, || {
        upstream.requests().len() == 1
    });
    client.abort();
    let line = plimsoll.wait_log("access.log", 1, SOON).remove(0);
    assert!(line.contains("\"reason\":\"client_aborted\""), "{line}");
    assert!(line.contains("\"status\":499,"), "{line}");
}

#[test]
fn a_storm_of_leaving_clients_leaves_nothing_behind() {
    let body = "y".repeat(1_000);
    let chunk = format!("3e8\r\n{body}\r\n").repeat(50);
    let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    let mut stand = Stand::start(move |_| Answer::bytes(response.clone()));
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{body}");
    let complete = |stand: &Stand| {
        let answer = stand.ask("POST", &request);
        assert_eq!((answer.status(), answer.body.length), (200, 50_000));
    };
    complete(&stand);
    let before = stand.plimsoll.descriptors();
    for cut in (1..request.len()).step_by(3) {
        let mut client = stand.connect();
        client.send(&request[..cut]).unwrap();
        client.abort();
        let mut client = stand.connect();
        client.send(&request).unwrap();
        let _ = client.read_at_least(cut, SOON); // of the answer, and then away
        client.abort();
    }
    complete(&stand);
    // Kept server connections, pipes and the like are few; each lost client would be one more.
    wait::expect("the descriptors to come back", SOON, || {
        stand.plimsoll.descriptors() <= before + 20
    });
    stand.plimsoll.daemon().assert_alive();
    assert_eq!(stand.upstream.malformed(), []);
}
