//! Ranges of bytes (RFC 9110 §14): which parts of a body a request asks for, and how several are sent in one.

use std::ops::Range;

use crate::h1::encode;

/// The most parts of one answer. Who asks for more gets the whole.
pub const PARTS_MAX: usize = 16;

/// Parts with a smaller gap between them are sent as one: the head of a part would be longer.
const GAP: u64 = 80;

/// What `Range` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All of it: nothing that can be understood, or nothing that may be asked for.
    Whole,
    /// These parts.
    Parts(Box<Parts>),
    /// Nothing that is there: 416.
    Unsatisfiable,
}

/// Parts of a body, in ascending order; they neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    all: [Range<u64>; PARTS_MAX],
    count: usize,
}

impl Parts {
    /// The parts in ascending order; there is at least one.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.all.iter().take(self.count).cloned()
    }

    /// The part, if there is only one.
    pub fn only(&self) -> Option<Range<u64>> {
        self.iter().next().filter(|_| self.count == 1)
    }

    /// Adds a part, to those that it overlaps or nearly touches; tells whether there was room.
    fn add(&mut self, mut new: Range<u64>) -> bool {
        let old = std::mem::take(self);
        let mut is_placed = false;
        for part in old.iter() {
            if part.end.saturating_add(GAP) < new.start {
                self.push(part);
            } else if new.end.saturating_add(GAP) < part.start {
                if !std::mem::replace(&mut is_placed, true) && !self.push(new.clone()) {
                    return false;
                }
                if !self.push(part) {
                    return false;
                }
            } else {
                new = new.start.min(part.start)..new.end.max(part.end);
            }
        }
        is_placed || self.push(new)
    }

    fn push(&mut self, part: Range<u64>) -> bool {
        let place = self.all.get_mut(self.count);
        let has_room = place.map(|place| *place = part).is_some();
        self.count += usize::from(has_room);
        has_room
    }
}

/// Reads the value of `Range`, for a body of `length` bytes. What is not understood counts as not asked
/// for, as RFC 9110 §14.2 has it, and nothing can be asked for of nothing.
pub fn read(value: &[u8], length: u64) -> Asked {
    let unit = value.get(..6).unwrap_or_default();
    if !unit.eq_ignore_ascii_case(b"bytes=") || length == 0 {
        return Asked::Whole;
    }
    let mut parts = Box::<Parts>::default();
    let mut has_any = false;
    for text in value.get(6..).unwrap_or_default().split(|&b| b == b',') {
        let text = text.trim_ascii();
        if text.is_empty() {
            continue;
        }
        has_any = true;
        let Some(part) = one(text, length) else {
            return Asked::Whole;
        };
        if !part.is_empty() && !parts.add(part) {
            return Asked::Whole;
        }
    }
    match (has_any, parts.count) {
        (false, _) => Asked::Whole,
        (true, 0) => Asked::Unsatisfiable,
        (true, _) => Asked::Parts(parts),
    }
}

/// One part; an empty one is not there, and nothing means that it is malformed.
fn one(text: &[u8], length: u64) -> Option<Range<u64>> {
    let dash = memchr::memchr(b'-', text)?;
    let (first, last) = (text.get(..dash)?, text.get(dash + 1..)?);
    if first.is_empty() {
        let suffix = number(last)?.min(length);
        return Some(length - suffix..length);
    }
    let first = number(first)?;
    let last = match last {
        [] => u64::MAX,
        last => number(last)?,
    };
    if last < first {
        return None;
    }
    Some(first.min(length)..last.saturating_add(1).min(length))
}

/// A number; one that is too large is as large as can be.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    }))
}

/// Reads `Content-Range`: which bytes there are, and how many in all; nothing where that is not known.
pub fn read_content_range(value: &[u8]) -> Option<(Range<u64>, u64)> {
    let text = str::from_utf8(value.strip_prefix(b"bytes ")?).ok()?;
    let (part, length) = text.split_once('/')?;
    let (first, last) = part.split_once('-')?;
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_number)
    };
    let (first, last, length): (u64, u64, u64) = (number(first)?, number(last)?, number(length)?);
    (first <= last && last < length).then(|| (first..last + 1, length))
}

/// Appends the value of `Content-Range` for a part of a body of `length` bytes.
pub fn content_range(part: &Range<u64>, length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"bytes ");
    encode::decimal(part.start, out);
    out.push(b'-');
    encode::decimal(part.end.saturating_sub(1), out);
    out.push(b'/');
    encode::decimal(length, out);
}

/// How several parts are sent in one body (RFC 9110 §14.6).
#[derive(Clone, Copy, Debug)]
pub struct Multipart<'a> {
    /// What stands between parts; it is in none of them.
    pub boundary: &'a [u8],
    /// The media type of the whole.
    pub media: &'a [u8],
    /// The length of the whole.
    pub length: u64,
}

impl Multipart<'_> {
    /// Appends the value of `Content-Type`.
    pub fn content_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"multipart/byteranges; boundary=");
        out.extend_from_slice(self.boundary);
    }

    /// Appends what goes before the bytes of a part.
    pub fn begin(&self, part: &Range<u64>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(self.boundary);
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(self.media);
        out.extend_from_slice(b"\r\nContent-Range: ");
        content_range(part, self.length, out);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Appends what goes behind the last part.
    pub fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(self.boundary);
        out.extend_from_slice(b"--\r\n");
    }

    /// How long the body is with these parts.
    pub fn body_length(&self, parts: &Parts) -> u64 {
        let mut text = Vec::new();
        let mut bytes = 0;
        for part in parts.iter() {
            self.begin(&part, &mut text);
            bytes += part.end - part.start;
        }
        self.end(&mut text);
        bytes + text.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(value: &str, length: u64) -> Vec<(u64, u64)> {
        match read(value.as_bytes(), length) {
            Asked::Parts(parts) => parts.iter().map(|part| (part.start, part.end)).collect(),
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn content_ranges_are_read_that_say_all() {
        for (text, expected) in [
            ("bytes 0-9/10", Some((0..10, 10))),
            ("bytes 5-5/10", Some((5..6, 10))),
            ("bytes 0-9/9", None),
            ("bytes 6-5/10", None),
            ("bytes 0-9/*", None),
            ("bytes */10", None),
            ("bytes 0-9", None),
            ("bytes +0-9/10", None),
            ("bytes 0-18446744073709551616/18446744073709551617", None),
            ("lines 0-9/10", None),
        ] {
            assert_eq!(read_content_range(text.as_bytes()), expected, "{text}");
        }
        let mut out = Vec::new();
        content_range(&(3..7), 9, &mut out);
        assert_eq!(read_content_range(&out), Some((3..7, 9)));
    }

    #[test]
    fn parts_are_read() {
        for (value, expected) in [
            ("bytes=0-0", vec![(0, 1)]),
            ("bytes=0-", vec![(0, 1000)]),
            ("Bytes=990-", vec![(990, 1000)]),
            ("bytes=-10", vec![(990, 1000)]),
            ("bytes=-5000", vec![(0, 1000)]),
            ("bytes=900-5000", vec![(900, 1000)]),
            ("bytes=0-18446744073709551615", vec![(0, 1000)]),
            ("bytes=5-99999999999999999999999", vec![(5, 1000)]),
            ("bytes=0-9, 500-509", vec![(0, 10), (500, 510)]),
            ("bytes=,0-9,,500-509,", vec![(0, 10), (500, 510)]),
            // In any order, and as few as can be.
            ("bytes=500-509,0-9", vec![(0, 10), (500, 510)]),
            ("bytes=0-9,5-20", vec![(0, 21)]),
            ("bytes=0-9,20-29", vec![(0, 30)]),
            ("bytes=0-9,900-909,0-", vec![(0, 1000)]),
            ("bytes=0-,0-,0-,0-", vec![(0, 1000)]),
            // One that is not there is left out.
            ("bytes=0-9,2000-3000", vec![(0, 10)]),
        ] {
            assert_eq!(parts(value, 1000), expected, "{value}");
        }
    }

    #[test]
    fn what_is_not_understood_asks_for_the_whole() {
        for value in [
            "bytes",
            "bytes=",
            "bytes= ,",
            "items=0-5",
            "bytes=5",
            "bytes=-",
            "bytes=9-5",
            "bytes=a-5",
            "bytes=0-b",
            "bytes=--5",
            "bytes=+0-5",
            "bytes=0-5,x",
            "bytes=0 - 5",
        ] {
            assert_eq!(read(value.as_bytes(), 1000), Asked::Whole, "{value}");
        }
        assert_eq!(read(b"bytes=0-", 0), Asked::Whole);
        let many: Vec<String> = (0..17).map(|n| format!("{0}-{0}", n * 1000)).collect();
        let value = format!("bytes={}", many.join(","));
        assert_eq!(read(value.as_bytes(), 1 << 20), Asked::Whole, "too many");
    }

    #[test]
    fn what_is_not_there_cannot_be_had() {
        for value in ["bytes=1000-", "bytes=1000-1001,5000-", "bytes=-0"] {
            assert_eq!(
                read(value.as_bytes(), 1000),
                Asked::Unsatisfiable,
                "{value}"
            );
        }
        let huge = format!("bytes={}-", u64::MAX);
        assert_eq!(read(huge.as_bytes(), u64::MAX), Asked::Unsatisfiable);
    }

    #[test]
    fn several_parts_make_one_body() {
        let Asked::Parts(parts) = read(b"bytes=0-1,900-901", 1000) else {
            panic!("there are parts");
        };
        let body = Multipart {
            boundary: b"cut",
            media: b"text/plain",
            length: 1000,
        };
        let mut out = Vec::new();
        for part in parts.iter() {
            body.begin(&part, &mut out);
            out.extend_from_slice(b"ab");
        }
        body.end(&mut out);
        let text = "\r\n--cut\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/1000\r\n\r\nab\
                    \r\n--cut\r\nContent-Type: text/plain\r\nContent-Range: bytes 900-901/1000\r\n\r\nab\
                    \r\n--cut--\r\n";
        assert_eq!(String::from_utf8_lossy(&out), text);
        assert_eq!(body.body_length(&parts), text.len() as u64);
    }

    proptest! {
        /// What is sent is part of the whole, in order, and never more than the whole.
        #[test]
        fn parts_lie_in_the_whole(length in 1u64..5000, asked in proptest::collection::vec((0u64..6000, 0u64..6000), 1..40)) {
            let list: Vec<String> = asked.iter().map(|(a, b)| format!("{a}-{}", a.max(b))).collect();
            let value = format!("bytes={}", list.join(","));
            if let Asked::Parts(parts) = read(value.as_bytes(), length) {
                let mut end = None;
                for part in parts.iter() {
                    prop_assert!(part.start < part.end && part.end <= length);
                    prop_assert!(end.is_none_or(|end| end < part.start));
                    end = Some(part.end);
                }
                for (a, b) in asked {
                    let first = a < length;
                    let has = |at: u64| parts.iter().any(|part| part.contains(&at));
                    prop_assert!(!first || (has(a) && has(a.max(b).min(length - 1))));
                }
            }
        }
    }
}
