//! Clients that leave before they have their answer, at every stage.

use plimsoll_e2e::fault::{Fault, Mode};
use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::Raw;
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
