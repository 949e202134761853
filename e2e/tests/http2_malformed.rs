//! Requests that break the rules of HTTP/2 reach no server, and harm no other.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

use plimsoll_e2e::frame::{Frame, code, flag, kind};
use plimsoll_e2e::h2raw::{End, Peer, head};
use plimsoll_e2e::hpack::{self, huffman_literal, literal};
use plimsoll_e2e::raw::PATIENCE;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Stand, assert_canonical};

const SITE: &str = "admin 127.0.0.1:{port:admin}\nsite * { listen 127.0.0.1:{port}; timeout header=2s\n\
                    route { proxy app } }\npool app { server {server} }\n";

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Its stream is reset, with this code.
    Reset(u32),
    /// It is answered.
    Status(u16),
    /// Its connection ends, with this code, as it may instead (RFC 9113 §5.4.1).
    Left(u32),
}

fn stand() -> Stand {
    Stand::run(SITE, |_| Answer::ok("ok"))
}

fn told(peer: &mut Peer, stream: u32) -> Result<Told, End> {
    match peer.end(stream) {
        End::Reset(code) if peer.messages[&stream].blocks.is_empty() => Ok(Told::Reset(code)),
        End::Complete => Ok(Told::Status(peer.messages[&stream].status())),
        End::Left(code) => Ok(Told::Left(code)),
        other => Err(other),
    }
}

/// Checks that each block is refused, that its connection lives on, and that no server hears of it.
fn assert_refused(stand: &Stand, blocks: &[(String, Vec<u8>)], expected: &[Told]) {
    let before = stand.upstream.requests().len();
    let mut peer = Peer::connect(stand.address());
    let mut failed = Vec::new();
    for (at, (what, block)) in blocks.iter().enumerate() {
        let stream = peer.ask(block.clone());
        match told(&mut peer, stream) {
            Ok(told) if expected.contains(&told) => {}
            other => failed.push(format!("{what}: {other:?}, {:?}", peer.goaway)),
        }
        // So many are forgiven on one connection, and some more.
        let is_worn = at % 400 == 399;
        if is_worn || peer.closed().is_some() || peer.goaway.is_some() {
            peer = Peer::connect(stand.address());
        }
    }
    let last = peer.get("/last");
    assert_eq!(peer.message(last).status(), 200);
    assert!(failed.is_empty(), "{failed:#?}");
    let seen = stand.upstream.requests().split_off(before);
    let seen: Vec<_> = seen
        .iter()
        .map(|request| request.raw_head.escape_ascii().to_string())
        .collect();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert_eq!(stand.upstream.malformed(), []);
}

fn with(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [head("GET", "/x", &[]), literal(name, value)].concat()
}

const MALFORMED: &[Told] = &[
    Told::Reset(code::PROTOCOL_ERROR),
    Told::Left(code::PROTOCOL_ERROR),
];

/// S-36, S-44, R-80.
#[test]
fn bytes_that_no_name_may_have() {
    let mut blocks = Vec::new();
    let forbidden = (0..=b' ')
        .chain(b'A'..=b'Z')
        .chain([b':', b'"', b'(', b',', b'/', b'{', 0x7f])
        .chain(0x80..=0xff);
    for byte in forbidden {
        for name in [vec![b'x', byte, b'y'], vec![byte], vec![b'x', byte]] {
            blocks.push((format!("name {}", name.escape_ascii()), with(&name, "v")));
        }
    }
    blocks.push(("no name".into(), with("", "v")));
    blocks.push(("cookie, tab".into(), with("cookie\t", "v")));
    blocks.push((
        "Huffman".into(),
        [head("GET", "/", &[]), huffman_literal("x\r\ny", "v")].concat(),
    ));
    let refused = [MALFORMED, &[Told::Status(400)]].concat();
    assert_refused(&stand(), &blocks, &refused);
}

/// S-36, R-80.
#[test]
fn bytes_that_no_value_may_have() {
    let mut blocks = Vec::new();
    for name in ["x", "cookie", "te", "user-agent", "referer", "accept"] {
        for value in [
            "a\0b",
            "a\rb",
            "a\nb",
            "a\r\nb: c",
            "\0",
            "\r",
            "\n",
            "a\r\n\r\nGET /poison HTTP/1.1\r\n\r\n",
            " a",
            "a ",
            "\ta",
            "a\t",
            " ",
        ] {
            blocks.push((format!("{name}: {value:?}"), with(name, value)));
        }
    }
    for byte in (1..0x20).chain([0x7f]).filter(|byte| *byte != b'\t') {
        blocks.push((
            format!("value with {byte:#x}"),
            with("x", [b'a', byte, b'b']),
        ));
    }
    let crumbs = [
        head("GET", "/", &[]),
        literal("cookie", "a=1"),
        literal("cookie", "b=2\r\nx: y"),
    ];
    blocks.push(("crumb".into(), crumbs.concat()));
    assert_refused(&stand(), &blocks, MALFORMED);
}

/// S-40, R-81.
#[test]
fn fields_of_a_connection() {
    let mut blocks = Vec::new();
    for (name, value) in [
        ("connection", "close"),
        ("connection", "x"),
        ("connection", ""),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("upgrade", "h2c"),
        ("upgrade", "websocket"),
        ("te", "x"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
        ("te", "trailers;q=1"),
    ] {
        blocks.push((format!("{name}: {value}"), with(name, value)));
    }
    assert_refused(&stand(), &blocks, MALFORMED);
}

/// A block of these pseudo fields and fields.
fn fields(list: &[(&str, &str)]) -> (String, Vec<u8>) {
    (format!("{list:?}"), hpack::block(list))
}

/// S-41, S-42, R-83.
#[test]
fn pseudo_fields() {
    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "http");
    const A: (&str, &str) = (":authority", "test");
    const P: (&str, &str) = (":path", "/");
    let blocks = [
        fields(&[S, A, P]),
        fields(&[M, A, P]),
        fields(&[M, S, A]),
        fields(&[]),
        fields(&[M, M, S, A, P]),
        fields(&[M, S, S, A, P]),
        fields(&[M, S, A, A, P]),
        fields(&[M, S, A, P, P]),
        fields(&[M, S, A, P, (":x", "y")]),
        fields(&[M, S, A, P, (":status", "200")]),
        fields(&[M, S, A, P, (":", "y")]),
        fields(&[M, S, A, ("x", "y"), P]),
        fields(&[("x", "y"), M, S, A, P]),
        fields(&[M, S, A, (":path", "")]),
        fields(&[M, S, A, (":path", "x")]),
        fields(&[M, S, A, (":path", "*")]),
        fields(&[M, S, A, (":path", "http://test/")]),
        fields(&[M, S, A, (":path", "?x")]),
        fields(&[M, S, A, (":path", "/ HTTP/1.1\r\nx: y")]),
        fields(&[M, S, A, (":path", "/a b")]),
        fields(&[M, S, A, (":path", "/a\tb")]),
        fields(&[M, S, A, (":path", "/\0")]),
        fields(&[M, S, A, (":path", " /")]),
        fields(&[
            (":method", "GET /x HTTP/1.1\r\nHost: y\r\n\r\nGET"),
            S,
            A,
            P,
        ]),
        fields(&[(":method", "GE T"), S, A, P]),
        fields(&[(":method", ""), S, A, P]),
        fields(&[(":method", "GET "), S, A, P]),
        fields(&[(":method", "G\0"), S, A, P]),
        fields(&[(":method", "GET\n"), S, A, P]),
        fields(&[(":method", "G:T"), S, A, P]),
        fields(&[M, (":scheme", "http://evil/?"), A, P]),
        fields(&[M, (":scheme", "ftp"), A, P]),
        fields(&[M, (":scheme", ""), A, P]),
        fields(&[M, (":scheme", "http "), A, P]),
        fields(&[M, (":scheme", "a\r\nb"), A, P]),
        fields(&[(":method", "OPTIONS"), S, A, (":path", "")]),
        fields(&[(":method", "OPTIONS"), S, A, (":path", "**")]),
        fields(&[(":method", "CONNECT"), S, A, P]),
        fields(&[(":method", "CONNECT"), P]),
        fields(&[M, S, A, P, (":protocol", "websocket")]),
        fields(&[(":method", "CONNECT"), (":protocol", "x"), S, A, P]),
        fields(&[(":method", "CONNECT"), (":protocol", "websocket"), A, P]),
        fields(&[(":method", "CONNECT"), (":protocol", "websocket"), S, A]),
    ];
    // What has a shape of its own is refused as it is over HTTP/1.1.
    assert_refused(
        &stand(),
        &blocks,
        &[
            Told::Reset(code::PROTOCOL_ERROR),
            Told::Left(code::PROTOCOL_ERROR),
            Told::Status(400),
            Told::Status(501),
        ],
    );
}

/// S-43, R-84.
#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn authorities_and_hosts() {
    const M: (&str, &str) = (":method", "GET");
    const S: (&str, &str) = (":scheme", "http");
    const P: (&str, &str) = (":path", "/");
    let stand = stand();
    let authority = |authority: &'static str| fields(&[M, S, (":authority", authority), P]);
    let mut blocks: Vec<_> = [
        "u@test",
        "u:p@test",
        "@test",
        "a,b",
        "test,test",
        "a b",
        "test:0",
        "test:99999",
        "test:x",
        "test/",
        "test?x",
        "test#x",
        "[::1%25eth0]",
        "[::1",
        "::1",
        "a\r\nb: c",
        "a\0",
        "te\tst",
        " test",
        "test ",
        "",
        "a..b",
        "-a\\b",
    ]
    .map(authority)
    .into();
    blocks.extend([
        fields(&[M, S, P]),
        fields(&[M, S, (":authority", "test"), P, ("host", "other")]),
        fields(&[
            M,
            S,
            (":authority", "test"),
            P,
            ("host", "test"),
            ("host", "test"),
        ]),
        fields(&[M, S, P, ("host", "test"), ("host", "test")]),
        fields(&[M, S, (":authority", "test"), P, ("host", "")]),
        fields(&[M, S, P, ("host", "a,b")]),
        fields(&[M, S, P, ("host", "u@a")]),
    ]);
    let refused = [Told::Reset(code::PROTOCOL_ERROR), Told::Status(400)];
    assert_refused(&stand, &blocks, &refused);
    // The host that is passed on is the authority, in the form that all spellings share.
    let mut peer = Peer::connect(stand.address());
    for (list, host) in [
        (
            &[
                M,
                S,
                (":authority", "Test.Example:80"),
                P,
                ("host", "test.example:80"),
            ][..],
            "Test.Example:80",
        ),
        (&[M, S, P, ("host", "alone.example")][..], "alone.example"),
        (&[M, S, (":authority", "[::1]:8080"), P][..], "[::1]:8080"),
    ] {
        let stream = peer.ask(hpack::block(list));
        assert_eq!(peer.message(stream).status(), 200, "{list:?}");
        let request = stand.upstream.requests().pop().unwrap();
        assert_canonical(&request);
        assert!(
            request
                .head
                .fields
                .first("host")
                .unwrap()
                .eq_ignore_ascii_case(host),
            "{request:?}"
        );
    }
}

/// S-44, N-01, N-02: what is only too large is told so, and the connection lives on.
#[test]
fn heads_that_are_too_large() {
    let stand = stand();
    let mut blocks = Vec::new();
    for length in [33_000, 36_000, 65_535, 100_000] {
        blocks.push((format!("name of {length}"), with(vec![b'n'; length], "v")));
        blocks.push((format!("value of {length}"), with("x", vec![b'v'; length])));
    }
    for count in [101, 102, 500, 2000] {
        let many: Vec<_> = (0..count).map(|at| literal(format!("x{at}"), "")).collect();
        blocks.push((
            format!("{count} fields"),
            [head("GET", "/", &[]), many.concat()].concat(),
        ));
        let crumbs = literal("cookie", "a=b").repeat(count);
        blocks.push((
            format!("{count} crumbs"),
            [head("GET", "/", &[]), crumbs].concat(),
        ));
    }
    let mut peer = Peer::connect(stand.address());
    let mut failed = Vec::new();
    for (what, block) in &blocks {
        let stream = peer.open();
        send_block(&mut peer, stream, block);
        match told(&mut peer, stream) {
            Ok(Told::Status(431)) => {}
            // The library has no longer names, and takes the connection down with one.
            Ok(Told::Left(code::PROTOCOL_ERROR)) if what.starts_with("name") => {}
            other => failed.push(format!("{what}: {other:?} {:?}", peer.goaway)),
        }
        if peer.closed().is_some() || peer.goaway.is_some() {
            peer = Peer::connect(stand.address());
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let stream = peer.get("/last");
    assert_eq!(peer.message(stream).status(), 200);
    assert_eq!(stand.upstream.requests().len(), 1);
    // As much as there may be goes through.
    for length in [0, 1, 255, 256, 8000] {
        let stream = peer.open();
        send_block(
            &mut peer,
            stream,
            &with(vec![b'n'; length.max(1)], vec![b'v'; length]),
        );
        assert_eq!(peer.message(stream).status(), 200, "{length}");
    }
}

/// Sends a block in as many frames as it needs.
fn send_block(peer: &mut Peer, stream: u32, block: &[u8]) {
    let mut pieces = block.chunks(16_384);
    let rest = pieces.len() - 1;
    let first = Frame::headers(stream, pieces.next().unwrap()).ending();
    peer.send(&if rest > 0 { first.unfinished() } else { first })
        .unwrap();
    for (at, piece) in pieces.enumerate() {
        let flags = if at + 1 == rest { flag::END_HEADERS } else { 0 };
        peer.send(&Frame::new(kind::CONTINUATION, flags, stream, piece))
            .ok();
    }
}

/// S-37, R-85.
#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn bodies_that_are_not_as_long_as_they_say() {
    let stand = stand();
    let length = [("content-length", "5")];
    type Case = (&'static str, fn(u32) -> Vec<Frame>);
    let cases: &[Case] = &[
        ("shorter", |id| vec![Frame::data(id, "1234").ending()]),
        ("longer", |id| vec![Frame::data(id, "123456").ending()]),
        ("longer in two", |id| {
            vec![Frame::data(id, "12345"), Frame::data(id, "6").ending()]
        }),
        ("empty", |id| vec![Frame::data(id, "").ending()]),
        ("trailers", |id| {
            vec![
                Frame::data(id, "123"),
                Frame::headers(id, literal("x", "y")).ending(),
            ]
        }),
    ];
    let mut peer = Peer::connect(stand.address());
    let mut pings = 0;
    for (what, frames) in cases {
        let stream = peer.begin("POST", "/x", &length);
        for (at, frame) in frames(stream).iter().enumerate() {
            peer.send(frame).ok();
            // What was promised is here; that it is all is not known.
            peer.send(&Frame::ping()).ok();
            peer.wait(PATIENCE, |peer| {
                peer.counts.get(&kind::PING) > Some(&(pings + at))
            });
        }
        pings += frames(stream).len();
        assert_eq!(
            told(&mut peer, stream),
            Ok(Told::Reset(code::PROTOCOL_ERROR)),
            "{what}"
        );
    }
    for value in [
        "5, 5",
        "+5",
        "-5",
        "5 5",
        "0x5",
        "",
        "99999999999999999999999",
        "5.0",
    ] {
        let stream = peer.begin("POST", "/x", &[("content-length", value)]);
        peer.send(&Frame::data(stream, "12345").ending()).unwrap();
        let told = told(&mut peer, stream);
        assert!(
            matches!(
                told,
                Ok(Told::Reset(code::PROTOCOL_ERROR) | Told::Status(400))
            ),
            "{value}: {told:?}"
        );
    }
    let stream = peer.begin(
        "POST",
        "/x",
        &[("content-length", "5"), ("content-length", "6")],
    );
    peer.send(&Frame::data(stream, "12345").ending()).unwrap();
    let two = told(&mut peer, stream);
    assert!(
        matches!(
            two,
            Ok(Told::Reset(code::PROTOCOL_ERROR) | Told::Status(400))
        ),
        "{two:?}"
    );
    // All is in the head.
    let stream = peer.request("POST", "/x", &length);
    assert_eq!(
        told(&mut peer, stream),
        Ok(Told::Reset(code::PROTOCOL_ERROR))
    );
    // Nobody else's answer comes from what these have begun.
    for _ in 0..20 {
        let stream = peer.get("/sound");
        assert_eq!(peer.message(stream).text(), "ok");
    }
    let complete = |request: &&plimsoll_e2e::recorder::Request| {
        request.complete && request.head.target == "/x"
    };
    assert_eq!(
        stand
            .upstream
            .requests()
            .iter()
            .find(complete)
            .map(|request| request.body.bytes.clone()),
        None
    );
}

/// S-39.
#[test]
fn a_wrong_length_after_an_early_answer() {
    let stand = Stand::run(SITE, |request| match &*request.head.target {
        "/x" => Answer::ok("early").early(),
        _ => Answer::ok("ok"),
    });
    let mut peer = Peer::connect(stand.address());
    let stream = peer.begin("POST", "/x", &[("content-length", "5")]);
    peer.send(&Frame::data(stream, "123")).unwrap();
    assert!(peer.wait(PATIENCE, |peer| {
        peer.messages
            .get(&stream)
            .is_some_and(|m| !m.blocks.is_empty())
    }));
    peer.send(&Frame::data(stream, "4567").ending()).unwrap();
    for _ in 0..10 {
        let next = peer.get("/next");
        assert_eq!(peer.message(next).text(), "ok");
    }
    let connections: Vec<_> = stand
        .upstream
        .requests()
        .iter()
        .map(|request| request.connection)
        .collect();
    assert!(
        connections[1..]
            .iter()
            .all(|connection| *connection != connections[0]),
        "{connections:?}"
    );
}

/// Trailers are fields like others.
#[test]
fn malformed_trailers() {
    let stand = stand();
    let mut peer = Peer::connect(stand.address());
    let mut failed = Vec::new();
    for (name, value) in [
        ("X", "y"),
        ("x", "a\r\nb"),
        ("x y", "z"),
        ("x", "a\0"),
        ("connection", "x"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("x", " a"),
        ("x", "a\t"),
        (":x", "y"),
    ] {
        let stream = peer.begin("POST", "/t", &[]);
        peer.send(&Frame::data(stream, "abc")).unwrap();
        peer.send(&Frame::headers(stream, literal(name, value)).ending())
            .unwrap();
        let told = told(&mut peer, stream);
        if !told.is_ok_and(|told| MALFORMED.contains(&told)) {
            failed.push(format!("{name}: {value:?} {told:?} {:?}", peer.goaway));
        }
        if peer.goaway.is_some() {
            peer = Peer::connect(stand.address());
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let complete = stand
        .upstream
        .requests()
        .into_iter()
        .filter(|request| request.complete);
    assert_eq!(complete.count(), 0);
    // A pseudo field that is known does not come out of the library, and reaches nobody.
    for name in [":path", ":method", ":status", ":authority"] {
        let stream = peer.begin("POST", "/t", &[]);
        peer.send(
            &Frame::headers(stream, [literal(name, "200"), literal("x", "y")].concat()).ending(),
        )
        .unwrap();
        peer.end(stream);
    }
    for request in stand
        .upstream
        .requests()
        .iter()
        .filter(|request| request.complete)
    {
        assert_eq!(request.body.trailers.names(), ["x"]);
    }
}
