//! What Plimsoll accepts, the strict reader accepts with the same meaning; what it refuses
//! beyond that, it refuses for a reason that is written down.

use plimsoll_http::chunked::BadChunk;
use plimsoll_http::framing::{BadBody, BadFraming, Framing, Length, Reuse};
use plimsoll_http::h1::parse::{self, BadHead, HeadLimits, Parsed};
use plimsoll_http::head::{RequestHead, Version};
use plimsoll_http::request::{self, Sound};
use plimsoll_http::target::Target;

use crate::strict::{self, Body, Chunks, Request, Stop};

/// Holds both readers to the same meaning of `bytes`, a request with all that follows it. Tells
/// whether they accept it, to show that a test tests something.
pub(crate) fn agree(bytes: &[u8]) -> bool {
    let strict = strict::request(bytes);
    let (mut head, mut target) = (RequestHead::default(), Target::default());
    match parse::request(bytes, &HeadLimits::default(), &mut head) {
        Ok(Parsed::Complete) => {}
        Ok(Parsed::Partial) => {
            assert!(strict.is_err(), "waits for more of a whole head");
            return false;
        }
        Err(fault) => {
            let is_reason = strict.is_err() || is_limit(fault);
            assert!(is_reason, "refused without a reason: {fault}");
            return false;
        }
    }
    match (request::check(&head, bytes, &mut target), strict) {
        (Ok(sound), Ok(strict)) => {
            compare(bytes, &head, &target, sound, &strict);
            return true;
        }
        (Ok(_), Err(stop)) => panic!("accepted what the grammar refuses: {stop:?}"),
        (Err(rejection), Ok(_)) => {
            assert_framing_is_refused_for_a_reason(&head, bytes);
            let is_reason = !["missing Host", "more than one Host"].contains(&rejection.detail);
            assert!(is_reason, "refused without a reason: {}", rejection.detail);
        }
        (Err(_), Err(_)) => {}
    }
    false
}

fn is_limit(fault: BadHead) -> bool {
    matches!(
        fault,
        BadHead::TooLarge | BadHead::TooManyFields | BadHead::UriTooLong
    )
}

/// Numbers of 64 bits, leading zeros, more than one blank before a value that frames, and
/// `Connection` with much to say or with framing fields in it are refused; nothing else is.
fn assert_framing_is_refused_for_a_reason(head: &RequestHead, bytes: &[u8]) {
    if let Err(fault) = Framing::of_request(head, bytes) {
        assert!(
            matches!(
                fault,
                BadFraming::Length
                    | BadFraming::Coding
                    | BadFraming::Nominated
                    | BadFraming::ConnectionOptions
            ),
            "refused without a reason: {fault}"
        );
    }
}

fn compare(bytes: &[u8], head: &RequestHead, target: &Target, sound: Sound, strict: &Request<'_>) {
    assert_eq!(head.method_span.of(bytes), strict.method, "method");
    assert_eq!(head.target.of(bytes), strict.target, "target");
    assert_eq!(head.version == Version::Http11, strict.minor == 1);
    assert_eq!(head.len, strict.len, "end of the head");
    let fields = head.fields.iter();
    let fields: Vec<_> = fields
        .map(|field| (field.name_span.of(bytes), field.value.of(bytes)))
        .collect();
    assert_eq!(fields, strict.fields, "field lines");
    assert_eq!(sound.authority.of(bytes), strict.authority, "authority");
    assert!(
        strict.persists || sound.framing.peer_allows() == Reuse::Close,
        "kept a connection that ends"
    );
    compare_paths(target.raw_path(bytes), target.path(bytes));
    let rest = bytes.get(head.len..).unwrap_or_default();
    match (sound.framing.length(), strict.body) {
        (Length::Empty, Body::None) => assert!(sound.framing.is_complete()),
        (Length::Exactly(ours), Body::Length(theirs)) => {
            assert_eq!(ours, theirs, "length");
            compare_plain(sound.framing, ours, rest);
        }
        (Length::Chunked, Body::Chunked) => compare_chunks(sound.framing, rest),
        (ours, theirs) => panic!("framing: {ours:?}, not {theirs:?}"),
    }
}

fn compare_paths(raw: &[u8], canonical: &[u8]) {
    if canonical == b"*" {
        return assert!(raw.is_empty() || raw == b"*");
    }
    assert!(strict::is_absolute_path(canonical), "not a canonical path");
    let meant = match raw {
        b"" => strict::meaning(b"/"),
        raw => strict::meaning(raw),
    };
    assert!(meant.is_some(), "accepted a path without a meaning");
    assert_eq!(strict::meaning(canonical), meant, "the path's meaning");
}

fn compare_plain(mut framing: Framing, length: u64, rest: &[u8]) {
    let mut buffer = rest.to_vec();
    let decoded = framing.decode(&mut buffer).unwrap_or_default();
    let here = u64::try_from(rest.len()).unwrap_or(u64::MAX);
    assert_eq!(decoded.consumed as u64, length.min(here), "end of the body");
    assert_eq!(framing.is_complete(), length <= here, "complete");
}

fn compare_chunks(mut framing: Framing, rest: &[u8]) {
    let mut chunks = Chunks::default();
    let strict = strict::chunked(rest, &mut chunks);
    let mut buffer = rest.to_vec();
    let decoded = match framing.decode(&mut buffer) {
        Ok(decoded) => decoded,
        Err(fault) => {
            // Sizes, extensions and trailers have limits.
            let is_reason = fault != BadBody::Chunk(BadChunk::LineEnd);
            return assert!(strict != Ok(()) || is_reason, "refused without a reason");
        }
    };
    assert_eq!(buffer.get(..decoded.data), Some(chunks.data.as_slice()));
    if !framing.is_complete() {
        // A trailer section is judged when it is complete.
        let is_refused = strict == Err(Stop::Bad) && !chunks.in_trailer;
        assert!(!is_refused, "took data of a broken coding");
        return assert!(strict.is_err(), "waits for more of a whole body");
    }
    assert_eq!(strict, Ok(()), "accepted a broken coding");
    assert_eq!(decoded.consumed, chunks.len, "end of the body");
    let mut theirs = chunks.trailer.iter();
    for line in framing.trailer() {
        assert!(
            theirs.any(|their| *their == line),
            "a trailer field of its own"
        );
    }
}
