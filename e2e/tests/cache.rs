//! Answers that are kept, and given to others who ask for the same.

use plimsoll_e2e::body::digest;
use plimsoll_e2e::cached::{ask, ask_as, count, echo, is_hit, message, stand, status};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Fields of a request for what is stored; status, body and range of its answer.
type Form = (&'static str, u16, &'static str, Option<&'static str>);

const FORMS: &[Form] = &[
    ("Range: bytes=2-4", 206, "234", Some("bytes 2-4/10")),
    ("Range: bytes=-3", 206, "789", Some("bytes 7-9/10")),
    ("Range: bytes=0-", 206, "0123456789", Some("bytes 0-9/10")),
    (
        "Range: bytes=2-4|If-Range: \"e\"",
        206,
        "234",
        Some("bytes 2-4/10"),
    ),
    ("Range: bytes=2-4|If-Range: \"f\"", 200, "0123456789", None),
    ("Range: bytes=20-", 416, "", Some("bytes */10")),
    ("Range: bytes=0-1,5-6", 206, "0123456", Some("bytes 0-6/10")),
    ("Range: lines=0-1", 200, "0123456789", None),
    ("If-None-Match: \"e\"", 304, "", None),
    ("If-None-Match: W/\"e\"", 304, "", None),
    ("If-None-Match: *", 304, "", None),
    ("If-None-Match: \"f\"", 200, "0123456789", None),
    (
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        304,
        "",
        None,
    ),
    (
        "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
        200,
        "0123456789",
        None,
    ),
    (
        "If-None-Match: \"f\"|If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
        200,
        "0123456789",
        None,
    ),
    ("Cache-Control: no-cache", 200, "0123456789", None),
    ("Cache-Control: max-age=0", 200, "0123456789", None),
    ("Pragma: no-cache", 200, "0123456789", None),
    ("Cache-Control: only-if-cached", 200, "0123456789", None),
    ("Cookie: a=b", 200, "0123456789", None),
];

#[test]
fn what_is_stored_answers_everybody_in_every_form() {
    let stand = stand(|_| {
        Answer::bytes(message(
            "Cache-Control: max-age=1000|ETag: \"e\"|Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT|Age: 7|\
             Content-Type: text/x|Connection: X-Hop|X-Hop: 1|Keep-Alive: x",
            b"0123456789",
        ))
    });
    let first = ask(&stand, "/a", "");
    assert_eq!(
        (first.status(), first.text()),
        (200, "0123456789".to_owned())
    );
    assert_eq!(status(&first), "plimsoll; fwd=uri-miss; stored");
    let second = ask(&stand, "/a", "");
    assert_eq!(
        (second.status(), second.text()),
        (200, "0123456789".to_owned())
    );
    assert!(is_hit(&second), "{}", status(&second));
    let age: u32 = second.field("age").unwrap().parse().unwrap();
    assert!((7..100).contains(&age), "{age}");
    for (name, value) in [
        ("content-type", "text/x"),
        ("etag", "\"e\""),
        ("content-length", "10"),
    ] {
        assert_eq!(second.field(name), Some(value));
    }
    for name in ["x-hop", "keep-alive", "connection"] {
        assert_eq!(second.field(name), None, "{name}");
    }
    let head = ask_as(&stand, "HEAD", "/a", "Host: a.example");
    assert_eq!((head.status(), head.body.length), (200, 0));
    assert_eq!(head.field("content-length"), Some("10"));
    for (lines, expected, text, range) in FORMS {
        let answer = ask(&stand, "/a", lines);
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (*expected, *text),
            "{lines}"
        );
        assert_eq!(answer.field("content-range"), *range, "{lines}");
        assert!(is_hit(&answer), "{lines}");
    }
    assert_eq!(stand.upstream.requests().len(), 1);
}

#[test]
fn a_missing_answer_is_fetched_whole_whatever_the_client_asks_for() {
    let stand = stand(|_| {
        let lines = "Cache-Control: max-age=1000|ETag: \"e\"";
        Answer::bytes(message(lines, b"0123456789"))
    });
    for (target, lines, expected, text) in [
        ("/range", "Range: bytes=2-4", 206, "234"),
        ("/match", "If-None-Match: \"e\"", 304, ""),
    ] {
        let answer = ask(&stand, target, lines);
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (expected, text),
            "{target}"
        );
        assert_eq!(status(&answer), "plimsoll; fwd=uri-miss; stored");
        assert_eq!(ask(&stand, target, "").text(), "0123456789");
        assert_eq!(count(&stand, target), 1);
    }
    for request in stand.upstream.requests() {
        let fields = &request.head.fields;
        assert_eq!(
            (fields.first("range"), fields.first("if-none-match")),
            (None, None)
        );
    }
}

#[test]
fn chunked_answers_are_stored_when_they_are_whole() {
    let stand = stand(|_| {
        let text = "HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\nTransfer-Encoding: chunked\r\n\r\n\
            4\r\nhalf\r\n4\r\nfull\r\n0\r\nX-T: 1\r\n\r\n";
        Answer::bytes(text)
    });
    assert_eq!(ask(&stand, "/", "").text(), "halffull");
    wait::expect("it to be stored", SOON, || is_hit(&ask(&stand, "/", "")));
    let hit = ask(&stand, "/", "");
    assert_eq!(hit.text(), "halffull");
    assert_eq!(hit.field("content-length"), Some("8"));
    assert_eq!(count(&stand, "/"), 1);
}

#[test]
fn long_bodies_are_stored_up_to_the_limit() {
    const LIMIT: usize = 2 << 20;
    let body: Vec<u8> = (0..=LIMIT)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    let served = body.clone();
    let stand = stand(move |request| {
        let is_chunked = request.head.target.ends_with('c');
        let length = if request.head.target.starts_with("/long") {
            LIMIT + 1
        } else {
            LIMIT
        };
        let body = &served[..length];
        if !is_chunked {
            return Answer::bytes(message("Cache-Control: max-age=1000", body));
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=1000\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n"
        );
        Answer::bytes([head.as_bytes(), body, b"\r\n0\r\n\r\n"].concat())
    });
    for (target, length, asked) in [
        ("/long", LIMIT + 1, 2),
        ("/long-c", LIMIT + 1, 2),
        ("/fits", LIMIT, 1),
        ("/fits-c", LIMIT, 1),
    ] {
        for _ in 0..2 {
            let answer = ask(&stand, target, "");
            assert_eq!(answer.body.length, length as u64, "{target}");
            assert_eq!(answer.body.digest, digest(&body[..length]), "{target}");
        }
        assert_eq!(count(&stand, target), asked, "{target}");
    }
    let part = ask(&stand, "/fits", "Range: bytes=1000000-1999999");
    assert_eq!(part.body.digest, digest(&body[1_000_000..2_000_000]));
}

#[test]
fn stale_answers_are_confirmed() {
    let stand = stand(|request| {
        let condition = request.head.fields.first("if-none-match");
        match (request.head.target.as_str(), condition) {
            ("/changed", Some(_)) => {
                Answer::bytes(message("Cache-Control: max-age=9|ETag: \"new\"", b"new"))
            }
            (_, Some("\"e\"")) => Answer::bytes(
                "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=1000\r\nX-New: 1\r\nContent-Type: no/no\r\n\r\n",
            ),
            _ => Answer::bytes(message(
                "Cache-Control: max-age=10|Age: 20|ETag: \"e\"|Content-Type: a/b|X-Old: 1",
                b"old",
            )),
        }
    });
    assert_eq!(ask(&stand, "/", "").text(), "old");
    let confirmed = ask(&stand, "/", "");
    assert_eq!(
        status(&confirmed),
        "plimsoll; fwd=stale; fwd-status=304; stored"
    );
    for (name, value) in [
        ("x-new", "1"),
        ("x-old", "1"),
        ("content-type", "a/b"),
        ("content-length", "3"),
    ] {
        assert_eq!(confirmed.field(name), Some(value), "{name}");
    }
    assert_eq!(
        (confirmed.status(), confirmed.text().as_str()),
        (200, "old")
    );
    // A client that has it already is told so, although the server was asked about something else.
    let hit = ask(&stand, "/", "If-None-Match: \"e\"");
    assert!(is_hit(&hit) && hit.status() == 304, "{}", status(&hit));
    assert_eq!(count(&stand, "/"), 2);
    for expected in ["old", "new", "new"] {
        assert_eq!(ask(&stand, "/changed", "").text(), expected);
    }
    assert_eq!(count(&stand, "/changed"), 2);
}

#[test]
fn stale_answers_serve_while_the_server_is_asked() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = stand(
        move |request| match request.head.fields.first("if-none-match") {
            Some(_) => {
                let fresh = message("Cache-Control: max-age=1000|ETag: \"f\"", b"new");
                Answer::bytes(fresh).after(Step::Await(held.clone()))
            }
            None => Answer::bytes(message(
                "Cache-Control: max-age=10, stale-while-revalidate=100|Age: 20|ETag: \"e\"",
                b"old",
            )),
        },
    );
    assert_eq!(ask(&stand, "/", "").text(), "old");
    for _ in 0..5 {
        let stale = ask(&stand, "/", "");
        assert_eq!(stale.text(), "old");
        assert!(
            status(&stale).starts_with("plimsoll; hit; ttl=-"),
            "{}",
            status(&stale)
        );
    }
    wait::expect("one question", SOON, || count(&stand, "/") == 2);
    gate.open();
    wait::expect("the new answer", SOON, || {
        ask(&stand, "/", "").text() == "new"
    });
    assert_eq!(count(&stand, "/"), 2);
}

#[test]
fn stale_answers_serve_in_place_of_errors_where_that_is_allowed() {
    let is_down = Arc::new(AtomicBool::new(false));
    let down = Arc::clone(&is_down);
    let stand = stand(move |request| {
        let lines = match request.head.target.as_str() {
            target if target.starts_with("/strict") => {
                "Cache-Control: max-age=10, stale-if-error=100, must-revalidate|Age: 20|ETag: \"e\""
            }
            _ => "Cache-Control: max-age=10, stale-if-error=100|Age: 20|ETag: \"e\"",
        };
        match (down.load(SeqCst), request.head.target.as_str()) {
            (false, _) => Answer::bytes(message(lines, b"old")),
            (true, "/reset" | "/strict/reset") => Answer(vec![Step::Reset]),
            (true, "/404") => Answer::status(404, "gone"),
            (true, _) => Answer::status(503, "down"),
        }
    });
    for target in ["/503", "/reset", "/404", "/strict", "/strict/reset"] {
        assert_eq!(ask(&stand, target, "").text(), "old");
    }
    is_down.store(true, SeqCst);
    for (target, expected) in [
        ("/503", 200),
        ("/reset", 200),
        ("/404", 404),
        ("/strict", 503),
        // RFC 9111 §5.2.2.2: nothing but an error in place of what must be asked about.
        ("/strict/reset", 504),
    ] {
        let answer = ask(&stand, target, "");
        assert_eq!(answer.status(), expected, "{target}");
        if expected == 200 {
            assert_eq!(answer.text(), "old");
            assert!(
                status(&answer).ends_with("; detail=stale-if-error"),
                "{}",
                status(&answer)
            );
        }
    }
    assert!(
        stand
            .plimsoll
            .metric("plimsoll_cache_requests_total{cache=\"c\",result=\"stale_error\"}")
            == Some(2.0)
    );
}

#[test]
fn hits_are_dressed_by_the_rules_of_their_route() {
    let stand = stand(|request| {
        echo(
            request,
            "Cache-Control: max-age=1000|X-Seen: server|Cache-Tag: t",
        )
    });
    for _ in 0..2 {
        let answer = ask(&stand, "/tagged/a", "");
        assert_eq!(answer.field("x-seen"), Some("/tagged/a"));
    }
    assert_eq!(stand.upstream.requests().len(), 1);
}

#[test]
fn changes_remove_what_is_stored() {
    let stand =
        stand(
            |request| match (request.head.method.as_str(), request.head.target.as_str()) {
                ("GET", _) => echo(request, "Cache-Control: max-age=1000"),
                (_, "/fails") => Answer::status(500, ""),
                _ => Answer::status(204, ""),
            },
        );
    for method in ["POST", "PUT", "DELETE", "PATCH", "PURGE"] {
        for (target, is_kept) in [("/a", false), ("/fails", true)] {
            let _ = ask(&stand, target, "");
            assert!(is_hit(&ask(&stand, target, "")), "{method} {target}");
            let changed = format!(
                "{method} {target} HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n"
            );
            let _ = stand.ask(method, changed);
            assert_eq!(
                is_hit(&ask(&stand, target, "")),
                is_kept,
                "{method} {target}"
            );
        }
    }
    let _ = ask(&stand, "/b", "");
    for method in ["HEAD", "OPTIONS"] {
        let _ = ask_as(&stand, method, "/b", "Host: a.example");
        assert!(is_hit(&ask(&stand, "/b", "")), "{method}");
    }
}

#[test]
fn only_what_is_stored_is_given_to_whom_nothing_else_is_wanted() {
    let stand = stand(|request| echo(request, "Cache-Control: max-age=1000"));
    let only = "Cache-Control: only-if-cached";
    assert_eq!(ask(&stand, "/", only).status(), 504);
    assert_eq!(stand.upstream.requests().len(), 0);
    let _ = ask(&stand, "/", "");
    assert_eq!(ask(&stand, "/", only).status(), 200);
}

#[test]
fn logs_and_metrics_say_what_the_cache_did() {
    let stand = stand(|request| echo(request, "Cache-Control: max-age=1000"));
    for lines in ["", "", "X-Host: x"] {
        let _ = ask(&stand, "/", lines);
    }
    let lines = stand.plimsoll.wait_log("access.log", 3, SOON);
    for word in ["miss", "hit", "bypass"] {
        // Each of two workers writes its own lines.
        let mut lines = lines.iter();
        assert!(lines.any(|line| line.contains(&format!("\"cache\":\"{word}\""))));
        let metric = format!("plimsoll_cache_requests_total{{cache=\"c\",result=\"{word}\"}}");
        assert_eq!(stand.plimsoll.metric(&metric), Some(1.0), "{word}");
    }
}
