use std::task::Waker;

use super::*;
use crate::h2::frame::{Head, flag};
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    streams: 3,
    head: 32 * 1024,
    stream_window: 70_000,
    connection_window: 150_000,
    errors: 5,
};

fn server() -> Connection {
    let mut server = Connection::new(Role::Server, LIMITS);
    take(&mut server, PREFACE).unwrap();
    take(&mut server, &frame(kind::SETTINGS, 0, 0, b"")).unwrap();
    server.note_sent(server.out().len());
    server
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(kind, flags, stream, payload, &mut out);
    out
}

/// The block of a request.
fn block(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = Encoder::default();
    let pseudo = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/"),
    ];
    for (name, value) in pseudo.iter().chain(more) {
        encoder.field(name.as_bytes(), value.as_bytes(), &mut out);
    }
    out
}

const ALL: u8 = flag::END_HEADERS | flag::END_STREAM;

/// Takes all frames of `bytes`; tells what happened.
fn take(connection: &mut Connection, mut bytes: &[u8]) -> Result<Vec<Event>, Reason> {
    let mut events = Vec::new();
    loop {
        let received = connection.receive(bytes, 1)?;
        bytes = &bytes[received.taken..];
        match received.event {
            Event::Nothing => {}
            Event::Incomplete => return Ok(events),
            Event::Held => {
                events.push(Event::Held);
                return Ok(events);
            }
            opened @ Event::Opened(..) => events.push(opened),
        }
    }
}

/// The frames that wait to be sent: their types, streams and payloads.
fn said(connection: &mut Connection) -> Vec<(u8, u32, Vec<u8>)> {
    let (mut frames, mut rest) = (Vec::new(), connection.out());
    while let Some(head) = Head::read(rest) {
        let (payload, behind) = rest[frame::HEAD_BYTES..].split_at(head.length);
        frames.push((head.kind, head.stream, payload.to_vec()));
        rest = behind;
    }
    connection.note_sent(connection.out().len());
    frames
}

fn context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn write(connection: &mut Connection, id: u32, text: &[u8]) -> Poll<Result<usize, Fault>> {
    connection.poll_write(id, &context(), &[IoSlice::new(text)])
}

/// Reads all that is there.
fn read(connection: &mut Connection, id: u32) -> Vec<u8> {
    let (mut all, mut room) = (Vec::new(), [0; 1000]);
    while let Poll::Ready(Ok(read @ 1..)) = connection.poll_read(id, &context(), &mut room) {
        all.extend_from_slice(&room[..read]);
    }
    all
}

#[test]
fn a_request_is_answered() {
    let mut server = server();
    let events = take(
        &mut server,
        &frame(kind::HEADERS, ALL, 1, &block("GET", &[])),
    );
    let [Event::Opened(1, asked)] = events.unwrap()[..] else {
        panic!("one stream");
    };
    let head = server.head(asked.follows, [0; 16]);
    assert_eq!(head, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(read(&mut server, 1), b"");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(write(&mut server, 1, answer), Poll::Ready(Ok(answer.len())));
    server.release(1);
    let frames = said(&mut server);
    assert_eq!(
        frames.len(),
        2,
        "nobody resets what is complete: {frames:?}"
    );
    assert_eq!(frames[1], (kind::DATA, 1, b"ok".to_vec()));
}

#[test]
fn an_answer_waits_for_its_window() {
    let mut server = server();
    let small = [0, 4, 0, 0, 0, 3];
    take(&mut server, &frame(kind::SETTINGS, 0, 0, &small)).unwrap();
    take(
        &mut server,
        &frame(kind::HEADERS, ALL, 1, &block("GET", &[])),
    )
    .unwrap();
    let answer =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n";
    assert_eq!(write(&mut server, 1, answer), Poll::Pending);
    let frames = said(&mut server);
    assert_eq!(frames.last().unwrap(), &(kind::DATA, 1, b"hel".to_vec()));
    take(
        &mut server,
        &frame(kind::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 9]),
    )
    .unwrap();
    assert_eq!(write(&mut server, 1, answer), Poll::Ready(Ok(answer.len())));
    let frames = said(&mut server);
    assert_eq!(frames[0], (kind::DATA, 1, b"lo".to_vec()));
    assert_eq!(frames[1].0, kind::HEADERS, "the trailers");
}

#[test]
fn one_stream_too_many_waits_or_is_refused() {
    let mut server = server();
    for id in [1, 3, 5] {
        take(
            &mut server,
            &frame(kind::HEADERS, ALL, id, &block("GET", &[])),
        )
        .unwrap();
    }
    let one_more = frame(kind::HEADERS, ALL, 7, &block("GET", &[]));
    assert_eq!(take(&mut server, &one_more), Ok(vec![]));
    assert_eq!(said(&mut server), [(kind::RST_STREAM, 7, vec![0, 0, 0, 7])]);
    // The client has given one up, and who serves it has not noticed yet.
    take(&mut server, &frame(kind::RST_STREAM, 0, 3, &[0, 0, 0, 8])).unwrap();
    let one_more = frame(kind::HEADERS, ALL, 9, &block("GET", &[]));
    assert_eq!(take(&mut server, &one_more), Ok(vec![Event::Held]));
    server.release(3);
    assert!(matches!(
        take(&mut server, &one_more).unwrap()[..],
        [Event::Opened(9, _)]
    ));
}

#[test]
fn what_was_on_its_way_to_an_ended_stream_is_passed_over() {
    let mut server = server();
    let begun = frame(kind::HEADERS, flag::END_HEADERS, 1, &block("POST", &[]));
    take(&mut server, &begun).unwrap();
    server.release(1);
    assert_eq!(said(&mut server), [(kind::RST_STREAM, 1, vec![0, 0, 0, 8])]);
    for _ in 0..100 {
        let data = frame(kind::DATA, 0, 1, &[b'x'; 10_000]);
        assert_eq!(take(&mut server, &data), Ok(vec![]));
        said(&mut server);
    }
    let unknown = frame(kind::DATA, 0, 3, b"x");
    assert_eq!(take(&mut server, &unknown), Err(Reason::PROTOCOL_ERROR));
}

#[test]
fn too_many_errors_end_the_connection() {
    let mut server = server();
    let mut taken = Vec::new();
    for id in [1, 3, 5, 7, 9, 11] {
        taken.push(take(
            &mut server,
            &frame(kind::HEADERS, ALL, id, &block("G T", &[])),
        ));
    }
    assert_eq!(taken.pop(), Some(Err(Reason::ENHANCE_YOUR_CALM)));
    assert!(taken.iter().all(Result::is_ok));
    server.abort(Reason::ENHANCE_YOUR_CALM);
    let last = said(&mut server).pop().unwrap();
    assert_eq!(last, (kind::GOAWAY, 0, vec![0, 0, 0, 11, 0, 0, 0, 11]));
}

#[test]
fn leaving_has_two_steps() {
    let mut server = server();
    server.leave();
    let [goaway, ping] = &said(&mut server)[..] else {
        panic!("two frames");
    };
    assert_eq!(goaway.2[..4], [0x7f, 0xff, 0xff, 0xff]);
    let request = frame(kind::HEADERS, ALL, 1, &block("GET", &[]));
    assert_eq!(
        take(&mut server, &request).unwrap().len(),
        1,
        "it had not heard"
    );
    take(&mut server, &frame(kind::PING, flag::ACK, 0, &ping.2)).unwrap();
    assert_eq!(said(&mut server)[0].2[..4], [0, 0, 0, 1]);
    let late = frame(kind::HEADERS, ALL, 3, &block("GET", &[]));
    assert_eq!(take(&mut server, &late), Ok(vec![]));
}

#[test]
fn what_a_leaving_server_does_not_look_at_is_untouched() {
    let mut client = Connection::new(Role::Client, LIMITS);
    take(&mut client, &frame(kind::SETTINGS, 0, 0, b"")).unwrap();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let ids = [(); 2].map(|()| client.ask(head, b"http").unwrap());
    assert_eq!(ids, [1, 3]);
    take(
        &mut client,
        &frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
    )
    .unwrap();
    let mut room = [0; 10];
    let read = client.poll_read(3, &context(), &mut room);
    assert_eq!(read, Poll::Ready(Err(Fault::Untouched)));
    assert_eq!(client.poll_read(1, &context(), &mut room), Poll::Pending);
    assert_eq!(client.ask(head, b"http"), Err(Fault::Untouched));
    assert!(!client.has_room(0));
}

/// A client that has asked for something with a body, of which it was told this; and the number of its stream.
fn asked(length: &str) -> (Connection, u32) {
    let mut client = Connection::new(Role::Client, LIMITS);
    take(&mut client, &frame(kind::SETTINGS, 0, 0, b"")).unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    let id = client.ask(head.as_bytes(), b"http").unwrap();
    client.note_sent(client.out().len());
    (client, id)
}

/// An answer that ends with these bytes.
fn answer_frames(id: u32, body: &[u8]) -> Vec<u8> {
    let ok = [0x88]; // :status 200
    let head = frame(kind::HEADERS, flag::END_HEADERS, id, &ok);
    [head, frame(kind::DATA, flag::END_STREAM, id, body)].concat()
}

#[test]
fn a_whole_answer_survives_its_connection() {
    let (mut client, id) = asked("100000");
    take(&mut client, &answer_frames(id, b"early")).unwrap();
    client.fail();
    let text = String::from_utf8(read(&mut client, id)).unwrap();
    assert!(text.ends_with("5\r\nearly\r\n0\r\n\r\n"), "{text}");
    // One that is not whole does not.
    let (mut client, id) = asked("0");
    let whole = answer_frames(id, b"early");
    take(&mut client, &whole[..whole.len() - 1]).unwrap();
    client.fail();
    let mut room = [0; 100];
    let read = client.poll_read(id, &context(), &mut room);
    assert_eq!(read, Poll::Ready(Err(Fault::Gone)));
}

#[test]
fn a_reset_behind_the_answer_ends_the_question_alone() {
    let (mut client, id) = asked("100000");
    take(&mut client, &answer_frames(id, b"early")).unwrap();
    take(&mut client, &frame(kind::RST_STREAM, 0, id, &[0; 4])).unwrap();
    assert_eq!(write(&mut client, id, b"more"), Poll::Ready(Ok(4)));
    assert!(read(&mut client, id).ends_with(b"early\r\n0\r\n\r\n"));
    client.release(id);
    assert_eq!(
        said(&mut client),
        [],
        "nothing is sent on a stream that has ended"
    );
    // Any other reset says that what has come is not to be believed.
    let (mut client, id) = asked("100000");
    take(&mut client, &answer_frames(id, b"early")).unwrap();
    take(&mut client, &frame(kind::RST_STREAM, 0, id, &[0, 0, 0, 2])).unwrap();
    let read = client.poll_read(id, &context(), &mut [0; 100]);
    assert_eq!(read, Poll::Ready(Err(Fault::Reset(Reason::INTERNAL_ERROR))));
}

#[test]
fn an_idle_connection_keeps_nothing_to_send() {
    let mut server = server();
    take(
        &mut server,
        &frame(kind::HEADERS, ALL, 1, &block("GET", &[])),
    )
    .unwrap();
    let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
    assert!(write(&mut server, 1, answer).is_ready());
    server.release(1);
    said(&mut server);
    assert_eq!(server.out.capacity(), 0);
}

/// A client and a server of ours, and what is on its way between them.
struct Pair {
    client: Connection,
    server: Connection,
    up: Vec<u8>,
    down: Vec<u8>,
    /// The requests, as the server reads them.
    heard: Vec<(u32, Vec<u8>)>,
}

impl Pair {
    fn new() -> Self {
        Self {
            client: Connection::new(Role::Client, LIMITS),
            server: Connection::new(Role::Server, LIMITS),
            up: Vec::new(),
            down: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Moves at most `most` bytes either way.
    fn carry(&mut self, most: usize) {
        for (from, way) in [
            (&mut self.client, &mut self.up),
            (&mut self.server, &mut self.down),
        ] {
            let now = from.out().len().min(most);
            way.extend_from_slice(&from.out()[..now]);
            from.note_sent(now);
        }
        while let Ok(received) = self.client.receive(&self.down, 1)
            && received.event == Event::Nothing
        {
            self.down.drain(..received.taken);
        }
        loop {
            let received = self.server.receive(&self.up, 1).unwrap();
            self.up.drain(..received.taken);
            match received.event {
                Event::Nothing => {}
                Event::Opened(id, asked) => {
                    let head = self.server.head(asked.follows, [0; 16]).to_vec();
                    self.heard.push((id, head));
                }
                Event::Incomplete | Event::Held => break,
            }
        }
        for (id, text) in &mut self.heard {
            text.extend(read(&mut self.server, *id));
        }
    }
}

/// Text that is written bit by bit.
struct Script(Vec<u8>);

impl Script {
    fn write(&mut self, connection: &mut Connection, id: u32, most: usize) {
        let now = self.0.len().min(most);
        if now > 0
            && let Poll::Ready(written) = write(connection, id, &self.0[..now])
        {
            self.0.drain(..written.unwrap());
        }
    }
}

fn chunked(pieces: &[Vec<u8>]) -> Vec<u8> {
    let mut text = Vec::new();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        text.extend(format!("{:x}\r\n", piece.len()).bytes());
        text.extend(piece);
        text.extend(b"\r\n");
    }
    text.extend(b"0\r\nx-end: y\r\n\r\n");
    text
}

/// The data, and what follows it, of text in the chunked coding.
fn unchunked(text: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut text = text.to_vec();
    let mut framing = crate::framing::Framing::of_length(crate::framing::Length::Chunked);
    let decoded = framing.decode(&mut text).unwrap();
    assert!(framing.is_complete() && decoded.consumed == text.len());
    text.truncate(decoded.data);
    let trailer = framing
        .trailer()
        .flat_map(|(name, value)| [name, b"=", value].concat());
    (text, trailer.collect())
}

fn behind_head(text: &[u8]) -> &[u8] {
    &text[length(text).unwrap()..]
}

/// A frame that is right, or nearly, or not at all.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let right = prop_oneof![
        Just(block("GET", &[])),
        Just(block(
            "POST",
            &[("content-length", "5"), ("cookie", "a"), ("cookie", "b")]
        )),
        Just(block("POST", &[("te", "trailers")])),
        Just(b"\x88".to_vec()),
        Just(b"\x00\x01x\x01y".to_vec()),
        Just(b"hello".to_vec()),
        Just(vec![0, 0, 0, 8]),
        Just(vec![0, 4, 0, 0, 0, 9]),
        Just(vec![7; 8]),
    ];
    let payload = prop_oneof![4 => right, 1 => prop::collection::vec(any::<u8>(), 0..30)];
    let flags = prop_oneof![
        Just(0),
        Just(ALL),
        Just(flag::END_HEADERS),
        Just(flag::END_STREAM),
        any::<u8>()
    ];
    let stream = prop_oneof![Just(0_u32), Just(1), Just(3), Just(5), Just(7), 0..20_u32];
    (0_u8..11, flags, stream, payload)
        .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload))
}

proptest! {
    /// Whatever comes, it does the same whole and byte by byte, and becomes one message of HTTP/1.1 or none.
    #[test]
    fn anything_may_come(frames in prop::collection::vec(any_frame(), 0..30)) {
        let settings = frame(kind::SETTINGS, 0, 0, &[]);
        crate::fuzz::fuzz_h2(&[settings, frames.concat()].concat());
    }

    /// Whatever the pieces and cuts, both sides read what the other one wrote.
    #[test]
    fn two_of_ours_understand_each_other(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9_000), 0..12),
        (cut, step) in (1_usize..40_000, 1_usize..30_000),
    ) {
        let mut pair = Pair::new();
        pair.carry(usize::MAX);
        pair.carry(usize::MAX);
        let id = pair.client.ask(b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"http").unwrap();
        let mut question = Script(chunked(&pieces));
        let mut answer = Script([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(), chunked(&pieces)].concat());
        let mut got = Vec::new();
        for _ in 0..100_000 {
            // A writer that had to wait comes back with the same.
            question.write(&mut pair.client, id, step);
            if !pair.heard.is_empty() {
                answer.write(&mut pair.server, id, step);
            }
            pair.carry(cut);
            got.extend(read(&mut pair.client, id));
            if got.ends_with(b"\r\nx-end: y\r\n\r\n") && question.0.is_empty() && pair.heard[0].1.ends_with(b"\r\nx-end: y\r\n\r\n") {
                break;
            }
        }
        let expected = (pieces.concat(), b"x-end=y".to_vec());
        prop_assert_eq!(&unchunked(behind_head(&pair.heard[0].1)), &expected);
        prop_assert_eq!(&unchunked(behind_head(&got)), &expected);
        pair.client.release(id);
        pair.server.release(id);
        pair.carry(usize::MAX);
        let last = pair.client.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"http").unwrap();
        pair.carry(usize::MAX);
        prop_assert_eq!(pair.heard.last().unwrap().0, last);
    }
}
