//! Frames of HTTP/2 that break a rule end their stream or their connection, and those that only look
//! odd do not.

use plimsoll_e2e::frame::{Frame, PREFACE, code, flag, kind, setting};
use plimsoll_e2e::h2raw::{End, Peer, head};
use plimsoll_e2e::hpack::{self, literal};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::script::{Answer, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wire::Close;
use std::net::TcpStream;

const SITE: &str = "admin 127.0.0.1:{port:admin}\nsite * { listen 127.0.0.1:{port}; timeout header=2s\n\
                    route { proxy app } }\npool app { server {server} }\n";

fn stand() -> Stand {
    Stand::run(SITE, |_| Answer::ok("ok"))
}

/// What a frame does: to its stream, or to its connection.
enum Fate {
    Stream(u32),
    Connection(u32),
}

/// S-49, S-50, S-65, S-67, R-87, R-88, R-90. Stream 1 has been answered, stream 3 is half open.
#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
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
        "POST" => Answer::ok("").after(Step::Hold),
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

/// what is not known is passed over.
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
    for length in [1, 4, 10, 23] {
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
        assert!(
            peer.send_data(&Frame::data(stream, "x").padded(255)),
            "{:?} {:?} {:?}",
            peer.goaway,
            peer.closed(),
            peer.messages.get(&stream)
        );
    }
    assert!(peer.send_data(&Frame::data(stream, "").padded(255).ending()));
    assert_eq!(peer.message(stream).status(), 200);
    assert_eq!(stand.upstream.requests()[0].body.length, 25_000);
}

/// S-60: a body in the smallest pieces, whose request waits for its turn.
#[test]
fn small_pieces_may_wait() {
    let (stand, gate) = Stand::gated(
        "admin 127.0.0.1:{port:admin}\nsite * { listen 127.0.0.1:{port}; route { proxy app } }\n\
         pool app { server {server}; max-requests 1; queue 5 timeout=60s }\n",
    );
    let mut peer = Peer::connect(stand.address());
    let first = peer.get("/wait");
    let second = peer.begin("POST", "/", &[]);
    let piece = Frame::data(second, "x");
    for _ in 0..60_000 {
        assert!(peer.send_data(&piece), "{:?}", peer.goaway);
    }
    assert!(peer.send_data(&piece.ending()));
    gate.open();
    assert_eq!(peer.message(first).status(), 200);
    assert_eq!(peer.message(second).status(), 200);
    assert_eq!(stand.upstream.requests()[1].body.length, 60_001);
}
