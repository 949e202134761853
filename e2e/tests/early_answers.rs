//! Answers that come before the request has ended, and requests that come before the answer has.

use plimsoll_e2e::recorder::{End, Recorder, Request};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::{POISON, Stand, assert_canonical};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::fmt::Write as _;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Long enough for something wrong to happen.
const A_WHILE: Duration = Duration::from_millis(200);

fn early(status: u16) -> Answer {
    Answer::status(status, "early").early()
}

fn targets(upstream: &Recorder) -> Vec<String> {
    let requests = upstream.requests().into_iter();
    requests.map(|request| request.head.target).collect()
}

#[test]
fn the_body_of_a_request_refused_here_is_not_read_as_a_request() {
    let stand = Stand::ok();
    let inner = "GET /inner HTTP/1.1\r\nHost: x\r\n\r\n";
    let length = inner.len() + 30;
    let head = format!("POST /%zz HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{inner}");
    let mut client = stand.connect();
    client.send(head).unwrap();
    let response = client.response("POST");
    assert_eq!(
        (response.status(), response.head.wants_close()),
        (400, true)
    );
    let _ = client.send(["x"; 30].concat() + POISON); // it may be closed by now
    let left = client.read_to_close(SOON);
    assert_eq!(left.bytes.len(), 0);
    assert_ne!(left.close, Close::Open);
    assert_eq!(stand.upstream.requests().len(), 0);
}

/// An upstream that answers `/early` before it reads the body, and keeps the connection.
fn impatient() -> Stand {
    Stand::start(|request| match &*request.head.target {
        "/early" => early(200).then(Step::Hold),
        _ => Answer::ok("ok"),
    })
}

#[test]
fn a_server_that_answers_early_does_not_get_the_next_request_on_that_connection() {
    let framings = [
        ("Content-Length: 60", "five!"),
        ("Transfer-Encoding: chunked", "5\r\nfive!\r\n"),
    ];
    for method in ["POST", "GET", "OPTIONS"] {
        for (framing, part) in framings {
            let stand = impatient();
            let mut client = stand.connect();
            let head = format!("{method} /early HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n{part}");
            client.send(head).unwrap();
            let response = client.response(method);
            assert_eq!((response.status(), &*response.text()), (200, "early"));
            assert!(response.head.wants_close(), "{method} {framing}");
            let mut other = stand.connect();
            other
                .send("GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
                .unwrap();
            assert_eq!(other.response("GET").text(), "ok");
            let requests = stand.upstream.requests();
            assert_eq!(targets(&stand.upstream), ["/early", "/other"]);
            assert_ne!(requests[0].connection, requests[1].connection);
            assert_eq!(stand.upstream.malformed(), []);
        }
    }
}

#[test]
fn a_server_that_has_read_all_of_an_early_answered_request_keeps_its_connection() {
    let stand = Stand::start(|request| match &*request.head.target {
        "/early" => early(200).then(Step::ReadBody),
        _ => Answer::ok("ok"),
    });
    let mut client = stand.connect();
    client
        .send("POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        .unwrap();
    assert_eq!(client.response("POST").text(), "early");
    stand.upstream.wait_completed(1, SOON);
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(client.response("GET").text(), "ok");
    assert_eq!(stand.upstream.connections().len(), 1);
}

#[test]
fn a_client_reads_the_refusal_of_a_body_it_is_still_sending() {
    let stand = Stand::start(|_| early(413).then(Step::Close));
    let mut client = stand.connect();
    client
        .send(format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            1u64 << 30
        ))
        .unwrap();
    let block = vec![b'x'; 64 << 10];
    // The upload stops when the answer is there: the server never takes a gibibyte.
    let sent = (0..16 << 10)
        .take_while(|_| client.send(&block).is_ok())
        .count();
    assert!(sent < 16 << 10, "the whole body was taken");
    let response = client.try_response("POST");
    let response = response.unwrap_or_else(|unfinished| panic!("{unfinished:?}"));
    assert_eq!((response.status(), &*response.text()), (413, "early"));
    assert!(response.head.wants_close());
    assert_eq!(stand.upstream.completed(), 0);
}

#[test]
fn an_early_answer_comes_while_the_client_waits_with_its_body() {
    let stand = Stand::start(|_| early(401).then(Step::Hold));
    let mut client = stand.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc")
        .unwrap();
    let response = client.response("POST");
    assert_eq!(
        (response.status(), response.head.wants_close()),
        (401, true)
    );
    assert_eq!(client.read_to_close(SOON).close, Close::Fin);
}

#[test]
fn the_expectation_reaches_the_server_and_its_100_the_client() {
    let stand = Stand::start(|_| {
        let interim = Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec());
        let mut answer = Answer::ok("done");
        answer.0.insert(0, interim);
        answer
    });
    let mut client = stand.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    assert_eq!(client.response("POST").status(), 100);
    assert!(client.is_quiet(A_WHILE));
    client.send("hello").unwrap();
    assert_eq!(client.response("POST").text(), "done");
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let statuses = [
        client.response("GET").status(),
        client.response("GET").status(),
    ];
    assert_eq!(statuses, [100, 200]);
    let request = stand.upstream.requests().remove(0);
    assert_canonical(&request);
    assert_eq!(request.head.fields.first("expect"), Some("100-continue"));
    assert_eq!(request.body.bytes, b"hello");
}

#[test]
fn a_client_that_does_not_wait_for_100_is_served() {
    let stand = Stand::ok();
    for framing in [
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\n{framing}");
        assert_eq!(stand.ask("POST", request).text(), "ok");
    }
    let requests = stand.upstream.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.body.bytes == b"hello")
    );
}

#[test]
fn a_final_answer_instead_of_100_ends_the_connection() {
    for status in [417, 401, 200] {
        let stand = Stand::start(move |_| early(status).then(Step::Hold));
        let mut client = stand.connect();
        client
            .send(
                "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 50\r\n\r\n",
            )
            .unwrap();
        let response = client.response("POST");
        assert_eq!(
            (response.status(), response.head.wants_close()),
            (status, true)
        );
        // Whether the body comes now or not, no byte of it is a request.
        let _ = client.send(POISON);
        assert_eq!(client.read_to_close(SOON).bytes.len(), 0);
        assert_eq!(stand.upstream.requests().len(), 1);
    }
}

#[test]
fn interim_answers_that_come_twice_are_passed_on_twice() {
    let stand = Stand::start(|_| {
        let mut answer = Answer::ok("done");
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(2);
        answer.0.insert(0, Step::Send(interim));
        answer
    });
    let mut client = stand.connect();
    client
        .send(
            "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
        )
        .unwrap();
    let statuses: Vec<_> = (0..3).map(|_| client.response("POST").status()).collect();
    assert_eq!(statuses, [100, 100, 200]);
}

#[test]
fn a_100_behind_the_final_answer_reaches_nobody() {
    let stand = Stand::start(|request| match &*request.head.target {
        "/late" => Answer::bytes(
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndoneHTTP/1.1 100 Continue\r\n\r\n",
        ),
        _ => Answer::ok("ok"),
    });
    let mut client = stand.connect();
    for _ in 0..5 {
        client
            .send("POST /late HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        assert_eq!(client.response("POST").text(), "done");
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(client.response("GET").text(), "ok");
    }
}

#[test]
fn an_unknown_expectation_is_refused() {
    let values: [&[u8]; 6] = [
        b"x",
        b"100-continue, x",
        b"100-continue\xa0",
        b"100continue",
        b"",
        b"200-ok",
    ];
    let request = |lines: &[u8]| {
        let rest = b"Content-Length: 5\r\n\r\nhello";
        [b"POST / HTTP/1.1\r\nHost: x\r\n", lines, b"\r\n", rest].concat()
    };
    let mut vectors: Vec<_> = values
        .map(|value| (request(&[b"Expect: ", value].concat()), 417))
        .into();
    vectors.push((
        request(b"Expect: 100-continue\r\nExpect: 100-continue"),
        417,
    ));
    vectors.push((request(b"Expect: 100-continue\x0b"), 400));
    Stand::ok().assert_refused(&vectors);
}

#[test]
fn a_silent_client_with_an_expectation_does_not_hold_a_server_that_waits() {
    let gate = Gate::new();
    let stand = Stand::start({
        let gate = gate.clone();
        move |_| Answer::ok("done").after(Step::Await(gate.clone()))
    });
    let mut client = stand.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    wait::expect("the head upstream", SOON, || {
        stand.upstream.requests().len() == 1
    });
    client.abort();
    wait::expect("the end of the upstream connection", SOON, || {
        stand.upstream.open() == 0
    });
    gate.open();
    assert_eq!(stand.upstream.completed(), 0);
}

#[test]
fn a_thousand_requests_in_one_write_are_answered_in_order() {
    let stand = Stand::start(|request: &Request| Answer::ok(&request.head.target));
    let mut client = stand.connect();
    let mut batch = String::new();
    for number in 0..1000 {
        write!(batch, "GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    client.send(batch).unwrap();
    for number in 0..1000 {
        assert_eq!(client.response("GET").text(), format!("/{number}"));
    }
    let expected: Vec<_> = (0..1000).map(|number| format!("/{number}")).collect();
    assert_eq!(targets(&stand.upstream), expected);
    assert_eq!(stand.upstream.completed(), 1000);
}

#[test]
fn bodies_and_requests_in_one_write_are_told_apart() {
    let stand = Stand::start(|request: &Request| Answer::ok(&request.head.target));
    let mut client = stand.connect();
    let mut batch = Vec::new();
    let large = "y".repeat(100_000);
    for number in 0..20 {
        let embedded = format!("GET /inner{number} HTTP/1.1\r\nHost: x\r\n\r\n{large}");
        let length = embedded.len();
        batch.push(format!(
            "POST /{number}a HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{embedded}"
        ));
        batch.push(format!("POST /{number}b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{embedded}\r\n0\r\n\r\n"));
        batch.push(format!("GET /{number}c HTTP/1.1\r\nHost: x\r\n\r\n"));
    }
    let bytes = batch.concat();
    std::thread::scope(|scope| {
        let address = client.local_address();
        assert_eq!(address.ip().to_string(), "127.0.0.1");
        let upstream = &stand.upstream;
        scope.spawn(move || {
            client.send(bytes).unwrap();
            for number in 0..20 {
                for part in ["a", "b", "c"] {
                    assert_eq!(client.response("POST").text(), format!("/{number}{part}"));
                }
            }
        });
        upstream.wait_completed(60, Duration::from_secs(30));
    });
    assert!(
        !targets(&stand.upstream)
            .iter()
            .any(|target| target.contains("inner"))
    );
    assert_eq!(stand.upstream.malformed(), []);
}

#[test]
fn a_bad_request_behind_good_ones_is_refused_after_their_answers() {
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "\0",
        "XGET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
    ] {
        let stand = Stand::start(|request: &Request| Answer::ok(&request.head.target));
        let mut client = stand.connect();
        let good = "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi\
                    GET /2 HTTP/1.1\r\nHost: x\r\n\r\n";
        client.send([good, bad, POISON].concat()).unwrap();
        assert_eq!(client.response("POST").text(), "/1");
        assert_eq!(client.response("GET").text(), "/2");
        let refusal = client.response("GET");
        assert!(matches!(refusal.status(), 400 | 505), "{bad:?}");
        assert!(refusal.head.wants_close());
        let left = client.read_to_close(SOON);
        assert_eq!((left.bytes.len(), left.close), (0, Close::Fin));
        assert_eq!(targets(&stand.upstream), ["/1", "/2"]);
    }
}

#[test]
fn nothing_behind_a_request_that_closes_is_read() {
    let stand = Stand::ok();
    for first in [
        "GET /1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /1 HTTP/1.0\r\n\r\n",
    ] {
        let mut client = stand.connect();
        client.send([first, POISON].concat()).unwrap();
        let response = client.response("GET");
        assert_eq!(
            (response.status(), response.head.wants_close()),
            (200, true)
        );
        let left = client.read_to_close(SOON);
        assert_eq!(left.bytes.len(), 0);
        assert_ne!(left.close, Close::Open);
    }
    assert_eq!(targets(&stand.upstream), ["/1", "/1"]);
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    let gate = Gate::new();
    let stand = Stand::start({
        let gate = gate.clone();
        move |_| Answer::ok("late").after(Step::Await(gate.clone()))
    });
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        let before = stand.upstream.requests().len();
        let mut client = stand.connect();
        client.send(request).unwrap();
        client.finish();
        wait::expect("the request upstream", SOON, || {
            stand.upstream.requests().len() > before
        });
        gate.open();
        assert_eq!(client.response("GET").text(), "late");
        assert_eq!(client.read_to_close(SOON).close, Close::Fin);
    }
}

#[test]
fn a_body_that_breaks_off_ends_the_request_upstream() {
    for framing in [
        "Content-Length: 60\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        for reset in [false, true] {
            let stand = Stand::ok();
            let mut client = stand.connect();
            client
                .send(format!("POST / HTTP/1.1\r\nHost: x\r\n{framing}"))
                .unwrap();
            wait::expect("the head upstream", SOON, || {
                stand.upstream.requests().len() == 1
            });
            if reset {
                client.abort();
            } else {
                client.finish();
                drop(client);
            }
            let ended = wait::until(SOON, || stand.upstream.connections().first()?.end.clone());
            assert!(
                matches!(ended, Some(End::Within(_) | End::Peer(_))),
                "{ended:?}"
            );
            let requests = stand.upstream.requests();
            assert!(requests.iter().all(|request| !request.complete));
            // A later client gets a connection that has seen nothing incomplete.
            assert_eq!(
                stand
                    .ask("GET", "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                    .status(),
                200
            );
            assert_eq!(stand.upstream.connections().len(), 2);
        }
    }
}

#[test]
fn empty_lines_before_a_request_are_let_pass() {
    let stand = Stand::ok();
    let mut client = stand.connect();
    for blank in ["\r\n", "\r\n\r\n", ""] {
        client
            .send(format!("{blank}GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
            .unwrap();
        assert_eq!(client.response("GET").status(), 200);
    }
    // After a body, too: old clients send one line end too many.
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    assert_eq!(client.response("POST").status(), 200);
    assert_eq!(client.response("GET").status(), 200);
    assert_eq!(stand.upstream.completed(), 5);
}

const ANSWERING: &str = "admin 127.0.0.1:{port:admin}\n\
    site app.example {\nlisten 127.0.0.1:{port}\n\
    route /own { respond 200 \"own\" }\nroute /denied { respond 403 \"no\" }\n\
    route /moved { respond 302 \"there\" }\nroute /app { proxy app }\nroute /down { proxy down }\n}\n\
    pool app { server {server} }\npool down { server 127.0.0.1:1 }\n";

/// Requests that Plimsoll answers by itself, and how.
const OWN_ANSWERS: [(&str, &str, u16); 6] = [
    ("/own", "app.example", 200),
    ("/denied", "app.example", 403),
    ("/moved", "app.example", 302),
    ("/nothing", "app.example", 404),
    ("/own", "other.example", 404),
    ("/down", "app.example", 502),
];

#[test]
fn an_answer_of_our_own_does_not_make_a_body_a_request() {
    let stand = Stand::run(ANSWERING, |_| Answer::ok("ok"));
    let inner = "GET /app HTTP/1.1\r\nHost: app.example\r\nX-Inner: 1\r\n\r\n";
    let next = "GET /app HTTP/1.1\r\nHost: app.example\r\n\r\n";
    let length = inner.len();
    let framings = [
        (format!("Content-Length: {length}"), inner.to_owned()),
        (
            "Transfer-Encoding: chunked".to_owned(),
            format!("{length:x}\r\n{inner}\r\n0\r\n\r\n"),
        ),
    ];
    for (target, host, status) in OWN_ANSWERS {
        for (framing, body) in &framings {
            let head = format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n{framing}\r\n\r\n");
            // The whole body came along: the connection goes on behind it.
            let mut client = stand.connect();
            client.send([&head, &**body, next].concat()).unwrap();
            let response = client.response("POST");
            assert_eq!(response.status(), status, "{target}");
            if !response.head.wants_close() {
                assert_eq!(client.response("GET").text(), "ok", "{target}");
            }
            // It did not: what comes later is nobody's request.
            let mut client = stand.connect();
            client.send(&head).unwrap();
            let response = client.response("POST");
            assert_eq!(
                (response.status(), response.head.wants_close()),
                (status, true),
                "{target}"
            );
            let _ = client.send([&**body, next].concat()); // it may be closed by now
            let left = client.read_to_close(SOON);
            assert_eq!(left.bytes.len(), 0, "{target}");
            assert_ne!(left.close, Close::Open, "{target}");
        }
    }
    let requests = stand.upstream.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.head.fields.first("x-inner").is_none())
    );
    assert!(requests.iter().all(|request| request.head.target == "/app"));
    assert_eq!(requests.len(), 2 * OWN_ANSWERS.len());
}
