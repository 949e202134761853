//! What a client speaks, by its first bytes. Each protocol is asked for itself, since who asks knows which
//! of them may come.

/// Whether the first bytes are those of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// They are.
    Yes,
    /// They are not, whatever follows.
    No,
    /// So far; before there are so many bytes, there is no need to look again.
    Open(usize),
}

impl Fit {
    /// Whether the first bytes are those of one of two protocols.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::No, other) | (other, Self::No) => other,
            (Self::Open(one), Self::Open(other)) => Self::Open(one.min(other)),
        }
    }
}

/// The longest method that is known: `UPDATEREDIRECTREF`, with some room.
const METHOD_BYTES_MAX: usize = 24;

/// HTTP/1 by its request line (RFC 9112 §3), and HTTP/2 by its preface (RFC 9113 §3.4), which is one as well.
/// That the method is followed by what can be a target sets it apart from other protocols of lines.
pub fn http(bytes: &[u8]) -> Fit {
    let is_method = |b: &&u8| b.is_ascii_uppercase() || **b == b'-';
    let len = bytes.iter().take_while(is_method).count();
    match bytes.split_at_checked(len) {
        _ if len > METHOD_BYTES_MAX || bytes.first() == Some(&b'-') => Fit::No,
        // What stands behind that may look like anything.
        _ if ssh(bytes) == Fit::Yes => Fit::No,
        Some((_, [])) => Fit::Open(len + 1),
        Some((method @ [_, ..], [b' ', target @ ..])) => request_target(method, target, len + 1),
        _ => Fit::No,
    }
}

/// Whether `target` can be one, `before` bytes after the beginning.
fn request_target(method: &[u8], target: &[u8], before: usize) -> Fit {
    let Some(first) = target.first() else {
        return Fit::Open(before + 1);
    };
    if matches!(first, b'/' | b'*') {
        return Fit::Yes;
    }
    if method == b"CONNECT" {
        let is_host = first.is_ascii_alphanumeric() || *first == b'[';
        return if is_host { Fit::Yes } else { Fit::No };
    }
    match begins(target, b"http") {
        Fit::Open(least) => Fit::Open(before + least),
        Fit::No => Fit::No,
        Fit::Yes => {
            let rest = target.strip_prefix(b"http").unwrap_or_default();
            let rest = rest.strip_prefix(b"s").unwrap_or(rest);
            let behind = before + target.len() - rest.len();
            match begins(rest, b"://") {
                Fit::Open(least) => Fit::Open(behind + least),
                known => known,
            }
        }
    }
}

/// TLS, by a record that holds the beginning of a ClientHello (RFC 8446 §4, §5.1).
pub fn tls(bytes: &[u8]) -> Fit {
    let fits = |(at, byte): (usize, &u8)| match at {
        0 => *byte == 22,
        1 => *byte == 3,
        2 => *byte <= 4,
        5 => *byte == 1,
        _ => true,
    };
    prefix(bytes, 6, fits)
}

/// SSH, by its line of identification (RFC 4253 §4.2).
pub fn ssh(bytes: &[u8]) -> Fit {
    begins(bytes, b"SSH-")
}

/// The longest message that a server of PostgreSQL takes first: `MAX_STARTUP_PACKET_LENGTH`.
const STARTUP_BYTES_MAX: u32 = 10_000;

/// The longest request to cancel: its key has 256 bytes at most.
const CANCEL_BYTES_MAX: u32 = 268;

/// PostgreSQL, by the length and the code of its first message: a StartupMessage of version 3, an SSLRequest,
/// a GSSENCRequest or a CancelRequest (its documentation, "Message Formats").
pub fn postgres(bytes: &[u8]) -> Fit {
    // No first message is as long as 64 KiB.
    match prefix(bytes, 8, |(at, byte)| at > 1 || *byte == 0) {
        Fit::Yes => {}
        known => return known,
    }
    let number = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    };
    let fits = match (number(0), number(4)) {
        (Some(8), Some(80_877_103 | 80_877_104)) => true,
        (Some(len), Some(80_877_102)) => (16..=CANCEL_BYTES_MAX).contains(&len),
        (Some(len), Some(version)) => version >> 16 == 3 && (8..=STARTUP_BYTES_MAX).contains(&len),
        _ => false,
    };
    if fits { Fit::Yes } else { Fit::No }
}

/// Redis, by an array of texts, which is how its clients send commands, or by a `PING` on a line of its own.
/// Other commands on lines could be those of another protocol.
pub fn redis(bytes: &[u8]) -> Fit {
    match bytes {
        [] => Fit::Open(1),
        [b'*', rest @ ..] => array(rest),
        _ => match begins(bytes, b"PING") {
            Fit::Yes => match bytes.get(4) {
                None => Fit::Open(5),
                Some(b'\r' | b'\n') => Fit::Yes,
                Some(_) => Fit::No,
            },
            known => known,
        },
    }
}

/// Whether what follows a `*` can be the length of an array and the beginning of a text.
fn array(rest: &[u8]) -> Fit {
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let behind = rest.get(digits..).unwrap_or_default();
    match (digits, begins(behind, b"\r\n$")) {
        (0, _) if !rest.is_empty() => Fit::No,
        (8.., _) => Fit::No,
        (_, Fit::Open(_)) => Fit::Open(rest.len() + 2),
        (_, known) => known,
    }
}

/// A client that waits for the server to speak first, as those of MySQL do. Whoever says anything is none.
pub fn silence(bytes: &[u8]) -> Fit {
    match bytes {
        [] => Fit::Open(1),
        _ => Fit::No,
    }
}

/// Whether bytes begin with `with`.
fn begins(bytes: &[u8], with: &[u8]) -> Fit {
    prefix(bytes, with.len(), |(at, byte)| with.get(at) == Some(byte))
}

/// Whether the first `len` bytes all fit, each at its place.
fn prefix(bytes: &[u8], len: usize, fits: impl FnMut((usize, &u8)) -> bool) -> Fit {
    match bytes.iter().take(len).enumerate().all(fits) {
        false => Fit::No,
        true if bytes.len() < len => Fit::Open(len),
        true => Fit::Yes,
    }
}

type Ask = fn(&[u8]) -> Fit;

/// Those of which two never fit.
const ALL: [(&str, Ask); 5] = [
    ("http", http),
    ("tls", tls),
    ("ssh", ssh),
    ("postgres", postgres),
    ("redis", redis),
];

/// For a fuzzer: no piece says anything else than the whole, nobody is kept waiting for what was there
/// before, and no bytes are those of two protocols.
///
/// # Panics
/// When that does not hold.
pub fn fuzz(bytes: &[u8]) {
    let all = ALL.iter();
    let whose: Vec<_> = all.filter(|(_, ask)| ask(bytes) == Fit::Yes).collect();
    assert!(whose.len() < 2, "{whose:?}");
    for (name, ask) in ALL {
        let mut least = 0;
        for len in 0..=bytes.len() {
            match ask(bytes.get(..len).unwrap_or_default()) {
                Fit::Open(next) => {
                    assert!(next > len, "{name} would be looked at for ever");
                    least = least.max(next);
                }
                known => {
                    assert_eq!(known, ask(bytes), "{name} is not known at {len}");
                    assert!(
                        known == Fit::No || len >= least,
                        "{name} was there before {least}"
                    );
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// First bytes of real clients, and whose they are.
    const SAID: &[(&str, &[u8])] = &[
        ("http", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("http", b"OPTIONS * HTTP/1.1\r\n"),
        ("http", b"M-SEARCH * HTTP/1.1\r\n"),
        ("http", b"VERSION-CONTROL /a HTTP/1.1\r\n"),
        ("http", b"GET http://a.example/ HTTP/1.1\r\n"),
        ("http", b"GET https://a.example/ HTTP/1.1\r\n"),
        ("http", b"CONNECT a.example:443 HTTP/1.1\r\n"),
        ("http", b"CONNECT [::1]:443 HTTP/1.1\r\n"),
        ("http", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("tls", b"\x16\x03\x03\x00\x01\x01"),
        ("ssh", b"SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13\r\n"),
        ("ssh", b"SSH-SSH /-a\n"),
        ("postgres", b"\0\0\0\x08\x04\xd2\x16\x2f"),
        ("postgres", b"\0\0\0\x08\x04\xd2\x16\x30"),
        (
            "postgres",
            b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09",
        ),
        ("postgres", b"\0\0\0\x1d\0\x03\0\0user\0a\0"),
        ("postgres", b"\0\0\0\x1d\0\x03\0\x02user\0a\0"),
        ("redis", b"*1\r\n$4\r\nPING\r\n"),
        ("redis", b"*12\r\n$5\r\nHELLO\r\n"),
        ("redis", b"PING\r\n"),
        ("redis", b"PING\n"),
        ("", b"EHLO mail.example.com\r\n"),
        ("", b"USER anonymous\r\n"),
        ("", b"A LOGIN a b\r\n"),
        ("", b"GET key\r\n"),
        ("", b"PING :irc\r\n"),
        ("", b"-GET / HTTP/1.1\r\n"),
        ("", b"GET httpd://a\r\n"),
        ("", b"THISISNOMETHODATALLBUTLONG / HTTP/1.1\r\n"),
        ("", b"*a\r\n$4\r\n"),
        ("", b"*123456789\r\n$4\r\n"),
        ("", b"*1\r\n:4\r\n"),
        ("", b"\0\0\0\x09\x04\xd2\x16\x2f"),
        ("", b"\0\0\x40\0\0\x03\0\0user"),
        ("", b"\0\0\0\x1d\0\x02\0\0user"),
        ("", b"\x16\x03\x01\x02\x00\x02\x00\x01\xfc\x03\x03"),
        ("", b"\x16\x02\x01\x02\x00\x01"),
        ("", b"\x80\x2e\x01\x03\x01\0"),
        ("", b"\x03\0\0\x13\x0e\xe0\0\0"),
    ];

    #[test]
    fn first_bytes_are_those_of_their_protocol_and_of_no_other() {
        for (whose, said) in SAID {
            for (name, ask) in ALL {
                let found = ask(said);
                let expected = if name == *whose { Fit::Yes } else { Fit::No };
                assert_eq!(found, expected, "{name}: {}", said.escape_ascii());
            }
        }
    }

    #[test]
    fn no_piece_says_anything_else_than_the_whole() {
        for (_, said) in SAID {
            fuzz(said);
        }
    }

    #[test]
    fn whoever_says_anything_is_not_silent() {
        assert_eq!(silence(b""), Fit::Open(1));
        assert_eq!(silence(b"a"), Fit::No);
    }
}
