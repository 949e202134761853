//! The lines of heads that HTTP/1.1 has.

/// Text that [`crate::h1::encode`] would not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a head")]
pub struct BadText;

/// How long the head is that `text` begins with, if all of it is there.
pub fn length(text: &[u8]) -> Option<usize> {
    memchr::memmem::find(text, b"\r\n\r\n").map(|end| end + 4)
}

/// The lines of a head.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', text).map(move |end| {
        let line = text.get(start..end).unwrap_or_default();
        start = end + 1;
        line
    })
}

/// The name and the value of a field line.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let value = line.get(colon + 1..)?;
    Some((line.get(..colon)?, value.trim_ascii()))
}

/// A number in decimal.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let is_plain = text.iter().all(u8::is_ascii_digit);
    str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}
