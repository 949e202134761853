//! A local port for each connection to a server: there are only so many, and when none is left
//! the server is not to blame.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::network::{LocalPorts, isolated};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const HELD: &str = "GET /held HTTP/1.1\r\nHost: x\r\n\r\n";

/// How many connections there can be to one server.
const PORTS: usize = 8;

/// Called when every client has its connection: it takes a port too.
fn leave_few_ports() -> LocalPorts {
    LocalPorts::leave(61_000..=61_007) // the servers' own are below
}

/// A server that answers with its name, and to `/held` when the gate opens.
fn server(name: &'static str, gate: &Gate) -> Recorder {
    let gate = gate.clone();
    Recorder::start(move |request| match request.head.target.as_str() {
        "/held" => Answer::ok(name).after(Step::Await(gate.clone())),
        _ => Answer::ok(name),
    })
}

fn start(workers: u32, servers: &[SocketAddr], statements: &str) -> Plimsoll {
    let servers: Vec<_> = servers.iter().map(|at| format!("server {at}")).collect();
    let text = format!(
        "workers {workers}\nadmin 127.0.0.1:{{port:admin}}\ndefaults {{ log access.log json }}\n\
         site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ {} ; {statements} }}\n",
        servers.join(" ; ")
    );
    Start::run(&text).start()
}

fn clients(plimsoll: &Plimsoll, count: usize) -> Vec<Raw> {
    let connect = |_| Raw::connect(plimsoll.address());
    (0..count).map(connect).collect()
}

fn ask(client: &mut Raw) -> (u16, String) {
    client.send(GET).unwrap();
    let response = client.response("GET");
    (response.status(), response.text())
}

#[test]
fn who_finds_no_port_is_told_so_and_ports_are_used_when_they_come_free() {
    let name = "who_finds_no_port_is_told_so_and_ports_are_used_when_they_come_free";
    isolated(name, || {
        let gate = Gate::new();
        let servers = ["a", "b", "c"].map(|name| server(name, &gate));
        let addresses = servers.each_ref().map(Recorder::address);
        let plimsoll = start(2, &addresses, "retry 5 ; queue 100 timeout=60s");
        let mut crowd = clients(&plimsoll, 60);
        let _few = leave_few_ports();
        for client in &mut crowd {
            client.send(HELD).unwrap();
        }
        // They are told while all ports are taken.
        let refused = plimsoll.wait_log("access.log", 60 - 3 * PORTS, SOON);
        for line in &refused {
            for part in [
                "\"status\":503",
                "\"attempts\":3,", // each server once
                "\"reason\":\"destination_unavailable\"",
                "no local port or address is free",
            ] {
                assert!(line.contains(part), "{part} in {line}");
            }
        }
        for server in &servers {
            wait::expect("all of its ports taken", SOON, || {
                server.requests().len() == PORTS
            });
        }
        gate.open();
        let mut served = 0;
        for client in &mut crowd {
            let response = client.response("GET");
            match response.field("proxy-status") {
                None => served += usize::from(response.status() == 200),
                Some(status) => assert_eq!(status, "plimsoll; error=destination_unavailable"),
            }
        }
        assert_eq!(served, 3 * PORTS);
        let _ = plimsoll.wait_log("access.log", 60, SOON); // the connections are kept now
        for client in &mut crowd {
            assert_eq!(ask(client).0, 200);
        }
        for server in &servers {
            assert_eq!(server.connections().len(), PORTS);
        }
    });
}

#[test]
fn a_server_that_no_port_is_left_for_is_passed_over_and_not_ejected() {
    let name = "a_server_that_no_port_is_left_for_is_passed_over_and_not_ejected";
    isolated(name, || {
        let gate = Gate::new();
        let (near, far) = (server("near", &gate), server("far", &gate));
        let addresses = [near.address(), far.address()];
        let statements = "balance first ; outlier consecutive-failures=3 eject=1h";
        let plimsoll = start(1, &addresses, statements);
        let mut holding = clients(&plimsoll, PORTS);
        let mut others = clients(&plimsoll, 20);
        let _few = leave_few_ports();
        for client in &mut holding {
            client.send(HELD).unwrap();
        }
        wait::expect("no port left", SOON, || near.requests().len() == PORTS);
        for client in &mut others {
            assert_eq!(ask(client), (200, "far".to_owned()));
        }
        let passed_over = format!(
            "\"attempts\":2,\"failed_server\":\"{}\",\"failed_reason\":\"destination_unavailable\"",
            near.address()
        );
        for line in plimsoll.wait_log("access.log", 20, SOON) {
            assert!(line.contains(&passed_over), "{line}");
        }
        gate.open();
        for client in &mut holding {
            assert_eq!(client.response("GET").status(), 200);
        }
        let _ = plimsoll.wait_log("access.log", 20 + PORTS, SOON); // the connections are kept now
        for client in &mut others {
            assert_eq!(ask(client), (200, "near".to_owned()));
        }
        let errors = format!(
            "plimsoll_upstream_errors_total{{pool=\"app\",server=\"{}\",reason=\"destination_unavailable\"}}",
            near.address()
        );
        assert_eq!(plimsoll.metric(&errors), Some(20.0));
    });
}

#[test]
fn a_check_that_finds_no_port_says_nothing_of_the_server() {
    let name = "a_check_that_finds_no_port_says_nothing_of_the_server";
    isolated(name, || {
        let gate = Gate::new();
        let near = server("near", &gate);
        let statements = "check tcp every=20ms fast=20ms fall=1 timeout=30s";
        let plimsoll = start(1, &[near.address()], statements);
        let mut admin = Raw::connect(plimsoll.address_of("admin")); // it takes a port too
        let mut metric = |name: &str, more: &str| {
            admin
                .send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            let page = admin.response("GET").text();
            let name = format!(
                "{name}{{pool=\"app\",server=\"{}\"{more}}} ",
                near.address()
            );
            let value = page.lines().find_map(|line| line.strip_prefix(&name));
            value.and_then(|value| value.parse::<u32>().ok())
        };
        wait::expect("a check", SOON, || {
            metric("plimsoll_checks_total", ",result=\"passed\"") > Some(0)
        });
        let mut holding = clients(&plimsoll, 100);
        let _few = leave_few_ports();
        // A check may have a port for a moment: then one client finds none, and the next one does.
        let mut sent = 0;
        wait::expect("no port left", SOON, || {
            let refused = plimsoll.log("access.log").len();
            for client in holding.iter_mut().take(PORTS + refused).skip(sent) {
                client.send(HELD).unwrap();
                sent += 1;
            }
            near.requests().len() == PORTS
        });
        wait::expect("checks without a port", SOON, || {
            metric("plimsoll_checks_total", ",result=\"skipped\"") > Some(3)
        });
        assert_eq!(metric("plimsoll_server_up", ""), Some(1));
        gate.open();
        let held = holding.iter_mut().take(sent);
        let statuses: Vec<u16> = held.map(|client| client.response("GET").status()).collect();
        let served = statuses.iter().filter(|status| **status == 200);
        assert_eq!(served.count(), PORTS, "{statuses:?}");
        let _ = plimsoll.wait_log("access.log", sent, SOON); // the connections are kept now
        assert_eq!(ask(&mut holding[99]), (200, "near".to_owned()));
        let failed = metric("plimsoll_checks_total", ",result=\"failed\"");
        assert_eq!(failed, Some(0));
    });
}
