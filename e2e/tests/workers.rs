//! Several workers are one balancer: they share the load, the limits and the idle connections.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::load::{Load, Reuse};
use plimsoll_e2e::plimsoll::Plimsoll;
use plimsoll_e2e::raw::{self, Raw};
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::{plimsoll::Start, wait};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn configuration(pool: &str) -> String {
    format!(
        "admin 127.0.0.1:{{port:admin}}\nworkers 2\n\
         site * {{ listen 127.0.0.1:{{port}}\nroute {{ proxy app }} }}\n\
         pool app {{ {pool} }}\n"
    )
}

/// How long each worker thread has run, in nanoseconds.
fn times(plimsoll: &mut Plimsoll) -> BTreeMap<String, u64> {
    let tasks = format!("/proc/{}/task", plimsoll.daemon().id());
    let read = |task: fs::DirEntry| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        let spent = fs::read_to_string(task.path().join("schedstat")).ok()?;
        let spent = spent.split(' ').next()?.parse().ok()?;
        name.starts_with("worker-").then_some((name, spent))
    };
    let tasks = fs::read_dir(tasks).into_iter().flatten().flatten();
    tasks.filter_map(read).collect()
}

#[test]
fn connections_are_spread_over_the_workers() {
    let upstream = Recorder::echo();
    let start = Start::run(&configuration("server {server}")).set("server", upstream.address());
    let mut plimsoll = start.start();
    // The program listens before its threads have their names.
    wait::expect("two workers", SOON, || times(&mut plimsoll).len() == 2);
    let before = times(&mut plimsoll);
    let load = Load {
        threads: 8,
        reuse: Reuse::Close,
        ..Load::on(plimsoll.address())
    };
    load.run(2_000).assert_all_ok();
    let after = times(&mut plimsoll);
    let spent: Vec<_> = after
        .values()
        .zip(before.values())
        .map(|(a, b)| a - b)
        .collect();
    let all: u64 = spent.iter().sum();
    // Chance decides which worker accepts; that one had less than a fifth would be no chance.
    assert!(spent.iter().all(|one| one * 5 > all), "{spent:?}");
}

/// Sends one request on each connection.
fn send_all<'a>(clients: impl IntoIterator<Item = &'a mut Raw>) {
    for client in clients {
        client.send(GET).unwrap();
    }
}

fn gated(gate: &Gate) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    let gate = gate.clone();
    move |_| Answer::ok("ok").after(Step::Await(gate.clone()))
}

#[test]
fn a_server_never_has_more_requests_than_it_may_have() {
    const MOST: usize = 5;
    let gate = Gate::new();
    let pool = format!("server {{server}} max-connections={MOST}");
    let stand = Stand::run(&configuration(&pool), gated(&gate));
    let mut clients: Vec<_> = (0..40).map(|_| stand.connect()).collect();
    send_all(&mut clients);
    wait::expect("as many as allowed", SOON, || {
        stand.upstream.requests().len() == MOST
    });
    // Those that are one too many are told at once; only then may the others end.
    wait::expect("the others to be answered", SOON, || {
        let answered = clients.iter_mut().filter_map(|client| {
            let quiet = client.is_quiet(Duration::from_millis(1));
            (!quiet).then_some(())
        });
        answered.count() == 40 - MOST
    });
    gate.open();
    let mut counts = BTreeMap::new();
    for client in &mut clients {
        let response = client.response("GET");
        *counts.entry(response.status()).or_insert(0) += 1;
        if response.status() == 503 {
            let status = response.field("proxy-status");
            assert_eq!(status, Some("plimsoll; error=connection_limit_reached"));
            assert!(response.field("retry-after").is_some());
        }
    }
    assert_eq!(counts, BTreeMap::from([(200, MOST), (503, 40 - MOST)]));
    // Every slot came back.
    for _ in 0..MOST * 3 {
        assert_eq!(stand.ask("GET", GET).status(), 200);
    }
}

#[test]
fn the_limit_holds_under_load_and_no_slot_is_lost() {
    const MOST: usize = 3;
    let pool = format!("server {{server}} max-connections={MOST}\nkeep-alive off");
    let stand = Stand::run(&configuration(&pool), |request| match request.number % 7 {
        3 => Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour").then(Step::Reset),
        5 => Answer::bytes("").then(Step::Close),
        _ => Answer::ok("ok"),
    });
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let mut client = stand.connect();
                    client.send(GET).unwrap();
                    let _ = client.try_response("GET"); // each outcome is one of a busy server's
                }
            });
        }
    });
    let counted = stand.upstream.requests().len();
    assert!(counted > 100, "{counted}");
    // All slots are free again: as many as allowed are in flight at once.
    let gate = Gate::new();
    let address = stand.upstream.address();
    let Stand { plimsoll, upstream } = stand;
    drop(upstream);
    let upstream = Recorder::start_at(address, gated(&gate));
    let mut clients: Vec<_> = (0..MOST)
        .map(|_| Raw::connect(plimsoll.address()))
        .collect();
    send_all(&mut clients);
    wait::expect("all slots in use", SOON, || {
        upstream.requests().len() == MOST
    });
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").status(), 200);
    }
}

/// How many exchanges are under way.
fn active(plimsoll: &Plimsoll) -> usize {
    let page = raw::get(plimsoll.address_of("admin"), "/metrics").text();
    let values = page
        .lines()
        .filter(|line| line.starts_with("plimsoll_connections{") && line.contains("active"));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok())
        .sum()
}

#[test]
fn an_idle_connection_serves_whichever_worker_needs_it() {
    const AT_ONCE: usize = 10;
    let stand = Stand::run(&configuration("server {server}"), |_| {
        Answer::ok("ok").after(Step::Wait(Duration::from_millis(5)))
    });
    let mut clients: Vec<_> = (0..2 * AT_ONCE).map(|_| stand.connect()).collect();
    let subsets: [fn(usize) -> bool; 6] = [
        |n| n % 2 == 0,
        |n| n % 2 == 1,
        |n| n < AT_ONCE,
        |n| n >= AT_ONCE,
        |n| n % 4 < 2,
        |n| n % 4 >= 2,
    ];
    for round in 0..5 {
        for subset in subsets {
            let mut chosen: Vec<_> = clients
                .iter_mut()
                .enumerate()
                .filter(|(number, _)| subset(*number))
                .map(|(_, client)| client)
                .collect();
            chosen
                .iter_mut()
                .for_each(|client| client.send(GET).unwrap());
            for client in &mut chosen {
                assert_eq!(client.response("GET").status(), 200);
            }
            // Only when all exchanges have ended are all connections idle.
            wait::expect("all to be idle", SOON, || active(&stand.plimsoll) == 0);
            let connections = stand.upstream.connections().len();
            assert!(connections <= AT_ONCE, "round {round}: {connections}");
        }
    }
    assert_eq!(stand.upstream.completed(), 30 * AT_ONCE);
}

#[test]
fn the_last_lines_of_the_log_are_written_before_the_end() {
    let text = configuration("server {server}")
        .replace("site *", "defaults { log access.log json }\nsite *");
    let upstream = Recorder::echo();
    let mut plimsoll = Start::run(&text).set("server", upstream.address()).start();
    let load = Load {
        threads: 4,
        reuse: Reuse::Close,
        ..Load::on(plimsoll.address())
    };
    let load = load.start();
    wait::expect("load", SOON, || load.ended() > 500);
    plimsoll.signal(Signal::TERM);
    assert!(plimsoll.wait_exit(SOON).success());
    let _ = load.stop();
    // Whoever got an answer is in the log, with those whose answer nobody took any more.
    assert!(plimsoll.log("access.log").len() >= upstream.completed());
}
