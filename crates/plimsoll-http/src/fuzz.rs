//! Entry points for the fuzzers: the laws of this crate, on any bytes.
#![expect(
    clippy::missing_panics_doc,
    reason = "a panic is how a fuzzer hears of a broken law"
)]

use std::task::{Context, Poll, Waker};

use crate::caching::{self, Asked, Policy};
use crate::chunked::Decoder;
use crate::field::Name;
use crate::framing;
use crate::h1::parse::{self, BadHead, HeadLimits, Parsed};
use crate::h2::Limits;
use crate::h2::connection::{Connection, Event, Role};
use crate::h2::frame::PREFACE;
use crate::head::{FIELDS_MAX, HEAD_BYTES_MAX, RequestHead, ResponseHead};
use crate::proxy_protocol;
use crate::quic;
use crate::request::{self, Rejection};
use crate::target::Target;

/// A request gets the same verdict whole and byte by byte, and what is accepted is unambiguous.
pub fn fuzz_request(bytes: &[u8]) {
    let judge =
        |bytes: &[u8]| parse::request(bytes, &HeadLimits::default(), &mut RequestHead::default());
    let whole = judge(bytes);
    let cut = first_verdict(bytes, judge);
    assert_eq!(whole, cut, "the verdict depends on the cut");
    let (mut head, mut target) = (RequestHead::default(), Target::default());
    if parse::request(bytes, &HeadLimits::default(), &mut head) == Ok(Parsed::Complete) {
        match request::check(&head, bytes, &mut target) {
            Ok(_) => {
                let path = target.path(bytes);
                assert!(
                    path == b"*" || path.first() == Some(&b'/'),
                    "a path begins with a slash"
                );
                assert!(
                    !path.windows(2).any(|w| w == b"//"),
                    "a path has no empty segment"
                );
            }
            Err(Rejection { status, .. }) => assert!((400..=599).contains(&status)),
        }
    }
}

/// A response gets the same verdict whole and byte by byte, and what is stored of it is what may be.
pub fn fuzz_response(bytes: &[u8]) {
    let judge = |bytes: &[u8]| parse::response(bytes, &mut ResponseHead::default());
    assert_eq!(
        judge(bytes),
        first_verdict(bytes, judge),
        "the verdict depends on the cut"
    );
    let mut head = ResponseHead::default();
    if parse::response(bytes, &mut head) == Ok(Parsed::Complete) {
        store(&head, bytes);
    }
}

/// What is stored of an answer is a head again, says the same of its lifetime, and sets no cookie.
fn store(head: &ResponseHead, bytes: &[u8]) {
    let text = b"GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: a, b\r\n\r\n";
    let mut request = RequestHead::default();
    let parsed = parse::request(text, &HeadLimits::default(), &mut request);
    assert_eq!(parsed, Ok(Parsed::Complete));
    let asked = Asked {
        head: &request,
        bytes: text,
        now: 784_111_777,
        delay: 0,
        is_coded_here: false,
    };
    let Ok((terms, selection)) = caching::judge(asked, (head, bytes), &Policy::default()) else {
        return;
    };
    let (mut stored, mut again) = (Vec::new(), ResponseHead::default());
    caching::stored(
        head,
        bytes,
        (b"Sun, 06 Nov 1994 08:49:37 GMT", &[]),
        &mut stored,
    );
    if stored.len() > HEAD_BYTES_MAX || head.fields.iter().count() == FIELDS_MAX {
        return; // a date made it too large, and it is not stored
    }
    assert_eq!(parse::response(&stored, &mut again), Ok(Parsed::Complete));
    assert!(again.fields.first(Name::SetCookie).is_none() && selection.matches(&request, text));
    let judged = caching::judge(asked, (&again, &stored), &Policy::default());
    let lifetime = judged.map(|(terms, _)| terms.lifetime);
    let nominated = framing::nominates(&head.fields, bytes);
    assert!(
        nominated || lifetime == Ok(terms.lifetime),
        "{lifetime:?} and {terms:?}"
    );
}

/// A chunked body gives the same data whole and byte by byte.
pub fn fuzz_chunked(bytes: &[u8]) {
    let mut whole = bytes.to_vec();
    let mut decoder = Decoder::default();
    let at_once = decoder
        .decode(&mut whole)
        .map(|done| whole.get(..done.data).unwrap_or_default().to_vec());
    let mut pieces = Decoder::default();
    let mut data = Vec::new();
    let mut verdict = Ok(());
    for &byte in bytes {
        let mut one = [byte];
        match pieces.decode(&mut one) {
            Ok(done) => data.extend_from_slice(one.get(..done.data).unwrap_or_default()),
            Err(fault) => {
                verdict = Err(fault);
                break;
            }
        }
    }
    assert_eq!(
        at_once,
        verdict.map(|()| data),
        "the data depends on the cut"
    );
}

/// A header of the PROXY protocol gets the same verdict whole and byte by byte, and ends in what is
/// there.
pub fn fuzz_proxy_protocol(bytes: &[u8]) {
    let judge = |len| bytes.get(..len).map(proxy_protocol::parse);
    let cut = (0..=bytes.len())
        .filter_map(judge)
        .find(|verdict| *verdict != Ok(proxy_protocol::Parsed::Partial));
    let whole = proxy_protocol::parse(bytes);
    if let Ok(proxy_protocol::Parsed::Complete(header)) = &whole {
        assert!(header.len <= bytes.len(), "a header is here");
    }
    let cut = cut.unwrap_or(Ok(proxy_protocol::Parsed::Partial));
    assert_eq!(whole, cut, "the verdict depends on the cut");
}

/// What a datagram begins with is read to the same end whatever comes behind it, and stands in it.
pub fn fuzz_datagram(bytes: &[u8]) {
    if let Ok(header) = proxy_protocol::parse_datagram(bytes) {
        let whole = bytes.get(..header.len).unwrap_or_default();
        assert_eq!(whole.len(), header.len, "a header is here");
        assert_eq!(proxy_protocol::parse_datagram(whole), Ok(header));
    }
    if let Some(quic::Packet::Long {
        destination,
        source,
    }) = quic::parse(bytes)
    {
        let whole = bytes.get(..7 + destination.len() + source.len());
        assert_eq!(whole.and_then(quic::parse), quic::parse(bytes));
    }
}

/// What a peer of HTTP/2 says does the same whole and byte by byte, and what becomes of it as text is one message.
pub fn fuzz_h2(bytes: &[u8]) {
    let said = [PREFACE, bytes].concat();
    let whole = serve(&[&said]);
    let pieces: Vec<&[u8]> = said.chunks(1).collect();
    assert!(whole == serve(&pieces), "what happens depends on the cut");
    hear(bytes);
}

const LIMITS: Limits = Limits {
    streams: 4,
    head: 32 * 1024,
    stream_window: 1 << 16,
    connection_window: 1 << 18,
    errors: 10,
};

/// What a server sends, and the heads of the requests that it gets.
fn serve(pieces: &[&[u8]]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let mut connection = Connection::new(Role::Server, LIMITS);
    let (mut here, mut heads) = (Vec::new(), Vec::new());
    for piece in pieces {
        here.extend_from_slice(piece);
        loop {
            let received = match connection.receive(&here, 1) {
                Ok(received) => received,
                Err(reason) => {
                    connection.abort(reason);
                    return (connection.out().to_vec(), heads);
                }
            };
            here.drain(..received.taken);
            match received.event {
                Event::Nothing => {}
                Event::Incomplete | Event::Held => break,
                Event::Opened(_, asked) => {
                    let text = connection.head(asked.follows, [1; 16]).to_vec();
                    let (limits, mut head) = (HeadLimits::default(), RequestHead::default());
                    match parse::request(&text, &limits, &mut head) {
                        Ok(Parsed::Complete) => assert_eq!(head.len, text.len(), "one head"),
                        Ok(Parsed::Partial) => unreachable!("it has an end"),
                        Err(_) => {} // it is refused where those of HTTP/1.1 are
                    }
                    heads.push(text);
                }
            }
        }
    }
    (connection.out().to_vec(), heads)
}

/// What a client reads is what HTTP/1.1 would have, whatever its server says.
fn hear(bytes: &[u8]) {
    let mut connection = Connection::new(Role::Client, LIMITS);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let Ok(id) = connection.ask(request, b"http") else {
        unreachable!("it is a request");
    };
    let (mut here, mut text) = (bytes, Vec::new());
    while let Ok(received) = connection.receive(here, 1)
        && received.event == Event::Nothing
    {
        here = here.get(received.taken..).unwrap_or_default();
        let mut room = [0; 100];
        let context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Ok(read @ 1..)) = connection.poll_read(id, &context, &mut room) {
            text.extend_from_slice(room.get(..read).unwrap_or_default());
        }
    }
    let mut head = ResponseHead::default();
    while !text.is_empty() {
        match parse::response(&text, &mut head) {
            Ok(Parsed::Complete) if head.status < 200 => drop(text.drain(..head.len)),
            Ok(Parsed::Partial) => unreachable!("a head comes as a whole"),
            Ok(Parsed::Complete) | Err(_) => return,
        }
    }
}

fn first_verdict(
    bytes: &[u8],
    judge: impl Fn(&[u8]) -> Result<Parsed, BadHead>,
) -> Result<Parsed, BadHead> {
    (0..=bytes.len())
        .filter_map(|len| bytes.get(..len))
        .map(judge)
        .find(|verdict| *verdict != Ok(Parsed::Partial))
        .unwrap_or(Ok(Parsed::Partial))
}
