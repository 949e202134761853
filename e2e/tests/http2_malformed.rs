//! What breaks the rules of HTTP/2 reaches no server: requests, one after the other on one connection,
//! and frames.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::frame::{Frame, PREFACE, code, flag, kind, setting};
use plimsoll_e2e::h2raw::{End, Peer, head};
use plimsoll_e2e::hpack::{self, huffman_literal, literal};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::stand::{Stand, assert_canonical};
use plimsoll_e2e::wire::Close;
use std::net::TcpStream;

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
    for (what, block) in blocks {
        let stream = peer.ask(block.clone());
        match told(&mut peer, stream) {
            Ok(told) if expected.contains(&told) => {}
            other => failed.push(format!("{what}: {other:?}, {:?}", peer.goaway)),
        }
        if peer.closed().is_some() || peer.goaway.is_some() {
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
            Ok(Told::Status(431 | 414)) => {}
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
    for (what, frames) in cases {
        let stream = peer.begin("POST", "/x", &length);
        for frame in frames(stream) {
            peer.send(&frame).unwrap();
        }
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
    for (name, value) in [
        (":path", "/"),
        (":status", "200"),
        ("X", "y"),
        ("x", "a\r\nb"),
        ("x y", "z"),
        ("x", "a\0"),
        ("connection", "x"),
        ("transfer-encoding", "chunked"),
        ("te", "gzip"),
        ("x", " a"),
    ] {
        let stream = peer.begin("POST", "/t", &[]);
        peer.send(&Frame::data(stream, "abc")).unwrap();
        peer.send(&Frame::headers(stream, literal(name, value)).ending())
            .unwrap();
        let told = told(&mut peer, stream);
        assert_eq!(
            told,
            Ok(Told::Reset(code::PROTOCOL_ERROR)),
            "{name}: {value:?} {:?}",
            peer.goaway
        );
    }
    let complete = stand
        .upstream
        .requests()
        .into_iter()
        .filter(|request| request.complete);
    assert_eq!(complete.count(), 0);
}

/// What a frame does: to its stream, or to its connection.
enum Fate {
    Stream(u32),
    Connection(u32),
}

/// S-49, S-50, S-65, S-67, R-87, R-88, R-90. Stream 1 has been answered, stream 3 is half open.
#[test]
fn frames_that_have_no_place() {
    use Fate::{Connection, Stream};

    let get = || head("GET", "/", &[]);
    let cases: Vec<(&str, Vec<Frame>, Fate)> = vec![
        (
            "stream 0",
            vec![Frame::headers(0, get()).ending()],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "even",
            vec![Frame::headers(6, get()).ending()],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "decreasing",
            vec![
                Frame::headers(9, get()).ending(),
                Frame::headers(5, get()).ending(),
            ],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "data on stream 0",
            vec![Frame::data(0, "x")],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "data on an idle stream",
            vec![Frame::data(99, "x")],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "reset of an idle stream",
            vec![Frame::reset(99, 0)],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "reset of stream 0",
            vec![Frame::reset(0, 0)],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "window of an idle stream",
            vec![Frame::window_update(99, 1)],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "no window",
            vec![Frame::window_update(3, 0)],
            Stream(code::PROTOCOL_ERROR),
        ),
        (
            "no window of a connection",
            vec![Frame::window_update(0, 0)],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "window too large",
            vec![Frame::window_update(3, 0x7fff_ffff)],
            Stream(code::FLOW_CONTROL_ERROR),
        ),
        (
            "connection's window too large",
            vec![Frame::window_update(0, 0x7fff_ffff)],
            Connection(code::FLOW_CONTROL_ERROR),
        ),
        (
            "initial window too large",
            vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)])],
            Connection(code::FLOW_CONTROL_ERROR),
        ),
        (
            "initial window overflows",
            vec![
                Frame::window_update(3, 0x7fff_0000 - 65_535),
                Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff)]),
            ],
            Connection(code::FLOW_CONTROL_ERROR),
        ),
        (
            "frame size too small",
            vec![Frame::settings(&[(setting::MAX_FRAME_SIZE, 16_383)])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "frame size too large",
            vec![Frame::settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "push is neither",
            vec![Frame::settings(&[(setting::ENABLE_PUSH, 2)])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "settings of a stream",
            vec![Frame::new(kind::SETTINGS, 0, 1, [])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "half a setting",
            vec![Frame::new(kind::SETTINGS, 0, 0, [0; 5])],
            Connection(code::FRAME_SIZE_ERROR),
        ),
        (
            "heard settings",
            vec![Frame::new(kind::SETTINGS, flag::ACK, 0, [0; 6])],
            Connection(code::FRAME_SIZE_ERROR),
        ),
        (
            "short ping",
            vec![Frame::new(kind::PING, 0, 0, [0; 7])],
            Connection(code::FRAME_SIZE_ERROR),
        ),
        (
            "ping of a stream",
            vec![Frame::new(kind::PING, 0, 1, [0; 8])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "short reset",
            vec![Frame::new(kind::RST_STREAM, 0, 3, [0; 3])],
            Connection(code::FRAME_SIZE_ERROR),
        ),
        (
            "short window",
            vec![Frame::new(kind::WINDOW_UPDATE, 0, 3, [0; 3])],
            Connection(code::FRAME_SIZE_ERROR),
        ),
        (
            "short leave",
            vec![Frame::new(kind::GOAWAY, 0, 0, [0; 7])],
            Connection(code::FRAME_SIZE_ERROR),
        ),
        (
            "leave of a stream",
            vec![Frame::new(kind::GOAWAY, 0, 1, [0; 8])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "a frame too long",
            vec![Frame::data(3, vec![0; 16_385])],
            Connection(code::FRAME_SIZE_ERROR),
        ),
        (
            "promise",
            vec![Frame::new(
                kind::PUSH_PROMISE,
                flag::END_HEADERS,
                3,
                [0, 0, 0, 2],
            )],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "continues nothing",
            vec![Frame::new(kind::CONTINUATION, flag::END_HEADERS, 3, [])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "between a head's parts",
            vec![Frame::headers(5, get()).unfinished(), Frame::ping()],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "another head's part",
            vec![
                Frame::headers(5, get()).unfinished(),
                Frame::new(kind::CONTINUATION, flag::END_HEADERS, 7, []),
            ],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "padding as long as the frame",
            vec![Frame::new(kind::DATA, flag::PADDED, 3, [3, 0, 0])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "padding of nothing",
            vec![Frame::new(kind::DATA, flag::PADDED, 3, [])],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "padded head",
            vec![Frame::new(
                kind::HEADERS,
                flag::PADDED | flag::END_HEADERS,
                5,
                [9, 0],
            )],
            Connection(code::PROTOCOL_ERROR),
        ),
        (
            "no entry",
            vec![Frame::headers(5, hpack::indexed(62)).ending()],
            Connection(code::COMPRESSION_ERROR),
        ),
        (
            "entry 0",
            vec![Frame::headers(5, [0x80]).ending()],
            Connection(code::COMPRESSION_ERROR),
        ),
        (
            "large table",
            vec![Frame::headers(5, hpack::table_size(4097)).ending()],
            Connection(code::COMPRESSION_ERROR),
        ),
        (
            "cut string",
            vec![Frame::headers(5, [0, 9, b'x']).ending()],
            Connection(code::COMPRESSION_ERROR),
        ),
        (
            "endless number",
            vec![Frame::headers(5, [0xff; 20]).ending()],
            Connection(code::COMPRESSION_ERROR),
        ),
        (
            "bad Huffman",
            vec![Frame::headers(5, [0, 0x84, 255, 255, 255, 255, 0]).ending()],
            Connection(code::COMPRESSION_ERROR),
        ),
        (
            "trailers that do not end",
            vec![Frame::headers(3, literal("x", "y"))],
            Stream(code::PROTOCOL_ERROR),
        ),
        (
            "depends on itself",
            vec![Frame::priority(3, 3)],
            Stream(code::PROTOCOL_ERROR),
        ),
        (
            "data behind the end",
            vec![Frame::data(3, "").ending(), Frame::data(3, "x")],
            Stream(code::STREAM_CLOSED),
        ),
    ];
    let stand = Stand::run(SITE, |request| match request.head.method.as_str() {
        "POST" => Answer::ok("").after(plimsoll_e2e::script::Step::Hold),
        _ => Answer::ok("ok"),
    });
    let mut failed = Vec::new();
    for (what, frames, fate) in cases {
        let mut peer = Peer::connect(stand.address());
        let first = peer.get("/");
        peer.message(first);
        let half = peer.begin("POST", "/", &[]);
        for frame in &frames {
            peer.send(frame).ok();
        }
        // Whatever a stream may end with, its connection may (RFC 9113 §5.4.1).
        let (is_seen, wanted) = match fate {
            Stream(code) => (peer.end(half) == End::Reset(code), code),
            Connection(code) => (false, code),
        };
        let left = if is_seen { None } else { peer.left(PATIENCE) };
        let is_left = left.is_some_and(|code| code == wanted || code == code::PROTOCOL_ERROR);
        if !is_seen && !is_left {
            failed.push(format!(
                "{what}: {left:?} {:?} and not {wanted}",
                peer.closed()
            ));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

/// R-87: what is not known is passed over.
#[test]
fn frames_that_are_not_known() {
    let stand = stand();
    let mut peer = Peer::connect_with(
        stand.address(),
        &[(0x99, 7), (setting::HEADER_TABLE_SIZE, 0)],
    );
    for kind in [10, 11, 16, 99, 255] {
        peer.send(&Frame::new(kind, 0xff, 0, vec![0; 100])).unwrap();
        let stream = peer.get("/");
        assert_eq!(peer.message(stream).text(), "ok");
        peer.send(&Frame::new(kind, 0, stream, vec![0; 10]))
            .unwrap();
    }
    peer.send(&Frame::priority(101, 99)).unwrap();
    let all_flags = Frame::new(kind::PING, 0xfe, 0, [1; 8]);
    peer.send(&all_flags).unwrap();
    assert!(peer.wait(PATIENCE, |peer| peer.counts.contains_key(&kind::PING)));
    // An answer that nobody waits for, and a window of a stream that has ended, are late and no more.
    peer.send(&Frame::window_update(1, 5)).unwrap();
    peer.send(&Frame::reset(1, code::CANCEL)).unwrap();
    let stream = peer.open();
    peer.send(&Frame::headers(2001, head("GET", "/", &[])).ending())
        .unwrap();
    assert_eq!(peer.message(2001).status(), 200, "behind a gap, {stream}");
}

/// S-50.
#[test]
fn the_last_stream_of_all() {
    let stand = stand();
    let mut peer = Peer::connect(stand.address());
    let last = 0x7fff_ffff;
    peer.send(&Frame::headers(last, head("GET", "/", &[])).ending())
        .unwrap();
    assert_eq!(peer.message(last).text(), "ok");
}

/// S-68.
#[test]
fn what_begins_as_something_else() {
    let stand = stand();
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"[..],
        b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n",
        b"PRI \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
    ] {
        let mut raw = Raw::connect(stand.address());
        raw.send(bytes).unwrap();
        let end = raw.read_to_close(PATIENCE);
        assert_ne!(end.close, Close::Open, "{}", bytes.escape_ascii());
    }
    // The first frame has to be one of settings.
    let mut peer = Peer::silent(TcpStream::connect(stand.address()).unwrap());
    peer.send_bytes(
        &[
            PREFACE,
            &Frame::headers(1, head("GET", "/", &[])).ending().encode(),
        ]
        .concat(),
    )
    .unwrap();
    peer.left(PATIENCE);
    assert!(peer.closed().is_some());
    // In pieces it is the same; not to its end, it is too late.
    let mut peer = Peer::silent(TcpStream::connect(stand.address()).unwrap());
    let hello = [
        PREFACE,
        &Frame::settings(&[]).encode(),
        &Frame::headers(1, head("GET", "/", &[])).ending().encode(),
    ]
    .concat();
    for byte in hello {
        peer.send_bytes(&[byte]).unwrap();
    }
    assert_eq!(peer.message(1).text(), "ok");
    for length in [1, 4, 10, 23, 24, 30] {
        let mut raw = Raw::connect(stand.address());
        let hello = [PREFACE, &Frame::settings(&[]).encode()].concat();
        raw.send(&hello[..length]).unwrap();
        assert_ne!(raw.read_to_close(PATIENCE).close, Close::Open, "{length}");
    }
    // And HTTP/1.1 still is.
    assert_eq!(
        stand
            .ask("GET", "GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .text(),
        "ok"
    );
    assert_eq!(stand.upstream.requests().len(), 2);
}

/// S-67.
#[test]
fn padding_costs_no_room() {
    let stand = stand();
    let mut peer = Peer::connect(stand.address());
    let stream = peer.begin("POST", "/", &[]);
    // A window of 64 KiB is used a hundred times by padding alone.
    for _ in 0..25_000 {
        assert!(peer.send_data(&Frame::data(stream, "x").padded(255)), "{:?} {:?} {:?}", peer.goaway, peer.closed(), peer.messages.get(&stream));
    }
    assert!(peer.send_data(&Frame::data(stream, "").padded(255).ending()));
    assert_eq!(peer.message(stream).status(), 200);
    assert_eq!(stand.upstream.requests()[0].body.length, 25_000);
}
