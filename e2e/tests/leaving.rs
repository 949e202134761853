//! Clients that leave before they have their answer, at every stage.

use plimsoll_e2e::fault::{Fault, Mode};
use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Request;
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::{ports, wait};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// One server, a log, and a time to connect that the test sets.
const LOGGED: &str = "admin 127.0.0.1:{port:admin}\n\
    site * {\nlisten 127.0.0.1:{port}\nlog {dir}/access.log json\nroute { proxy app }\n}\n\
    pool app { server {server} ; timeout connect={connect} }\n";

#[test]
fn a_client_that_resets_while_we_connect_is_not_waited_for() {
    let upload = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n";
    for (request, ends) in [(GET, false), (GET, true), (upload, false)] {
        let fault = Fault::start(Mode::BlackHole);
        let start = Start::run(LOGGED).set("server", fault.address());
        let plimsoll = start.set("connect", "10m").start();
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
fn a_client_that_only_stops_sending_while_we_connect_is_answered() {
    let fault = Fault::start(Mode::BlackHole);
    let start = Start::run(LOGGED).set("server", fault.address());
    let plimsoll = start.set("connect", "1s").start();
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
        let script = move |_: &Request| {
            Answer::bytes(head.clone()).then(Step::Repeat(vec![b'x'; PIECE], PIECES as u64))
        };
        let configuration = LOGGED.replace("{connect}", "3s");
        let stand = Stand::run(&configuration, script);
        let (memory, descriptors) = (stand.plimsoll.resident(), stand.plimsoll.descriptors());
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let mut client = Raw::connect_narrow(stand.address(), 4096);
                client.send(GET).unwrap();
                let first = client.read_at_least(PIECE, SOON).unwrap();
                assert!(first.len() < 2 * PIECE, "it reads slowly");
                client
            })
            .collect();
        assert_eq!(stand.upstream.open(), CLIENTS);
        let grown = stand.plimsoll.resident().saturating_sub(memory);
        assert!(grown < 16 << 20, "{grown} bytes grown");
        clients.into_iter().for_each(Raw::abort);
        let lines = stand.plimsoll.wait_log("access.log", CLIENTS, SOON);
        for line in lines {
            assert!(line.contains("\"reason\":\"client_aborted\""), "{line}");
        }
        wait::expect("no server to send any more", SOON, || {
            stand.upstream.open() == 0
        });
        // Pipes are kept for the next ones, two descriptors each.
        let kept = stand.plimsoll.descriptors().saturating_sub(descriptors);
        assert!(kept <= 2 * CLIENTS, "{kept} descriptors kept");
        let grown = stand.plimsoll.resident().saturating_sub(memory);
        assert!(grown < 16 << 20, "{grown} bytes grown");
    }
}
