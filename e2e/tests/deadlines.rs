//! Time limits: bytes that trickle do not move them, and each has its own answer.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::fault::{Fault, Mode, RESPONSE_HEAD};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::{Close, Response, Stop};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A site with these settings and a pool with those.
fn configuration(site: &str, servers: &[SocketAddr], pool: &str) -> String {
    let servers: String = servers
        .iter()
        .map(|server| format!("server {server}\n"))
        .collect();
    format!(
        "admin 127.0.0.1:{{port:admin}}\n\
         site * {{\nlisten 127.0.0.1:{{port}}\n{site}\nroute {{ proxy app }}\n}}\n\
         pool app {{\n{servers}{pool}\n}}\n"
    )
}

fn start(site: &str, servers: &[SocketAddr], pool: &str) -> Plimsoll {
    Start::run(&configuration(site, servers, pool)).start()
}

fn stand(site: &str) -> Stand {
    let configuration = configuration(site, &[], "server {server}");
    Stand::run(&configuration, |_| Answer::ok("ok"))
}

fn token(response: &Response) -> &str {
    let status = response.field("proxy-status").unwrap_or_default();
    status.strip_prefix("plimsoll; error=").unwrap_or(status)
}

#[test]
fn a_head_that_trickles_in_is_not_waited_for() {
    let stand = stand("timeout header=300ms");
    // More bytes than the deadline has room for: each comes in time, the head does not.
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(2_000));
    let mut client = stand.connect();
    let mut sender = client.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || sender.send_bytewise(head, Duration::from_millis(10)));
        let response = client.response("GET");
        assert_eq!(
            (response.status(), token(&response)),
            (408, "client_timeout")
        );
        assert!(response.head.wants_close());
        assert_ne!(client.read_to_close(SOON).close, Close::Open);
    });
    // A kept connection's second head has the same deadline.
    let mut client = stand.connect();
    client.send(GET).unwrap();
    assert_eq!(client.response("GET").status(), 200);
    client.send("GET /").unwrap();
    assert_eq!(client.response("GET").status(), 408);
    assert_eq!(client.read_to_close(SOON).close, Close::Fin);
    assert_eq!(stand.upstream.requests().len(), 1);
}

#[test]
fn a_client_that_says_nothing_is_left_without_an_answer() {
    let stand = stand("timeout header=200ms idle=200ms");
    let silent = stand.connect().read_to_close(SOON);
    assert_eq!((silent.bytes.len(), silent.close), (0, Close::Fin));
    let mut client = stand.connect();
    client.send(GET).unwrap();
    assert_eq!(client.response("GET").status(), 200);
    let idle = client.read_to_close(SOON);
    assert_eq!((idle.bytes.len(), idle.close), (0, Close::Fin));
}

#[test]
fn an_idle_client_is_served_until_its_time_is_up() {
    let stand = stand("timeout header=100ms idle=30s");
    let mut client = stand.connect();
    client.send(GET).unwrap();
    assert_eq!(client.response("GET").status(), 200);
    // Idle for longer than a head may take, and shorter than idle clients may be.
    assert!(client.is_quiet(Duration::from_millis(400)));
    client.send(GET).unwrap();
    assert_eq!(client.response("GET").status(), 200);
}

#[test]
fn a_body_that_stops_is_not_waited_for() {
    for rest in [
        "Content-Length: 60\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let stand = stand("timeout body=300ms");
        let mut client = stand.connect();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: x\r\n{rest}"))
            .unwrap();
        let response = client.response("POST");
        assert_eq!(
            (response.status(), token(&response)),
            (408, "client_timeout")
        );
        assert!(response.head.wants_close());
        assert_eq!(client.read_to_close(SOON).close, Close::Fin);
        wait::expect("the server to be left", SOON, || stand.upstream.open() == 0);
        assert_eq!(stand.upstream.completed(), 0);
    }
}

#[test]
fn a_body_that_trickles_below_the_least_speed_is_not_waited_for() {
    let stand = stand("request-limits min-rate=1KiB/s");
    let mut client = stand.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        .unwrap();
    // Each piece comes long before the limit between two pieces.
    let mut sender = client.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || sender.send_bytewise([b'y'; 1_000], Duration::from_millis(20)));
        let response = client.response("POST");
        assert_eq!(
            (response.status(), token(&response)),
            (408, "client_timeout")
        );
        assert!(response.head.wants_close());
        assert_ne!(client.read_to_close(SOON).close, Close::Open);
        client.abort();
    });
    wait::expect("the server to be left", SOON, || stand.upstream.open() == 0);
    assert_eq!(stand.upstream.completed(), 0);
}

#[test]
fn a_body_over_the_limit_is_refused() {
    let stand = stand("request-limits body=1KiB");
    let over = "y".repeat(1025);
    let head = "POST / HTTP/1.1\r\nHost: x\r\n";
    stand.assert_refused(&[
        (
            format!("{head}Content-Length: 1025\r\n\r\n{over}").into(),
            413,
        ),
        (
            format!("{head}Content-Length: 1025\r\nExpect: 100-continue\r\n\r\n").into(),
            413,
        ),
        (
            format!("{head}Content-Length: 9223372036854775807\r\n\r\n").into(),
            413,
        ),
        (
            format!("{head}Transfer-Encoding: chunked\r\n\r\n401\r\n{over}\r\n0\r\n\r\n").into(),
            413,
        ),
    ]);
    let exactly = "y".repeat(1024);
    for rest in [
        format!("Content-Length: 1024\r\n\r\n{exactly}"),
        format!("Transfer-Encoding: chunked\r\n\r\n400\r\n{exactly}\r\n0\r\n\r\n"),
    ] {
        assert_eq!(stand.ask("POST", format!("{head}{rest}")).status(), 200);
    }
    // A body that grows over it on the way is cut off there.
    let mut client = stand.connect();
    client
        .send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"))
        .unwrap();
    wait::expect("the head upstream", SOON, || {
        stand.upstream.requests().len() == 3
    });
    client.send(format!("401\r\n{over}\r\n0\r\n\r\n")).unwrap();
    let response = client.response("POST");
    assert_eq!(
        (response.status(), response.head.wants_close()),
        (413, true)
    );
    wait::expect("that request to end", SOON, || {
        let last = stand.upstream.requests().remove(2).connection;
        stand.upstream.connections()[last].end.is_some()
    });
    assert_eq!(stand.upstream.completed(), 2);
}

#[test]
fn a_server_that_does_not_answer_becomes_504_and_is_asked_once() {
    let faults = [Fault::start(Mode::Silent), Fault::start(Mode::Silent)];
    let addresses = faults.each_ref().map(Fault::address);
    let plimsoll = start("", &addresses, "timeout response=300ms");
    for request in [
        GET,
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi",
    ] {
        let before: usize = faults.iter().map(Fault::connections).sum();
        let mut client = Raw::connect(plimsoll.address());
        client.send(request).unwrap();
        let response = client.response("GET");
        assert_eq!(
            (response.status(), token(&response)),
            (504, "http_response_timeout")
        );
        let after: usize = faults.iter().map(Fault::connections).sum();
        assert_eq!(after - before, 1);
    }
}

/// What a client hears of a pool whose only server fails in this way.
fn told(mode: Mode, pool: &str) -> (u16, String) {
    let fault = Fault::start(mode);
    let plimsoll = start("", &[fault.address()], pool);
    let mut client = Raw::connect(plimsoll.address());
    client.send(GET).unwrap();
    let response = client.response("GET");
    (response.status(), token(&response).to_owned())
}

#[test]
fn a_server_that_trickles_its_head_becomes_504() {
    let drip = Mode::Drip(Duration::from_millis(20));
    let told = told(drip, "timeout response=200ms");
    assert_eq!(told, (504, "http_response_timeout".to_owned()));
}

#[test]
fn a_server_that_is_not_reached_in_time_becomes_504() {
    let told = told(Mode::BlackHole, "timeout connect=200ms");
    assert_eq!(told, (504, "connection_timeout".to_owned()));
}

#[test]
fn an_answer_that_stops_is_cut_off() {
    let at = RESPONSE_HEAD.len() + 500;
    let fault = Fault::start(Mode::StallAt(at));
    let plimsoll = start(
        "timeout body=300ms\nlog {dir}/access.log json",
        &[fault.address()],
        "",
    );
    let mut client = Raw::connect(plimsoll.address());
    client.send(GET).unwrap();
    let unfinished = client.try_response("GET").unwrap_err();
    assert_eq!(unfinished.body.length, 500);
    assert!(
        matches!(unfinished.stop, Stop::Ended(Close::Reset, _)),
        "{unfinished:?}"
    );
    let recorder = fault.recorder().unwrap();
    wait::expect("the server to be left", SOON, || recorder.open() == 0);
    let line = plimsoll.wait_log("access.log", 1, SOON).remove(0);
    assert!(
        line.contains("\"reason\":\"connection_read_timeout\""),
        "{line}"
    );
}

#[test]
fn a_client_that_reads_nothing_is_left() {
    let stand = Stand::run(
        &configuration("timeout body=300ms", &[], "server {server}"),
        |_| {
            Answer::bytes(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                1_u64 << 30
            ))
            .then(Step::Repeat(vec![b'x'; 1 << 20], 1 << 10))
        },
    );
    let mut client = Raw::connect_narrow(stand.address(), 4096);
    client.send(GET).unwrap();
    wait::expect("the request upstream", SOON, || {
        stand.upstream.requests().len() == 1
    });
    wait::expect("the server to be let go", SOON, || {
        stand.upstream.open() == 0
    });
    assert_ne!(client.read_to_close(SOON).close, Close::Open);
}

#[test]
fn an_idle_server_connection_is_closed_in_time() {
    let configuration = configuration("", &[], "server {server}\nkeep-alive max=4 idle=200ms");
    let stand = Stand::run(&configuration, |_| Answer::ok("ok"));
    assert_eq!(stand.ask("GET", GET).status(), 200);
    wait::expect("the idle connection to be closed", SOON, || {
        stand.upstream.open() == 0
    });
}

#[test]
fn a_pool_without_keep_alive_closes_each_connection() {
    let configuration = configuration("", &[], "server {server}\nkeep-alive off");
    let stand = Stand::run(&configuration, |_| Answer::ok("ok"));
    let mut client = stand.connect();
    for _ in 0..3 {
        client.send(GET).unwrap();
        assert_eq!(client.response("GET").status(), 200);
    }
    assert_eq!(stand.upstream.connections().len(), 3);
    wait::expect("all to be closed", SOON, || stand.upstream.open() == 0);
}

#[test]
fn a_drain_finishes_what_is_under_way_and_exits_well() {
    let gate = Gate::new();
    let mut stand = Stand::start({
        let gate = gate.clone();
        move |_| Answer::ok("late").after(Step::Await(gate.clone()))
    });
    let (mut waiting, mut idle) = (stand.connect(), stand.connect());
    waiting.send(GET).unwrap();
    wait::expect("the request upstream", SOON, || {
        stand.upstream.requests().len() == 1
    });
    let mut uploading = stand.connect();
    uploading
        .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
        .unwrap();
    wait::expect("the upload upstream", SOON, || {
        stand.upstream.requests().len() == 2
    });
    stand.plimsoll.signal(Signal::TERM);
    // New connections are not taken any more.
    let address = stand.address();
    wait::expect("the listener to be closed", SOON, || {
        Raw::try_connect(address).is_err()
    });
    // Who connected before may still bring its first request.
    idle.send("GET /first HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    uploading.send("llo").unwrap();
    gate.open();
    for (name, client) in [
        ("waiting", &mut waiting),
        ("uploading", &mut uploading),
        ("idle", &mut idle),
    ] {
        let response = client.response("GET");
        assert_eq!(
            (response.status(), &*response.text()),
            (200, "late"),
            "{name}"
        );
        assert!(response.head.wants_close(), "{name}");
        assert_eq!(client.read_to_close(SOON).close, Close::Fin);
    }
    let status = stand.plimsoll.wait_exit(SOON);
    assert!(status.success(), "{status}");
    assert_eq!(stand.upstream.completed(), 3);
}

#[test]
fn a_drain_closes_idle_clients_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut stand = Stand::ok();
        let mut client = stand.connect();
        client.send(GET).unwrap();
        assert_eq!(client.response("GET").status(), 200);
        stand.plimsoll.signal(signal);
        let idle = client.read_to_close(SOON);
        assert_eq!((idle.bytes.len(), idle.close), (0, Close::Fin));
        assert!(stand.plimsoll.wait_exit(SOON).success());
        wait::expect("its server connections to be closed", SOON, || {
            stand.upstream.open() == 0
        });
    }
}
