//! Entry points for the fuzzers: the laws of this crate, on any bytes.
#![expect(
    clippy::missing_panics_doc,
    reason = "a panic is how a fuzzer hears of a broken law"
)]

use bytes::Bytes;

use crate::chunked::Decoder;
use crate::h1::parse::{self, BadHead, HeadLimits, Parsed};
use crate::h2;
use crate::h2::meter::Meter;
use crate::h2::response::Follows;
use crate::head::{HEAD_BYTES_MAX, RequestHead, ResponseHead};
use crate::method::Method;
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

/// A response gets the same verdict whole and byte by byte.
pub fn fuzz_response(bytes: &[u8]) {
    let judge = |bytes: &[u8]| parse::response(bytes, &mut ResponseHead::default());
    assert_eq!(
        judge(bytes),
        first_verdict(bytes, judge),
        "the verdict depends on the cut"
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

/// What HTTP/2 says becomes one message of HTTP/1.1 and no more, whatever it says, and that comes back.
pub fn fuzz_h2(bytes: &[u8]) {
    h2_meter(bytes);
    h2_request(bytes);
    h2_response(bytes);
}

/// Frames are counted alike, whole and byte by byte.
fn h2_meter(bytes: &[u8]) {
    for start in [Meter::default, Meter::of_client] {
        let (mut whole, mut cut) = (start(), start());
        let at_once = whole.see(bytes, 1);
        let one_by_one = bytes.chunks(1).try_for_each(|byte| cut.see(byte, 1));
        assert_eq!(at_once, one_by_one, "the verdict depends on the cut");
        if at_once.is_ok() {
            assert_eq!(whole.last_stream(), cut.last_stream());
        }
    }
}

/// A request of which each line is a part: the method, the target, and fields.
fn h2_request(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let (method, target) = (lines.next(), lines.next());
    let mut built = http::Request::builder()
        .method(method.unwrap_or_default())
        .uri(target.unwrap_or_default());
    for line in lines {
        let colon = line.iter().skip(1).position(|byte| *byte == b':');
        let Some((name, [_, value @ ..])) = colon.map(|colon| line.split_at(colon + 1)) else {
            return;
        };
        built = built.header(name, value);
    }
    let Ok(built) = built.body(()) else { return };
    let (parts, ()) = built.into_parts();
    let mut room = vec![0; 4096];
    for has_body in [false, true] {
        let is_coded = h2::text::is_coded(has_body, &parts.headers);
        let Ok(length) = h2::request::write(&parts, is_coded, &mut room) else {
            return;
        };
        let text = room.get(..length).unwrap_or_default();
        let mut head = RequestHead::default();
        let limits = HeadLimits::default();
        if parse::request(text, &limits, &mut head) == Ok(Parsed::Complete) {
            assert_eq!(head.len, length, "all of it is one head");
            let crumbs = parts.headers.get_all(http::header::COOKIE).iter().count();
            let more = usize::from(is_coded)
                + usize::from(
                    parts.uri.authority().is_some() && !parts.headers.contains_key("host"),
                );
            let lines = parts.headers.len() - crumbs.saturating_sub(1) + more;
            assert_eq!(head.fields.iter().count(), lines, "no line has become two");
        }
        // It may lack what we would have written.
        let _read = h2::request::read(&Bytes::copy_from_slice(text), "http");
    }
}

/// An answer as HTTP/1.1 has it.
fn h2_response(bytes: &[u8]) {
    let mut head = ResponseHead::default();
    if parse::response(bytes, &mut head) != Ok(Parsed::Complete) {
        return;
    }
    let text = Bytes::copy_from_slice(bytes.get(..head.len).unwrap_or_default());
    let told = match h2::response::read(&text, Method::Get) {
        Ok(told) if told.length.is_some() => told,
        _ => return, // it leaves HTTP, or HTTP/2 has no place for it
    };
    let (parts, ()) = told.response.into_parts();
    let mut room = vec![0; HEAD_BYTES_MAX];
    let Ok(length) = h2::response::write(&parts, Follows::Nothing, &mut room) else {
        return;
    };
    let text = room.get(..length).unwrap_or_default();
    let mut again = ResponseHead::default();
    assert_eq!(parse::response(text, &mut again), Ok(Parsed::Complete));
    assert_eq!((again.len, again.status), (length, head.status));
    assert_eq!(again.fields.iter().count(), parts.headers.len());
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
