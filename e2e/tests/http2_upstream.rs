//! Servers that speak HTTP/2, rightly or wrongly.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::frame::{Frame, code, flag, kind, setting};
use plimsoll_e2e::h2raw::{self, End, Event, Peer, field};
use plimsoll_e2e::h2server::H2Server;
use plimsoll_e2e::hpack::{self, literal};
use plimsoll_e2e::plimsoll::{Plimsoll, Start};
use plimsoll_e2e::raw::{PATIENCE, Raw};
use plimsoll_e2e::recorder::Recorder;
use plimsoll_e2e::script::Answer;
use plimsoll_e2e::wait;
use plimsoll_e2e::wire::Response;
use std::time::Duration;

/// Plimsoll in front of these servers, tried in this order.
fn before(servers: &[&H2Server], pool: &str) -> Plimsoll {
    patient(servers, pool, "30s")
}

/// One that waits that long for a piece of a body.
fn patient(servers: &[&H2Server], pool: &str, patience: &str) -> Plimsoll {
    let lines: Vec<_> = servers
        .iter()
        .map(|server| format!("server {}", server.address()))
        .collect();
    let text = format!(
        "workers 1\nadmin 127.0.0.1:{{port:admin}}\n\
         site * {{ listen 127.0.0.1:{{port}}; timeout body={patience}; log {{dir}}/access.log; route {{ proxy app }} }}\n\
         pool app {{ balance first; http 2; timeout connect=2s response=2s; {}; {pool} }}\n",
        lines.join("; ")
    );
    Start::run(&text).start()
}

fn ask(plimsoll: &Plimsoll, method: &str, path: &str) -> Response {
    let mut raw = Raw::connect(plimsoll.address());
    let length = if method == "POST" {
        "Content-Length: 4\r\n"
    } else {
        ""
    };
    let body = if method == "POST" { "body" } else { "" };
    raw.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\n{length}\r\n{body}"
    ))
    .unwrap();
    loop {
        let response = raw.response(method);
        if response.status() >= 200 {
            return response;
        }
    }
}

fn head(status: &str) -> Vec<u8> {
    hpack::block(&[(":status", status)])
}

/// A server that does this with each request, once it is complete.
fn server(answer: impl Fn(&mut Peer, u32) + Send + Sync + 'static) -> H2Server {
    server_with(&[], answer)
}

fn server_with(
    settings: &[(u16, u32)],
    answer: impl Fn(&mut Peer, u32) + Send + Sync + 'static,
) -> H2Server {
    H2Server::start(settings, move |peer, _| {
        while let Some(stream) = peer.next_request() {
            peer.end_for_ever(stream);
            answer(peer, stream);
        }
    })
}

/// S-52, R-79, R-83: answers that must not be passed on.
#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn malformed_answers() {
    type Frames = fn(u32) -> Vec<Frame>;
    let cases: Vec<(&str, Frames)> = vec![
        ("CR LF in a value", |id| {
            vec![Frame::headers(id, [head("200"), literal("x", "a\r\nb: c")].concat()).ending()]
        }),
        ("NUL in a value", |id| {
            vec![Frame::headers(id, [head("200"), literal("x", "a\0")].concat()).ending()]
        }),
        ("blank before a value", |id| {
            vec![Frame::headers(id, [head("200"), literal("x", " a")].concat()).ending()]
        }),
        ("upper case", |id| {
            vec![Frame::headers(id, [head("200"), literal("X", "a")].concat()).ending()]
        }),
        ("LF in a name", |id| {
            vec![Frame::headers(id, [head("200"), literal("x\ny", "a")].concat()).ending()]
        }),
        ("connection", |id| {
            vec![
                Frame::headers(id, [head("200"), literal("connection", "close")].concat()).ending(),
            ]
        }),
        ("transfer-encoding", |id| {
            vec![
                Frame::headers(
                    id,
                    [head("200"), literal("transfer-encoding", "chunked")].concat(),
                )
                .ending(),
            ]
        }),
        ("no status", |id| {
            vec![Frame::headers(id, literal("x", "y")).ending()]
        }),
        ("status 0", |id| {
            vec![Frame::headers(id, head("0")).ending()]
        }),
        ("status 99", |id| {
            vec![Frame::headers(id, head("99")).ending()]
        }),
        ("status 1000", |id| {
            vec![Frame::headers(id, head("1000")).ending()]
        }),
        ("status 2000", |id| {
            vec![Frame::headers(id, head("2000")).ending()]
        }),
        ("status -200", |id| {
            vec![Frame::headers(id, head("-20")).ending()]
        }),
        ("status with text", |id| {
            vec![Frame::headers(id, head("200 OK")).ending()]
        }),
        ("status 101", |id| {
            vec![
                Frame::headers(id, head("101")),
                Frame::headers(id, head("200")).ending(),
            ]
        }),
        ("status twice", |id| {
            vec![Frame::headers(id, [head("200"), head("200")].concat()).ending()]
        }),
        ("status behind a field", |id| {
            vec![Frame::headers(id, [literal("x", "y"), head("200")].concat()).ending()]
        }),
        ("interim that ends", |id| {
            vec![Frame::headers(id, head("103")).ending()]
        }),
        ("data first", |id| vec![Frame::data(id, "x").ending()]),
        ("promise", |id| {
            vec![Frame::new(
                kind::PUSH_PROMISE,
                flag::END_HEADERS,
                id,
                [&[0, 0, 0, 2][..], &head("200")].concat(),
            )]
        }),
        ("reset", |id| vec![Frame::reset(id, code::INTERNAL_ERROR)]),
        ("large head", |id| {
            let mut block = [head("200"), literal("x", vec![b'y'; 100_000])].concat();
            let rest = block.split_off(16_000);
            let mut frames = vec![Frame::headers(id, block).ending().unfinished()];
            let pieces: Vec<_> = rest.chunks(16_000).collect();
            let last = pieces.len() - 1;
            frames.extend(pieces.iter().enumerate().map(|(at, piece)| {
                Frame::new(
                    kind::CONTINUATION,
                    if at == last { flag::END_HEADERS } else { 0 },
                    id,
                    *piece,
                )
            }));
            frames
        }),
        ("many fields", |id| {
            vec![Frame::headers(id, [head("200"), literal("a", "").repeat(3000)].concat()).ending()]
        }),
        ("two lengths", |id| {
            vec![
                Frame::headers(
                    id,
                    [
                        head("200"),
                        literal("content-length", "3"),
                        literal("content-length", "4"),
                    ]
                    .concat(),
                ),
                Frame::data(id, "abc").ending(),
            ]
        }),
    ];
    for (what, frames) in cases {
        let bad = server(move |peer, stream| {
            for frame in frames(stream) {
                peer.send(&frame).ok();
            }
        });
        let plimsoll = before(&[&bad], "");
        let response = ask(&plimsoll, "POST", "/");
        assert_eq!(
            response.status(),
            502,
            "{what}: {}",
            response.raw_head.escape_ascii()
        );
        // It is the same for a client of HTTP/2, whose connection lives on.
        let mut peer = Peer::connect(plimsoll.address());
        for _ in 0..2 {
            let stream = peer.request("POST", "/", &[]);
            assert_eq!(peer.message(stream).status(), 502, "{what}");
        }
    }
}

/// S-37 for answers: nobody takes a body for complete that is not.
#[test]
fn bodies_of_answers_that_break_off() {
    type Frames = fn(u32) -> Vec<Frame>;
    let cases: Vec<(&str, Frames)> = vec![
        ("shorter", |id| {
            vec![
                Frame::headers(id, [head("200"), literal("content-length", "5")].concat()),
                Frame::data(id, "abc").ending(),
            ]
        }),
        ("longer", |id| {
            vec![
                Frame::headers(id, [head("200"), literal("content-length", "5")].concat()),
                Frame::data(id, "abcdef").ending(),
            ]
        }),
        ("reset", |id| {
            vec![
                Frame::headers(id, head("200")),
                Frame::data(id, "abc"),
                Frame::reset(id, code::NO_ERROR),
            ]
        }),
        ("reset with length", |id| {
            vec![
                Frame::headers(id, [head("200"), literal("content-length", "5")].concat()),
                Frame::data(id, "abc"),
                Frame::reset(id, code::CANCEL),
            ]
        }),
        ("blank in a trailer", |id| {
            vec![
                Frame::headers(id, head("200")),
                Frame::data(id, "abc"),
                Frame::headers(id, literal("x", "y ")).ending(),
            ]
        }),
        ("left", |id| {
            vec![
                Frame::headers(id, head("200")),
                Frame::data(id, "abc"),
                Frame::goaway(0, code::INTERNAL_ERROR),
            ]
        }),
        ("stalls", |id| {
            vec![Frame::headers(id, head("200")), Frame::data(id, "abc")]
        }),
    ];
    for (what, frames) in cases {
        let bad = server(move |peer, stream| {
            for frame in frames(stream) {
                peer.send(&frame).ok();
            }
        });
        let plimsoll = patient(&[&bad], "", "2s");
        let mut raw = Raw::connect(plimsoll.address());
        raw.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        match raw.try_response("GET") {
            Err(_) => {}
            Ok(response) => assert_eq!(response.status(), 502, "{what}: {}", response.text()),
        }
        let mut peer = Peer::connect(plimsoll.address());
        let stream = peer.get("/");
        let end = peer.end(stream);
        let status = peer.messages.get(&stream).map(|message| message.status());
        assert!(
            matches!(end, End::Reset(1..)) || status == Some(502),
            "{what}: {end:?} {status:?}"
        );
    }
}

/// S-51, R-94: pushes are refused before there are any.
#[test]
fn what_a_server_is_told() {
    let good = H2Server::answering(|_| (200, b"ok".to_vec()));
    let plimsoll = before(&[&good], "");
    assert_eq!(ask(&plimsoll, "GET", "/").text(), "ok");
    let settings = std::sync::Arc::new(std::sync::Mutex::new(None));
    let told = std::sync::Arc::clone(&settings);
    let other = H2Server::start(&[], move |peer, _| {
        peer.next_request();
        *told.lock().unwrap() = Some(peer.settings.clone());
        peer.hold();
    });
    let plimsoll = before(&[&other], "");
    ask(&plimsoll, "GET", "/");
    let settings = settings.lock().unwrap().take().unwrap();
    assert_eq!(settings.get(&setting::ENABLE_PUSH), Some(&0));
    assert!(settings[&setting::MAX_HEADER_LIST_SIZE] <= 64 * 1024);
}

/// S-51: a server that speaks no HTTP/2 gets nothing of the request, and is passed over.
#[test]
fn servers_that_do_not_speak_it() {
    type Script = fn(&mut Peer, usize);
    let scripts: Vec<(&str, Script)> = vec![
        ("HTTP/1.1", |peer, _| {
            peer.send_bytes(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
                .ok();
            peer.finish();
            peer.hold();
        }),
        ("closes", |_, _| {}),
        ("bad settings", |peer, _| {
            peer.send(&Frame::settings(&[(setting::MAX_FRAME_SIZE, 1)]))
                .ok();
            peer.hold();
        }),
        ("bad window", |peer, _| {
            peer.send(&Frame::settings(&[(
                setting::INITIAL_WINDOW_SIZE,
                u32::MAX,
            )]))
            .ok();
            peer.hold();
        }),
        ("no settings first", |peer, _| {
            peer.send(&Frame::ping()).ok();
            peer.hold();
        }),
        ("says goodbye", |peer, _| {
            peer.send(&Frame::settings(&[])).ok();
            peer.send(&Frame::goaway(0, code::NO_ERROR)).ok();
            peer.finish();
            peer.hold();
        }),
    ];
    for (what, script) in scripts {
        let bad = H2Server::start_raw(script);
        let plimsoll = before(&[&bad], "");
        for method in ["GET", "POST"] {
            let response = ask(&plimsoll, method, "/");
            assert_eq!(response.status(), 502, "{what}, {method}");
        }
        let good = H2Server::answering(|request| (200, request.body.clone()));
        let plimsoll = before(&[&bad, &good], "");
        // A request that must not be sent twice goes on where nobody can have taken it for one.
        let response = ask(&plimsoll, "POST", "/");
        let is_foreign = ["HTTP/1.1", "no settings first", "says goodbye"].contains(&what);
        match response.status() {
            200 => assert_eq!(response.text(), "body", "{what}"),
            status => assert!(
                status == 502 && !is_foreign,
                "{what}: {status} {:?}",
                plimsoll.log("access.log")
            ),
        }
        assert_eq!(ask(&plimsoll, "GET", "/").status(), 200, "{what}");
    }
    let old = Recorder::start(|_| Answer::ok("old"));
    let text = format!(
        "admin off\nsite * {{ listen 127.0.0.1:{{port}}; route {{ proxy app }} }}\npool app {{ http 2; server {} }}\n",
        old.address()
    );
    let plimsoll = Start::run(&text).start();
    assert_eq!(ask(&plimsoll, "GET", "/").status(), 502);
    assert_eq!(
        old.requests()
            .iter()
            .filter(|request| request.head.method != "PRI")
            .count(),
        0
    );
}

/// S-51, R-88: what the server did not look at is sent again, and nothing else that must not be.
#[test]
fn a_server_leaves_while_requests_are_under_way() {
    // The first connection: the first request is answered after the goodbye, the second is behind it.
    let server = H2Server::start(&[], |peer, number| {
        if number > 0 {
            while let Some(stream) = peer.next_request() {
                peer.end_for_ever(stream);
                peer.respond(stream, 200, b"again");
            }
            return;
        }
        let first = peer.next_request().unwrap();
        let second = peer.next_request().unwrap();
        peer.end_for_ever(first);
        peer.end_for_ever(second);
        peer.send(&Frame::goaway(first, code::NO_ERROR)).ok();
        peer.respond(first, 200, b"first");
        peer.hold();
    });
    let plimsoll = before(&[&server], "");
    let mut peer = Peer::connect(plimsoll.address());
    let streams: Vec<_> = (0..2)
        .map(|_| {
            // In one piece: only of what is here as a whole there is a second copy.
            let stream = peer.open();
            let block = h2raw::head("POST", "/", &[("content-length", "4")]);
            let frames = [
                Frame::headers(stream, block),
                Frame::data(stream, "body").ending(),
            ];
            peer.send_bytes(&frames.map(|frame| frame.encode()).concat())
                .unwrap();
            wait::expect("it at the server", PATIENCE, || {
                server.heads().len() > stream as usize / 2
            });
            stream
        })
        .collect();
    assert_eq!(peer.message(streams[0]).text(), "first");
    assert_eq!(peer.message(streams[1]).text(), "again");
    assert_eq!(server.heads().len(), 3);
    // One that is not behind the last may have had its effect.
    let server = H2Server::start(&[], |peer, _| {
        let stream = peer.next_request().unwrap();
        peer.end_for_ever(stream);
        peer.send(&Frame::goaway(stream, code::NO_ERROR)).ok();
    });
    let plimsoll = before(&[&server], "retry 2");
    assert_eq!(ask(&plimsoll, "POST", "/").status(), 502);
    assert_eq!(server.heads().len(), 1);
}

/// a stream that was refused has had no effect.
#[test]
fn refused_streams_are_sent_again() {
    for (refusal, is_again) in [
        (code::REFUSED_STREAM, true),
        (code::CANCEL, false),
        (code::INTERNAL_ERROR, false),
    ] {
        let bad = server(move |peer, stream| drop(peer.send(&Frame::reset(stream, refusal))));
        let good = H2Server::answering(|request| (200, request.body.clone()));
        let plimsoll = before(&[&bad, &good], "");
        let response = ask(&plimsoll, "POST", "/");
        let expected = if is_again { 200 } else { 502 };
        assert_eq!(response.status(), expected, "{refusal}");
        assert_eq!(good.heads().len(), usize::from(is_again));
        if is_again {
            assert_eq!(response.text(), "body");
        }
    }
}

/// A server that refuses whatever comes is not asked for ever.
#[test]
fn a_server_that_refuses_everything() {
    let bad = server(
        move |peer, stream| match peer.messages[&stream].field(":path").as_deref() {
            Some("/ok") => peer.respond(stream, 200, b"ok"),
            _ => drop(peer.send(&Frame::reset(stream, code::REFUSED_STREAM))),
        },
    );
    let plimsoll = before(&[&bad], "retry 2");
    assert_eq!(ask(&plimsoll, "GET", "/ok").text(), "ok");
    for method in ["GET", "POST"] {
        assert_eq!(ask(&plimsoll, method, "/").status(), 502, "{method}");
    }
    assert!(bad.heads().len() <= 9, "{}", bad.heads().len());
}

/// One stream at a time is slow, and not wrong.
#[test]
fn servers_with_room_for_one() {
    let server = server_with(&[(setting::MAX_CONCURRENT_STREAMS, 1)], |peer, stream| {
        peer.respond(stream, 200, b"ok")
    });
    let plimsoll = before(&[&server], "");
    let mut peer = Peer::connect(plimsoll.address());
    let streams: Vec<_> = (0..50).map(|_| peer.get("/")).collect();
    for stream in streams {
        assert_eq!(peer.message(stream).text(), "ok");
    }
    assert_eq!(server.heads().len(), 50);
}

/// S-51: an answer in the smallest pieces; a client of its that does not read holds up no other.
#[test]
fn answers_in_the_smallest_pieces() {
    let server = server(|peer, stream| {
        let path = peer.messages[&stream].field(":path").unwrap();
        let length = if path == "/long" { 30_000 } else { 3 };
        peer.send(&Frame::headers(stream, head("200"))).ok();
        for _ in 0..length {
            if !peer.send_data(&Frame::data(stream, "x")) {
                return;
            }
        }
        peer.send(&Frame::data(stream, "").ending()).ok();
    });
    let plimsoll = before(&[&server], "");
    let mut peer = Peer::connect(plimsoll.address());
    let stream = peer.get("/long");
    assert_eq!(peer.message(stream).length, 30_000);
    let mut slow = Peer::connect_with(plimsoll.address(), &[(setting::INITIAL_WINDOW_SIZE, 0)]);
    let held = slow.get("/long");
    assert!(slow.wait(PATIENCE, |peer| peer.messages.contains_key(&held)));
    for _ in 0..20 {
        let stream = peer.get("/short");
        assert_eq!(peer.message(stream).text(), "xxx");
    }
    slow.send(&Frame::window_update(held, 1_000_000)).unwrap();
    slow.end(held);
    assert_eq!(server.connections(), 1);
}

/// A client that leaves takes its request with it, and no other.
#[test]
fn a_client_that_leaves_cancels_its_request() {
    let server = server(
        |peer, stream| match peer.messages[&stream].field(":path").as_deref() {
            Some("/stuck") => {}
            Some("/begun") => drop(peer.send(&Frame::headers(stream, head("200")))),
            _ => peer.respond(stream, 200, b"ok"),
        },
    );
    let plimsoll = before(&[&server], "timeout response=30s");
    let mut peer = Peer::connect(plimsoll.address());
    let stuck = peer.get("/stuck");
    wait::expect("it at the server", PATIENCE, || server.heads().len() == 1);
    peer.send(&Frame::reset(stuck, code::CANCEL)).unwrap();
    let is_cancelled = || {
        server
            .events()
            .iter()
            .any(|(_, event)| matches!(event, Event::Reset(1, code::CANCEL)))
    };
    wait::expect("a reset at the server", PATIENCE, is_cancelled);
    let mut raw = Raw::connect(plimsoll.address());
    raw.send("GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n")
        .unwrap();
    wait::expect("it at the server", PATIENCE, || server.heads().len() == 2);
    raw.abort();
    let resets = || {
        server
            .events()
            .iter()
            .filter(|(_, event)| matches!(event, Event::Reset(_, code::CANCEL)))
            .count()
    };
    wait::expect("two resets at the server", PATIENCE, || resets() == 2);
    // So it is in the middle of an answer.
    let begun = peer.get("/begun");
    assert!(peer.wait(PATIENCE, |peer| peer.messages.contains_key(&begun)));
    peer.send(&Frame::reset(begun, code::CANCEL)).unwrap();
    wait::expect("three resets at the server", PATIENCE, || resets() == 3);
    let stream = peer.get("/");
    assert_eq!(peer.message(stream).text(), "ok");
    assert_eq!(server.connections(), 1);
}

/// What a server still sends of answers that were cancelled harms no other.
#[test]
fn answers_that_nobody_wants_any_more() {
    let server = server(|peer, stream| {
        let path = peer.messages[&stream].field(":path").unwrap_or_default();
        if path == "/next" {
            // All that was cancelled before goes on, as from a server that has not heard of it.
            for old in (stream.saturating_sub(200)..stream)
                .step_by(2)
                .filter(|old| *old > 0)
            {
                for _ in 0..8 {
                    peer.send(&Frame::data(old, vec![b'x'; 300])).ok();
                }
            }
            return peer.respond(stream, 200, b"ok");
        }
        peer.send(&Frame::headers(stream, head("200"))).ok();
    });
    let plimsoll = before(&[&server], "");
    for round in 0..8 {
        let mut peer = Peer::connect(plimsoll.address());
        let streams: Vec<_> = (0..100).map(|_| peer.get("/endless")).collect();
        for stream in &streams {
            assert!(
                peer.wait(PATIENCE, |peer| peer.messages.contains_key(stream)),
                "{round}"
            );
        }
        peer.abort();
        let cancelled = || {
            server
                .events()
                .iter()
                .filter(|(_, event)| matches!(event, Event::Reset(_, code::CANCEL)))
                .count()
        };
        wait::expect("resets at the server", PATIENCE, || {
            cancelled() == (round + 1) * 100
        });
        let mut peer = Peer::connect(plimsoll.address());
        let next = peer.get("/next");
        assert_eq!(peer.message(next).text(), "ok", "{round}");
    }
    assert_eq!(server.connections(), 1);
}

/// Connections are ended when nobody has used them for a while.
#[test]
fn idle_connections_end() {
    let server = H2Server::answering(|_| (200, b"ok".to_vec()));
    let plimsoll = before(&[&server], "keep-alive idle=1s");
    assert_eq!(ask(&plimsoll, "GET", "/").text(), "ok");
    let left = || {
        server
            .events()
            .contains(&(0, Event::Leaves(code::NO_ERROR)))
    };
    wait::expect("a goodbye", Duration::from_secs(10), left);
    wait::expect("the end", PATIENCE, || {
        server.events().contains(&(0, Event::Closed))
    });
    assert_eq!(ask(&plimsoll, "GET", "/").text(), "ok");
    assert_eq!(server.connections(), 2);
}

/// A flood of the server's ends its connection; the next one is sound.
#[test]
fn servers_that_flood() {
    for frame in [Frame::ping(), Frame::settings(&[]), Frame::priority(1, 3)] {
        let server = H2Server::start(&[], move |peer, number| {
            let stream = peer.next_request().unwrap();
            if number > 0 {
                peer.respond(stream, 200, b"ok");
                return peer.hold();
            }
            let bytes = frame.encode().repeat(2_000);
            while peer.send_bytes(&bytes).is_ok() {}
        });
        let plimsoll = before(&[&server], "");
        let before = plimsoll.resident();
        let first = ask(&plimsoll, "POST", "/");
        assert_eq!(first.status(), 502);
        assert_eq!(ask(&plimsoll, "GET", "/").text(), "ok");
        assert!(plimsoll.resident() < before + (32 << 20));
    }
}

/// The path and the authority that a server hears are those that were checked.
#[test]
fn targets_are_whole() {
    let server = H2Server::answering(|_| (200, b"ok".to_vec()));
    let plimsoll = before(&[&server], "");
    let mut peer = Peer::connect(plimsoll.address());
    for path in ["/", "/a?b=c&d", "/a%20b", "/%C3%BC", "//x", "/a?", "/a?b?c"] {
        let stream = peer.get(path);
        peer.end(stream);
    }
    let fragment = peer.get("/a#b");
    assert_eq!(peer.message(fragment).status(), 400);
    let paths: Vec<_> = server
        .heads()
        .iter()
        .map(|(_, head)| field(head, ":path").unwrap())
        .collect();
    assert_eq!(
        paths,
        ["/", "/a?b=c&d", "/a%20b", "/%C3%BC", "/x", "/a?", "/a?b?c"]
    );
}
