//! What comes all at once: clients that leave, thousands of checks, no descriptors, no ports.

use plimsoll_e2e::load::{Expect, Fate, Load};
use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use std::fmt::Write;
use std::net::TcpListener;
use std::process::Command;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn what_was_counted_in_is_counted_out_however_clients_leave() {
    let gate = Gate::new();
    let held = gate.clone();
    let text = "workers 2\nadmin 127.0.0.1:{port:admin}\n\
        site * { listen 127.0.0.1:{port} ; limit concurrent=10000 ; route { proxy app } }\n\
        pool app { server {server} max-connections=20 ; queue 1000 timeout=60s ; sticky by=client-ip }\n";
    let stand = Stand::run(text, move |request| {
        let answer = Answer::ok("ok");
        match request.head.target.as_str() {
            "/wait" => answer.after(Step::Await(held.clone())),
            _ => answer,
        }
    });
    let leaving: Vec<Raw> = (0..300)
        .map(|at| {
            let mut client = stand.connect();
            let request = match at % 4 {
                0 => "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n",
                1 => "POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf",
                2 => "GET /half HTTP/1.1\r\nHo",
                _ => GET,
            };
            client.send(request).unwrap();
            client
        })
        .collect();
    wait::expect("a full server", SOON, || {
        stand.upstream.requests().len() >= 20
    });
    leaving.into_iter().for_each(Raw::abort);
    gate.open();
    let server = stand.upstream.address();
    let listener = stand.address();
    for gauge in [
        "plimsoll_queue_length{pool=\"app\"}".to_owned(),
        format!("plimsoll_server_requests_in_flight{{pool=\"app\",server=\"{server}\"}}"),
        format!("plimsoll_connections{{listener=\"{listener}\",state=\"active\"}}"),
        format!("plimsoll_connections{{listener=\"{listener}\",state=\"idle\"}}"),
    ] {
        wait::expect(&gauge, SOON, || stand.plimsoll.metric(&gauge) == Some(0.0));
    }
    assert_eq!(get(stand.address(), "/").status(), 200);
}

#[test]
fn ten_thousand_checked_servers_do_not_hold_up_the_traffic() {
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    thread::spawn(move || everywhere.incoming().for_each(drop));
    let up = Recorder::echo();
    let mut text = format!(
        "admin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}}\n\
         route /crowd {{ proxy crowd }}\nroute {{ proxy app }} }}\npool app {{ server {} }}\n\
         pool crowd {{ check tcp every=2s timeout=2s initial=down\n",
        up.address()
    );
    for at in 0..10_000 {
        writeln!(text, "server 127.1.{}.{}:{port}", at / 250, at % 250 + 1).unwrap();
    }
    let plimsoll = Start::run(&format!("{text}}}\n")).start();
    Load::on(plimsoll.address()).run(2_000).assert_all_ok();
    // All of them have been found up.
    let page = || get(plimsoll.address_of("admin"), "/metrics").text();
    wait::expect("ten thousand servers", SOON, || {
        let page = page();
        let up = page.lines().filter(|line| {
            line.starts_with("plimsoll_server_up{pool=\"crowd\"") && line.ends_with(" 1")
        });
        up.count() == 10_000
    });
    Load::on(plimsoll.address()).run(2_000).assert_all_ok();
}

#[test]
fn without_descriptors_those_inside_are_served_and_others_wait() {
    let stand = Stand::run(
        "workers 1\nadmin 127.0.0.1:{port:admin}\nconnection-limit max=100000\n\
         site * { listen 127.0.0.1:{port}\n route /here { respond 200 } ; route { proxy {server} } }\n",
        |_| Answer::ok("ok"),
    );
    let mut inside = stand.connect();
    let mut ask = || {
        inside
            .send("GET /here HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        inside.response("GET").status()
    };
    assert_eq!(ask(), 200);
    let mut stand = stand;
    let id = stand.plimsoll.daemon().id().to_string();
    let limit = |most: &str| {
        let status = Command::new("prlimit").args(["--pid", &id, most]).status();
        assert!(status.unwrap().success());
    };
    limit("--nofile=60:");
    let mut crowd: Vec<Raw> = (0..100).map(|_| stand.connect()).collect();
    for client in &mut crowd {
        client.send(GET).unwrap();
    }
    for _ in 0..50 {
        assert_eq!(ask(), 200);
    }
    limit("--nofile=1000:");
    for client in &mut crowd {
        // Who came in while there was nothing left for a server was told so.
        let status = client.response("GET").status();
        assert!(matches!(status, 200 | 503), "{status}");
    }
    assert_eq!(get(stand.address(), "/").status(), 200);
}

#[test]
fn a_server_on_trial_meets_one_request_and_not_the_herd() {
    let gate = Gate::new();
    let held = gate.clone();
    // It is broken at first, and slow when it is tried again.
    let sick = Recorder::start(move |request| match request.number {
        0..3 => Answer::status(500, "sick"),
        _ => Answer::ok("well").after(Step::Await(held.clone())),
    });
    let well = Recorder::start(|_| Answer::ok("well"));
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ server {} ; server {} ; outlier consecutive-5xx=3 eject=1s }}\n",
        sick.address(),
        well.address()
    );
    let plimsoll = Start::run(&text).start();
    wait::expect("three failures", SOON, || {
        let _ = get(plimsoll.address(), "/");
        sick.completed() == 3
    });
    let state = format!(
        "plimsoll_server_state{{pool=\"app\",server=\"{}\",state=\"trial\"}}",
        sick.address()
    );
    wait::expect(&state, SOON, || plimsoll.metric(&state).is_some());
    let load = Load {
        threads: 8,
        expect: Expect::Any,
        ..Load::on(plimsoll.address())
    };
    let load = load.start();
    wait::expect("load", SOON, || load.ended() > 500);
    assert_eq!(sick.requests().len(), 4);
    gate.open();
    let report = load.stop();
    assert_eq!(report.count(Fate::Ok), report.total(), "{report:?}");
}
