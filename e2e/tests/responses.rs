//! Responses: what is no response becomes 502 and its connection is not used again; what is one
//! reaches the client with exactly one framing, and nothing behind it does.

use plimsoll_e2e::head::Framing;
use plimsoll_e2e::ports;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::{Stand, check_all};
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);

/// Behind a broken response: must reach nobody.
const POISON: &[u8] = b"HTTP/1.1 200 Poison\r\nContent-Length: 6\r\n\r\npoison";

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")
}

/// Starts an upstream that answers `/n` with the nth of `responses`, and keeps the connection.
fn serving(responses: Vec<Vec<u8>>) -> Stand {
    Stand::start(move |request| {
        let number = request.head.target.trim_start_matches('/').parse::<usize>();
        match number.ok().and_then(|number| responses.get(number)) {
            Some(response) => Answer::bytes(response.clone()),
            None => Answer::ok("ok"),
        }
    })
}

/// Checks that each response becomes 502 with this token, and that no connection that brought one
/// is used again.
fn assert_bad_gateway(responses: &[&[u8]], token: &str) {
    let stand = serving(
        responses
            .iter()
            .map(|response| [response, POISON].concat())
            .collect(),
    );
    let cases: Vec<_> = responses.iter().enumerate().collect();
    check_all(&cases, |(number, response)| {
        let case = response.escape_ascii();
        let mut client = stand.connect();
        client
            .send(get(&format!("/{number}")))
            .map_err(|error| error.to_string())?;
        let response = client
            .try_response("GET")
            .map_err(|error| format!("{case}: {error:?}"))?;
        let status = response
            .field("proxy-status")
            .unwrap_or_default()
            .to_owned();
        if response.status() != 502 || status != format!("plimsoll; error={token}") {
            return Err(format!("{case}: {} {status}", response.status()));
        }
        // The client did nothing wrong and goes on, with a server's answer of its own.
        client
            .send(get("/next"))
            .map_err(|error| error.to_string())?;
        let next = client
            .try_response("GET")
            .map_err(|error| format!("{case}: {error:?}"))?;
        (next.text() == "ok")
            .then_some(())
            .ok_or_else(|| format!("{case}: then {}", next.text()))
    });
    let requests = stand.upstream.requests();
    for bad in requests
        .iter()
        .filter(|request| request.head.target != "/next")
    {
        let after = requests
            .iter()
            .filter(|r| r.connection == bad.connection && r.number > bad.number);
        assert_eq!(after.count(), 0, "{} was followed", bad.head.target);
    }
}

#[test]
fn bytes_that_are_no_response_head_become_502() {
    assert_bad_gateway(
        &[
            b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\x01b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\x7fb\r\n\r\n",
            b"HTTP/1.1 200 OK\nX: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\nSet-Cookie: b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\r\n\n",
            b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n X: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nX(Y): a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX Y: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX\xff: a\r\n\r\n",
            b"HTTP/1.1 200 O\rK\r\n\r\n",
            b"HTTP/1.1 200 O\0K\r\n\r\n",
            b"HTTP/1.1 200 O\nK\r\n\r\n",
            b"HTTP/1.1 0 x\r\n\r\n",
            b"HTTP/1.1 000 x\r\n\r\n",
            b"HTTP/1.1 99 x\r\n\r\n",
            b"HTTP/1.1 099 x\r\n\r\n",
            b"HTTP/1.1 600 x\r\n\r\n",
            b"HTTP/1.1 999 x\r\n\r\n",
            b"HTTP/1.1 1000 x\r\n\r\n",
            b"HTTP/1.1 2000 x\r\n\r\n",
            b"HTTP/1.1 -200 x\r\n\r\n",
            b"HTTP/1.1 2x0 x\r\n\r\n",
            b"HTTP/1.1  200 OK\r\n\r\n",
            b"HTTP/1.1\t200 OK\r\n\r\n",
            b"HTTP/1.1 \r\n\r\n",
            b"HTTP/1.2 200 OK\r\n\r\n",
            b"HTTP/2.0 200 OK\r\n\r\n",
            b"HTTP/0.9 200 OK\r\n\r\n",
            b"http/1.1 200 OK\r\n\r\n",
            b"ICY 200 OK\r\n\r\n",
            b"<html>old</html>\r\n\r\n",
            b"SSH-2.0-server\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x16\r\n\r\n",
            b" HTTP/1.1 200 OK\r\n\r\n",
        ],
        "http_protocol_error",
    );
}

#[test]
fn responses_of_ambiguous_length_become_502() {
    assert_bad_gateway(
        &[
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 05\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nhello\r\n0\r\n\r\n",
        ],
        "http_protocol_error",
    );
}

#[test]
fn response_heads_over_the_limit_become_502() {
    let long = [b"HTTP/1.1 200 OK\r\nX: ", &[b'a'; 40_000][..], b"\r\n\r\n"].concat();
    let reason = [b"HTTP/1.1 200 ", &[b'a'; 40_000][..], b"\r\n\r\n"].concat();
    let many = [
        b"HTTP/1.1 200 OK\r\n",
        "X: a\r\n".repeat(10_000).as_bytes(),
        b"\r\n",
    ]
    .concat();
    let over = [
        b"HTTP/1.1 200 OK\r\n",
        "X: a\r\n".repeat(101).as_bytes(),
        b"\r\n",
    ]
    .concat();
    assert_bad_gateway(
        &[&long, &reason, &many, &over],
        "http_response_header_section_size",
    );
}

#[test]
fn a_switch_of_protocols_nobody_asked_for_becomes_502() {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
    assert_bad_gateway(&[switch], "http_upgrade_failed");
}

/// A response, the method it answers, and what the client must see of it.
struct Passed {
    method: &'static str,
    response: &'static [u8],
    status: u16,
    framing: Framing,
    body: &'static [u8],
    /// Whether the server's connection may be used again.
    kept: bool,
}

const fn passed(
    method: &'static str,
    response: &'static [u8],
    status: u16,
    framing: Framing,
) -> Passed {
    Passed {
        method,
        response,
        status,
        framing,
        body: b"",
        kept: true,
    }
}

const fn with_body(passed: Passed, body: &'static [u8]) -> Passed {
    Passed { body, ..passed }
}

const fn not_kept(passed: Passed) -> Passed {
    Passed {
        kept: false,
        ..passed
    }
}

fn table() -> Vec<Passed> {
    use Framing as F;
    vec![
        with_body(passed("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, F::Length(5)), b"hello"),
        with_body(passed("GET", b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", 200, F::Length(5)), b"hello"),
        with_body(passed("GET", b"HTTP/1.1 599 Own\r\nContent-Length: 1\r\n\r\nx", 599, F::Length(1)), b"x"),
        with_body(passed("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n", 200, F::Chunked), b"hello"),
        passed("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, F::Chunked),
        passed("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, F::Length(0)),
        passed("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, F::None),
        passed("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, F::None),
        passed("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", 200, F::None),
        not_kept(passed("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, F::None)),
        passed("GET", b"HTTP/1.1 204 No Content\r\n\r\n", 204, F::None),
        passed("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 204, F::None),
        not_kept(passed("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204, F::None)),
        not_kept(passed("GET", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 204, F::None)),
        passed("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, F::None),
        not_kept(passed("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", 304, F::None)),
        not_kept(with_body(passed("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", 200, F::Length(5)), b"hello")),
        not_kept(with_body(passed("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\npoison", 200, F::Chunked), b"hello")),
        not_kept(with_body(passed("GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", 200, F::Length(5)), b"hello")),
        not_kept(with_body(passed("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, F::Length(5)), b"hello")),
        with_body(passed("GET", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", 200, F::Length(5)), b"hello"),
    ]
}

#[test]
fn responses_pass_with_one_framing_and_nothing_behind_them() {
    for (number, case) in table().into_iter().enumerate() {
        let what = case.response.escape_ascii();
        let stand = serving(vec![case.response.to_vec()]);
        let mut client = stand.connect();
        client
            .send(format!("{} /0 HTTP/1.1\r\nHost: x\r\n\r\n", case.method))
            .unwrap();
        let response = client.response(case.method);
        assert_eq!(
            (response.status(), response.framing),
            (case.status, case.framing),
            "{what}"
        );
        assert_eq!(response.body.bytes, case.body, "{what}");
        assert!(!response.head.wants_close(), "{what}");
        assert!(response.field("date").is_some(), "{what}");
        let lengths = response.head.fields.all("content-length").count();
        let declared = case.response.windows(15).any(|w| w == b"Content-Length:");
        assert_eq!(
            lengths == 1,
            declared && case.status != 204,
            "{number} {what}"
        );
        client.send(get("/next")).unwrap();
        assert_eq!(client.response("GET").text(), "ok", "{what}");
        let connections = stand.upstream.connections().len();
        assert_eq!(connections, if case.kept { 1 } else { 2 }, "{what}");
    }
}

#[test]
fn a_body_that_ends_with_the_connection_arrives_chunked() {
    for version in ["1.0", "1.1"] {
        let head = format!("HTTP/{version} 200 OK\r\nContent-Type: text/plain\r\n\r\nhello ");
        let stand = Stand::start(move |_| {
            Answer::bytes(head.clone())
                .then(Step::Send(b"world".to_vec()))
                .then(Step::Close)
        });
        let mut client = stand.connect();
        for _ in 0..2 {
            client.send(get("/")).unwrap();
            let response = client.response("GET");
            assert_eq!(
                (response.framing, &*response.text()),
                (Framing::Chunked, "hello world")
            );
        }
        let old = stand.ask("GET", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!((old.framing, &*old.text()), (Framing::Close, "hello world"));
        assert!(old.head.wants_close());
    }
}

#[test]
fn an_older_client_gets_no_coding_and_no_interim_answer() {
    let stand = Stand::start(|_| {
        Answer::bytes(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
             HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
        )
    });
    for keep in ["", "Connection: keep-alive\r\n"] {
        let mut client = stand.connect();
        client
            .send(format!("GET / HTTP/1.0\r\n{keep}\r\n"))
            .unwrap();
        let response = client.response("GET");
        assert_eq!((response.status(), response.framing), (200, Framing::Close));
        assert_eq!(response.text(), "hello");
        assert_eq!(response.field("transfer-encoding"), None);
        assert_ne!(client.read_to_close(SOON).close, Close::Open);
    }
    // The upstream's connection was good for both.
    assert_eq!(stand.upstream.connections().len(), 1);
}

#[test]
fn an_older_client_keeps_its_connection_if_it_asks_to() {
    let stand = Stand::ok();
    let mut client = stand.connect();
    for _ in 0..3 {
        client
            .send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            .unwrap();
        let response = client.response("GET");
        assert_eq!(
            (response.framing, &*response.text()),
            (Framing::Length(2), "ok")
        );
        assert_eq!(response.field("connection"), Some("keep-alive"));
    }
    client.send("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(client.response("GET").head.wants_close());
    assert_eq!(client.read_to_close(SOON).close, Close::Fin);
}

#[test]
fn interim_answers_are_passed_on_in_order() {
    let stand = Stand::start(|_| {
        Answer::bytes(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-A\r\nX-A: 1\r\n\r\n\
             HTTP/1.1 102 Processing\r\n\r\n\
             HTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let mut client = stand.connect();
    for _ in 0..2 {
        client.send(get("/")).unwrap();
        let answers: Vec<_> = (0..4).map(|_| client.response("GET")).collect();
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status()).collect();
        assert_eq!(statuses, [103, 102, 103, 200]);
        let links: Vec<_> = answers
            .iter()
            .filter_map(|answer| answer.field("link"))
            .collect();
        assert_eq!(links, ["</a>", "</b>"]);
        assert_eq!(answers[0].field("x-a"), None);
    }
    assert_eq!(stand.upstream.connections().len(), 1);
}

#[test]
fn interim_answers_without_end_become_502() {
    let stand = Stand::start(|request| match &*request.head.target {
        "/endless" => Answer(vec![
            Step::ReadBody,
            Step::Repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), 1 << 16),
        ]),
        _ => Answer::ok("ok"),
    });
    let mut client = stand.connect();
    client.send(get("/endless")).unwrap();
    let mut interim = 0;
    let last = loop {
        let answer = client.response("GET");
        match answer.status() {
            103 => interim += 1,
            status => break status,
        }
    };
    assert_eq!((interim, last), (32, 502));
    client.send(get("/")).unwrap();
    assert_eq!(client.response("GET").text(), "ok");
    assert_eq!(stand.upstream.connections().len(), 2);
}

#[test]
fn trailers_pass_both_ways() {
    let stand = Stand::start(|_| {
        Answer::bytes(
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\
             X-Sum: 7\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nServer-Timing: db\r\n\r\n",
        )
    });
    let mut client = stand.connect();
    client
        .send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-In: 1\r\nHost: evil\r\n\r\n")
        .unwrap();
    let response = client.response("POST");
    let names = |fields: &plimsoll_e2e::head::Fields| -> Vec<String> {
        fields
            .0
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect()
    };
    assert_eq!(
        names(&response.body.trailers),
        ["X-Sum: 7", "Server-Timing: db"]
    );
    assert_eq!(response.field("x-sum"), None);
    let request = stand.upstream.requests().remove(0);
    assert_eq!(names(&request.body.trailers), ["X-In: 1"]);
}

#[test]
fn endless_trailers_and_extensions_are_cut_off() {
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let endless = [("0\r\n", "X: y\r\n"), ("5;", "abcdefgh")];
    for (first, repeated) in endless {
        let first = [chunk, first].concat();
        let stand = Stand::start(move |_| {
            Answer::bytes(first.clone())
                .then(Step::Repeat(repeated.into(), 100 << 10))
                .then(Step::Hold)
        });
        let before = stand.plimsoll.resident();
        let mut client = stand.connect();
        client.send(get("/")).unwrap();
        // Either it was seen before the head went out, or the client is told by a reset.
        match client.try_response("GET") {
            Ok(response) => assert_eq!(response.status(), 502),
            Err(unfinished) => assert_ne!(unfinished.body.length, 0, "{unfinished:?}"),
        }
        let grown = stand.plimsoll.resident().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown}");
        wait::expect("the server to be left", SOON, || stand.upstream.open() == 0);
    }
}

#[test]
fn what_a_server_says_unasked_reaches_nobody() {
    for unasked in [
        &b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 4\r\n\r\nlate"[..],
        POISON,
        b"\r\n",
        b"x",
    ] {
        let gate = Gate::new();
        let stand = Stand::start({
            let gate = gate.clone();
            move |request| match &*request.head.target {
                "/first" => Answer::ok("first")
                    .then(Step::Await(gate.clone()))
                    .then(Step::Send(unasked.to_vec())),
                _ => Answer::ok("ok"),
            }
        });
        let mut client = stand.connect();
        client.send(get("/first")).unwrap();
        assert_eq!(client.response("GET").text(), "first");
        let (ours, server) = (
            stand.upstream.connections()[0].peer,
            stand.upstream.address(),
        );
        gate.open();
        wait::expect("the bytes to wait at Plimsoll's end", SOON, || {
            stand.upstream.open() == 0 || ports::unread(ours.port(), server.port()) > 0
        });
        for method in ["GET", "POST"] {
            let head = format!("{method} /next HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            client.send(head).unwrap();
            assert_eq!(client.response(method).text(), "ok");
        }
        assert_eq!(stand.upstream.connections().len(), 2);
    }
}

#[test]
fn fields_that_end_here_and_internal_ones_are_removed() {
    let stand = Stand::start(|_| {
        Answer::bytes(
            "HTTP/1.1 200 Fine\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             Proxy-Connection: x\r\nTE: x\r\nTrailer: x\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\n\
             X-Accel-Redirect: /internal\r\nX-Accel-Buffering: no\r\nX-Sendfile: /etc/passwd\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Own: caf\u{e9}\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
             ETag: \"e\"\r\nVary: Accept\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok",
        )
    });
    let response = stand.ask("GET", get("/"));
    assert_eq!(response.head.reason, "Fine");
    assert_eq!(
        response.head.fields.names(),
        [
            "Set-Cookie",
            "Set-Cookie",
            "X-Own",
            "WWW-Authenticate",
            "ETag",
            "Vary",
            "Date",
            "Content-Length"
        ]
    );
    let cookies: Vec<_> = response.head.fields.all("set-cookie").collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(
        response.field("date"),
        Some("Thu, 01 Jan 1970 00:00:00 GMT")
    );
}
