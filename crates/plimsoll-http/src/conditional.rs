//! Conditions that a request puts on what it asks for (RFC 9110 §13): whether the client has it already,
//! and whether it is still what the client believes it is.

use std::time::UNIX_EPOCH;

use crate::head::Fields;

/// What tells one state of a resource from another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validators<'a> {
    /// The entity tag as it stands in its field, with quotes and perhaps `W/`.
    pub etag: Option<&'a [u8]>,
    /// When it was changed last, in seconds since 1970.
    pub modified: Option<u64>,
}

/// What the conditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is answered as if it had none.
    Proceed,
    /// The client has what it asks for: 304.
    NotModified,
    /// It is not what the client believes it is: 412.
    Failed,
}

/// Evaluates all conditions but `If-Range`, in the order of RFC 9110 §13.2.2. `is_read` tells that the
/// method is GET or HEAD; `validators` are those of what is there, and something is there.
pub fn evaluate(
    fields: &Fields,
    bytes: &[u8],
    is_read: bool,
    validators: Validators<'_>,
) -> Verdict {
    let later = |name: &str| {
        let date = date_of(fields, bytes, name)?;
        Some(validators.modified? > date)
    };
    let is_current = match listed(fields, bytes, "if-match", validators, is_same_strongly) {
        Some(is_listed) => is_listed,
        None => later("if-unmodified-since") != Some(true),
    };
    if !is_current {
        return Verdict::Failed;
    }
    match listed(fields, bytes, "if-none-match", validators, is_same_weakly) {
        Some(true) if is_read => Verdict::NotModified,
        Some(true) => Verdict::Failed,
        None if is_read && later("if-modified-since") == Some(false) => Verdict::NotModified,
        _ => Verdict::Proceed,
    }
}

/// Tells whether `Range` counts: there is no `If-Range`, or what it names is what is there, to the byte
/// (RFC 9110 §13.1.5). `now` is in seconds since 1970: what was changed in this very second may be
/// changed again in it, and its date says nothing then.
pub fn range_counts(fields: &Fields, bytes: &[u8], validators: Validators<'_>, now: u64) -> bool {
    let mut lines = fields.all_by_text(bytes, b"if-range");
    let Some(line) = lines.next() else {
        return true;
    };
    if lines.next().is_some() {
        return false;
    }
    let value = line.value.of(bytes);
    if value.ends_with(b"\"") {
        let same = |etag| is_same_strongly(etag, value);
        return validators.etag.is_some_and(same);
    }
    match (date(value), validators.modified) {
        (Some(date), Some(modified)) => date == modified && modified < now,
        _ => false,
    }
}

/// Tells whether a field lists the entity tag that is there; nothing if there is no such field. A `*`
/// stands for every one.
fn listed(
    fields: &Fields,
    bytes: &[u8],
    name: &str,
    validators: Validators<'_>,
    is_same: fn(&[u8], &[u8]) -> bool,
) -> Option<bool> {
    let mut lines = fields.all_by_text(bytes, name.as_bytes()).peekable();
    lines.peek()?;
    Some(lines.any(|line| {
        let value = line.value.of(bytes);
        value == b"*"
            || validators
                .etag
                .is_some_and(|etag| tags(value).any(|tag| is_same(etag, tag)))
    }))
}

/// The entity tags of a list. What is quoted may hold a comma; what is no tag ends the list.
fn tags(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while let [b',' | b' ' | b'\t', after @ ..] = rest {
            rest = after;
        }
        let open = if rest.starts_with(b"W/\"") { 3 } else { 1 };
        if open == 1 && !rest.starts_with(b"\"") {
            return None;
        }
        let close = open + memchr::memchr(b'"', rest.get(open..)?)?;
        let (tag, after) = rest.split_at_checked(close + 1)?;
        rest = after;
        Some(tag)
    })
}

/// The strong comparison of RFC 9110 §8.8.3.2.
fn is_same_strongly(a: &[u8], b: &[u8]) -> bool {
    a == b && !a.starts_with(b"W/")
}

/// The weak comparison.
fn is_same_weakly(a: &[u8], b: &[u8]) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, b"W/").map_or(tag, |tag| tag);
    opaque(a) == opaque(b)
}

/// The date that a field gives, if it gives one, in seconds since 1970.
fn date_of(fields: &Fields, bytes: &[u8], name: &str) -> Option<u64> {
    let mut lines = fields.all_by_text(bytes, name.as_bytes());
    let line = lines.next().filter(|_| lines.next().is_none())?;
    date(line.value.of(bytes))
}

/// Reads a date in any of the forms that HTTP has had (RFC 9110 §5.6.7), in seconds since 1970.
pub fn date(text: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(text).ok()?).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// Appends an entity tag made of a size in bytes and a time in nanoseconds, which change with what they
/// are of. `coding` is told apart, as another coding is another representation; empty for none.
pub fn write_etag(size: u64, modified_nanos: u64, coding: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    hex(modified_nanos, out);
    out.push(b'-');
    hex(size, out);
    if !coding.is_empty() {
        out.push(b'-');
        out.extend_from_slice(coding.as_bytes());
    }
    out.push(b'"');
}

fn hex(number: u64, out: &mut Vec<u8>) {
    let digits = 16 - number.leading_zeros() / 4;
    for place in (0..digits.max(1)).rev() {
        let digit = ((number >> (4 * place)) & 15) as usize;
        out.extend(b"0123456789abcdef".get(digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};
    use crate::head::RequestHead;

    const DATE: u64 = 784_111_777;
    const NOW: u64 = DATE + 100;

    fn with<T>(lines: &str, run: impl FnOnce(&Fields, &[u8]) -> T) -> T {
        let lines = lines.replace('|', "\r\n");
        let text = format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n");
        let mut head = RequestHead::default();
        parse::request(text.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
        run(&head.fields, text.as_bytes())
    }

    fn verdict(lines: &str, is_read: bool, etag: &[u8]) -> Verdict {
        let validators = Validators {
            etag: Some(etag),
            modified: Some(DATE),
        };
        with(lines, |fields, bytes| {
            evaluate(fields, bytes, is_read, validators)
        })
    }

    #[test]
    fn conditions_are_evaluated_in_their_order() {
        use Verdict::{Failed, NotModified, Proceed};
        let (before, same, after) = (
            "Sun, 06 Nov 1994 08:49:36 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:38 GMT",
        );
        for (lines, reading, writing) in [
            ("A: b".to_owned(), Proceed, Proceed),
            ("If-Match: \"a\"".into(), Proceed, Proceed),
            ("If-Match: *".into(), Proceed, Proceed),
            ("If-Match: \"x\", \"a\"".into(), Proceed, Proceed),
            ("If-Match: \"x\"|If-Match: \"a\"".into(), Proceed, Proceed),
            ("If-Match: W/\"a\"".into(), Failed, Failed),
            ("If-Match: \"b\"".into(), Failed, Failed),
            ("If-Match: a".into(), Failed, Failed),
            ("If-Match:".into(), Failed, Failed),
            // It wins over a date.
            (
                format!("If-Match: \"a\"|If-Unmodified-Since: {before}"),
                Proceed,
                Proceed,
            ),
            (format!("If-Unmodified-Since: {before}"), Failed, Failed),
            (format!("If-Unmodified-Since: {same}"), Proceed, Proceed),
            (format!("If-Unmodified-Since: {after}"), Proceed, Proceed),
            ("If-Unmodified-Since: soon".into(), Proceed, Proceed),
            ("If-None-Match: \"a\"".into(), NotModified, Failed),
            ("If-None-Match: W/\"a\"".into(), NotModified, Failed),
            ("If-None-Match: \"x,\", \"a\"".into(), NotModified, Failed),
            ("If-None-Match: *".into(), NotModified, Failed),
            ("If-None-Match: \"b\"".into(), Proceed, Proceed),
            ("If-None-Match: \"a".into(), Proceed, Proceed),
            (
                format!("If-None-Match: \"b\"|If-Modified-Since: {after}"),
                Proceed,
                Proceed,
            ),
            (format!("If-Modified-Since: {before}"), Proceed, Proceed),
            (format!("If-Modified-Since: {same}"), NotModified, Proceed),
            (format!("If-Modified-Since: {after}"), NotModified, Proceed),
            (
                format!("If-Modified-Since: {same}|If-Modified-Since: {same}"),
                Proceed,
                Proceed,
            ),
            // The client's belief is asked for before what it has.
            (
                "If-Match: \"b\"|If-None-Match: \"a\"".into(),
                Failed,
                Failed,
            ),
        ] {
            assert_eq!(verdict(&lines, true, b"\"a\""), reading, "{lines}");
            assert_eq!(verdict(&lines, false, b"\"a\""), writing, "{lines}");
        }
    }

    #[test]
    fn a_weak_tag_proves_only_that_the_client_has_it() {
        assert_eq!(
            verdict("If-None-Match: \"a\"", true, b"W/\"a\""),
            Verdict::NotModified
        );
        assert_eq!(
            verdict("If-Match: W/\"a\"", true, b"W/\"a\""),
            Verdict::Failed
        );
    }

    #[test]
    fn nothing_is_known_without_validators() {
        let none = Validators::default();
        for (lines, expected) in [
            ("If-Match: \"a\"", Verdict::Failed),
            ("If-Match: *", Verdict::Proceed),
            ("If-None-Match: \"a\"", Verdict::Proceed),
            (
                "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
                Verdict::Proceed,
            ),
            (
                "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT",
                Verdict::Proceed,
            ),
        ] {
            let verdict = with(lines, |fields, bytes| evaluate(fields, bytes, true, none));
            assert_eq!(verdict, expected, "{lines}");
        }
    }

    #[test]
    fn if_range_wants_the_same_bytes() {
        let validators = Validators {
            etag: Some(b"\"a\""),
            modified: Some(DATE),
        };
        let counts = |lines: &str, now| {
            with(lines, |fields, bytes| {
                range_counts(fields, bytes, validators, now)
            })
        };
        assert!(counts("Range: bytes=0-", NOW));
        for (value, expected) in [
            ("\"a\"", true),
            ("W/\"a\"", false),
            ("\"b\"", false),
            ("a", false),
            ("Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("Sun, 06 Nov 1994 08:49:36 GMT", false),
            ("Sun, 06 Nov 1994 08:49:38 GMT", false),
        ] {
            assert_eq!(
                counts(&format!("If-Range: {value}"), NOW),
                expected,
                "{value}"
            );
        }
        let date = "If-Range: Sun, 06 Nov 1994 08:49:37 GMT";
        assert!(!counts(date, DATE), "it may be changed again");
        assert!(!counts("If-Range: \"a\"|If-Range: \"a\"", NOW));
    }

    #[test]
    fn tags_change_with_size_and_time() {
        let tag = |size, time, coding| {
            let mut out = Vec::new();
            write_etag(size, time, coding, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(tag(0, 0, ""), "\"0-0\"");
        assert_eq!(tag(255, u64::MAX, "br"), "\"ffffffffffffffff-ff-br\"");
        assert_eq!(tag(0x10, 0x1f, ""), "\"1f-10\"");
    }
}
