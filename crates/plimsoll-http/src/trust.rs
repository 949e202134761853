//! What trusted peers say of a client: `X-Forwarded-*` and `Forwarded` (RFC 7239), read from the end.
//!
//! Each proxy appends the address that it saw, so the end of the list is what the nearest one says. It
//! is walked back over proxies that are trusted; the first address that is not is the client, and what
//! stands before it may have been made up. Junk ends the walk: nothing behind it can be known.

use std::net::IpAddr;

use crate::field::{self, Name};
use crate::head::RequestHead;
use crate::host::Authority;

/// Addresses that are looked at.
const HOPS_MAX: usize = 64;

/// The longest request id that is taken over.
pub const REQUEST_ID_BYTES_MAX: usize = 64;

/// What a trusted peer says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// The client.
    pub client: IpAddr,
    /// Its port, if that was said.
    pub port: Option<u16>,
    /// How the client came: `http` or `https`.
    pub scheme: Option<&'static str>,
    /// What the client asked for.
    pub host: Option<&'a [u8]>,
    /// The id that the request has already.
    pub request_id: Option<&'a [u8]>,
}

/// Reads what `peer`, which is trusted, says.
pub fn told<'a>(
    head: &RequestHead,
    bytes: &'a [u8],
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Told<'a> {
    let lists_for = head.fields.first(Name::XForwardedFor).is_some();
    // The older field wins: it is what nearly every proxy writes, and reading both would let one
    // of them be forged where a proxy in front knows only the other.
    let (client, port) = match lists_for {
        true => walk(back(head, bytes, Name::XForwardedFor), peer, is_trusted),
        false => {
            let elements = back(head, bytes, Name::Forwarded);
            let addresses = elements.map(|element| parameter(element, b"for").unwrap_or_default());
            walk(addresses, peer, is_trusted)
        }
    };
    let nearest = back(head, bytes, Name::Forwarded)
        .next()
        .filter(|_| !lists_for);
    let of_nearest = |name| nearest.and_then(|element| parameter(element, name));
    let only = |name| only(head, bytes, name);
    let scheme = only(Name::XForwardedProto).or_else(|| of_nearest(b"proto"));
    let host = only(Name::XForwardedHost).or_else(|| of_nearest(b"host"));
    Told {
        client,
        port,
        scheme: scheme.and_then(known_scheme),
        host: host.filter(|host| Authority::parse(host).is_some()),
        request_id: only(Name::XRequestId).filter(|id| is_request_id(id)),
    }
}

/// The client, walking back from the nearest proxy.
fn walk<'a>(
    hops: impl Iterator<Item = &'a [u8]>,
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> (IpAddr, Option<u16>) {
    let mut client = (peer, None);
    for hop in hops.take(HOPS_MAX) {
        let Some((ip, port)) = address(hop) else {
            break;
        };
        client = (ip.to_canonical(), port);
        if !is_trusted(client.0) {
            break;
        }
    }
    client
}

/// The members of a list field over all its lines, the last one first.
fn back<'a>(head: &RequestHead, bytes: &'a [u8], name: Name) -> impl Iterator<Item = &'a [u8]> {
    let lines = head.fields.all_back(name);
    lines.flat_map(move |line| members_back(line.value.of(bytes)))
}

/// The last members of one line, the last one first. Commas within quotes are text, so that a line is
/// read from its start, and once: a client can fill it with members that are empty.
fn members_back(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let members = line.split(move |b| {
        quoted ^= *b == b'"';
        *b == b',' && !quoted
    });
    let members = members.map(<[u8]>::trim_ascii).filter(|m| !m.is_empty());
    let mut last: [&[u8]; HOPS_MAX] = [b""; HOPS_MAX];
    let mut count = 0;
    for member in members {
        if let Some(place) = last.get_mut(count % HOPS_MAX) {
            *place = member;
        }
        count += 1;
    }
    let kept = count.saturating_sub(HOPS_MAX)..count;
    kept.rev()
        .filter_map(move |at| last.get(at % HOPS_MAX).copied())
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(ip) = text.parse() {
        return Some((ip, None));
    }
    if let Some(ip) = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return Some((IpAddr::V6(ip.parse().ok()?), None));
    }
    let address: std::net::SocketAddr = text.parse().ok()?;
    Some((address.ip(), Some(address.port())))
}

/// The value of a parameter in an element of `Forwarded`, without its quotes.
fn parameter<'a>(element: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    element.split(|b| *b == b';').find_map(|pair| {
        let at = memchr::memchr(b'=', pair)?;
        let (key, value) = pair.split_at_checked(at)?;
        let is_it = key.trim_ascii().eq_ignore_ascii_case(name);
        let value = value.get(1..)?.trim_ascii();
        let bare = value
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""));
        is_it.then_some(bare.unwrap_or(value))
    })
}

/// The value of a field that stands there once.
fn only<'a>(head: &RequestHead, bytes: &'a [u8], name: Name) -> Option<&'a [u8]> {
    let mut lines = head.fields.all(name);
    let line = lines.next()?;
    lines.next().is_none().then(|| line.value.of(bytes))
}

fn known_scheme(text: &[u8]) -> Option<&'static str> {
    ["http", "https"]
        .into_iter()
        .find(|known| text.eq_ignore_ascii_case(known.as_bytes()))
}

fn is_request_id(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX && id.iter().all(|b| field::is_tchar(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::parse::{self, HeadLimits};

    /// Who the client is when 10.0.0.0/8 and ::1 are trusted and 10.9.9.9 sends these fields.
    fn client(fields: &str) -> String {
        let (client, port, ..) = read(fields, |told| (told.client, told.port));
        match port {
            Some(port) => format!("{client} {port}"),
            None => client.to_string(),
        }
    }

    fn read<T>(fields: &str, of: impl Fn(Told<'_>) -> T) -> T {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let mut head = RequestHead::default();
        parse::request(text.as_bytes(), &HeadLimits::default(), &mut head).unwrap();
        let is_trusted = |ip: IpAddr| match ip {
            IpAddr::V4(v4) => v4.octets()[0] == 10,
            IpAddr::V6(v6) => v6.is_loopback(),
        };
        let peer = "10.9.9.9".parse().unwrap();
        of(told(&head, text.as_bytes(), peer, is_trusted))
    }

    #[test]
    fn the_first_address_that_is_not_trusted_is_the_client() {
        for (fields, expected) in [
            ("", "10.9.9.9"),
            ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1"),
            (
                "X-Forwarded-For: 6.6.6.6, 192.0.2.1, 10.0.0.1\r\n",
                "192.0.2.1",
            ),
            (
                "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n",
                "192.0.2.1",
            ),
            (
                "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-For: 10.0.0.1,,\r\n",
                "192.0.2.1",
            ),
            ("X-Forwarded-For: 192.0.2.1:4711\r\n", "192.0.2.1 4711"),
            ("X-Forwarded-For: [2001:db8::1]:80\r\n", "2001:db8::1 80"),
            ("X-Forwarded-For: [2001:db8::1]\r\n", "2001:db8::1"),
            ("X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
            ("X-Forwarded-For: ::ffff:192.0.2.1\r\n", "192.0.2.1"),
            ("X-Forwarded-For: 192.0.2.1, ::1\r\n", "192.0.2.1"),
            (
                "X-Forwarded-For: 192.0.2.1, ::ffff:10.1.1.1\r\n",
                "192.0.2.1",
            ),
            // Everybody is trusted: the first one is the client.
            ("X-Forwarded-For: 10.0.0.1, 10.0.0.2\r\n", "10.0.0.1"),
            // Junk ends the walk at the last proxy that is known.
            ("X-Forwarded-For: 192.0.2.1, unknown\r\n", "10.9.9.9"),
            (
                "X-Forwarded-For: 192.0.2.1, unknown, 10.0.0.1\r\n",
                "10.0.0.1",
            ),
            (
                "X-Forwarded-For: 192.0.2.1, _hidden, 10.0.0.1\r\n",
                "10.0.0.1",
            ),
            ("X-Forwarded-For: 1.2.3.4.5\r\n", "10.9.9.9"),
            ("X-Forwarded-For: \"192.0.2.1\"\r\n", "10.9.9.9"),
            ("X-Forwarded-For: \"a,192.0.2.1\r\n", "10.9.9.9"),
        ] {
            assert_eq!(client(fields), expected, "{fields}");
        }
        let many = format!(
            "X-Forwarded-For: 192.0.2.1{}\r\n",
            ", 10.0.0.1".repeat(1000)
        );
        assert_eq!(client(&many), "10.0.0.1");
        let empty = format!("X-Forwarded-For: 192.0.2.1{}\r\n", ",".repeat(30_000));
        assert_eq!(client(&empty), "192.0.2.1");
    }

    #[test]
    fn members_are_what_stands_between_commas_that_are_not_quoted() {
        for (line, expected) in [
            ("", ""),
            (" , ,", ""),
            ("a", "a"),
            ("a, b ,,c", "c|b|a"),
            ("a=\"b,c\", d", "d|a=\"b,c\""),
            ("a, \"b, c", "\"b, c|a"),
            ("a\",\"b,c", "c|a\",\"b"),
        ] {
            let members: Vec<_> = members_back(line.as_bytes()).collect();
            assert_eq!(members.join(&b'|'), expected.as_bytes(), "{line}");
        }
        let long: Vec<_> = (0..200).map(|n| n.to_string()).collect();
        let line = long.join(",");
        let members = members_back(line.as_bytes());
        let last = long.iter().rev().take(HOPS_MAX).map(|text| text.as_bytes());
        assert!(members.eq(last));
    }

    #[test]
    fn forwarded_is_read_where_the_older_fields_are_not() {
        for (fields, expected) in [
            ("Forwarded: for=192.0.2.1;proto=https\r\n", "192.0.2.1"),
            (
                "Forwarded: for=6.6.6.6, For=\"[2001:db8::1]:80\" , for=10.0.0.1\r\n",
                "2001:db8::1 80",
            ),
            (
                "Forwarded: for=\"6.6.6.6, for=7.7.7.7\", proto=http\r\n",
                "10.9.9.9",
            ),
            ("Forwarded: for=unknown\r\n", "10.9.9.9"),
            (
                "Forwarded: for=6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n",
                "192.0.2.1",
            ),
        ] {
            assert_eq!(client(fields), expected, "{fields}");
        }
        let all = |fields: &str| {
            read(fields, |told| {
                let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8(b.to_vec()).unwrap());
                (told.scheme, text(told.host), text(told.request_id))
            })
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            all("Forwarded: for=1.1.1.1;proto=http, for=10.0.0.1;Proto=HTTPS;host=\"a:80\"\r\n"),
            (Some("https"), some("a:80"), None)
        );
        assert_eq!(
            all("X-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Request-ID: a-1\r\n"),
            (Some("https"), some("b"), some("a-1"))
        );
        for junk in [
            "X-Forwarded-Proto: https, http\r\n",
            "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: http\r\n",
            "X-Forwarded-Proto: ftp\r\n",
            "X-Forwarded-Host: a/b\r\n",
            "X-Request-ID: a b\r\n",
        ] {
            assert_eq!(all(junk), (None, None, None), "{junk}");
        }
    }
}
