//! Servers that fail requests: they are left alone for a while, and what they failed is done by
//! others, within a budget.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::fault::{Fault, Mode};
use plimsoll_e2e::load::Load;
use plimsoll_e2e::nginx::Nginx;
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::{ports, wait};
use std::net::SocketAddr;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";

/// A Plimsoll with one worker and one pool: these servers, and these statements.
fn pool(servers: &[SocketAddr], statements: &str) -> Plimsoll {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("server {server}"))
        .collect();
    let servers = servers.join(" ; ");
    let text = format!(
        "workers 1\nadmin 127.0.0.1:{{port:admin}}\n\
         site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{\n{servers}\n{statements}\n}}\n"
    );
    Start::run(&text).start()
}

fn ask(plimsoll: &Plimsoll, request: &str) -> (u16, String) {
    let mut client = Raw::connect(plimsoll.address());
    client.send(request).unwrap();
    let response = client.response("GET");
    (response.status(), response.text())
}

fn expect_state(plimsoll: &Plimsoll, server: SocketAddr, state: &str) {
    let name =
        format!("plimsoll_server_state{{pool=\"app\",server=\"{server}\",state=\"{state}\"}}");
    wait::expect(&name, SOON, || plimsoll.metric(&name).is_some());
}

fn ejections(plimsoll: &Plimsoll, server: SocketAddr) -> f64 {
    let name = format!("plimsoll_server_ejections_total{{pool=\"app\",server=\"{server}\"}}");
    plimsoll.metric(&name).unwrap()
}

#[test]
fn a_server_that_resets_requests_is_ejected_tried_and_readmitted() {
    let (bad, good) = (Fault::start(Mode::ResetAt(0)), Recorder::echo());
    let address = bad.address();
    let plimsoll = pool(
        &[address, good.address()],
        "outlier consecutive-failures=3 eject=1s",
    );
    Load::on(plimsoll.address()).run(100).assert_all_ok();
    // The first rest may be over, and then one request at a time shows that nothing has changed.
    assert!(ejections(&plimsoll, address) >= 1.0);
    assert!(
        plimsoll.stderr().contains("server ejected"),
        "{}",
        plimsoll.stderr()
    );
    assert!(bad.connections() <= 10, "{}", bad.connections());
    drop(bad);
    let back = Recorder::start_at(address, |_| Answer::ok("back"));
    wait::expect("the server to be asked again", SOON, || {
        ask(&plimsoll, GET);
        back.completed() > 2
    });
    expect_state(&plimsoll, address, "ready");
    assert!(
        plimsoll.stderr().contains("server readmitted"),
        "{}",
        plimsoll.stderr()
    );
}

/// Its kernel goes on taking connections and requests for it.
#[test]
fn a_process_that_is_stopped_is_ejected_until_it_goes_on() {
    let mut hung = Nginx::start("location / { return 200 hung; }");
    let good = Recorder::start(|_| Answer::ok("good"));
    let plimsoll = pool(
        &[hung.address(), good.address()],
        "outlier consecutive-failures=3 eject=1s\ntimeout response=300ms",
    );
    for _ in 0..4 {
        assert_eq!(ask(&plimsoll, GET).0, 200);
    }
    hung.daemon().signal(Signal::STOP);
    let answers: Vec<_> = (0..20).map(|_| ask(&plimsoll, POST)).collect();
    let (served, failed): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(status, _)| *status == 200);
    assert!(failed.iter().all(|(status, _)| *status == 504));
    assert!(failed.len() >= 3 && served.len() >= 3, "{failed:?}");
    // What was perhaps read there was not sent here as well.
    assert_eq!(good.completed(), 2 + served.len());
    assert!(ejections(&plimsoll, hung.address()) >= 1.0);
    let port = hung.address().port();
    wait::expect("no connection to it is kept", SOON, || {
        ports::open(port).is_empty()
    });
    hung.daemon().signal(Signal::CONT);
    wait::expect("the process to serve again", SOON, || {
        ask(&plimsoll, GET) == (200, "hung".to_owned())
    });
    expect_state(&plimsoll, hung.address(), "ready");
}

#[test]
fn when_all_fail_a_part_stays() {
    let faults = [(); 4].map(|()| Recorder::start(|_| Answer::status(500, "broken")));
    let servers = faults.each_ref().map(Recorder::address);
    let plimsoll = pool(&servers, "outlier consecutive-5xx=2 eject=60s");
    for _ in 0..40 {
        assert_eq!(ask(&plimsoll, GET), (500, "broken".to_owned()));
    }
    let up = servers.map(|server| {
        plimsoll
            .metric(&format!(
                "plimsoll_server_up{{pool=\"app\",server=\"{server}\"}}"
            ))
            .unwrap()
    });
    assert!((up.iter().sum::<f64>() - 2.0).abs() < 0.1, "{up:?}");
}

#[test]
fn an_answer_that_is_to_be_had_elsewhere_is_not_passed_on() {
    let (bad, good) = (
        Recorder::start(|_| Answer::status(503, "busy")),
        Recorder::start(|_| Answer::ok("good")),
    );
    let plimsoll = pool(
        &[bad.address(), good.address()],
        "outlier off\nretry 1 on=503",
    );
    for _ in 0..10 {
        assert_eq!(ask(&plimsoll, GET), (200, "good".to_owned()));
    }
    assert_eq!(bad.completed(), 5);
    // What may have had an effect is not done twice.
    let answers: Vec<u16> = (0..4).map(|_| ask(&plimsoll, POST).0).collect();
    assert_eq!(
        answers.iter().filter(|status| **status == 503).count(),
        2,
        "{answers:?}"
    );
    assert_eq!(good.completed(), 12);
}

#[test]
fn the_last_answer_is_passed_on() {
    let servers = [(); 2].map(|()| Recorder::start(|_| Answer::status(503, "busy")));
    let plimsoll = pool(
        &servers.each_ref().map(Recorder::address),
        "outlier off\nretry 5 on=503",
    );
    assert_eq!(ask(&plimsoll, GET), (503, "busy".to_owned()));
    assert_eq!(servers.iter().map(Recorder::completed).sum::<usize>(), 2);
}

#[test]
fn a_budget_bounds_what_is_tried_again() {
    let servers = [(); 2].map(|()| Recorder::start(|_| Answer::status(503, "busy")));
    let addresses = servers.each_ref().map(Recorder::address);
    let plimsoll = pool(
        &addresses,
        "outlier off\nretry 5 on=503 budget=20% reserve=0/s",
    );
    for _ in 0..100 {
        assert_eq!(ask(&plimsoll, GET), (503, "busy".to_owned()));
    }
    let asked = servers.iter().map(Recorder::completed).sum::<usize>();
    assert!((101..=120).contains(&asked), "{asked}");
    let refused = plimsoll
        .metric("plimsoll_retries_refused_total{pool=\"app\"}")
        .unwrap();
    assert!(refused >= 80.0, "{refused}");
}

#[test]
fn a_silent_server_costs_no_more_than_one_try() {
    let (silent, good) = (
        Fault::start(Mode::Silent),
        Recorder::start(|_| Answer::ok("good")),
    );
    let servers = [silent.address(), good.address()];
    let plimsoll = pool(
        &servers,
        "outlier off\nretry 1 on=timeout per-try=100ms\ntimeout response=60s",
    );
    for _ in 0..4 {
        assert_eq!(ask(&plimsoll, GET), (200, "good".to_owned()));
    }
    assert_eq!(silent.connections(), 2);
}

#[test]
fn servers_of_the_same_zone_come_first_and_tiers_before_zones() {
    let mut servers =
        Vec::from(["near", "far", "spare"].map(|name| Recorder::start(move |_| Answer::ok(name))));
    let addresses: Vec<SocketAddr> = servers.iter().map(Recorder::address).collect();
    let [near, far, spare] = addresses[..] else {
        return;
    };
    let text = format!(
        "zone here\nadmin 127.0.0.1:{{port:admin}}\n\
         site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ server {far} zone=there ; server {near} zone=here ; server {spare} zone=here backup }}\n"
    );
    let plimsoll = Start::run(&text).start();
    for name in ["near", "far", "spare"] {
        let answers: Vec<String> = (0..6).map(|_| ask(&plimsoll, GET).1).collect();
        assert_eq!(answers, [name; 6]);
        drop(servers.remove(0));
    }
}

#[test]
fn a_server_that_comes_and_goes_costs_no_idempotent_request() {
    let steady = Recorder::echo();
    let flapping = Recorder::echo();
    let address = flapping.address();
    let plimsoll = pool(
        &[address, steady.address()],
        "check tcp every=50ms fast=50ms timeout=50ms",
    );
    let load = Load {
        threads: 4,
        ..Load::on(plimsoll.address())
    };
    let load = load.start();
    let mut flapping = Some(flapping);
    for _ in 0..10 {
        let before = load.ended();
        wait::expect("load", SOON, || load.ended() > before + 200);
        flapping = match flapping.take() {
            Some(_) => None,
            None => Some(Recorder::start_at(address, |request| {
                Answer::ok(request.head.fields.first("x-load-id").unwrap_or_default())
            })),
        };
    }
    let report = load.stop();
    drop(flapping);
    report.assert_all_ok();
}
