//! Clients that speak HTTP/2, and servers of either version behind them.

use plimsoll_e2e::daemon::Signal;
use plimsoll_e2e::frame::{Frame, code, setting};
use plimsoll_e2e::h2raw::{End, Peer, field, head};
use plimsoll_e2e::h2server::H2Server;
use plimsoll_e2e::hpack::{self, literal};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::PATIENCE;
use plimsoll_e2e::recorder::{Recorder, Request};
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::{Stand, assert_canonical};
use plimsoll_e2e::wait;
use std::net::SocketAddr;
use std::time::Duration;

/// Longer than all windows together.
const LONG: usize = 3_000_000;

fn site(pool: &str) -> String {
    format!(
        "workers 1\nadmin 127.0.0.1:{{port:admin}}\nsite * {{ listen 127.0.0.1:{{port}}; log {{dir}}/access.log\n\
         route {{ proxy app }} }}\npool app {{ server {{server}}; {pool} }}\n"
    )
}

fn stand(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Stand {
    Stand::run(&site(""), script)
}

/// Plimsoll in front of a server that speaks HTTP/2.
fn before(server: SocketAddr) -> Plimsoll {
    Start::run(&site("http 2")).set("server", server).start()
}

fn low(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Bytes that differ from place to place.
fn noise(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| low(at % 251) ^ low(at / 65_536))
        .collect()
}

#[test]
fn a_hundred_streams_at_once() {
    let gate = Gate::new();
    let held = gate.clone();
    let stand =
        stand(move |request| Answer::ok(&request.head.target).after(Step::Await(held.clone())));
    let mut peer = Peer::connect(stand.address());
    let streams: Vec<_> = (0..100)
        .map(|at| (peer.get(&format!("/{at}")), at))
        .collect();
    wait::expect("all at the server", PATIENCE, || {
        stand.upstream.requests().len() == 100
    });
    assert_eq!(
        peer.settings
            .get(&setting::MAX_CONCURRENT_STREAMS)
            .copied()
            .unwrap_or(100),
        100
    );
    gate.open();
    for (stream, at) in streams {
        assert_eq!(peer.message(stream).text(), format!("/{at}"));
    }
    stand.upstream.requests().iter().for_each(assert_canonical);
    let log = stand.plimsoll.wait_log("access.log", 100, PATIENCE);
    assert!(
        log.iter().all(|line| line.contains("HTTP/2.0")),
        "{:?}",
        log.first()
    );
}

#[test]
fn large_bodies_both_ways_at_once() {
    let stand = stand(|_| {
        Answer(vec![
            Step::ReadBody,
            Step::Send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LONG}\r\n\r\n").into()),
            Step::Send(noise(LONG)),
        ])
    });
    let mut peer = Peer::connect(stand.address());
    let body = noise(LONG);
    let streams: Vec<_> = (0..3)
        .map(|_| {
            let stream = peer.begin("POST", "/", &[]);
            assert!(peer.send_body(stream, &body, true));
            stream
        })
        .collect();
    for stream in streams {
        assert_eq!(
            peer.end_within(stream, Duration::from_secs(60)),
            End::Complete
        );
        assert!(peer.messages[&stream].body == body);
    }
    for request in stand.upstream.requests() {
        assert_eq!(request.body.digest, plimsoll_e2e::body::digest(&body));
        assert_eq!(
            request.head.fields.first("transfer-encoding"),
            Some("chunked")
        );
    }
}

#[test]
fn trailers_and_fields_between_versions() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: x-hop, close\r\nX-Hop: a\r\nKeep-Alive: timeout=5\r\n\
                  Set-Cookie: a\r\nSet-Cookie: b\r\nTransfer-Encoding: chunked\r\nX-Mixed: Case\r\n\r\n\
                  3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n";
    let stand = stand(move |_| Answer::bytes(answer));
    let mut peer = Peer::connect(stand.address());
    let stream = peer.begin(
        "POST",
        "/t",
        &[
            ("te", "trailers"),
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-y", ""),
        ],
    );
    assert!(peer.send_body(stream, b"body", false));
    peer.send(&Frame::headers(stream, literal("x-end", "1")).ending())
        .unwrap();
    let message = peer.message(stream);
    assert_eq!((message.text().as_str(), message.status()), ("abc", 200));
    assert_eq!(field(&message.blocks[1], "x-sum").as_deref(), Some("7"));
    let names: Vec<_> = message.blocks[0]
        .iter()
        .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
        .collect();
    for hop in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
        assert!(!names.iter().any(|name| name == hop), "{names:?}");
    }
    assert!(
        names.iter().all(|name| *name == name.to_ascii_lowercase()),
        "{names:?}"
    );
    assert_eq!(names.iter().filter(|name| *name == "set-cookie").count(), 2);
    let request = stand.upstream.requests().remove(0);
    assert_canonical(&request);
    let fields = &request.head.fields;
    assert_eq!(fields.all("cookie").collect::<Vec<_>>(), ["a=1; b=2"]);
    assert_eq!(fields.first("x-y"), Some(""));
    assert_eq!(request.body.trailers.first("x-end"), Some("1"));
    assert_eq!(&*request.body.bytes, b"body");
}

#[test]
fn crumbs_of_cookies_are_counted_one_by_one() {
    let stand = stand(|_| Answer::ok("ok"));
    let mut peer = Peer::connect(stand.address());
    for (count, status) in [(1, 200), (90, 200), (101, 431), (10_000, 431)] {
        let block = [head("GET", "/", &[]), literal("cookie", "a").repeat(count)].concat();
        let stream = peer.open();
        for (at, piece) in block.chunks(16_000).enumerate() {
            let is_last = (at + 1) * 16_000 >= block.len();
            let frame = match at {
                0 => Frame::headers(stream, piece).ending(),
                _ => Frame::new(plimsoll_e2e::frame::kind::CONTINUATION, 4, stream, piece),
            };
            peer.send(&if is_last { frame } else { frame.unfinished() })
                .unwrap();
        }
        assert_eq!(peer.message(stream).status(), status, "{count}");
    }
    let cookies = |request: &Request| request.head.fields.first("cookie").unwrap().len();
    assert_eq!(
        stand
            .upstream
            .requests()
            .iter()
            .map(cookies)
            .collect::<Vec<_>>(),
        [1, 90 * 3 - 2]
    );
}

#[test]
fn interim_answers_and_expectations() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let stand = stand(move |request| match &*request.head.target {
        "/hints" => Answer::bytes(hints),
        "/refused" => Answer::status(417, "no").early().then(Step::Close),
        _ => Answer(vec![
            Step::Send(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
            Step::ReadBody,
            Step::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
        ]),
    });
    let mut peer = Peer::connect(stand.address());
    let stream = peer.get("/hints");
    let message = peer.message(stream);
    assert_eq!(
        (message.statuses(), message.text().as_str()),
        (vec![103, 103, 200], "ok")
    );
    assert_eq!(field(&message.blocks[1], "link").as_deref(), Some("</b>"));
    let stream = peer.begin(
        "POST",
        "/",
        &[("expect", "100-continue"), ("content-length", "4")],
    );
    assert!(peer.wait(PATIENCE, |peer| {
        peer.messages
            .get(&stream)
            .is_some_and(|m| m.status() == 100)
    }));
    assert!(peer.send_body(stream, b"body", true));
    assert_eq!(peer.message(stream).statuses(), [100, 200]);
    assert_eq!(&*stand.upstream.requests()[1].body.bytes, b"body");
    let stream = peer.begin(
        "POST",
        "/refused",
        &[("expect", "100-continue"), ("content-length", "4")],
    );
    assert!(peer.wait(PATIENCE, |peer| {
        peer.messages
            .get(&stream)
            .is_some_and(|m| m.status() == 417)
    }));
}

/// S-48.
#[test]
fn interim_answers_without_end() {
    let stand = stand(|request| {
        let count: usize = request.head.target[1..].parse().unwrap();
        let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count);
        Answer::bytes(interim + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let server = H2Server::start(&[], |peer, _| {
        while let Some(stream) = peer.next_request() {
            let count: usize = peer.messages[&stream].field(":path").unwrap()[1..]
                .parse()
                .unwrap();
            for _ in 0..count {
                peer.send(&Frame::headers(stream, hpack::block(&[(":status", "103")])))
                    .ok();
            }
            peer.respond(stream, 200, b"ok");
        }
    });
    let second = before(server.address());
    for address in [stand.address(), second.address()] {
        let mut peer = Peer::connect(address);
        for (count, status) in [(32, 200), (33, 502), (1_000, 502), (1, 200)] {
            let stream = peer.get(&format!("/{count}"));
            let statuses = peer.message(stream).statuses();
            assert_eq!(
                (statuses.len(), statuses.last()),
                (count.min(32) + 1, Some(&status))
            );
        }
    }
}

#[test]
fn answers_without_a_body() {
    let stand = stand(|request| match &*request.head.target {
        "/204" => Answer::bytes("HTTP/1.1 204 No Content\r\nX: y\r\n\r\n"),
        "/304" => {
            Answer::bytes("HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nETag: \"a\"\r\n\r\n")
        }
        "/" => Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"),
        _ => Answer::ok(""),
    });
    let server = H2Server::answering(|request| match request.field(":path").unwrap().as_str() {
        "/204" => (204, Vec::new()),
        "/304" => (304, Vec::new()),
        _ => (200, Vec::new()),
    });
    let second = before(server.address());
    for (address, length) in [(stand.address(), Some("7")), (second.address(), None)] {
        let mut peer = Peer::connect(address);
        for (method, path, status) in [
            ("GET", "/204", 204),
            ("GET", "/304", 304),
            ("HEAD", "/", 200),
            ("HEAD", "/204", 204),
        ] {
            let stream = peer.request(method, path, &[]);
            let message = peer.message(stream);
            assert_eq!(
                (message.status(), message.length),
                (status, 0),
                "{method} {path}"
            );
            if status != 204 && method == "HEAD" {
                assert_eq!(message.field("content-length").as_deref(), length);
            }
        }
        let options = peer.request("OPTIONS", "*", &[]);
        assert_eq!(peer.end(options), End::Complete);
    }
    let options = stand.upstream.requests().pop().unwrap();
    assert_eq!(
        (&*options.head.method, &*options.head.target),
        ("OPTIONS", "*")
    );
    let heads = server.heads();
    let (_, options) = heads.last().unwrap();
    assert_eq!(field(options, ":path").as_deref(), Some("*"));
}

/// What a server of HTTP/2 hears of a request, and the client of its answer.
#[test]
fn servers_of_http_2() {
    let server = H2Server::start(&[], |peer, _| {
        while let Some(stream) = peer.next_request() {
            peer.end_for_ever(stream);
            peer.send(&Frame::headers(
                stream,
                hpack::block(&[(":status", "103"), ("link", "</x>")]),
            ))
            .ok();
            peer.send(&Frame::headers(
                stream,
                hpack::block(&[(":status", "200"), ("x-a", "b")]),
            ))
            .ok();
            let body = peer.messages[&stream].body.clone();
            peer.send_body(stream, &body, false);
            peer.send(&Frame::headers(stream, literal("x-sum", "7")).ending())
                .ok();
        }
    });
    let plimsoll = before(server.address());
    let body = noise(LONG);
    let mut peer = Peer::connect(plimsoll.address());
    let stream = peer.begin(
        "POST",
        "/up",
        &[("te", "trailers"), ("cookie", "a"), ("cookie", "b")],
    );
    assert!(peer.send_body(stream, &body, false));
    peer.send(&Frame::headers(stream, literal("x-end", "1")).ending())
        .unwrap();
    let message = peer.message(stream);
    assert_eq!(message.statuses(), [103, 200]);
    assert!(message.body == body);
    assert_eq!(field(&message.blocks[2], "x-sum").as_deref(), Some("7"));
    // The same for a client of HTTP/1.1.
    let mut raw = plimsoll_e2e::raw::Raw::connect(plimsoll.address());
    raw.send("POST /one HTTP/1.1\r\nHost: test\r\nTE: trailers\r\nConnection: TE, X-Hop, HTTP2-Settings, Upgrade\r\nX-Hop: 1\r\n\
              Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\
              Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-End: 1\r\n\r\n").unwrap();
    assert_eq!(raw.response("POST").status(), 103);
    let response = raw.response("POST");
    assert_eq!(
        (
            response.text().as_str(),
            response.body.trailers.first("x-sum")
        ),
        ("abc", Some("7"))
    );
    for (_, head) in server.heads() {
        let names: Vec<_> = head
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned())
            .collect();
        for hop in [
            "connection",
            "x-hop",
            "host",
            "upgrade",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "transfer-encoding",
        ] {
            assert!(!names.iter().any(|name| name == hop), "{hop}: {names:?}");
        }
        assert_eq!(field(&head, ":authority").as_deref(), Some("test"));
        assert_eq!(field(&head, ":scheme").as_deref(), Some("http"));
    }
    assert_eq!(server.connections(), 1, "it is shared");
}

/// F-38, R-89.
#[test]
fn a_drain_loses_nothing() {
    let (mut stand, gate) = Stand::gated(&site(""));
    let mut peer = Peer::connect(stand.address());
    let waiting = [peer.get("/wait"), peer.get("/wait")];
    wait::expect("both at the server", PATIENCE, || {
        stand.upstream.requests().len() == 2
    });
    stand.plimsoll.signal(Signal::TERM);
    assert!(peer.wait(PATIENCE, |peer| peer.goaway.is_some()));
    assert_eq!(peer.goaway.unwrap().1, code::NO_ERROR);
    // One that was on its way before the client knew is served too.
    let late = peer.get("/late");
    gate.open();
    for stream in waiting {
        assert_eq!(peer.message(stream).text(), "/wait");
    }
    match peer.end(late) {
        End::Complete | End::Left(code::NO_ERROR) | End::Reset(code::REFUSED_STREAM) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(peer.left(PATIENCE), Some(code::NO_ERROR));
    let (last, _) = peer.goaway.unwrap();
    assert!(last >= waiting[1], "{last}");
    let is_served = peer
        .messages
        .get(&late)
        .is_some_and(|message| message.end == Some(End::Complete));
    assert_eq!(
        is_served,
        last >= late,
        "what is said of the last stream is true"
    );
    assert!(stand.plimsoll.wait_exit(PATIENCE).success());
}

/// After an early answer the rest of an upload is not wanted, and the connection lives on.
#[test]
fn an_early_answer_ends_an_upload_alone() {
    let text = "admin 127.0.0.1:{port:admin}\nsite * { listen 127.0.0.1:{port}; request-limits body=100KiB\n\
                route /denied { respond 401 no }\nroute { proxy app } }\npool app { server {server} }\n";
    let stand = Stand::run(text, |request| match &*request.head.target {
        "/early" => Answer::status(403, "early").early().then(Step::Close),
        _ => Answer::ok("ok"),
    });
    let mut peer = Peer::connect(stand.address());
    for (path, status, length) in [
        ("/large", 413, Some("1000000")),
        ("/large", 413, None),
        ("/denied", 401, None),
        ("/early", 403, None),
    ] {
        let more: Vec<_> = length
            .map(|length| ("content-length", length))
            .into_iter()
            .collect();
        let stream = peer.begin("POST", path, &more);
        peer.send_body(stream, &noise(1_000_000), true);
        let end = peer.end(stream);
        let message = &peer.messages[&stream];
        assert_eq!(message.status(), status, "{path} {length:?}: {end:?}");
        assert!(
            matches!(end, End::Complete | End::Reset(code::NO_ERROR)),
            "{path} {length:?}: {end:?}"
        );
        let next = peer.get("/next");
        assert_eq!(peer.message(next).text(), "ok", "{path}");
    }
    assert_eq!(peer.goaway, None);
}

/// What is on its way when an upload is refused harms nobody, however many are.
#[test]
fn many_uploads_that_are_refused() {
    let text = "workers 1\nadmin off\nsite * { listen 127.0.0.1:{port}; route /denied { respond 401 no }\n\
                route { respond 200 ok } }\n";
    let plimsoll = Start::run(text).start();
    let mut peer = Peer::connect(plimsoll.address());
    for round in 0..10 {
        let streams: Vec<_> = (0..100)
            .map(|_| peer.begin("POST", "/denied", &[]))
            .collect();
        for stream in &streams {
            let is_answered =
                |peer: &Peer| peer.messages.get(stream).is_some_and(|m| m.status() == 401);
            assert!(
                peer.wait(PATIENCE, is_answered),
                "{round}: {:?}",
                peer.goaway
            );
        }
        for piece in 0..4 {
            for stream in &streams {
                // A client that has not yet heard of the reset.
                let frame = Frame::data(*stream, vec![b'x'; 2_000]);
                peer.messages.remove(stream);
                while !peer.send_data(&frame) {
                    assert_eq!(
                        (peer.closed(), peer.goaway),
                        (None, None),
                        "{round} {piece}"
                    );
                    peer.messages.remove(stream);
                }
            }
        }
        let next = peer.get("/next");
        assert_eq!(peer.message(next).text(), "ok", "{round}");
    }
    assert_eq!(peer.goaway, None);
}

/// A server that fails is passed over; what reached none is sent elsewhere.
#[test]
fn failover_behind_http_2() {
    use plimsoll_e2e::fault::{Fault, Mode};
    let bad = [Fault::start(Mode::Refuse), Fault::start(Mode::ResetAt(0))];
    let good = Recorder::start(|_| Answer::ok("ok"));
    let text = format!(
        "admin off\nsite * {{ listen 127.0.0.1:{{port}}; route {{ proxy app }} }}\n\
         pool app {{ balance round-robin; retry 3; server {}; server {}; server {} }}\n",
        bad[0].address(),
        bad[1].address(),
        good.address()
    );
    let plimsoll = Start::run(&text).start();
    let mut peer = Peer::connect(plimsoll.address());
    let streams: Vec<_> = (0..30).map(|_| peer.get("/")).collect();
    for stream in streams {
        assert_eq!(peer.message(stream).text(), "ok");
    }
    drop(good);
    let stream = peer.get("/");
    assert_eq!(peer.message(stream).status(), 502);
}
