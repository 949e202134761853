//! What a stored answer is found by: scheme, authority, path and query, in one form each.

use crate::caching::Parts;
use crate::h1::parse::{self, HeadLimits, Parsed};
use crate::head::RequestHead;
use crate::host::Authority;
use crate::request;
use crate::target::Target;

/// Appends the key of a request as a URL: the authority in lower case and without the port that its scheme has
/// by itself, the path as routes see it, what counts of the query.
pub fn write(
    scheme: &str,
    authority: &[u8],
    (path, query): (&[u8], Option<&[u8]>),
    parts: &Parts,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(scheme.as_bytes());
    out.extend_from_slice(b"://");
    if let Some(authority) = Authority::parse(authority) {
        let start = out.len();
        out.extend_from_slice(authority.host);
        let host = out.get_mut(start..).unwrap_or_default();
        host.make_ascii_lowercase();
        let port = authority.port.filter(|port| *port != default_port(scheme));
        if let Some(port) = port {
            out.push(b':');
            out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
        }
    }
    out.extend_from_slice(path);
    parts.write_query(query, out);
}

/// The key that requests for a URL have; nothing if it is none of http or https.
pub fn of_url(url: &str, parts: &Parts) -> Option<Vec<u8>> {
    let (scheme, _) = url.split_once("://")?;
    let scheme = ["http", "https"]
        .into_iter()
        .find(|known| scheme.eq_ignore_ascii_case(known))?;
    let text = format!("GET {url} HTTP/1.1\r\nHost: x\r\n\r\n");
    let (mut head, mut target) = (RequestHead::default(), Target::default());
    let parsed = parse::request(text.as_bytes(), &HeadLimits::default(), &mut head);
    if parsed != Ok(Parsed::Complete) || head.target.len() != url.len() {
        return None;
    }
    target.is_secure = scheme == "https";
    let bytes = text.as_bytes();
    let sound = request::check(&head, bytes, &mut target).ok()?;
    let query = target.query.map(|query| query.of(bytes));
    let mut key = Vec::new();
    write(
        scheme,
        sound.authority.of(bytes),
        (target.path(bytes), query),
        parts,
        &mut key,
    );
    Some(key)
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// Fields of a request that servers take for a part of what is asked for, although no key has them. A request
/// with one of them is answered by a server, and what it is answered is stored for nobody.
pub fn is_unkeyed(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 12] = [
        b"x-forwarded-prefix",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-host",
        b"x-http-host-override",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        b"x-original-host",
        b"x-original-url",
        b"x-rewrite-url",
    ];
    matches!(name.first(), Some(b'x' | b'X'))
        && NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thing_has_one_key_and_two_have_two() {
        for (scheme, authority, path, query, expected) in [
            ("http", "example.com", "/", None, "http://example.com/"),
            ("http", "EXAMPLE.com", "/", None, "http://example.com/"),
            ("http", "example.com.", "/", None, "http://example.com/"),
            ("http", "example.com:80", "/", None, "http://example.com/"),
            (
                "https",
                "example.com:443",
                "/",
                None,
                "https://example.com/",
            ),
            (
                "https",
                "example.com:80",
                "/",
                None,
                "https://example.com:80/",
            ),
            (
                "http",
                "example.com:8080",
                "/a",
                None,
                "http://example.com:8080/a",
            ),
            ("http", "a", "/A", Some("X=1&x=1"), "http://a/A?X=1&x=1"),
            ("http", "a", "/", Some(""), "http://a/?"),
            ("http", "[::1]:80", "/", None, "http://[::1]/"),
            ("http", "", "/", None, "http:///"),
        ] {
            let mut key = Vec::new();
            let target = (path.as_bytes(), query.map(str::as_bytes));
            write(
                scheme,
                authority.as_bytes(),
                target,
                &Parts::default(),
                &mut key,
            );
            assert_eq!(String::from_utf8(key).unwrap(), expected);
        }
    }

    #[test]
    fn urls_have_the_keys_of_their_requests() {
        for (url, expected) in [
            ("http://example.com/", Some("http://example.com/")),
            ("http://example.com", Some("http://example.com/")),
            (
                "HTTP://EXAMPLE.com:80/a/../b?C=d",
                Some("http://example.com/b?C=d"),
            ),
            (
                "https://example.com:8443/%61",
                Some("https://example.com:8443/a"),
            ),
            ("ftp://example.com/", None),
            ("example.com/a", None),
            ("/a", None),
            ("", None),
            ("http://", None),
            ("http://example.com/a b", None),
            ("http://example.com/ HTTP/1.1\r\nHost: y\r\n\r\n", None),
        ] {
            let key = of_url(url, &Parts::default()).map(|key| String::from_utf8(key).unwrap());
            assert_eq!(key.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn what_servers_may_take_for_the_target_is_known() {
        assert!(is_unkeyed(b"X-Original-URL") && is_unkeyed(b"x-http-method-override"));
        assert!(!is_unkeyed(b"X-Forwarded-For") && !is_unkeyed(b"Host") && !is_unkeyed(b""));
    }
}
