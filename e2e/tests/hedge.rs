//! A second server is asked when the first lets wait for unusually long, and the faster answer is
//! passed on.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Response;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

/// A server that is always asked first and answers `/slow` and `/both-slow` when the gate opens,
/// one that is asked second and lets `/both-slow` wait as well, and Plimsoll before them.
struct Pair {
    first: Recorder,
    second: Recorder,
    gate: Gate,
    second_gate: Gate,
    plimsoll: Plimsoll,
}

impl Pair {
    fn start(statements: &str) -> Self {
        let gate = Gate::new();
        let held = gate.clone();
        let first = Recorder::start(move |request| match request.head.target.as_str() {
            "/slow" | "/both-slow" => Answer::ok("first").after(Step::Await(held.clone())),
            _ => Answer::ok("first"),
        });
        let second_gate = Gate::new();
        let held = second_gate.clone();
        let second = Recorder::start(move |request| match request.head.target.as_str() {
            "/both-slow" => Answer::ok("second").after(Step::Await(held.clone())),
            _ => Answer::ok("second"),
        });
        let text = format!(
            "workers 1\nadmin 127.0.0.1:{{port:admin}}\ndefaults {{ log access.log json }}\n\
             site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
             pool app {{ balance first ; server {} ; server {} ; {statements} }}\n",
            first.address(),
            second.address()
        );
        let plimsoll = Start::run(&text).start();
        Self {
            first,
            second,
            gate,
            second_gate,
            plimsoll,
        }
    }

    fn send(&self, request: &str) -> Raw {
        let mut client = Raw::connect(self.plimsoll.address());
        client.send(format!("{request}\r\n")).unwrap();
        client
    }

    fn ask(&self, request: &str) -> Response {
        self.send(request).response("GET")
    }

    fn hedges(&self, won: bool) -> f64 {
        let name = format!("plimsoll_hedges_total{{pool=\"app\",won=\"{won}\"}}");
        self.plimsoll.metric(&name).unwrap()
    }
}

const SLOW: &str = "GET /slow HTTP/1.1\r\nHost: x\r\n";

#[test]
fn the_faster_answer_is_passed_on() {
    let pair = Pair::start("hedge 50ms budget=100%");
    let mut client = pair.send(SLOW);
    assert_eq!(client.response("GET").text(), "second");
    // The client's connection goes on, and so does that of the second server.
    client.send(format!("{SLOW}\r\n")).unwrap();
    assert_eq!(client.response("GET").text(), "second");
    assert_eq!(pair.second.connections().len(), 1);
    assert!((pair.hedges(true) - 2.0).abs() < 0.5);
    let lines = || pair.plimsoll.log("access.log");
    wait::expect("the log", SOON, || lines().len() == 2);
    let server = format!("\"server\":\"{}\"", pair.second.address());
    for line in lines() {
        assert!(
            line.contains("\"attempts\":2") && line.contains(&server),
            "{line}"
        );
    }
    pair.gate.open();
    wait::expect("the slow server to be left", SOON, || {
        pair.first.open() == 0
    });
    assert_eq!(
        pair.ask("GET /fast HTTP/1.1\r\nHost: x\r\n").text(),
        "first"
    );
}

#[test]
fn the_first_answer_is_passed_on_when_it_comes_after_all() {
    let pair = Pair::start("hedge 50ms budget=100%");
    let mut client = pair.send("GET /both-slow HTTP/1.1\r\nHost: x\r\n");
    wait::expect("the second server to be asked", SOON, || {
        pair.second.requests().len() == 1
    });
    pair.gate.open();
    assert_eq!(client.response("GET").text(), "first");
    pair.second_gate.open();
    wait::expect("the second server to be left", SOON, || {
        pair.second.open() == 0
    });
    assert!((pair.hedges(false) - 1.0).abs() < 0.5);
}

#[test]
fn what_must_not_happen_twice_is_sent_once() {
    let pair = Pair::start("hedge 10ms budget=100%");
    let mut post = pair.send("POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n");
    let mut body = pair.send("PUT /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n");
    wait::expect("the first server to be asked", SOON, || {
        pair.first.requests().len() == 2
    });
    thread::sleep(Duration::from_millis(100));
    body.send("hi").unwrap();
    pair.gate.open();
    assert_eq!(post.response("POST").text(), "first");
    assert_eq!(body.response("PUT").text(), "first");
    assert_eq!(pair.second.requests().len(), 0);
}

#[test]
fn a_percentile_is_learnt_and_the_budget_is_kept() {
    let pair = Pair::start("hedge p95 budget=5%");
    let mut early = pair.send(SLOW); // nothing is known yet
    for _ in 0..200 {
        assert_eq!(pair.ask("GET /fast HTTP/1.1\r\nHost: x\r\n").status(), 200);
    }
    let asked_early = pair.second.completed();
    let slow: Vec<Raw> = (0..40).map(|_| pair.send(SLOW)).collect();
    wait::expect("the second server to be asked", SOON, || {
        pair.second.completed() > asked_early
    });
    wait::expect("all to be under way", SOON, || {
        pair.first.requests().len() == 241
    });
    thread::sleep(Duration::from_millis(300));
    pair.gate.open();
    for mut client in slow {
        assert_eq!(client.response("GET").status(), 200);
    }
    assert_eq!(early.response("GET").text(), "first");
    // 241 requests earned twelve.
    let hedged = pair.second.completed();
    assert!((1..=12).contains(&hedged), "{hedged}");
}

#[test]
fn a_second_server_that_fails_changes_nothing() {
    let pair = Pair::start("hedge 10ms budget=100%");
    let Pair {
        first,
        second,
        gate,
        plimsoll,
        ..
    } = pair;
    drop(second);
    let mut client = Raw::connect(plimsoll.address());
    client.send(format!("{SLOW}\r\n")).unwrap();
    wait::expect("the first server to be asked", SOON, || {
        first.requests().len() == 1
    });
    thread::sleep(Duration::from_millis(100));
    gate.open();
    assert_eq!(client.response("GET").text(), "first");
}
