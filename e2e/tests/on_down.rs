//! What becomes of requests that a server has when its checks find it down.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

struct Stand {
    plimsoll: Plimsoll,
    first: Recorder,
    _second: Recorder,
    is_well: Arc<AtomicBool>,
    /// Lets the first server answer what it holds.
    gate: Gate,
}

impl Stand {
    /// Two servers; the first one holds what it is asked for, and is preferred.
    fn start(on_down: &str) -> Self {
        let (is_well, gate) = (Arc::new(AtomicBool::new(true)), Gate::new());
        let (told, held) = (Arc::clone(&is_well), gate.clone());
        let first = Recorder::start(move |request| match &*request.head.target {
            "/healthz" if told.load(SeqCst) => Answer::ok("well"),
            "/healthz" => Answer::status(500, "not well"),
            "/" => Answer::ok("first"),
            "/half" => {
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
                Answer::bytes(head).then(Step::Await(held.clone()))
            }
            _ => Answer::ok("first").after(Step::Await(held.clone())),
        });
        let second = Recorder::start(|_| Answer::ok("second"));
        let text = format!(
            "workers 1\nadmin 127.0.0.1:{{port:admin}}\n\
             site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
             pool app {{ server {} ; server {} backup ; {on_down}\n\
             check GET /healthz every=50ms fast=50ms timeout=50ms }}\n",
            first.address(),
            second.address()
        );
        Self {
            plimsoll: Start::run(&text).start(),
            first,
            _second: second,
            is_well,
            gate,
        }
    }

    /// A client whose request the first server holds.
    fn held(&self, request: &str) -> Raw {
        let before = self.asked();
        let mut client = Raw::connect(self.plimsoll.address());
        client
            .send(format!(
                "{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            ))
            .unwrap();
        wait::expect("the request", SOON, || self.asked() > before);
        client
    }

    fn asked(&self) -> usize {
        let requests = self.first.requests().into_iter();
        requests
            .filter(|request| request.head.target != "/healthz")
            .count()
    }

    /// The checks find the first server down.
    fn fail(&self) {
        self.is_well.store(false, SeqCst);
        let state = format!(
            "plimsoll_server_state{{pool=\"app\",server=\"{}\",state=\"unfit\"}}",
            self.first.address()
        );
        wait::expect(&state, SOON, || self.plimsoll.metric(&state).is_some());
    }
}

#[test]
fn what_may_be_tried_again_is_answered_by_another_server_at_once() {
    let stand = Stand::start("on-down close-connections");
    let (mut safe, mut unsafe_) = (stand.held("GET /hold"), stand.held("POST /hold"));
    stand.fail();
    assert_eq!(safe.response("GET").text(), "second");
    let refused = unsafe_.response("POST");
    assert_eq!(refused.status(), 503);
    let reason = refused.field("proxy-status").unwrap();
    assert!(reason.contains("destination_unavailable"), "{reason}");
}

#[test]
fn a_kept_connection_is_no_reason_to_ask_the_same_server_again() {
    let stand = Stand::start("on-down close-connections");
    assert_eq!(get(stand.plimsoll.address(), "/").text(), "first");
    let mut client = stand.held("GET /hold");
    let asked = stand.asked();
    stand.fail();
    assert_eq!(client.response("GET").text(), "second");
    assert_eq!(stand.asked(), asked);
}

#[test]
fn an_answer_that_has_begun_is_cut_off_and_looks_so() {
    let stand = Stand::start("on-down close-connections");
    let mut client = stand.held("GET /half");
    stand.fail();
    assert!(client.try_response("GET").is_err());
}

#[test]
fn otherwise_requests_may_finish() {
    let stand = Stand::start("on-down finish");
    let mut client = stand.held("GET /hold");
    stand.fail();
    assert_eq!(get(stand.plimsoll.address(), "/").text(), "second");
    stand.gate.open();
    assert_eq!(client.response("GET").text(), "first");
}
