//! Caches when clients are slow, servers are dead, and memory is short.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::cached::{ask, count, is_hit, message, request, stand, status};
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// The kernel takes no such body as a whole for a client that does not read.
const HUGE: usize = 8 << 20;

const KEPT: &str = "Cache-Control: max-age=1000";

fn bytes(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

/// Plimsoll with a cache that says this, before a server that answers all with a body of this length.
fn of_size(cache: &str, length: usize) -> Stand {
    serving(cache, message(KEPT, &bytes(length)))
}

/// The same before a server that answers all with these bytes.
fn serving(cache: &str, answer: Vec<u8>) -> Stand {
    let text = "workers 2\nadmin 127.0.0.1:{port:admin}\n\
        site a.example { listen 127.0.0.1:{port} ; timeout body=30s ; route { cache c ; proxy app } }\n\
        cache c { CACHE }\n\
        pool app { server {server} ; retry 0 ; timeout response=30s }\n";
    Stand::run(&text.replace("CACHE", cache), move |_| {
        Answer::bytes(answer.clone())
    })
}

/// An answer in chunks of 64 KiB, of which only its server knows how long it will be.
fn chunked(body: &[u8]) -> Vec<u8> {
    let head =
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut answer = head.to_vec();
    for piece in body.chunks(64 << 10) {
        answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        answer.extend_from_slice(piece);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}

/// A client that asks and reads next to nothing.
fn slow(stand: &Stand, target: &str) -> Raw {
    let mut client = Raw::connect_narrow(stand.address(), 4096);
    client
        .send(request("GET", target, "Host: a.example"))
        .unwrap();
    client
}

/// The client for whom an answer is fetched reads nothing: the answer is stored all the same, and others have it at once.
#[test]
fn a_slow_client_slows_nobody() {
    let body = bytes(HUGE);
    let cache = "memory 64MiB ; object-size-max 8MiB";
    for answer in [message(KEPT, &body), chunked(&body)] {
        slow_and_not_slowed(&serving(cache, answer), digest(&body));
    }
}

fn slow_and_not_slowed(stand: &Stand, whole: u64) {
    let mut first = slow(stand, "/");
    wait::expect("it to be stored", SOON, || {
        stand
            .plimsoll
            .metric("plimsoll_cache_stored_total{cache=\"c\"}")
            == Some(1.0)
    });
    let second = ask(stand, "/", "");
    assert!(is_hit(&second), "{}", status(&second));
    assert_eq!(second.body.digest, whole);
    assert_eq!(first.response("GET").body.digest, whole);
    assert_eq!(count(stand, "/"), 1);
}

/// Slow clients of many large answers hold no more memory than there is for them: what is above passes by.
#[test]
fn slow_clients_of_many_answers_hold_no_more_than_there_is_room_for() {
    let stand = of_size("memory 64MiB ; object-size-max 8MiB", HUGE);
    let mut clients: Vec<_> = (0..16)
        .map(|number| slow(&stand, &format!("/{number}")))
        .collect();
    for number in 0..16 {
        wait::expect("all to be asked for", SOON, || {
            count(&stand, &format!("/{number}")) == 1
        });
    }
    let stored = stand
        .plimsoll
        .metric("plimsoll_cache_stored_total{cache=\"c\"}");
    // Eight fit, and a quarter as much beside them.
    assert!(stored.is_some_and(|stored| stored <= 10.0), "{stored:?}");
    let whole = digest(&bytes(HUGE));
    for client in &mut clients {
        assert_eq!(client.response("GET").body.digest, whole);
    }
    drop(clients);
    // When they have gone, there is room again.
    wait::expect("room", SOON, || {
        let _ = ask(&stand, "/new", "");
        is_hit(&ask(&stand, "/new", ""))
    });
}

/// Whoever waits for the head of an answer does so for no longer than `wait`.
#[test]
fn a_fetch_that_hangs_is_not_waited_for() {
    let gate = Gate::new();
    let held = gate.clone();
    let text = "workers 2\nadmin 127.0.0.1:{port:admin}\n\
        site a.example { listen 127.0.0.1:{port} ; route { cache c ; proxy app } }\n\
        cache c { memory 8MiB ; wait 50ms }\n\
        pool app { server {server} ; retry 0 ; timeout response=30s }\n";
    let stand = Stand::run(text, move |request| {
        let answer = Answer::bytes(message("Cache-Control: max-age=1000", b"body"));
        match request.head.fields.first("x-first") {
            Some(_) => answer.after(Step::Await(held.clone())),
            None => answer,
        }
    });
    let mut first = stand.connect();
    first
        .send(request("GET", "/", "Host: a.example|X-First: 1"))
        .unwrap();
    wait::expect("a request", SOON, || count(&stand, "/") == 1);
    let second = ask(&stand, "/", "");
    assert_eq!(
        (second.text().as_str(), status(&second)),
        ("body", "plimsoll; fwd=uri-miss")
    );
    gate.open();
    assert_eq!(first.response("GET").text(), "body");
}

/// Nothing that is asked for once takes the place of what is asked for often.
#[test]
fn a_crawl_does_not_throw_out_what_is_wanted() {
    let stand =
        stand(|_| Answer::bytes(message("Cache-Control: max-age=1000", &[b'x'; 64 * 1024])));
    let _ = ask(&stand, "/wanted", "");
    for number in 0..1000 {
        let _ = ask(&stand, &format!("/{number}"), "");
        assert!(is_hit(&ask(&stand, "/wanted", "")), "{number}");
    }
    let bytes = stand.plimsoll.metric("plimsoll_cache_bytes{cache=\"c\"}");
    assert!(
        bytes.is_some_and(|bytes| bytes <= f64::from(16 << 20)),
        "{bytes:?}"
    );
    assert_eq!(count(&stand, "/wanted"), 1);
}

/// Answers of Plimsoll's own are never stored.
#[test]
fn own_errors_are_not_stored() {
    let stand = stand(|request| match request.head.target.as_str() {
        "/reset" => Answer(vec![Step::Reset]),
        _ => Answer::bytes(
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\nCache-Control: max-age=9\r\n\r\n",
        ),
    });
    for target in ["/reset", "/malformed"] {
        for round in 1..=3 {
            assert_eq!(ask(&stand, target, "").status(), 502, "{target}");
            assert_eq!(count(&stand, target), round, "{target}");
        }
    }
}
