//! Clients that ask for too much: refused alone, at the count that was configured.

use plimsoll_e2e::raw::{Raw, get};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(15);

fn stand(route: &str) -> Stand {
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\ndefaults {{ log access.log json }}\n\
         site a.example {{ listen 127.0.0.1:{{port}} ; route {{ {route} ; proxy {{server}} }} }}\n"
    );
    Stand::run(&text, |_| Answer::ok("ok"))
}

fn request(more: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a.example\r\n{more}\r\n")
}

#[test]
fn a_rate_is_counted_over_all_workers_and_refused_with_429() {
    let stand = stand("limit 10/h");
    let statuses: Vec<u16> = (0..14)
        .map(|_| stand.ask("GET", request("")).status())
        .collect();
    assert_eq!(statuses, [[200; 10].as_slice(), &[429; 4]].concat());
    let refused = stand.ask("GET", request("Accept: application/problem+json\r\n"));
    let after: u32 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=361).contains(&after), "{after}");
    assert_eq!(
        refused.field("proxy-status").unwrap(),
        "plimsoll; error=http_request_denied"
    );
    assert_eq!(
        refused.field("ratelimit-policy").unwrap(),
        "\"limit\";q=10;w=3600"
    );
    assert_eq!(
        refused.field("ratelimit").unwrap(),
        format!("\"limit\";r=0;t={after}")
    );
    assert_eq!(stand.upstream.completed(), 10);
    let limited = "plimsoll_limited_total{site=\"a.example\"}";
    wait::expect(limited, SOON, || {
        stand.plimsoll.metric(limited) == Some(5.0)
    });
    let lines = || stand.plimsoll.log("access.log");
    wait::expect("the log", SOON, || lines().len() == 15);
    // Workers hand their lines over in any order.
    let mut lines = lines();
    lines.retain(|line| {
        line.contains("\"reason\":\"http_request_denied\",\"detail\":\"above a limit\"")
    });
    assert_eq!(lines.len(), 5, "{lines:?}");
}

#[test]
fn each_key_has_its_own_limit_and_a_kept_connection_goes_on() {
    let stand = stand("limit 2/h by=header:X-Key");
    let mut client = stand.connect();
    let mut ask = |key: &str| {
        client.send(request(&format!("X-Key: {key}\r\n"))).unwrap();
        client.response("GET").status()
    };
    assert_eq!([ask("a"), ask("a"), ask("a")], [200, 200, 429]);
    assert_eq!(
        [ask("b"), ask("b"), ask("b"), ask("a")],
        [200, 200, 429, 429]
    );
}

#[test]
fn a_dropped_request_gets_no_answer() {
    let stand = stand("limit 1/h action=drop");
    assert_eq!(stand.ask("GET", request("")).status(), 200);
    let mut client = stand.connect();
    client.send(request("")).unwrap();
    let capture = client.read_to_close(SOON);
    assert!(
        capture.bytes.is_empty() && capture.close != Close::Open,
        "{capture:?}"
    );
}

#[test]
fn a_client_in_the_tarpit_may_leave() {
    let stand = stand("limit 1/h action=tarpit");
    assert_eq!(stand.ask("GET", request("")).status(), 200);
    let mut client = stand.connect();
    client.send(request("")).unwrap();
    assert!(client.is_quiet(Duration::from_millis(300)));
    client.finish();
    client.abort();
    wait::expect("the log", SOON, || {
        stand
            .plimsoll
            .log("access.log")
            .iter()
            .any(|line| line.contains("in the tarpit"))
    });
}

#[test]
fn requests_under_way_are_counted_until_they_end() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = Stand::run(
        "site * { listen 127.0.0.1:{port} ; limit concurrent=2 ; route { proxy {server} } }",
        move |request| {
            let answer = Answer::ok("ok");
            match request.head.target.as_str() {
                "/wait" => answer.after(Step::Await(held.clone())),
                _ => answer,
            }
        },
    );
    let mut waiting: Vec<Raw> = (0..2).map(|_| stand.connect()).collect();
    for client in &mut waiting {
        client
            .send("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
    }
    wait::expect("two upstream", SOON, || {
        stand.upstream.requests().len() == 2
    });
    assert_eq!(get(stand.address(), "/").status(), 429);
    // One leaves for good, one gets its answer: both places are free again.
    waiting.pop().unwrap().abort();
    wait::expect("a free place", SOON, || {
        get(stand.address(), "/").status() == 200
    });
    gate.open();
    assert_eq!(waiting.pop().unwrap().response("GET").status(), 200);
    let statuses: Vec<u16> = (0..8).map(|_| get(stand.address(), "/").status()).collect();
    assert_eq!(statuses, [200; 8]);
}
