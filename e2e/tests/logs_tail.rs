//! Access log lines, heard as they come.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start, binary};
use plimsoll_e2e::raw::{Raw, get};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

/// Two sites and a service, none of which has a log.
fn start(workers: u8) -> Plimsoll {
    let text = "workers {workers}\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
        site a.test { listen 127.0.0.1:{port} ; route /no { respond 404 no } ; route { respond 200 a } }\n\
        site * { listen 127.0.0.1:{port} ; route { respond 503 down } }\n\
        tcp 127.0.0.1:{port:tcp} { proxy 127.0.0.1:{port:admin} }\n";
    Start::run(text).set("workers", workers).start()
}

/// What is heard of `query`, from now on.
struct Ear(BufReader<UnixStream>);

impl Ear {
    fn new(plimsoll: &Plimsoll, query: &str) -> Self {
        let stream = plimsoll.open_call(&format!("GET /v1/logs/tail?{query}"), "", "");
        let mut ear = Self(BufReader::new(stream));
        assert!(ear.line().contains("200"), "it is answered");
        while ear.line() != ": listening" {}
        ear
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The data of the next event.
    fn data(&mut self) -> String {
        loop {
            if let Some(data) = self.line().strip_prefix("data: ") {
                return data.to_owned();
            }
        }
    }

    fn record(&mut self) -> Value {
        serde_json::from_str(&self.data()).unwrap()
    }
}

fn ask(plimsoll: &Plimsoll, host: &str, target: &str) {
    let mut client = Raw::connect(plimsoll.address());
    client
        .send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
        .unwrap();
    let _answer = client.response("GET");
}

#[test]
fn lines_are_heard_of_sites_that_have_no_log() {
    let plimsoll = start(1);
    let mut all = Ear::new(&plimsoll, "");
    let mut errors = Ear::new(&plimsoll, "status=5xx");
    let mut missing = Ear::new(&plimsoll, "site=a.test&status=404&format=combined");
    let mut slow = Ear::new(&plimsoll, "slower=3600");
    for target in ["/1?token=secret", "/no", "/2"] {
        ask(&plimsoll, "a.test", target);
    }
    ask(&plimsoll, "other", "/no");
    ask(&plimsoll, "a.test", "/no");

    let one = all.record();
    assert_eq!(
        (&one["site"], &one["path"], &one["status"]),
        (&"a.test".into(), &"/1".into(), &200.into())
    );
    assert_eq!(one["query"], "token=***");
    let rest: Vec<Value> = (0..4).map(|_| all.record()["status"].clone()).collect();
    assert_eq!(rest, [404, 200, 503, 404].map(Value::from));
    assert_eq!(errors.record()["site"], "*");
    for _ in 0..2 {
        let line = missing.data();
        assert!(line.contains("\"GET /no HTTP/1.1\" 404"), "{line}");
    }
    drop(TcpStream::connect(plimsoll.address_of("tcp")).unwrap());
    assert_eq!(all.record()["proto"], "TCP");
    slow.0.get_mut().set_nonblocking(true).unwrap();
    assert!(
        slow.0
            .fill_buf()
            .map_or(true, |heard| heard.trim_ascii().is_empty())
    );
}

#[test]
fn a_slow_listener_is_told_how_many_lines_it_lost_and_holds_nobody_up() {
    let plimsoll = start(2);
    let mut ear = Ear::new(&plimsoll, "");
    let long = "x".repeat(2000);
    let mut client = Raw::connect(plimsoll.address());
    const REQUESTS: u64 = 4000;
    for number in 0..REQUESTS {
        let request = format!("GET /{number}?{long} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client.send(request).unwrap();
        assert_eq!(client.response("GET").status(), 200);
    }
    let (mut heard, mut lost) = (0, 0);
    while heard + lost < REQUESTS {
        let line = ear.line();
        if line == "event: lost" {
            let event = ear.record();
            lost += event["lost"].as_u64().unwrap();
        } else if line.starts_with("data: ") {
            heard += 1;
        }
    }
    assert!(lost > 0 && heard > 1000, "{heard} heard, {lost} lost");
    assert_eq!(heard + lost, REQUESTS);
    assert_eq!(plimsoll.metric("plimsoll_panics_total"), Some(0.0));
}

#[test]
fn the_verb_prints_lines_until_it_has_enough() {
    let plimsoll = start(2);
    let mut command = Command::new(binary());
    command.args([
        "logs", "--site", "a.test", "--lines", "2", "--format", "combined",
    ]);
    command
        .args(["--running", &plimsoll.admin_socket()])
        .stdout(Stdio::piped());
    let mut running = command.spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    // It listens from some moment on; every line after that is heard.
    let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
    let at = plimsoll.address();
    let asking = std::thread::spawn(move || {
        while stopped.try_recv().is_err() {
            let mut client = Raw::connect(at);
            client
                .send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n")
                .unwrap();
            let _answer = client.response("GET");
        }
    });
    for _ in 0..2 {
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains("\"GET /x HTTP/1.1\" 200"), "{line}");
    }
    assert!(lines.next().is_none() && running.wait().unwrap().success());
    stop.send(()).unwrap();
    asking.join().unwrap();
    for arguments in [["logs", "--status", "6xx"], ["logs", "--slower", "3"]] {
        assert!(plimsoll.verb(&arguments).is_err(), "{arguments:?}");
    }
}

#[test]
fn so_many_listen_and_only_those_who_may() {
    let plimsoll = start(2);
    let ears: Vec<Ear> = (0..16).map(|_| Ear::new(&plimsoll, "")).collect();
    let called = plimsoll.call("GET /v1/logs/tail", "", "");
    assert_eq!(called.status, 429, "{called:?}");
    drop(ears);
    for query in [
        "status=6xx",
        "slower=x",
        "slower=-1",
        "format=xml",
        "sites=a",
    ] {
        let called = plimsoll.call(&format!("GET /v1/logs/tail?{query}"), "", "");
        // Those who have left are noticed when something is said to them.
        assert!([400, 429].contains(&called.status), "{query}: {called:?}");
    }
    let response = get(plimsoll.address_of("admin"), "/v1/logs/tail");
    assert_eq!(response.status(), 403, "{}", response.text());
}
