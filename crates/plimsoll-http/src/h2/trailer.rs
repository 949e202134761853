//! What follows a body.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::h1::encode;

/// Tells whether fields that followed a body are sound, as far as the library has not looked
/// (RFC 9113 §8.2.1).
pub fn is_sound(trailer: &HeaderMap) -> bool {
    let mut values = trailer.values().map(HeaderValue::as_bytes);
    values.all(|value| value == value.trim_ascii())
}

/// The end of a body in the chunked coding, with the fields that follow it.
pub fn write(trailer: &HeaderMap, out: &mut Vec<u8>) {
    let lines = trailer
        .iter()
        .map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    encode::last_chunk(lines, out);
}

/// The fields that followed a body; those that HTTP/2 has no place for stay behind.
pub fn read<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> HeaderMap {
    lines
        .filter_map(|(name, value)| {
            let name = HeaderName::from_bytes(name).ok()?;
            Some((name, HeaderValue::from_bytes(value).ok()?))
        })
        .collect()
}
