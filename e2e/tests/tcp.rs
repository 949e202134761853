//! Connections that are relayed as they are.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::wire::Close;
use plimsoll_e2e::{ports, wait};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

/// A server that does this with each connection.
fn server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// One that greets, and then sends back what comes until that ends.
fn echo() -> SocketAddr {
    server(|mut stream| {
        stream.write_all(b"hello\n").ok();
        let mut from = stream.try_clone().unwrap();
        std::io::copy(&mut from, &mut stream).ok();
    })
}

/// Plimsoll in front of these servers.
fn before(servers: &[SocketAddr], service: &str, pool: &str) -> Plimsoll {
    let lines: Vec<_> = servers
        .iter()
        .map(|server| format!("server {server}"))
        .collect();
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\n\
         tcp 127.0.0.1:{{port}} {{ log {{dir}}/access.log; {service}; proxy app }}\n\
         pool app {{ balance first; {}; {pool} }}\n",
        lines.join("; ")
    );
    Start::run(&text).start()
}

fn connect(plimsoll: &Plimsoll) -> TcpStream {
    let stream = TcpStream::connect(plimsoll.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Checks that a client gets nothing but a reset; it may come before the client knows that it is
/// connected.
fn assert_reset(plimsoll: &Plimsoll) {
    match Raw::try_connect(plimsoll.address()) {
        Ok(mut client) => assert_eq!(client.read_to_close(PATIENCE).close, Close::Reset),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The line of a log that has one.
fn line(plimsoll: &Plimsoll) -> String {
    plimsoll.wait_log("access.log", 1, PATIENCE).remove(0)
}

/// Checks that a line of the log has these parts.
fn assert_line(plimsoll: &Plimsoll, parts: &[&str]) {
    let line = line(plimsoll);
    for part in parts {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn bytes_pass_whoever_speaks_first() {
    let server = echo();
    let plimsoll = before(&[server], "", "");
    let mut client = connect(&plimsoll);
    assert_eq!(read(&mut client, 6), b"hello\n");
    client.write_all(b"\0\xff\r\n").unwrap();
    assert_eq!(read(&mut client, 4), b"\0\xff\r\n");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    let service = format!(
        "\"site\":\"{}\",\"generation\":1,\"proto\":\"TCP\"",
        plimsoll.address()
    );
    let server = format!("\"pool\":\"app\",\"server\":\"{server}\",\"attempts\":1,\"t_connect\":");
    let bytes = "\"req_bytes\":4,\"res_bytes\":10,";
    assert_line(&plimsoll, &[&service, bytes, &server]);
    for (direction, count) in [("in", 4.0), ("out", 10.0)] {
        let listener = plimsoll.address();
        let name = format!(
            "plimsoll_tcp_bytes_total{{listener=\"{listener}\",direction=\"{direction}\"}}"
        );
        assert_eq!(plimsoll.metric(&name), Some(count));
    }
}

#[test]
fn a_line_may_be_as_haproxy_writes_it() {
    let server = echo();
    let plimsoll = before(&[server], "log {dir}/haproxy.log haproxy", "");
    drop(connect(&plimsoll));
    let line = plimsoll.wait_log("haproxy.log", 1, PATIENCE).remove(0);
    let service = format!("] {} app/{server} 0/", plimsoll.address());
    assert!(line.contains(&service), "{line}");
    assert!(line.ends_with(" 0/0/0/0/0 0/0"), "{line}");
}

#[test]
fn a_client_stays_with_its_server_by_its_address() {
    let named = |name: &'static [u8]| server(move |mut stream| stream.write_all(name).unwrap());
    let (a, b) = (named(b"a"), named(b"b"));
    let text = format!(
        "admin 127.0.0.1:{{port:admin}}\ntcp 127.0.0.1:{{port}} {{ proxy app }}\n\
         pool app {{ server {a}; server {b}; sticky by=client-ip }}\n"
    );
    let plimsoll = Start::run(&text).start();
    let served_by = || read(&mut connect(&plimsoll), 1);
    let first = served_by();
    assert!((0..20).all(|_| served_by() == first));
}

#[test]
fn a_service_needs_no_file() {
    let server = echo();
    let listen = "127.0.0.1:{port}".to_owned();
    let arguments = ["tcp".to_owned(), listen, server.to_string()];
    let plimsoll = Start::with(arguments.to_vec()).start();
    assert_eq!(read(&mut connect(&plimsoll), 6), b"hello\n");
}

#[test]
fn an_end_that_says_no_more_may_still_listen() {
    let server = server(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream
            .write_all(format!("{} bytes", all.len()).as_bytes())
            .unwrap();
    });
    let plimsoll = before(&[server], "", "");
    let mut client = connect(&plimsoll);
    client.write_all(&[7; 100_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "100000 bytes");
    // And the other way round.
    let server = self::server(|mut stream| {
        stream.write_all(b"that is all").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"heard");
    });
    let plimsoll = before(&[server], "", "");
    let mut client = connect(&plimsoll);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "that is all");
    client.write_all(b"heard").unwrap();
    drop(client);
    assert_line(&plimsoll, &["\"req_bytes\":5,\"res_bytes\":11,"]);
    assert!(!line(&plimsoll).contains("reason"));
}

#[test]
fn a_reset_is_passed_on() {
    let server = server(|mut stream| {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        Raw::accepted(stream).abort();
    });
    let plimsoll = before(&[server], "", "");
    let mut client = Raw::connect(plimsoll.address());
    client.send("x").unwrap();
    assert_eq!(client.read_to_close(PATIENCE).close, Close::Reset);
    assert_line(&plimsoll, &["\"reason\":\"connection_terminated\""]);
    // And the other way round.
    let (tell, told) = sync_channel(1);
    let server = self::server(move |mut stream| {
        let mut all = Vec::new();
        let outcome = stream.read_to_end(&mut all).map_err(|error| error.kind());
        tell.send((all, outcome)).unwrap();
    });
    let plimsoll = before(&[server], "", "");
    let mut client = Raw::connect(plimsoll.address());
    client.send("x").unwrap();
    wait::expect("the server", PATIENCE, || {
        ports::open(server.port()).len() == 1
    });
    thread::sleep(Duration::from_millis(100)); // a reset would overtake the byte
    client.abort();
    let (_, outcome) = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(outcome, Err(std::io::ErrorKind::ConnectionReset));
}

#[test]
fn a_server_that_cannot_be_reached_is_passed_over() {
    let nobody = ports::local(ports::free());
    let plimsoll = before(&[nobody, echo()], "", "outlier off");
    let mut client = connect(&plimsoll);
    assert_eq!(read(&mut client, 6), b"hello\n");
    drop(client);
    let failed = format!("\"failed_server\":\"{nobody}\",\"failed_reason\":\"connection_refused\"");
    assert_line(&plimsoll, &["\"attempts\":2", &failed]);
    let name = format!(
        "plimsoll_upstream_errors_total{{pool=\"app\",server=\"{nobody}\",reason=\"connection_refused\"}}"
    );
    assert_eq!(plimsoll.metric(&name), Some(1.0));
}

#[test]
fn nobody_there_is_said_with_a_reset() {
    let nobody = ports::local(ports::free());
    let plimsoll = before(&[nobody], "", "outlier off");
    assert_reset(&plimsoll);
    assert_line(
        &plimsoll,
        &["\"res_bytes\":0,", "\"reason\":\"connection_refused\""],
    );
}

#[test]
fn connections_end_when_nothing_moves_or_they_are_old() {
    let cases = [
        ("timeout tunnel=300ms", "connection_read_timeout"),
        ("timeout tunnel=10s lifetime=700ms", "connection_terminated"),
    ];
    for (timeout, reason) in cases {
        let plimsoll = before(&[echo()], timeout, "");
        let mut client = connect(&plimsoll);
        assert_eq!(read(&mut client, 6), b"hello\n");
        for _ in 0..4 {
            client.write_all(b"x").unwrap();
            assert_eq!(read(&mut client, 1), b"x");
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "{timeout}");
        assert_line(&plimsoll, &[&format!("\"reason\":\"{reason}\"")]);
    }
}

/// Both ways at once, so much that it does not fit anywhere.
#[test]
fn much_passes_whole() {
    const BYTES: usize = 64 * 1024 * 1024;
    let plimsoll = before(&[echo()], "", "");
    let mut client = connect(&plimsoll);
    assert_eq!(read(&mut client, 6), b"hello\n");
    let mut sender = client.try_clone().unwrap();
    let block: Vec<u8> = (0..65_537_u32).map(|at| (at % 251) as u8).collect();
    let sent = block.clone();
    let sending = thread::spawn(move || {
        for _ in 0..BYTES / sent.len() {
            sender.write_all(&sent).unwrap();
        }
        sender.shutdown(Shutdown::Write).unwrap();
    });
    for _ in 0..BYTES / block.len() {
        assert!(
            read(&mut client, block.len()) == block,
            "what came is not what was sent"
        );
    }
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
    sending.join().unwrap();
}

#[test]
fn a_full_server_has_connections_wait_in_line() {
    let plimsoll = before(&[echo()], "", "queue 1 timeout=30s; max-requests 1");
    let mut first = connect(&plimsoll);
    assert_eq!(read(&mut first, 6), b"hello\n");
    let mut second = connect(&plimsoll);
    wait::expect("the queue", PATIENCE, || {
        plimsoll.metric("plimsoll_queue_length{pool=\"app\"}") == Some(1.0)
    });
    assert_reset(&plimsoll);
    drop(first);
    assert_eq!(read(&mut second, 6), b"hello\n");
    let lines = plimsoll.wait_log("access.log", 2, PATIENCE).concat();
    let full = "\"reason\":\"connection_limit_reached\",\"detail\":\"the queue is full\"";
    assert!(lines.contains(full), "{lines}");
}

/// The PROXY protocol, to us and from us.
#[test]
fn servers_are_told_whom_a_connection_is_from() {
    let (tell, told) = sync_channel(1);
    let server = server(move |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        tell.send(all).unwrap();
    });
    let accept = "proxy-protocol accept=127.0.0.0/8; timeout header=500ms";
    let plimsoll = before(&[server], accept, "proxy-protocol v1");
    let mut client = connect(&plimsoll);
    client
        .write_all(b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nfirst")
        .unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let port = plimsoll.address().port();
    let header = format!("PROXY TCP4 192.0.2.1 127.0.0.1 56324 {port}\r\nfirst");
    let heard = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(String::from_utf8(heard).unwrap(), header);
    assert_line(
        &plimsoll,
        &["\"client\":\"192.0.2.1\",\"client_port\":56324"],
    );
    // Who does not say it goes no further.
    let mut silent = Raw::connect(plimsoll.address());
    assert_ne!(silent.read_to_close(PATIENCE).close, Close::Open);
}

#[test]
fn connections_to_a_server_that_is_down_can_be_closed() {
    let (server, check) = (echo(), TcpListener::bind("127.0.0.1:0").unwrap());
    let pool = format!(
        "on-down close-connections; check tcp port={} every=50ms fast=50ms timeout=1s fall=1",
        check.local_addr().unwrap().port()
    );
    let plimsoll = before(&[server], "", &pool);
    let mut client = Raw::connect(plimsoll.address());
    assert_eq!(client.read_at_least(6, PATIENCE).unwrap(), b"hello\n");
    assert!(client.is_quiet(Duration::from_millis(200)));
    drop(check);
    assert_eq!(client.read_to_close(PATIENCE).close, Close::Reset);
    assert_line(&plimsoll, &["\"reason\":\"destination_unavailable\""]);
}

/// What is under way when a drain begins goes on; nothing new begins.
/// What a client sends: its own number over and over, so that no two send the same.
fn text_of(client: usize, round: usize) -> Vec<u8> {
    let word = format!("{client}.{round} ");
    word.repeat(1 + client * 97 % 3000).into_bytes()
}

/// Whatever becomes of servers, nobody gets what is for somebody else.
#[test]
fn everybody_gets_his_own_bytes_while_servers_come_and_go() {
    const CLIENTS: usize = 40;
    const ROUNDS: usize = 60;
    // Each connection of the first one breaks off after a while.
    let hasty = server(|stream| {
        let mut from = stream.try_clone().unwrap().take(100_000);
        std::io::copy(&mut from, &mut &stream).ok(); // its client may have left
    });
    let patient = server(|stream| {
        std::io::copy(&mut &stream, &mut &stream).ok(); // its client may have left
    });
    let text = format!(
        "workers 2\nadmin off\ntcp 127.0.0.1:{{port}} {{ proxy app }}\n\
         pool app {{ server {hasty}; server {patient}; outlier off }}\n"
    );
    let plimsoll = Start::run(&text).start();
    let talk = |client: usize| {
        let (mut whole, mut round) = (0, 0);
        let mut stream = connect(&plimsoll);
        while round < ROUNDS {
            let sent = text_of(client, round);
            let mut back = vec![0; sent.len()];
            let mut sender = stream.try_clone().unwrap();
            let sending = {
                let sent = sent.clone();
                thread::spawn(move || sender.write_all(&sent).is_ok())
            };
            let is_whole = stream.read_exact(&mut back).is_ok();
            sending.join().unwrap();
            round += 1;
            if is_whole {
                assert!(back == sent, "client {client} got something else");
                whole += 1;
            } else {
                stream = connect(&plimsoll);
            }
        }
        whole
    };
    let whole: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| scope.spawn(move || talk(client)))
            .collect();
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum()
    });
    assert!(whole > CLIENTS * ROUNDS / 4, "{whole}");
}

/// Nobody inside is hurt when there are no more descriptors, and who waits outside comes in later.
#[test]
fn without_descriptors_those_inside_go_on() {
    let mut plimsoll = before(&[echo()], "", "");
    let mut inside = connect(&plimsoll);
    assert_eq!(read(&mut inside, 6), b"hello\n");
    let id = plimsoll.daemon().id().to_string();
    let limit = |most: &str| {
        let status = Command::new("prlimit").args(["--pid", &id, most]).status();
        assert!(status.unwrap().success());
    };
    limit("--nofile=60:");
    let crowd: Vec<_> = (0..100).map(|_| connect(&plimsoll)).collect();
    for _ in 0..50 {
        inside.write_all(b"ping").unwrap();
        assert_eq!(read(&mut inside, 4), b"ping");
    }
    let name = "plimsoll_upstream_exhausted_total{pool=\"app\"}";
    limit("--nofile=1000:");
    let greeted = crowd.into_iter().filter_map(|mut client| {
        let mut greeting = [0; 6];
        client.read_exact(&mut greeting).ok()
    });
    let greeted = greeted.count();
    // For some who came in there was nothing left to reach a server with.
    let turned_away = plimsoll.metric(name).unwrap();
    assert!(
        greeted > 50 && turned_away <= (100 - greeted) as f64,
        "{greeted} {turned_away}"
    );
    assert_eq!(read(&mut connect(&plimsoll), 6), b"hello\n");
}

#[test]
fn a_drain_lets_connections_end() {
    let mut plimsoll = before(&[echo()], "", "");
    let mut client = connect(&plimsoll);
    assert_eq!(read(&mut client, 6), b"hello\n");
    plimsoll.signal(Signal::TERM);
    wait::expect("the listener to close", PATIENCE, || {
        !ports::is_listening(plimsoll.address().port())
    });
    client.write_all(b"still here").unwrap();
    assert_eq!(read(&mut client, 10), b"still here");
    drop(client);
    assert!(plimsoll.wait_exit(PATIENCE).success());
}

/// A server that comes back is on trial with one connection; it is as good as any other once that stands.
#[test]
fn a_server_that_comes_back_needs_no_connection_to_end() {
    let address = ports::local(ports::free());
    let plimsoll = before(
        &[address, echo()],
        "",
        "outlier consecutive-failures=2 eject=300ms eject-max=300ms max-ejected=100%",
    );
    let state = |state: &str| {
        let name =
            format!("plimsoll_server_state{{pool=\"app\",server=\"{address}\",state=\"{state}\"}}");
        plimsoll.metric(&name) == Some(1.0)
    };
    wait::expect("the server to be ejected", PATIENCE, || {
        drop(read(&mut connect(&plimsoll), 6));
        state("ejected")
    });
    let listener = TcpListener::bind(address).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            stream.write_all(b"again\n").ok();
            thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
        }
    });
    let mut kept = Vec::new();
    wait::expect("two connections to it", PATIENCE, || {
        let mut client = connect(&plimsoll);
        if read(&mut client, 6) == b"again\n" {
            kept.push(client);
        }
        kept.len() == 2
    });
}
