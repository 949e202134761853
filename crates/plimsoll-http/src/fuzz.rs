//! Entry points for the fuzzers: the laws of this crate, on any bytes.
#![expect(
    clippy::missing_panics_doc,
    reason = "a panic is how a fuzzer hears of a broken law"
)]

use crate::chunked::Decoder;
use crate::h1::parse::{self, BadHead, HeadLimits, Parsed};
use crate::head::{RequestHead, ResponseHead};
use crate::proxy_protocol;
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
