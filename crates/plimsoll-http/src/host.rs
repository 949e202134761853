//! Authorities: a host and perhaps a port (RFC 3986 §3.2).

/// Longest authority: a DNS name has 253 bytes, a port 6.
const AUTHORITY_BYTES_MAX: usize = 260;

/// An authority that is well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Name or address; an IPv6 address keeps its brackets. One trailing dot is taken off.
    pub host: &'a [u8],
    /// The port, when there is one.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses `text`; user information, percent-encoding and lists are refused.
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        if text.len() > AUTHORITY_BYTES_MAX {
            return None;
        }
        let colon = match text.first()? {
            b'[' => memchr::memchr(b']', text)? + 1,
            _ => memchr::memchr(b':', text).unwrap_or(text.len()),
        };
        let (host, port) = text.split_at_checked(colon)?;
        let port = match port {
            [] => None,
            [b':', digits @ ..] => Some(port_number(digits)?),
            _ => return None,
        };
        let host = match host {
            [b'[', address @ .., b']'] => {
                // A zone (`%eth0`) has no meaning on the wire and does not parse.
                std::str::from_utf8(address)
                    .ok()?
                    .parse::<std::net::Ipv6Addr>()
                    .ok()?;
                host
            }
            name => {
                let name = name.strip_suffix(b".").unwrap_or(name);
                is_name(name).then_some(name)?
            }
        };
        Some(Self { host, port })
    }
}

fn port_number(digits: &[u8]) -> Option<u16> {
    let digit = |byte: &u8| char::from(*byte).to_digit(10);
    let add = |number: u32, byte| Some(number.checked_mul(10)?.saturating_add(digit(byte)?));
    let port = digits.iter().try_fold(0, add)?;
    u16::try_from(port).ok().filter(|&port| port != 0)
}

/// Tells whether it is made of labels, none of them empty, and dots between them.
fn is_name(name: &[u8]) -> bool {
    let mut before = b'.';
    let is_good = |&b: &u8| {
        let is_empty = b == b'.' && before == b'.';
        before = b;
        matches!(b, b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'.' | b'_' | b'~')
            && !is_empty
    };
    name.iter().all(is_good) && before != b'.'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_authorities() {
        for (text, host, port) in [
            ("example.com", "example.com", None),
            ("Example.COM.", "Example.COM", None),
            ("a_b:8080", "a_b", Some(8080)),
            ("127.0.0.1:1", "127.0.0.1", Some(1)),
            ("[::1]", "[::1]", None),
            ("[::1]:443", "[::1]", Some(443)),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
        ] {
            let authority = Authority::parse(text.as_bytes());
            assert_eq!(
                authority,
                Some(Authority {
                    host: host.as_bytes(),
                    port
                }),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_authorities() {
        let long = "a".repeat(300);
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:x",
            "a:65536",
            "a:+1",
            "a:1:2",
            "a,b",
            "a b",
            "a/b",
            "u@a",
            "a%41",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "[1.2.3.4]",
            "::1",
            "a..b",
            ".",
            ".a",
            "a#",
            "a\\b",
            "b\u{fc}cher",
            &long,
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
    }
}
