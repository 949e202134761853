//! What goes wrong around connections that are relayed: servers that do not answer, break off or fall silent,
//! and clients that leave or do not read.

use plimsoll_e2e::fault::{Fault, Mode, response};
use plimsoll_e2e::network::{ip, isolated};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Capture;
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// Plimsoll in front of these servers, of which the first that can be had is used.
fn before(servers: &[SocketAddr], service: &str, pool: &str) -> Plimsoll {
    let servers: Vec<_> = servers.iter().map(|at| format!("server {at}")).collect();
    Start::run(&format!(
        "workers 1\nadmin 127.0.0.1:{{port:admin}}\n\
         tcp 127.0.0.1:{{port}} {{ log {{dir}}/access.log; {service}; proxy app }}\n\
         pool app {{ balance first; outlier off; {}; {pool} }}\n",
        servers.join("; ")
    ))
    .start()
}

/// What a client gets that asks.
fn ask(plimsoll: &Plimsoll) -> Capture {
    let mut client = Raw::connect(plimsoll.address());
    client.send(GET).ok(); // nobody may be there any more
    client.read_to_close(PATIENCE)
}

/// Checks that a line of the log has these parts.
fn assert_line(plimsoll: &Plimsoll, parts: &[&str]) {
    let line = plimsoll.wait_log("access.log", 1, PATIENCE).remove(0);
    for part in parts {
        assert!(line.contains(part), "{part} in {line}");
    }
}

/// F-02: a connection that is never answered is given up in time, before any byte has passed.
#[test]
fn who_never_answers_is_passed_over() {
    let (hole, sound) = (
        Fault::start(Mode::BlackHole),
        Fault::start(Mode::CloseAt(usize::MAX)),
    );
    let connect = "timeout connect=200ms";
    let plimsoll = before(&[hole.address(), sound.address()], "", connect);
    let got = ask(&plimsoll);
    assert_eq!((got.bytes, got.close), (response(), Close::Fin));
    assert_line(
        &plimsoll,
        &["\"attempts\":2", "\"failed_reason\":\"connection_timeout\""],
    );

    let alone = before(&[hole.address()], "", connect);
    assert_eq!(ask(&alone).close, Close::Reset);
    assert_line(&alone, &["\"reason\":\"connection_timeout\""]);
}

/// F-03
#[test]
fn who_cannot_be_reached_is_passed_over() {
    isolated("who_cannot_be_reached_is_passed_over", || {
        ip("route add unreachable 10.9.9.9");
        let sound = Fault::start(Mode::CloseAt(usize::MAX));
        let nowhere = SocketAddr::from(([10, 9, 9, 9], 80));
        let plimsoll = before(&[nowhere, sound.address()], "", "");
        assert_eq!(ask(&plimsoll).bytes, response());
        let reason = "\"failed_reason\":\"destination_ip_unroutable\"";
        assert_line(&plimsoll, &["\"attempts\":2", reason]);
    });
}

/// F-09, F-11, F-12: what came is passed on, and the end as it was.
#[test]
fn an_end_is_passed_on_as_it_was() {
    for (mode, close) in [
        (Mode::ResetAt(600), Close::Reset),
        (Mode::CloseAt(600), Close::Fin),
    ] {
        let server = Fault::start(mode);
        let plimsoll = before(&[server.address()], "", "");
        let got = ask(&plimsoll);
        assert_eq!(got.close, close);
        // A reset may overtake what was sent before it.
        assert!(response().starts_with(&got.bytes));
        assert!(close == Close::Reset || got.bytes.len() == 600);
    }
}

/// F-13
#[test]
fn silence_ends_it_in_time() {
    let server = Fault::start(Mode::StallAt(600));
    let plimsoll = before(&[server.address()], "timeout tunnel=300ms", "");
    let got = ask(&plimsoll);
    assert_eq!((got.bytes.len(), got.close), (600, Close::Fin));
    assert_line(
        &plimsoll,
        &[
            "\"reason\":\"connection_read_timeout\"",
            "\"res_bytes\":600,",
        ],
    );
}

/// F-15: what a client does not read stays with its server.
#[test]
fn a_client_that_does_not_read_takes_no_memory() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let plimsoll = before(&[server], "", "");
    let before = plimsoll.resident();
    let _slow: Vec<Raw> = (0..20)
        .map(|_| {
            let client = Raw::connect_narrow(plimsoll.address(), 4096);
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nonblocking(true).unwrap();
            thread::spawn(move || {
                // As much as anybody takes: it is never all of it.
                let piece = [b'x'; 65_536];
                let mut taken = 0;
                while taken < 1 << 30 {
                    match stream.write(&piece) {
                        Ok(written) => taken += written,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            thread::sleep(std::time::Duration::from_millis(10));
                        }
                        Err(_) => return,
                    }
                }
            });
            client
        })
        .collect();
    let moved = || {
        let name = format!(
            "plimsoll_tcp_bytes_total{{listener=\"{}\",direction=\"out\"}}",
            plimsoll.address()
        );
        plimsoll.metric(&name).unwrap()
    };
    let (mut last, mut still) = (0.0, 0);
    wait::expect("nothing to move any more", PATIENCE, || {
        thread::sleep(std::time::Duration::from_millis(50));
        still = if moved() == last { still + 1 } else { 0 };
        last = moved();
        last > 0.0 && still == 5
    });
    let grown = plimsoll.resident().saturating_sub(before);
    assert!(grown < 8 << 20, "{grown} bytes more");
}

/// F-19
#[test]
fn a_client_that_leaves_is_not_waited_for() {
    let hole = Fault::start(Mode::BlackHole);
    let plimsoll = before(&[hole.address()], "", "timeout connect=1m");
    let client = Raw::connect(plimsoll.address());
    wait::expect("the connection", PATIENCE, || {
        let name = format!(
            "plimsoll_connections_accepted_total{{listener=\"{}\"}}",
            plimsoll.address()
        );
        plimsoll.metric(&name) == Some(1.0)
    });
    client.abort();
    assert_line(&plimsoll, &["\"reason\":\"client_aborted\""]);
}

/// F-23
#[test]
fn nobody_is_tried_when_all_are_known_to_be_down() {
    let refusing = Fault::start(Mode::Refuse);
    let check = "check tcp every=100ms initial=down; fail-open off";
    let plimsoll = before(&[refusing.address()], "", check);
    match Raw::try_connect(plimsoll.address()) {
        Ok(mut client) => assert_eq!(client.read_to_close(PATIENCE).close, Close::Reset),
        // It may come before the client knows that it is connected.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let parts = ["\"attempts\":0", "\"reason\":\"destination_unavailable\""];
    assert_line(&plimsoll, &parts);
}
