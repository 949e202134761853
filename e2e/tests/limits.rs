//! Clients that ask for too much: refused alone, at the count that was configured.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::plimsoll::Start;
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

/// Which of `requests` come above a limit of two that is counted by `key`.
fn above(key: &str, trust: &str, requests: &[(&str, &str, &str)]) -> Vec<bool> {
    let text = format!(
        "admin off\nsite * {{\nlisten 127.0.0.1:{{port}}\n{trust}\nlimit 2/h by={key}\nroute {{ respond 200 }}\n}}\n"
    );
    let plimsoll = Start::run(&text).start();
    let mut client = Raw::connect(plimsoll.address());
    let mut is_above = |(target, host, fields): &(&str, &str, &str)| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        client.send(request).unwrap();
        client.response("GET").status() == 429
    };
    requests.iter().map(&mut is_above).collect()
}

#[test]
fn no_spelling_has_a_limit_of_its_own() {
    let target = |target| (target, "x", "");
    let host = |host| ("/", host, "");
    let field = |field| ("/", "x", field);
    for (key, requests) in [
        ("path", ["/a", "/%61", "/x/../a?b", "//a"].map(target)),
        ("uri", ["/a?b", "/%61?b", "/./a?b", "//a?b"].map(target)),
        (
            "query:user",
            [
                "/?user=a+b",
                "/?user=a%20b",
                "/?us%65r=%61+b",
                "/?x&user=a+%62",
            ]
            .map(target),
        ),
        (
            "host",
            ["a.example", "A.Example", "a.example.", "a.example:80"].map(host),
        ),
        (
            "header:x-key",
            [
                "X-Key: a\r\n",
                "x-key:a\r\n",
                "X-KEY: \t a \t\r\n",
                "X_Key: b\r\nX-Key: a\r\n",
            ]
            .map(field),
        ),
    ] {
        let above = above(key, "", &requests);
        assert_eq!(above, [false, false, true, true], "{requests:?}");
    }
}

#[test]
fn no_client_has_a_second_limit_under_another_name() {
    let stranger = [
        "",
        "X-Forwarded-For: 1.1.1.1\r\n",
        "Forwarded: for=2.2.2.2\r\n",
        "X-Real-IP: 3.3.3.3\r\n",
    ];
    let client = [
        "X-Forwarded-For: 192.0.2.1\r\n",
        "X-Forwarded-For: 6.6.6.6, 192.0.2.1:99\r\n",
        "X-Forwarded-For: ::ffff:192.0.2.1\r\n",
        "X-Forwarded-For: 7.7.7.7\r\nX-Forwarded-For: [::ffff:192.0.2.1]:1\r\n",
    ];
    let network = [
        "X-Forwarded-For: 2001:db8:1:2::1\r\n",
        "X-Forwarded-For: 2001:db8:1:2:ffff::1\r\n",
        "X-Forwarded-For: [2001:DB8:1:2::9]:80\r\n",
        "Forwarded: for=\"[2001:db8:1:2::a]\"\r\n",
    ];
    let networks = [
        "X-Forwarded-For: 2001:db8:1:2::1\r\n",
        "X-Forwarded-For: 2001:db8:1:3::1\r\n",
        "X-Forwarded-For: 2001:db8:2:2::1\r\n",
        "X-Forwarded-For: ::ffff:32.1.13.184\r\n",
    ];
    let trusted = "trust-proxy 127.0.0.1";
    for (trust, fields, expected) in [
        ("", stranger, [false, false, true, true]),
        (trusted, client, [false, false, true, true]),
        (trusted, network, [false, false, true, true]),
        (trusted, networks, [false; 4]),
    ] {
        let requests = fields.map(|fields| ("/", "x", fields));
        assert_eq!(above("client-ip", trust, &requests), expected, "{fields:?}");
    }
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
