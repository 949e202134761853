//! What Plimsoll accepts, a strict reader accepts, and understands in the same way.

use crate::strict::{self, Body};
use plimsoll_http::framing::Length;
use plimsoll_http::h1::parse::{self, HeadLimits, Parsed};
use plimsoll_http::head::{RequestHead, Version};
use plimsoll_http::request;
use plimsoll_http::target::Target;

/// Reads `bytes` with both. Tells whether they were accepted, to show that a test tests something.
pub(crate) fn agree(bytes: &[u8]) -> bool {
    let (mut head, mut target) = (RequestHead::default(), Target::default());
    if parse::request(bytes, &HeadLimits::default(), &mut head) != Ok(Parsed::Complete) {
        return false;
    }
    let Ok(sound) = request::check(&head, bytes, &mut target) else {
        return false;
    };
    let Some(other) = strict::request(bytes) else {
        panic!("only we accept {:?}", String::from_utf8_lossy(bytes));
    };
    assert_eq!(head.method_span.of(bytes), other.method);
    assert_eq!(head.target.of(bytes), other.target);
    assert_eq!(head.version == Version::Http11, other.minor == 1);
    assert_eq!(head.len, other.head, "the end of the head");
    let ours = head.fields.iter().map(|line| {
        let name = line.name_span.of(bytes).to_ascii_lowercase();
        (name, line.value.of(bytes).to_vec())
    });
    assert_eq!(ours.collect::<Vec<_>>(), other.fields);
    let mut framing = sound.framing;
    let length = match framing.length() {
        Length::Empty | Length::UntilClose => Body::None,
        Length::Exactly(0) if other.body == Body::None => Body::None,
        Length::Exactly(length) => Body::Length(length),
        Length::Chunked => Body::Chunked,
    };
    assert_eq!(length, other.body, "how the body is delimited");
    let body = &bytes[head.len..];
    let mut buffer = body.to_vec();
    let Ok(done) = framing.decode(&mut buffer) else {
        return true;
    };
    match other.body {
        Body::Chunked if framing.is_complete() => {
            let (data, consumed) = strict::chunked(body).expect("only we accept this chunked body");
            assert_eq!((&buffer[..done.data], done.consumed), (&data[..], consumed));
        }
        // One that is not complete to us must not be complete to anyone.
        Body::Chunked => assert_eq!(strict::chunked(body), None),
        Body::None => assert_eq!((done.data, done.consumed), (0, 0)),
        Body::Length(length) => {
            let here = u64::try_from(body.len()).unwrap_or(u64::MAX).min(length);
            assert_eq!((done.data as u64, done.consumed as u64), (here, here));
        }
    }
    true
}
