//! What holds for the fields of every message, and the lines that HTTP/1.1 has for them.

use super::frame::Reason;
use crate::field::{self, Name};
use crate::head::{FIELDS_MAX, HEAD_BYTES_MAX};

/// Why fields are not written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// They break a rule of RFC 9113 §8; their stream is reset.
    #[error("{0}")]
    Malformed(&'static str),
    /// They are more than a head may have.
    #[error("too large")]
    TooLarge,
}

impl BadMessage {
    /// What the peer is told where there is no answer.
    pub fn reason(self) -> Reason {
        match self {
            Self::Malformed(_) => Reason::PROTOCOL_ERROR,
            Self::TooLarge => Reason::ENHANCE_YOUR_CALM,
        }
    }
}

/// Lines of fields that are sound.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) text: Vec<u8>,
    count: usize,
}

impl Lines {
    /// Forgets them.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.count = 0;
    }

    /// Counts a field; more than a head may have is too much.
    pub(super) fn count(&mut self) -> Result<(), BadMessage> {
        self.count += 1;
        match self.count > FIELDS_MAX {
            true => Err(BadMessage::TooLarge),
            false => Ok(()),
        }
    }

    /// Adds a line.
    pub(super) fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        if self.text.len() + name.len() + value.len() > HEAD_BYTES_MAX {
            return Err(BadMessage::TooLarge);
        }
        field::write_line(name, value, &mut self.text);
        Ok(())
    }
}

/// Checks a field that is no pseudo field; tells which it is (RFC 9113 §8.2).
pub(super) fn check(name: &[u8], value: &[u8]) -> Result<Name, BadMessage> {
    use BadMessage::Malformed;
    if name.is_empty() || !name.iter().all(|byte| is_of_name(*byte)) {
        return Err(Malformed("a byte that no name may have"));
    }
    // All of it is looked at, many bytes at once.
    if !value.iter().fold(true, |is, byte| is & is_of_value(*byte)) {
        return Err(Malformed("a byte that no value may have"));
    }
    if let ([b' ' | b'\t', ..], _) | (_, [.., b' ' | b'\t']) = (value, value) {
        return Err(Malformed("blanks around a value"));
    }
    let known = Name::from_bytes(name);
    match known {
        Name::Te if value.eq_ignore_ascii_case(b"trailers") => Ok(known),
        _ if is_of_connection(known) => Err(Malformed("a field of a connection")),
        _ => Ok(known),
    }
}

/// Tells whether a field is about one connection of HTTP/1, and has no place in HTTP/2 (RFC 9113 §8.2.2).
pub(super) fn is_of_connection(name: Name) -> bool {
    matches!(
        name,
        Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::Te
            | Name::TransferEncoding
            | Name::Upgrade
    )
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || field::is_tchar(byte) && !byte.is_ascii_uppercase()
}

fn is_of_value(byte: u8) -> bool {
    (byte >= b' ' && byte != 0x7f) | (byte == b'\t')
}

/// Fields that follow a body.
#[derive(Debug, Default)]
pub(super) struct Trailers {
    lines: Lines,
    bad: Option<BadMessage>,
}

impl Trailers {
    /// Takes the next one.
    pub(super) fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.bad.is_none() {
            self.bad = self.add(name, value).err();
        }
    }

    fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), BadMessage> {
        check(name, value)?;
        self.lines.count()?;
        self.lines.add(name, value)
    }

    /// Their lines.
    pub(super) fn end(self) -> Result<Vec<u8>, BadMessage> {
        match self.bad {
            Some(bad) => Err(bad),
            None => Ok(self.lines.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_breaks_the_rules_is_malformed() {
        for (name, value) in [
            ("", "x"),
            ("X", "x"),
            ("a b", "x"),
            (":x", "x"),
            ("x", "a\nb"),
            ("x", "a\0"),
            ("x", "\x7f"),
            ("x", " a"),
            ("x", "a\t"),
            ("connection", "close"),
            ("te", "gzip"),
            ("transfer-encoding", "chunked"),
        ] {
            let checked = check(name.as_bytes(), value.as_bytes());
            assert!(
                matches!(checked, Err(BadMessage::Malformed(_))),
                "{name}: {value}"
            );
        }
        for (name, value) in [("x", ""), ("x", "a\tb\u{e9}"), ("te", "trailers")] {
            assert!(
                check(name.as_bytes(), value.as_bytes()).is_ok(),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn trailers_are_lines() {
        let mut trailers = Trailers::default();
        trailers.field(b"a", b"1");
        trailers.field(b"b", b"");
        assert_eq!(trailers.end().unwrap(), b"a: 1\r\nb: \r\n");
        let mut trailers = Trailers::default();
        trailers.field(b":status", b"200");
        trailers.field(b"a", b"1");
        assert!(trailers.end().is_err());
        let mut trailers = Trailers::default();
        for _ in 0..=FIELDS_MAX {
            trailers.field(b"a", b"1");
        }
        assert_eq!(trailers.end(), Err(BadMessage::TooLarge));
    }
}
