//! The lines of heads that HTTP/1.1 has.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// Text that [`crate::h1::encode`] would not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a head")]
pub struct BadText;

/// The end of a head.
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\r\n\r\n"));

/// How long the head is that `text` begins with, if all of it is there.
pub fn length(text: &[u8]) -> Option<usize> {
    END.find(text).map(|end| end + END.needle().len())
}

/// The lines of a head.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (line, behind) = rest.split_at_checked(memchr::memchr(b'\n', rest)? + 1)?;
        rest = behind;
        Some(line)
    })
}

/// The name and the value of a field line; names are short.
pub(super) fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let value = line.get(colon + 1..)?;
    Some((line.get(..colon)?, value.trim_ascii()))
}

/// A number in decimal.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().map(|byte| char::from(*byte).to_digit(10));
    let add = |number: u64, digit: Option<u32>| number.checked_mul(10)?.checked_add(digit?.into());
    match text.is_empty() {
        true => None,
        false => digits.into_iter().try_fold(0, add),
    }
}
