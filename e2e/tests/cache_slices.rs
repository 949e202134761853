//! Objects in slices.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::body::digest;
use plimsoll_e2e::cached::{ask, ask_as, count, is_hit, purge_at, status};
use plimsoll_e2e::recorder::Request;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const SLICE: usize = 64 * 1024;
const LENGTH: usize = 10 * SLICE + 1000;
const SOON: Duration = Duration::from_secs(20);

const CONFIGURATION: &str = "workers 2\nadmin unix:{dir}/admin.sock 127.0.0.1:{port:admin}\n\
    site a.example { listen 127.0.0.1:{port} ; timeout body=30s ; route { cache c ; proxy app } }\n\
    cache c { memory 16MiB ; object-size-max 128KiB ; slice 64KiB ; wait 30s }\n\
    pool app { server {server} ; retry 0 ; timeout response=30s }\n";

/// The state of the film that has this number.
fn film(state: usize) -> Vec<u8> {
    (0..LENGTH)
        .map(|at| u8::try_from((at * 7 + at / 251 + state) % 256).unwrap())
        .collect()
}

/// What a server says that gives parts.
fn part(request: &Request, whole: &[u8], lines: &str) -> Answer {
    let length = whole.len();
    let lines = lines.replace('|', "\r\n");
    let fields = &request.head.fields;
    let range = fields.first("range").and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        let last = last.parse::<usize>().ok()?.min(length - 1);
        Some(first.parse::<usize>().ok()?..last + 1)
    });
    let is_same = fields
        .first("if-range")
        .is_none_or(|tag| lines.contains(tag));
    let (status, more, body) = match range.filter(|_| is_same) {
        Some(range) => (
            "206 Partial Content",
            format!(
                "Content-Range: bytes {}-{}/{length}\r\n",
                range.start,
                range.end - 1
            ),
            &whole[range],
        ),
        None => ("200 OK", String::new(), whole),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nCache-Control: max-age=1000\r\n{lines}\r\n{more}Content-Length: {}\r\n\r\n",
        body.len()
    );
    Answer::bytes([head.as_bytes(), body].concat())
}

/// A server of one film, of the state that is set.
fn stand() -> (Stand, Arc<AtomicUsize>) {
    let state = Arc::<AtomicUsize>::default();
    let now = Arc::clone(&state);
    let stand = Stand::run(CONFIGURATION, move |request| {
        let state = now.load(SeqCst);
        match request.head.method.as_str() {
            "GET" => part(
                request,
                &film(state),
                &format!("ETag: \"{state}\"|Content-Type: video/x"),
            ),
            _ => Answer::status(204, ""),
        }
    });
    (stand, state)
}

/// Which parts the server was asked for, in order of their places.
fn asked(stand: &Stand) -> Vec<String> {
    let requests = stand.upstream.requests();
    let ranges = requests.iter().map(|request| {
        let range = request.head.fields.first("range").unwrap_or("all");
        range.trim_start_matches("bytes=").to_owned()
    });
    let mut ranges: Vec<_> = ranges.collect();
    ranges.sort_by_key(|range| {
        let first = range.split('-').next().unwrap_or_default();
        first.parse::<usize>().unwrap_or(0)
    });
    ranges
}

#[test]
fn only_what_is_wanted_is_fetched_and_each_of_it_once() {
    let (stand, _) = stand();
    let film = film(0);
    for round in 0..2 {
        let answer = ask(&stand, "/film", "Range: bytes=200000-300000");
        assert_eq!(answer.status(), 206);
        assert_eq!(answer.body.digest, digest(&film[200_000..=300_000]));
        assert_eq!(
            answer.field("content-range"),
            Some(&*format!("bytes 200000-300000/{LENGTH}"))
        );
        assert_eq!(answer.field("content-length"), Some("100001"));
        assert_eq!(is_hit(&answer), round > 0, "{}", status(&answer));
        // The first slice tells what the film is.
        assert_eq!(asked(&stand), ["0-65535", "196608-262143", "262144-327679"]);
    }
    for round in 0..2 {
        let answer = ask(&stand, "/film", "");
        assert_eq!(
            (answer.status(), answer.field("content-range")),
            (200, None),
            "{round}"
        );
        assert_eq!(answer.body.digest, digest(&film));
        assert_eq!(answer.field("content-type"), Some("video/x"));
        assert_eq!(asked(&stand).len(), 11);
    }
    for (lines, expected, body) in [
        ("Range: bytes=-500", 206, &film[LENGTH - 500..]),
        ("Range: bytes=655000-", 206, &film[655_000..]),
        ("Range: bytes=0-0", 206, &film[..1]),
        ("Range: bytes=65535-65536", 206, &film[65_535..=65_536]),
        ("Range: bytes=9-|If-Range: \"0\"", 206, &film[9..]),
        ("Range: bytes=9-|If-Range: \"1\"", 200, &film[..]),
        ("Range: bytes=999999999-", 416, &[]),
        ("If-None-Match: \"0\"", 304, &[]),
    ] {
        let answer = ask(&stand, "/film", lines);
        assert_eq!(answer.status(), expected, "{lines}");
        assert_eq!(answer.body.digest, digest(body), "{lines}");
        assert!(is_hit(&answer), "{lines}");
    }
    assert_eq!(asked(&stand).len(), 11);
}

#[test]
fn a_crowd_fetches_each_slice_once() {
    let (stand, _) = stand();
    let expected = digest(&film(0));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(ask(&stand, "/film", "").body.digest, expected));
        }
    });
    assert_eq!(asked(&stand).len(), 11);
}

/// No answer is put together from two states of an object.
#[test]
fn when_the_object_changes_its_slices_are_forgotten() {
    let (stand, state) = stand();
    let _ = ask(&stand, "/film", "Range: bytes=0-99999");
    state.store(1, SeqCst);
    // What is there is fresh; the first slice that is missing shows that it has changed.
    let part = ask(&stand, "/film", "Range: bytes=0-99999");
    assert_eq!(part.body.digest, digest(&film(0)[..100_000]));
    let later = ask(&stand, "/film", "Range: bytes=400000-500000");
    assert_eq!(later.status(), 206);
    assert_eq!(later.body.digest, digest(&film(1)[400_000..=500_000]));
    assert_eq!(later.field("etag"), Some("\"1\""));
    let whole = ask(&stand, "/film", "");
    assert_eq!(whole.body.digest, digest(&film(1)));
    // In the middle of an answer there is no way back: it is torn, and the next one is whole.
    let (stand, state) = self::stand();
    let _ = ask(&stand, "/film", "Range: bytes=0-99999");
    state.store(1, SeqCst);
    let mut client = stand.connect();
    client
        .send("GET /film HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .unwrap();
    assert!(client.try_response("GET").is_err());
    assert_eq!(ask(&stand, "/film", "").body.digest, digest(&film(1)));
}

#[test]
fn what_has_no_parts_or_no_state_is_answered_as_usual() {
    let whole = film(0);
    let served = whole.clone();
    let stand = Stand::run(CONFIGURATION, move |request| {
        let target = request.head.target.as_str();
        let short = &served[..1000];
        match target {
            "/whole" => Answer::bytes(
                [
                    format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\nETag: \"e\"\r\nContent-Length: {}\r\n\r\n", short.len()).as_bytes(),
                    short,
                ]
                .concat(),
            ),
            "/none" => Answer::status(404, "none"),
            "/weak" => part(request, &served, "ETag: W/\"e\""),
            "/nothing" => part(request, &served, "A: b"),
            "/dated" => part(request, &served, "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"),
            _ => part(request, short, "ETag: \"e\""),
        }
    });
    for (target, length, code) in [
        ("/whole", 1000, 200),
        ("/none", 4, 404),
        ("/weak", LENGTH, 200),
        ("/nothing", LENGTH, 200),
        ("/dated", LENGTH, 200),
        ("/short", 1000, 200),
    ] {
        for _ in 0..2 {
            let answer = ask(&stand, target, "");
            assert_eq!(
                (answer.status(), answer.body.length),
                (code, length as u64),
                "{target}"
            );
        }
    }
    // Once for a slice, once as usual, from the store then.
    assert_eq!(
        (
            count(&stand, "/whole"),
            count(&stand, "/short"),
            count(&stand, "/dated")
        ),
        (2, 1, 11)
    );
    assert_eq!(ask(&stand, "/dated", "").body.digest, digest(&whole));
    let private = ask(&stand, "/short", "Authorization: x");
    assert_eq!((private.body.length, count(&stand, "/short")), (1000, 2));
}

#[test]
fn purges_and_changes_reach_slices() {
    let (stand, _) = stand();
    let ask_all = || {
        let before = asked(&stand).len();
        let _ = ask(&stand, "/film", "");
        asked(&stand).len() - before
    };
    assert_eq!((ask_all(), ask_all()), (11, 0));
    let url = ["--url", "http://a.example/film"];
    let purged = purge_at(&stand.plimsoll.admin_socket(), &url);
    assert_eq!(purged.as_deref(), Ok("11 purged"));
    assert_eq!((ask_all(), ask_all()), (11, 0));
    let _ = ask_as(&stand, "DELETE", "/film", "Host: a.example");
    assert_eq!(ask_all(), 12 - 1);
}

/// A server that fails in the middle tears the answer; what is there is used when it is back.
#[test]
fn a_server_that_fails_in_the_middle_tears_the_answer() {
    let fails = Arc::<AtomicUsize>::default();
    let now = Arc::clone(&fails);
    let stand = Stand::run(CONFIGURATION, move |request| {
        let range = request
            .head
            .fields
            .first("range")
            .unwrap_or_default()
            .to_owned();
        match now.load(SeqCst) == 1 && range.starts_with("bytes=327680-") {
            true => Answer::status(503, "down"),
            false => part(request, &film(0), "ETag: \"0\""),
        }
    });
    fails.store(1, SeqCst);
    let mut client = stand.connect();
    client
        .send("GET /film HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .unwrap();
    assert!(client.try_response("GET").is_err());
    fails.store(0, SeqCst);
    wait::expect("the server to be asked again", SOON, || {
        ask(&stand, "/film", "").body.digest == digest(&film(0))
    });
}
