//! Clients of HTTP/2 that make much work with little: each is sent away or held up, what it costs is
//! bounded, and others are served meanwhile.

use plimsoll_e2e::frame::{Frame, PREFACE, code, flag, kind, setting};
use plimsoll_e2e::h2raw::{End, Peer, head};
use plimsoll_e2e::hpack::{huffman_literal, indexed, kept, literal};
use plimsoll_e2e::ports;
use plimsoll_e2e::raw::{PATIENCE, Raw, get};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::Stand;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Close;
use std::time::{Duration, Instant};

const SITE: &str = "workers 1\nadmin 127.0.0.1:{port:admin}\nsite * { listen 127.0.0.1:{port}\n\
                    timeout header=5s body=2s idle=2s\nroute { proxy app } }\npool app { server {server} }\n";

const MEBIBYTE: u64 = 1024 * 1024;

/// What all that a flood leaves behind may be; a debug build of Plimsoll is not frugal.
const MEMORY_MAX: u64 = 48 * MEBIBYTE;

/// A stand whose server answers `/` at once, `/held` when the gate opens, and nothing else ever.
fn stand() -> (Stand, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let stand = Stand::run(SITE, move |request| match &*request.head.target {
        "/" => Answer::ok("ok"),
        "/held" => Answer::ok("late").after(Step::Await(held.clone())),
        _ => Answer(vec![Step::Hold]),
    });
    (stand, gate)
}

/// Checks that an honest client is served, and that memory is bounded.
fn assert_well(stand: &Stand, before: u64) {
    assert_eq!(get(stand.address(), "/").text(), "ok");
    let after = stand.plimsoll.resident();
    assert!(
        after < before + MEMORY_MAX,
        "{} MiB more",
        after.saturating_sub(before) / MEBIBYTE
    );
}

/// Sends these bytes again and again until they are not taken any more or there are enough; tells how often.
fn flood(peer: &mut Peer, bytes: &[u8], times: usize) -> usize {
    for time in 0..times {
        if peer.send_bytes(bytes).is_err() {
            return time;
        }
    }
    times
}

fn request(stream: u32, path: &str) -> Vec<u8> {
    Frame::headers(stream, head("GET", path, &[]))
        .ending()
        .encode()
}

/// The connections to the server that are open, as the kernel knows them: a server hears late that one
/// has ended.
fn under_way(stand: &Stand) -> usize {
    ports::open(stand.upstream.address().port()).len()
}

/// What may be seen under way where a hundred requests may be: while the kernel tells, some end and
/// others begin.
const SEEN_MAX: usize = 120;

/// S-53, N-04: CVE-2023-44487.
#[test]
fn requests_that_are_reset_at_once() {
    let (stand, _gate) = stand();
    let before = stand.plimsoll.resident();
    let mut peer = Peer::connect(stand.address());
    let mut sent = 0;
    for stream in (1..200_000).step_by(2) {
        let pair = [
            request(stream, "/stuck"),
            Frame::reset(stream, code::CANCEL).encode(),
        ]
        .concat();
        if peer.send_bytes(&pair).is_err() {
            break;
        }
        sent += 1;
    }
    peer.left(PATIENCE);
    assert!(peer.closed().is_some(), "after {sent}");
    assert!(
        stand.upstream.requests().len() <= 400,
        "{}",
        stand.upstream.requests().len()
    );
    wait::expect("what was begun to be given up", PATIENCE, || {
        under_way(&stand) == 0
    });
    assert_well(&stand, before);
}

/// S-53: what is reset counts until its request to the server has ended, and that is soon.
#[test]
fn what_is_reset_still_counts() {
    let (stand, _gate) = stand();
    let mut peer = Peer::connect(stand.address());
    for round in 0..6 {
        let streams: Vec<_> = (0..100)
            .map(|at| peer.get(&format!("/{round}/{at}")))
            .collect();
        // No more than a hundred are ever at the server, whatever was reset before.
        wait::expect("requests at the server", PATIENCE, || {
            let seen = under_way(&stand);
            assert!(seen <= SEEN_MAX, "{seen}");
            stand.upstream.requests().len() >= (round + 1) * 100
        });
        for stream in streams {
            peer.send(&Frame::reset(stream, code::CANCEL)).unwrap();
        }
        if round % 2 == 1 {
            // So many resets are free a second.
            peer.wait(Duration::from_millis(1_100), |_| false);
        }
    }
    wait::expect("all to be given up", PATIENCE, || under_way(&stand) == 0);
    let last = peer.get("/");
    assert_eq!(peer.message(last).text(), "ok");
}

/// S-54, N-05: CVE-2025-8671. The client has us reset its streams.
#[test]
fn requests_that_we_are_made_to_reset() {
    type Primitive = (&'static str, fn(u32) -> Frame);
    let primitives: [Primitive; 6] = [
        ("no window", |id| Frame::window_update(id, 0)),
        ("window overflow", |id| {
            Frame::window_update(id, 0x7fff_ffff)
        }),
        ("short priority", |id| {
            Frame::new(kind::PRIORITY, 0, id, [0; 4])
        }),
        ("depends on itself", |id| Frame::priority(id, id)),
        ("head behind the end", |id| {
            Frame::headers(id, head("GET", "/", &[])).ending()
        }),
        ("data behind the end", |id| Frame::data(id, "x").ending()),
    ];
    for (what, frame) in primitives {
        let (stand, _gate) = stand();
        let before = stand.plimsoll.resident();
        let mut peer = Peer::connect(stand.address());
        let mut most = 0;
        for stream in (1..40_000).step_by(2) {
            let pair = [request(stream, "/stuck"), frame(stream).encode()].concat();
            if peer.send_bytes(&pair).is_err() {
                break;
            }
            if stream % 64 == 1 {
                most = most.max(under_way(&stand));
            }
        }
        peer.left(PATIENCE);
        assert!(peer.closed().is_some(), "{what}");
        assert!(most <= SEEN_MAX, "{what}: {most}");
        assert!(
            stand.upstream.requests().len() <= 1200,
            "{what}: {}",
            stand.upstream.requests().len()
        );
        wait::expect(what, PATIENCE, || under_way(&stand) == 0);
        assert_well(&stand, before);
    }
}

/// S-55, N-03: CVE-2024-27316.
#[test]
fn heads_without_end() {
    let pieces = [
        Vec::new(),
        vec![0],
        literal("x", ""),
        literal("x", "y".repeat(1000)),
        huffman_literal("x", "\u{1}".repeat(2000)),
        literal("a", "b").repeat(1000),
        indexed(2).repeat(16_000),
    ];
    for piece in pieces {
        let (stand, _gate) = stand();
        let before = stand.plimsoll.resident();
        let computed = stand.plimsoll.computed();
        let mut peer = Peer::connect(stand.address());
        peer.send(
            &Frame::headers(1, head("GET", "/", &[]))
                .unfinished()
                .ending(),
        )
        .unwrap();
        let bytes = Frame::new(kind::CONTINUATION, 0, 1, piece.clone()).encode();
        let sent = flood(&mut peer, &bytes, 200_000);
        peer.left(PATIENCE);
        assert!(
            peer.closed().is_some(),
            "{} bytes, {sent} times",
            piece.len()
        );
        assert_well(&stand, before);
        let computed = stand.plimsoll.computed() - computed;
        assert!(
            computed < Duration::from_secs(2),
            "{} bytes: {computed:?}",
            piece.len()
        );
    }
}

/// S-56, S-57, S-63: CVE-2016-6581, CVE-2026-49975. Small blocks that stand for large heads, held by
/// clients that read nothing.
#[test]
fn heads_that_are_larger_than_they_look() {
    let large = [
        kept("x", vec![b'v'; 4000]),
        indexed(62).repeat(16_000 - 4100),
    ]
    .concat();
    let many = [kept("a", ""), indexed(62).repeat(15_000)].concat();
    let crumbs = [kept("cookie", ""), indexed(62).repeat(15_000)].concat();
    let empty = literal("", "").repeat(4000);
    for (what, block) in [
        ("large", large),
        ("many", many),
        ("crumbs", crumbs),
        ("empty", empty),
    ] {
        let (stand, _gate) = stand();
        let before = stand.plimsoll.resident();
        let peers: Vec<_> = (0..20)
            .map(|_| {
                let mut peer =
                    Peer::connect_with(stand.address(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
                let block = [head("GET", "/held", &[]), block.clone()].concat();
                for at in 0..100 {
                    let frame = Frame::headers(1 + 2 * at, block.clone()).ending();
                    if peer.send(&frame).is_err() {
                        break;
                    }
                }
                peer
            })
            .collect();
        assert_well(&stand, before);
        assert_eq!(
            stand
                .upstream
                .requests()
                .iter()
                .filter(|request| request.head.target == "/held")
                .count(),
            0,
            "{what}"
        );
        drop(peers);
    }
}

/// S-58: CVE-2019-9511, CVE-2019-9517. Who does not read costs little, and not for ever.
#[test]
fn answers_that_nobody_reads() {
    const BODY: usize = 10 << 20;
    let stand = Stand::run(SITE, |request| match &*request.head.target {
        "/" => Answer::ok("ok"),
        _ => Answer(vec![
            Step::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n").into()),
            Step::Send(vec![b'x'; BODY]),
        ]),
    });
    let before = stand.plimsoll.resident();
    for window in [0, 1, 60_000] {
        let mut peer =
            Peer::connect_with(stand.address(), &[(setting::INITIAL_WINDOW_SIZE, window)]);
        peer.is_reading = false;
        let streams: Vec<_> = (0..100).map(|_| peer.get("/large")).collect();
        // What comes in does not refresh the patience with what goes out.
        let deadline = Instant::now() + Duration::from_secs(20);
        let is_over = |peer: &Peer| {
            let ended = |stream| {
                peer.messages
                    .get(stream)
                    .is_some_and(|message| message.end.is_some())
            };
            streams.iter().all(ended)
        };
        let mut most = 0;
        while !is_over(&peer) && peer.closed().is_none() {
            assert!(
                Instant::now() < deadline,
                "window {window}: {:?}",
                peer.counts
            );
            peer.send(&Frame::ping()).ok();
            if window == 1 {
                for stream in streams
                    .iter()
                    .filter(|stream| peer.messages.get(stream).is_none_or(|m| m.end.is_none()))
                    .copied()
                    .collect::<Vec<_>>()
                {
                    peer.send(&Frame::window_update(stream, 1)).ok();
                }
            }
            peer.wait(Duration::from_millis(200), |_| false);
            most = most.max(stand.plimsoll.resident());
        }
        assert!(
            most < before + 100 * MEBIBYTE,
            "window {window}: {} MiB more",
            most.saturating_sub(before) / MEBIBYTE
        );
        wait::expect("the server to be let go", PATIENCE, || {
            under_way(&stand) == 0
        });
        assert_eq!(get(stand.address(), "/").text(), "ok");
    }
}

/// S-59, S-61, S-62, N-06: CVE-2019-9512 to 9518. Frames that ask for work and bring nothing, from a
/// client that reads nothing.
#[test]
fn frames_that_bring_nothing() {
    type Case = (&'static str, Vec<u8>);
    let cases: Vec<Case> = vec![
        ("ping", Frame::ping().encode()),
        (
            "settings",
            Frame::settings(&[(setting::MAX_FRAME_SIZE, 16_384)]).encode(),
        ),
        ("empty settings", Frame::settings(&[]).encode()),
        (
            "table sizes",
            [
                Frame::settings(&[(setting::HEADER_TABLE_SIZE, u32::MAX)]),
                Frame::settings(&[(setting::HEADER_TABLE_SIZE, 0)]),
            ]
            .map(|frame| frame.encode())
            .concat(),
        ),
        ("priority", Frame::priority(1, 99).encode()),
        (
            "priority of many",
            (0..1000)
                .flat_map(|at| Frame::priority(2 * at + 1, 2 * at + 3).encode())
                .collect(),
        ),
        ("window", Frame::window_update(0, 1).encode()),
        (
            "reset of a stream that has ended",
            Frame::reset(1, 8).encode(),
        ),
        ("empty data", Frame::data(3, "").encode()),
        ("padded data", Frame::data(3, "").padded(255).encode()),
    ];
    for (what, bytes) in cases {
        let (stand, _gate) = stand();
        let before = stand.plimsoll.resident();
        let computed = stand.plimsoll.computed();
        let mut peer = Peer::connect(stand.address());
        let first = peer.get("/");
        peer.message(first);
        peer.begin("POST", "/held", &[]);
        let times = 64_000_000 / bytes.len();
        let sent = flood(&mut peer, &bytes, times);
        let left = peer.left(PATIENCE);
        assert!(peer.closed().is_some(), "{what}: {sent} times");
        assert!(sent < times, "{what}: {sent} times, {left:?}");
        assert_well(&stand, before);
        let computed = stand.plimsoll.computed() - computed;
        assert!(computed < Duration::from_secs(2), "{what}: {computed:?}");
    }
}

/// S-61: CVE-2019-9514. Each frame has us say something, and nobody listens.
#[test]
fn resets_that_nobody_reads() {
    let (stand, _gate) = stand();
    let before = stand.plimsoll.resident();
    let mut peer = Peer::connect(stand.address());
    let mut sent = 0;
    for stream in (1..400_000).step_by(2) {
        // It is malformed.
        let bytes = Frame::headers(stream, literal(":method", "GET"))
            .ending()
            .encode();
        if peer.send_bytes(&bytes).is_err() {
            break;
        }
        sent += 1;
    }
    peer.left(PATIENCE);
    assert!(peer.closed().is_some() && sent < 100_000, "{sent}");
    assert_well(&stand, before);
}

/// S-64: what we write follows what the client says of its table.
#[test]
fn tables_of_all_sizes() {
    let (stand, _gate) = stand();
    let mut peer = Peer::connect(stand.address());
    for size in [0, 4096, u32::MAX, 1, 100, 0, 65_536, 33] {
        peer.send(&Frame::settings(&[(setting::HEADER_TABLE_SIZE, size)]))
            .unwrap();
        peer.allow_table(usize::try_from(size).unwrap().max(4096));
        for _ in 0..5 {
            let stream = peer.get("/");
            assert_eq!(peer.message(stream).text(), "ok", "{size}");
        }
    }
}

/// S-65: windows that shrink below nothing and come back.
#[test]
fn windows_below_nothing() {
    let stand = Stand::run(SITE, |_| Answer::ok("x".repeat(200_000)));
    let mut peer = Peer::connect_with(stand.address(), &[(setting::INITIAL_WINDOW_SIZE, 50_000)]);
    peer.is_reading = false;
    let stream = peer.get("/");
    assert!(peer.wait(PATIENCE, |peer| {
        peer.messages
            .get(&stream)
            .is_some_and(|m| m.length == 50_000)
    }));
    for size in [0, 10_000, 1, 49_999] {
        peer.send(&Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, size)]))
            .unwrap();
    }
    peer.send(&Frame::window_update(0, 1 << 20)).unwrap();
    peer.send(&Frame::ping()).unwrap();
    assert!(peer.wait(PATIENCE, |peer| peer.counts.contains_key(&kind::PING)));
    assert_eq!(
        peer.messages[&stream].length, 50_000,
        "nothing came beyond the window"
    );
    peer.send(&Frame::window_update(stream, 1 << 20)).unwrap();
    assert_eq!(peer.message(stream).length, 200_000);
}

/// S-66: more streams than there may be are refused, and nothing of them has begun.
#[test]
fn more_streams_than_there_may_be() {
    let (stand, gate) = stand();
    let mut peer = Peer::connect(stand.address());
    // What a refused one says of tables counts all the same.
    let block = |path, more| [head("GET", path, &[]), more].concat();
    let streams: Vec<_> = (0..150)
        .map(|at| peer.ask(block("/held", kept("x-at", at.to_string()))))
        .collect();
    for stream in &streams[100..] {
        assert_eq!(peer.end(*stream), End::Reset(code::REFUSED_STREAM));
    }
    gate.open();
    for stream in &streams[..100] {
        assert_eq!(peer.message(*stream).text(), "late");
    }
    assert_eq!(stand.upstream.requests().len(), 100);
    let large = [
        kept("x-large", "v"),
        literal("x", vec![b'y'; 9000]).repeat(4),
    ]
    .concat();
    let stream = peer.open();
    for (at, piece) in block("/", large).chunks(16_000).enumerate() {
        let frame = match at {
            0 => Frame::headers(stream, piece).ending().unfinished(),
            1 => Frame::new(kind::CONTINUATION, 0, stream, piece),
            _ => Frame::new(kind::CONTINUATION, flag::END_HEADERS, stream, piece),
        };
        peer.send(&frame).unwrap();
    }
    assert_eq!(peer.message(stream).status(), 431);
    let stream = peer.ask(block("/", [indexed(62), indexed(63)].concat()));
    peer.message(stream);
    let last = stand.upstream.requests().pop().unwrap();
    let fields = &last.head.fields;
    assert_eq!(
        (fields.first("x-large"), fields.first("x-at")),
        (Some("v"), Some("149"))
    );
}

/// A body that does not come is not waited for, whatever else comes on the connection.
#[test]
fn bodies_that_do_not_come() {
    let (stand, _gate) = stand();
    let mut peer = Peer::connect(stand.address());
    let streams: Vec<_> = (0..50).map(|_| peer.begin("POST", "/", &[])).collect();
    for stream in &streams {
        assert!(peer.send_data(&Frame::data(*stream, "x")));
    }
    let begun = Instant::now();
    let is_answered =
        |peer: &Peer, stream: &u32| peer.messages.get(stream).is_some_and(|m| m.status() == 408);
    while !streams.iter().all(|stream| is_answered(&peer, stream)) {
        assert!(
            begun.elapsed() < Duration::from_secs(10) && peer.closed().is_none(),
            "{:?}",
            peer.goaway
        );
        peer.send(&Frame::ping()).unwrap();
        peer.wait(Duration::from_millis(100), |_| false);
    }
    let last = peer.get("/");
    assert_eq!(peer.message(last).text(), "ok");
    wait::expect("the server to be let go", PATIENCE, || {
        under_way(&stand) <= 1
    });
}

/// S-69: a connection is idle without streams, whatever else comes on it.
#[test]
fn pings_keep_nobody() {
    let (stand, gate) = stand();
    let mut peer = Peer::connect(stand.address());
    let mut other = Peer::connect(stand.address());
    let (first, held) = (peer.get("/"), other.get("/held"));
    peer.message(first);
    let begun = Instant::now();
    while peer.closed().is_none() {
        assert!(
            begun.elapsed() < Duration::from_secs(8),
            "{:?}",
            peer.goaway
        );
        peer.send(&Frame::ping()).ok();
        peer.wait(Duration::from_millis(100), |_| false);
    }
    assert!(
        begun.elapsed() > Duration::from_millis(1_500),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(peer.goaway.map(|(_, code)| code), Some(code::NO_ERROR));
    // One that has a stream under way is not idle, and goes when that has ended.
    other.wait(Duration::from_secs(3), |_| false);
    assert_eq!((other.closed(), other.goaway), (None, None));
    gate.open();
    assert_eq!(other.message(held).text(), "late");
    assert_eq!(other.left(PATIENCE), Some(code::NO_ERROR));
    // One that never says that it has heard us goes too.
    let mut deaf = Raw::connect(stand.address());
    deaf.send([PREFACE, &Frame::settings(&[]).encode()].concat())
        .unwrap();
    assert_ne!(deaf.read_to_close(PATIENCE).close, Close::Open);
}
