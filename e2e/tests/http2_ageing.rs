//! A connection of HTTP/2 is not for ever: after many streams it ends in order.

use plimsoll_e2e::frame::{Frame, code};
use plimsoll_e2e::h2raw::{Peer, head};
use plimsoll_e2e::plimsoll::Start;
use plimsoll_e2e::raw::PATIENCE;

const SITE: &str = "workers 1\nadmin 127.0.0.1:{port:admin}\nsite * { listen 127.0.0.1:{port} ; route { respond 200 ok } }\n";

/// How many streams a connection has.
const STREAMS: usize = 100_000;

/// How many are open at once: as many as may be.
const OPEN: usize = 100;

/// N-08: each request is answered, the last one too, and who has more of them connects anew.
#[test]
fn a_connection_ends_in_order_after_its_last_stream() {
    let plimsoll = Start::run(SITE).start();
    let mut peer = Peer::connect(plimsoll.address());
    let request = head("GET", "/", &[]);
    let mut last = 0;
    for round in 0..STREAMS / OPEN {
        assert_eq!(peer.goaway, None, "in round {round}");
        let streams: Vec<u32> = (0..OPEN).map(|_| peer.open()).collect();
        let frames = streams.iter().map(|stream| {
            let frame = Frame::headers(*stream, request.clone());
            frame.ending().encode()
        });
        let frames: Vec<u8> = frames.flatten().collect();
        assert!(peer.send_bytes(&frames).is_ok(), "in round {round}");
        for stream in streams {
            let answer = peer.message(stream);
            assert_eq!((answer.status(), &*answer.text()), (200, "ok"), "{stream}");
            last = stream;
        }
        peer.messages.clear();
    }
    assert_eq!(peer.left(PATIENCE), Some(code::NO_ERROR));
    assert_eq!(peer.goaway, Some((last, code::NO_ERROR)));
    let mut peer = Peer::connect(plimsoll.address());
    let stream = peer.get("/");
    assert_eq!(peer.message(stream).text(), "ok");
    assert_eq!(peer.goaway, None);
}
