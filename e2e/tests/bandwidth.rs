//! Bodies above a limit of bytes are slowed down, and arrive as they are.
//!
//! That a body takes so long at least follows from the limit, on a machine of any speed; how much
//! longer it takes is not asked.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::raw::get;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::Stand;
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

/// Long enough to go through the kernel alone.
const BODY: usize = 300 * 1024;

/// What 300 KiB take when 100 KiB a second may go and the first 100 KiB are free.
const TWO_SECONDS: Duration = Duration::from_secs(2);

fn stand(limit: &str) -> Stand {
    let text = format!(
        "workers 2\nadmin 127.0.0.1:{{port:admin}}\n\
         site * {{ listen 127.0.0.1:{{port}} ; {limit} ; route {{ proxy {{server}} }} }}\n"
    );
    Stand::run(&text, |request| match &*request.head.target {
        "/chunked" => Answer::bytes(chunked()),
        "/small" => Answer::ok("ok"),
        _ => Answer::ok(body()),
    })
}

fn body() -> Vec<u8> {
    (0..BODY)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

fn chunked() -> Vec<u8> {
    let mut head = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    write!(head, "{BODY:x}\r\n").unwrap();
    [head.as_bytes(), &body(), b"\r\n0\r\n\r\n"].concat()
}

/// How long getting `target` takes at least.
fn time_of(stand: &Stand, target: &str) -> Duration {
    let began = Instant::now();
    let answer = get(stand.address(), target);
    assert_eq!(answer.status(), 200);
    assert!(
        answer.body.digest == digest(&body()),
        "{target} came as something else"
    );
    began.elapsed()
}

#[test]
fn answers_are_slowed_down_however_their_end_is_told() {
    for target in ["/plain", "/chunked"] {
        let stand = stand("limit 100KiB/s");
        let took = time_of(&stand, target);
        assert!(took >= TWO_SECONDS, "{target}: {took:?}");
    }
}

#[test]
fn clients_of_one_key_share_the_rate_and_small_answers_count() {
    let stand = stand("limit 100KiB/s by=all");
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| time_of(&stand, "/plain"));
        }
    });
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(5), "600 KiB in {took:?}");
}

#[test]
fn each_request_has_its_own_rate_where_the_limit_says_so() {
    let stand = stand("limit 100KiB/s by=request burst=300KiB");
    // A burst for each: were they to share one, the second would wait for two seconds, and the
    // tenth for thirty.
    let began = Instant::now();
    for _ in 0..10 {
        let _ = time_of(&stand, "/plain");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(27), "{took:?}");
}

#[test]
fn request_bodies_are_slowed_down_and_answers_are_not() {
    let stand = stand("limit 100KiB/s way=up");
    let mut client = stand.connect();
    let began = Instant::now();
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY}\r\n\r\n");
    client.send([head.as_bytes(), &body()].concat()).unwrap();
    let answer = client.response("POST");
    assert!(began.elapsed() >= TWO_SECONDS, "{:?}", began.elapsed());
    assert!(answer.body.digest == digest(&body()));
    let sent = stand.upstream.requests().pop().unwrap();
    assert!(sent.complete && sent.body.length == BODY as u64);
}
