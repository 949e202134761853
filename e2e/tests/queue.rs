//! Servers that are full: requests wait in a line of bounded length, for a bounded time, and only
//! as long as their clients do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::load::{Fate, Load};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::{Answer, Gate};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

/// A server that takes one request at a time and answers `/wait` when the gate opens.
fn stand(workers: u32, statements: &str) -> (Stand, Gate) {
    let text = format!(
        "workers {workers}\nadmin 127.0.0.1:{{port:admin}}\ndefaults {{ log access.log json }}\n\
         site * {{ listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
         pool app {{ server {{server}} max-connections=1 ; {statements} }}\n"
    );
    Stand::gated(&text)
}

fn send(stand: &Stand, target: &str) -> Raw {
    let mut client = stand.connect();
    client
        .send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .unwrap();
    client
}

/// Keeps the server busy.
fn occupy(stand: &Stand) -> Raw {
    let client = send(stand, "/wait");
    wait::expect("the request upstream", SOON, || {
        stand.upstream.requests().len() == 1
    });
    client
}

fn expect_waiting(stand: &Stand, count: f64) {
    let name = "plimsoll_queue_length{pool=\"app\"}";
    wait::expect("the queue", SOON, || {
        stand
            .plimsoll
            .metric(name)
            .is_some_and(|length| (length - count).abs() < 0.5)
    });
}

#[test]
fn those_who_wait_are_served_in_turn_and_one_at_a_time() {
    for workers in [1, 2] {
        let (stand, gate) = stand(workers, "queue 20 timeout=60s");
        let mut first = occupy(&stand);
        let mut waiting: Vec<Raw> = (0..10).map(|at| send(&stand, &format!("/{at}"))).collect();
        expect_waiting(&stand, 10.0);
        assert_eq!(stand.upstream.requests().len(), 1);
        gate.open();
        assert_eq!(first.response("GET").status(), 200);
        for (at, client) in waiting.iter_mut().enumerate() {
            assert_eq!(client.response("GET").text(), format!("/{at}"));
        }
        expect_waiting(&stand, 0.0);
        if workers == 1 {
            let seen: Vec<String> = stand
                .upstream
                .requests()
                .into_iter()
                .skip(1)
                .map(|r| r.head.target)
                .collect();
            assert_eq!(seen, (0..10).map(|at| format!("/{at}")).collect::<Vec<_>>());
        }
        let lines = || stand.plimsoll.log("access.log");
        wait::expect("the log", SOON, || lines().len() == 11);
        assert_eq!(
            lines()
                .iter()
                .filter(|line| line.contains("\"t_queue\":"))
                .count(),
            10
        );
    }
}

#[test]
fn a_full_queue_and_a_long_wait_are_503() {
    let (stand, gate) = stand(1, "queue 2 timeout=300ms");
    let mut first = occupy(&stand);
    let mut waiting = [send(&stand, "/a"), send(&stand, "/b")];
    expect_waiting(&stand, 2.0);
    let refused = send(&stand, "/c").response("GET");
    assert_eq!(
        (refused.status(), refused.field("retry-after")),
        (503, Some("1"))
    );
    assert!(
        refused.text().contains("the queue is full"),
        "{}",
        refused.text()
    );
    for client in &mut waiting {
        let late = client.response("GET");
        assert_eq!(late.status(), 503);
        assert!(late.text().contains("waited too long"), "{}", late.text());
        assert_eq!(
            late.field("proxy-status").unwrap(),
            "plimsoll; error=connection_limit_reached"
        );
    }
    gate.open();
    assert_eq!(first.response("GET").status(), 200);
    // The server never saw what nobody waited for any more.
    assert_eq!(stand.upstream.requests().len(), 1);
    assert_eq!(send(&stand, "/d").response("GET").text(), "/d");
}

#[test]
fn a_client_that_leaves_leaves_the_queue() {
    let (stand, gate) = stand(2, "queue 10 timeout=60s");
    let mut first = occupy(&stand);
    let mut leaving: Vec<Raw> = (0..4).map(|_| send(&stand, "/gone")).collect();
    let mut staying = send(&stand, "/stays");
    expect_waiting(&stand, 5.0);
    // What a client says last does not hide that it is gone.
    for client in leaving.iter_mut().step_by(2) {
        client.send("GET /never HTTP/1.1\r\n").unwrap();
        client.finish();
    }
    leaving.into_iter().for_each(Raw::abort);
    expect_waiting(&stand, 1.0);
    gate.open();
    assert_eq!(first.response("GET").status(), 200);
    assert_eq!(staying.response("GET").text(), "/stays");
    let targets: Vec<String> = stand
        .upstream
        .requests()
        .into_iter()
        .map(|r| r.head.target)
        .collect();
    assert_eq!(targets, ["/wait", "/stays"]);
}

#[test]
fn under_overload_the_newest_go_first_and_who_has_ended_its_side_is_gone() {
    let (stand, gate) = stand(1, "queue 1000 timeout=10s");
    let mut first = occupy(&stand);
    let mut half_closed = send(&stand, "/half");
    half_closed.finish();
    expect_waiting(&stand, 1.0);
    let mut old = send(&stand, "/old");
    expect_waiting(&stand, 2.0);
    thread::sleep(Duration::from_millis(1_100)); // a tenth of the timeout, and more
    let mut new: Vec<Raw> = (0..62).map(|_| send(&stand, "/new")).collect();
    expect_waiting(&stand, 64.0);
    let refused = send(&stand, "/refused").response("GET");
    assert_eq!(refused.status(), 503);
    assert!(
        refused.text().contains("more requests than the servers"),
        "{}",
        refused.text()
    );
    gate.open();
    assert_eq!(first.response("GET").status(), 200);
    for client in &mut new {
        assert_eq!(client.response("GET").text(), "/new");
    }
    assert_eq!(old.response("GET").text(), "/old");
    expect_waiting(&stand, 0.0);
    let seen = stand.upstream.requests();
    assert_eq!(seen.len(), 64, "the half-closed one was not served");
    assert_eq!(seen.last().unwrap().head.target, "/old");
}

#[test]
fn those_of_higher_priority_go_first() {
    let text = "workers 1\nadmin 127.0.0.1:{port:admin}\n\
        site * {\nlisten 127.0.0.1:{port} ; priority low\n\
        route /pay { priority high ; proxy app }\n\
        route /page { priority normal ; proxy app }\n\
        route { proxy app }\n}\n\
        pool app { server {server} max-connections=1 ; queue 10 timeout=60s }\n";
    let (stand, gate) = Stand::gated(text);
    let mut first = occupy(&stand);
    let mut waiting = Vec::new();
    for (count, target) in (1_u8..).zip(["/report", "/page", "/pay", "/page", "/pay"]) {
        waiting.push(send(&stand, target));
        expect_waiting(&stand, count.into());
    }
    gate.open();
    assert_eq!(first.response("GET").status(), 200);
    for client in &mut waiting {
        assert_eq!(client.response("GET").status(), 200);
    }
    let seen: Vec<String> = stand
        .upstream
        .requests()
        .into_iter()
        .map(|r| r.head.target)
        .collect();
    let expected = ["/wait", "/pay", "/pay", "/page", "/page", "/report"];
    assert_eq!(seen, expected);
}

#[test]
fn in_a_full_queue_those_of_lower_priority_give_way() {
    let text = "workers 1\nadmin 127.0.0.1:{port:admin}\n\
        site * {\nlisten 127.0.0.1:{port}\n\
        route /pay { priority high ; proxy app }\n\
        route /report { priority low ; proxy app }\n\
        route { proxy app }\n}\n\
        pool app { server {server} max-connections=1 ; queue 3 timeout=60s }\n";
    let (stand, gate) = Stand::gated(text);
    let mut first = occupy(&stand);
    let mut waiting = Vec::new();
    for (count, target) in (1_u8..).zip(["/report", "/report", "/page"]) {
        waiting.push(send(&stand, target));
        expect_waiting(&stand, count.into());
    }
    let mut pay = send(&stand, "/pay");
    let displaced = waiting.remove(1).response("GET");
    assert_eq!(displaced.status(), 503);
    assert_eq!(displaced.field("retry-after"), Some("1"));
    assert_eq!(send(&stand, "/report").response("GET").status(), 503);
    gate.open();
    assert_eq!(first.response("GET").status(), 200);
    assert_eq!(pay.response("GET").status(), 200);
    for client in &mut waiting {
        assert_eq!(client.response("GET").status(), 200);
    }
}

#[test]
fn a_bound_on_requests_holds_for_the_pool_the_site_and_the_process() {
    let bounds = [
        ("max-requests 1", "", ""),
        ("", "max-requests 1 ; ", ""),
        ("", "", "max-requests 1 ; "),
    ];
    for (process, site, pool) in bounds {
        let text = format!(
            "workers 2\nadmin 127.0.0.1:{{port:admin}}\n{process}\n\
             site * {{ {site}listen 127.0.0.1:{{port}} ; route {{ proxy app }} }}\n\
             pool app {{ {pool}server {{server}} }}\n"
        );
        let (stand, gate) = Stand::gated(&text);
        let mut first = occupy(&stand);
        let refused = send(&stand, "/a").response("GET");
        assert_eq!(refused.status(), 503, "{text}");
        let told = refused.field("proxy-status");
        assert_eq!(told, Some("plimsoll; error=connection_limit_reached"));
        gate.open();
        assert_eq!(first.response("GET").status(), 200);
        wait::expect("the next one", SOON, || {
            send(&stand, "/a").response("GET").status() == 200
        });
    }
}

#[test]
fn requests_above_the_bound_of_a_pool_wait_in_its_queue() {
    let text = "workers 2\nadmin 127.0.0.1:{port:admin}\n\
        site * { listen 127.0.0.1:{port} ; route { proxy app } }\n\
        pool app { server {server} ; max-requests 1 ; queue 5 timeout=60s }\n";
    let (stand, gate) = Stand::gated(text);
    let mut first = occupy(&stand);
    let mut second = send(&stand, "/a");
    expect_waiting(&stand, 1.0);
    gate.open();
    assert_eq!(first.response("GET").status(), 200);
    assert_eq!(second.response("GET").status(), 200);
}

#[test]
fn without_a_queue_a_full_server_is_503_at_once() {
    let (stand, gate) = stand(1, "keep-alive off");
    let mut first = occupy(&stand);
    assert_eq!(send(&stand, "/a").response("GET").status(), 503);
    gate.open();
    assert_eq!(first.response("GET").status(), 200);
}

#[test]
fn a_crowd_passes_a_narrow_server_without_a_loss() {
    let (stand, _) = stand(2, "queue 1000 timeout=60s");
    let load = Load {
        threads: 16,
        expect: plimsoll_e2e::load::Expect::Any,
        ..Load::on(stand.address())
    };
    let report = load.run(2_000);
    assert_eq!(report.count(Fate::Ok), 2_000, "{report:?}");
    assert_eq!(stand.upstream.completed(), 2_000);
    expect_waiting(&stand, 0.0);
}

#[test]
fn an_adaptive_pool_never_has_more_than_its_limit() {
    let text = "workers 1\nadmin 127.0.0.1:{port:admin}\n\
        site * { listen 127.0.0.1:{port} ; route { proxy app } }\n\
        pool app { server {server} ; queue 1000 timeout=60s ; adaptive-concurrency min=2 max=6 }\n";
    let stand = Stand::run(text, |_| Answer::ok("ok"));
    let load = Load {
        threads: 16,
        expect: plimsoll_e2e::load::Expect::Any,
        ..Load::on(stand.address())
    };
    let report = load.run(3_000);
    assert_eq!(report.count(Fate::Ok), 3_000, "{report:?}");
    // Each request that is under way has a connection of its own.
    let connections = stand.upstream.connections().len();
    assert!((1..=6).contains(&connections), "{connections}");
    let limit = "plimsoll_concurrency_limit{pool=\"app\"}";
    wait::expect(limit, SOON, || {
        stand
            .plimsoll
            .metric(limit)
            .is_some_and(|limit| (2.0..=6.0).contains(&limit))
    });
}
