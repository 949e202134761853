//! Long bodies arrive byte by byte as they were sent, whichever way they go and however slowly
//! they are read, and Plimsoll keeps little of them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use plimsoll_e2e::body::{Body, Decoder, digest};
use plimsoll_e2e::head::Framing;
use plimsoll_e2e::raw::Raw;
use plimsoll_e2e::script::{Answer, Gate, Step};
use plimsoll_e2e::stand::{Stand, assert_canonical};
use plimsoll_e2e::wait;
use std::thread;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);
const LONG: usize = 5 << 20;
/// For gigabytes on a busy machine.
const LONG_TIME: Duration = Duration::from_secs(600);

/// Bytes without a pattern that a shifted copy would repeat.
fn content(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn chunked(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut rest, mut size) = (content, 1);
    while !rest.is_empty() {
        let (chunk, after) = rest.split_at(size.min(rest.len()));
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
        (rest, size) = (after, size * 3 % 100_003 + 1);
    }
    [&out[..], b"0\r\n\r\n"].concat()
}

fn framed(framing: Framing, content: &[u8]) -> Vec<u8> {
    match framing {
        Framing::Chunked => [b"Transfer-Encoding: chunked\r\n\r\n", &chunked(content)[..]].concat(),
        Framing::Close => [b"Connection: close\r\n\r\n", content].concat(),
        _ => [
            format!("Content-Length: {}\r\n\r\n", content.len()).as_bytes(),
            content,
        ]
        .concat(),
    }
}

/// Sends while the test reads: neither side may wait for the other.
fn send_beside(mut client: Raw, bytes: Vec<u8>, read: impl FnOnce(&mut Raw)) {
    let mut sender = client.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || sender.send(bytes).unwrap());
        read(&mut client);
    });
}

#[test]
fn long_bodies_arrive_unchanged_both_ways() {
    let content = content(LONG);
    let sum = digest(&content);
    let length = Framing::Length(LONG as u64);
    for (up, down, seen) in [
        (length, length, length),
        (Framing::Chunked, Framing::Chunked, Framing::Chunked),
        (length, Framing::Chunked, Framing::Chunked),
        (Framing::Chunked, length, length),
        (length, Framing::Close, Framing::Chunked),
    ] {
        let response = [b"HTTP/1.1 200 OK\r\n", &framed(down, &content)[..]].concat();
        let stand = Stand::start(move |_| {
            let answer = Answer::bytes(response.clone());
            if down == Framing::Close {
                answer.then(Step::Close)
            } else {
                answer
            }
        });
        let request = [b"POST / HTTP/1.1\r\nHost: x\r\n", &framed(up, &content)[..]].concat();
        send_beside(stand.connect(), request, |client| {
            let response = client.response("POST");
            assert_eq!(
                (response.framing, response.body.length),
                (seen, LONG as u64),
                "{up:?} {down:?}"
            );
            assert_eq!(response.body.digest, sum, "{up:?} {down:?}");
        });
        let request = stand.upstream.requests().remove(0);
        assert_canonical(&request);
        assert_eq!(request.head.framing(), Ok(up));
        assert_eq!(
            (request.complete, request.body.digest),
            (true, sum),
            "{up:?} {down:?}"
        );
    }
}

#[test]
fn a_body_and_its_answer_cross() {
    // The server begins its answer before it reads, and ends it when it has read all.
    let content = content(LONG);
    let mut response = [
        b"HTTP/1.1 200 OK\r\n",
        &framed(Framing::Chunked, &content)[..],
    ]
    .concat();
    let rest = response.split_off(response.len() / 2);
    let stand = Stand::start(move |_| {
        let answer = Answer::bytes(response.clone()).early();
        answer.then(Step::ReadBody).then(Step::Send(rest.clone()))
    });
    let request = [
        b"POST / HTTP/1.1\r\nHost: x\r\n",
        &framed(Framing::Length(0), &content)[..],
    ]
    .concat();
    send_beside(stand.connect(), request, |client| {
        let response = client.response("POST");
        assert_eq!(response.body.digest, digest(&content));
    });
    assert_eq!(stand.upstream.completed(), 1);
    assert_eq!(stand.upstream.requests()[0].body.digest, digest(&content));
}

#[test]
fn a_slow_reader_holds_the_server_back_and_no_memory() {
    const BLOCK: usize = 1 << 20;
    const BLOCKS: u64 = 1024;
    for framing in [Framing::Length(0), Framing::Chunked] {
        let sent = Gate::new();
        let block = content(BLOCK);
        let stand = Stand::start({
            let (block, sent) = (block.clone(), sent.clone());
            move |request| {
                if request.head.target != "/long" {
                    return Answer::ok("ok");
                }
                let (head, block, end) = match framing {
                    Framing::Chunked => (
                        "Transfer-Encoding: chunked\r\n\r\n".to_owned(),
                        [format!("{BLOCK:x}\r\n").as_bytes(), &block, b"\r\n"].concat(),
                        &b"0\r\n\r\n"[..],
                    ),
                    _ => (
                        format!("Content-Length: {}\r\n\r\n", BLOCKS << 20),
                        block.clone(),
                        &b""[..],
                    ),
                };
                Answer::bytes(format!("HTTP/1.1 200 OK\r\n{head}"))
                    .then(Step::Repeat(block, BLOCKS))
                    .then(Step::Open(sent.clone()))
                    .then(Step::Send(end.into()))
            }
        });
        // An exchange that is not slow: buffers of the common case are there.
        let before = stand.plimsoll.resident();
        let mut slow = Raw::connect_narrow(stand.address(), 64 << 10);
        slow.send("GET /long HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        wait::expect("the request upstream", SOON, || {
            stand.upstream.requests().len() == 1
        });
        // Beside it, others are served as ever.
        for _ in 0..50 {
            let mut other = stand.connect();
            other.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            assert_eq!(other.response("GET").text(), "ok");
        }
        assert!(!sent.is_open(), "a gibibyte went somewhere");
        let grown = stand.plimsoll.resident().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes grown");
        let response = slow.try_response_within("GET", LONG_TIME).unwrap();
        assert_eq!(response.body.length, BLOCKS << 20);
        let (mut whole, mut sum) = (Body::default(), Decoder::new(Framing::Close));
        (0..BLOCKS).for_each(|_| assert_eq!(sum.feed(&block, &mut whole), Ok(BLOCK)));
        assert_eq!(response.body.digest, whole.digest);
        let grown = stand.plimsoll.resident().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes grown");
    }
}

/// A piece, and how often it is sent for a body whose length 32 bits do not hold.
static PIECE: [u8; 1 << 20] = [b'x'; 1 << 20];
const PIECES: u64 = 5 << 10;
const HUGE: u64 = PIECES << 20;

/// How the whole of it is told: in one length, or in one chunk.
fn huge(framing: Framing) -> (String, &'static str) {
    match framing {
        Framing::Chunked => (
            format!("Transfer-Encoding: chunked\r\n\r\n{HUGE:x}\r\n"),
            "\r\n0\r\n\r\n",
        ),
        _ => (format!("Content-Length: {HUGE}\r\n\r\n"), ""),
    }
}

#[test]
fn five_gibibytes_come_down_whole() {
    for framing in [Framing::Chunked, Framing::Length(HUGE)] {
        let stand = Stand::start(move |_| {
            let (start, end) = huge(framing);
            Answer::bytes(format!("HTTP/1.1 200 OK\r\n{start}"))
                .then(Step::Repeat(PIECE.into(), PIECES))
                .then(Step::Send(end.into()))
        });
        let mut client = stand.connect();
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let response = client.try_response_within("GET", LONG_TIME).unwrap();
        assert_eq!((response.framing, response.body.length), (framing, HUGE));
    }
}

#[test]
fn five_gibibytes_go_up_whole() {
    for framing in [Framing::Chunked, Framing::Length(HUGE)] {
        let stand = Stand::ok();
        let (start, end) = huge(framing);
        let mut client = stand.connect();
        client
            .send(format!("POST / HTTP/1.1\r\nHost: x\r\n{start}"))
            .unwrap();
        (0..PIECES).for_each(|_| client.send(&PIECE[..]).unwrap());
        client.send(end).unwrap();
        assert_eq!(client.response("POST").text(), "ok");
        let request = stand.upstream.requests().remove(0);
        assert_eq!(request.head.framing(), Ok(framing));
        assert_eq!((request.complete, request.body.length), (true, HUGE));
    }
}
