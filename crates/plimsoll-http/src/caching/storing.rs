//! What may be stored (RFC 9111 §3), and on what terms.

use crate::caching::freshness::{self, Terms};
use crate::caching::{Directives, Selection};
use crate::field::Name;
use crate::head::{RequestHead, ResponseHead};
use crate::method::Method;

/// What the configuration adds to what servers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// For how many seconds answers with these statuses are fresh that do not say it themselves.
    pub ttl: Vec<(u16, u32)>,
    /// How much of the time since the last change an answer is fresh for that says nothing, in percent; nothing
    /// guesses.
    pub heuristic: Option<u8>,
    /// For how long answers serve while the server is asked, where they do not say.
    pub while_revalidate: u32,
    /// For how long they serve in place of errors, where they do not say.
    pub if_error: u32,
}

/// What was asked, and when.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The request.
    pub head: &'a RequestHead,
    /// The bytes of its head.
    pub bytes: &'a [u8],
    /// When the answer came, in seconds since 1970.
    pub now: u64,
    /// How many seconds it took.
    pub delay: u32,
    /// Whether the server was asked for an answer without a content coding, which gets one here.
    pub is_coded_here: bool,
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is none whose answer is stored.
    Request,
    /// The status is none that is stored, or not known.
    Status,
    /// The answer says so.
    Forbidden,
    /// It is for one client.
    Private,
    /// It sets a cookie.
    Cookie,
    /// It varies by everything.
    Varies,
    /// It is not fresh for any time, and cannot be asked about.
    NoFreshness,
}

/// Statuses whose meaning is known, so that `must-understand` is met.
const UNDERSTOOD: [u16; 21] = [
    200, 203, 204, 300, 301, 302, 303, 307, 308, 400, 403, 404, 405, 410, 414, 451, 500, 501, 502,
    503, 504,
];

/// Statuses that are stored without a word on it (RFC 9110 §15.1), but for 206, of which there is no whole.
const HEURISTIC: [u16; 10] = [200, 203, 204, 300, 301, 308, 404, 405, 410, 501];

/// Decides whether an answer is stored, for whom and on what terms.
///
/// # Errors
/// Why it is not.
pub fn judge(
    asked: Asked<'_>,
    (head, bytes): (&ResponseHead, &[u8]),
    policy: &Policy,
) -> Result<(Terms, Selection), Refusal> {
    let own = Directives::targeted(&head.fields, bytes);
    let said = own.unwrap_or_else(|| Directives::read(&head.fields, bytes).0);
    let (asked_for, _) = Directives::read(&asked.head.fields, asked.bytes);
    if asked.head.method != Method::Get || asked_for.no_store {
        return Err(Refusal::Request);
    }
    check_status(head.status, &said)?;
    if said.private {
        return Err(Refusal::Private);
    }
    // RFC 9111 §3.5
    let is_shared = said.public || said.must_revalidate || said.s_maxage.is_some();
    if asked.head.fields.first(Name::Authorization).is_some() && !is_shared {
        return Err(Refusal::Private);
    }
    if head.fields.first(Name::SetCookie).is_some() {
        return Err(Refusal::Cookie);
    }
    let selection = Selection::read((head, bytes), (asked.head, asked.bytes));
    let mut selection = selection.ok_or(Refusal::Varies)?;
    let is_plain = head.fields.by_text(bytes, b"content-encoding").is_none();
    if asked.is_coded_here && is_plain {
        selection = selection.without(b"accept-encoding");
    }
    let terms = terms(asked, (head, bytes), (&said, own.is_some()), policy)?;
    Ok((terms, selection))
}

fn check_status(status: u16, said: &Directives) -> Result<(), Refusal> {
    let is_understood = UNDERSTOOD.contains(&status);
    match status {
        // What is partial is a part of something, and a confirmation is of something else.
        ..200 | 206 | 304 => Err(Refusal::Status),
        _ if said.must_understand && !is_understood => Err(Refusal::Status),
        _ if said.no_store && !said.must_understand => Err(Refusal::Forbidden),
        _ => Ok(()),
    }
}

fn terms(
    asked: Asked<'_>,
    (head, bytes): (&ResponseHead, &[u8]),
    (said, is_targeted): (&Directives, bool),
    policy: &Policy,
) -> Result<Terms, Refusal> {
    let lifetime = match is_targeted {
        // RFC 9213 §2.2: `Expires` gives way as well.
        true => said.s_maxage.or(said.max_age),
        false => freshness::explicit(said, &head.fields, bytes, asked.now),
    };
    let lifetime = lifetime.or_else(|| assumed(head, bytes, said, asked.now, policy));
    let stale = |own: Option<u32>, given| match said.allows_stale() {
        true => own.unwrap_or(given),
        false => 0,
    };
    let terms = Terms {
        lifetime: lifetime.unwrap_or(0),
        age: freshness::initial_age(&head.fields, bytes, asked.now, asked.delay),
        while_revalidate: stale(said.stale_while_revalidate, policy.while_revalidate),
        if_error: stale(said.stale_if_error, policy.if_error),
        is_checked: said.no_cache,
    };
    let is_fresh = terms.lifetime > terms.age && !terms.is_checked;
    let is_of_use = is_fresh || (lifetime.is_some() || said.no_cache) && has_validator(head, bytes);
    match is_of_use {
        true => Ok(terms),
        false => Err(Refusal::NoFreshness),
    }
}

/// For how long an answer is taken to be fresh that does not say it.
fn assumed(
    head: &ResponseHead,
    bytes: &[u8],
    said: &Directives,
    now: u64,
    policy: &Policy,
) -> Option<u32> {
    if said.no_cache {
        return None;
    }
    let given = policy.ttl.iter().find(|(status, _)| *status == head.status);
    let given = given.map(|(_, seconds)| *seconds);
    let guess = || {
        let percent = policy.heuristic?;
        let may = said.public || HEURISTIC.contains(&head.status);
        freshness::heuristic(&head.fields, bytes, now, percent).filter(|_| may)
    };
    given.or_else(guess)
}

/// Tells whether a server can be asked whether it still holds.
fn has_validator(head: &ResponseHead, bytes: &[u8]) -> bool {
    let has = |name: &[u8]| head.fields.by_text(bytes, name).is_some();
    has(b"etag") || has(b"last-modified")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::tests::{answer, request};

    const AT: u64 = 784_111_777;

    fn judged(
        asked: &str,
        status: u16,
        lines: &str,
        policy: &Policy,
    ) -> Result<(Terms, Selection), Refusal> {
        let (head, bytes) = request(&format!("{asked}\r\nHost: h\r\n\r\n").replace('|', "\r\n"));
        let text = format!("HTTP/1.1 {status} X\r\n{lines}\r\n\r\n").replace('|', "\r\n");
        let (response, response_bytes) = answer(&text);
        let asked = Asked {
            head: &head,
            bytes: &bytes,
            now: AT,
            delay: 0,
            is_coded_here: false,
        };
        judge(asked, (&response, &response_bytes), policy)
    }

    /// For how long the answer to a plain request is stored, without a policy.
    fn lifetime(status: u16, lines: &str) -> Result<u32, Refusal> {
        let judged = judged("GET / HTTP/1.1", status, lines, &Policy::default());
        judged.map(|(terms, _)| terms.lifetime)
    }

    use Refusal::{Cookie, Forbidden, NoFreshness, Private, Request, Status, Varies};

    /// Status and fields of an answer, and for how long it is stored.
    const ANSWERS: &[(u16, &str, Result<u32, Refusal>)] = &[
        (200, "Cache-Control: max-age=10", Ok(10)),
        (200, "Cache-Control: s-maxage=10", Ok(10)),
        (200, "Expires: Sun, 06 Nov 1994 08:50:37 GMT", Ok(60)),
        (200, "A: b", Err(NoFreshness)),
        (200, "Cache-Control: public", Err(NoFreshness)),
        (200, "Cache-Control: max-age=0", Err(NoFreshness)),
        (200, "Cache-Control: max-age=0|ETag: \"a\"", Ok(0)),
        (200, "Cache-Control: max-age=x|ETag: \"a\"", Ok(0)),
        (200, "Cache-Control: no-cache|ETag: \"a\"", Ok(0)),
        (200, "Cache-Control: no-cache", Err(NoFreshness)),
        (200, "Cache-Control: no-cache, max-age=10", Err(NoFreshness)),
        (
            200,
            "Cache-Control: no-cache, max-age=10|Last-Modified: x",
            Ok(10),
        ),
        (200, "ETag: \"a\"", Err(NoFreshness)),
        (
            200,
            "Last-Modified: Sun, 06 Nov 1988 08:33:57 GMT",
            Err(NoFreshness),
        ),
        (200, "Expires: 0", Err(NoFreshness)),
        (200, "Expires: 0|ETag: \"a\"", Ok(0)),
        (200, "Cache-Control: max-age=10|Age: 10", Err(NoFreshness)),
        (200, "Cache-Control: max-age=10|Age: 9", Ok(10)),
        (200, "Cache-Control: no-store", Err(Forbidden)),
        (200, "Cache-Control: no-store, max-age=10", Err(Forbidden)),
        (200, "Cache-Control: max-age=10, no-store", Err(Forbidden)),
        (
            200,
            "Cache-Control: max-age=10|Cache-Control: no-store",
            Err(Forbidden),
        ),
        (200, "Cache-Control: private, max-age=10", Err(Private)),
        (
            200,
            "Cache-Control: private=\"a\", max-age=10",
            Err(Private),
        ),
        (
            200,
            "Cache-Control: max-age=10|Set-Cookie: a=b",
            Err(Cookie),
        ),
        (
            200,
            "Cache-Control: public, max-age=10|Set-Cookie: a=b",
            Err(Cookie),
        ),
        (200, "Cache-Control: max-age=10|Vary: *", Err(Varies)),
        (200, "Cache-Control: max-age=10|Vary: A, *", Err(Varies)),
        (200, "Cache-Control: max-age=10|Vary: A", Ok(10)),
        (200, "Cache-Control: max-age=10|Pragma: no-cache", Ok(10)),
        (200, "Pragma: max-age=10", Err(NoFreshness)),
        (206, "Cache-Control: max-age=10", Err(Status)),
        (304, "Cache-Control: max-age=10", Err(Status)),
        (203, "Cache-Control: max-age=10", Ok(10)),
        (204, "Cache-Control: max-age=10", Ok(10)),
        (299, "Cache-Control: max-age=10", Ok(10)),
        (301, "Cache-Control: max-age=10", Ok(10)),
        (302, "Cache-Control: max-age=10", Ok(10)),
        (302, "A: b", Err(NoFreshness)),
        (404, "Cache-Control: max-age=10", Ok(10)),
        (404, "A: b", Err(NoFreshness)),
        (416, "Cache-Control: max-age=10", Ok(10)),
        (500, "Cache-Control: max-age=10", Ok(10)),
        (500, "A: b", Err(NoFreshness)),
        (599, "Cache-Control: max-age=10", Ok(10)),
        (
            200,
            "Cache-Control: must-understand, no-store, max-age=10",
            Ok(10),
        ),
        (
            299,
            "Cache-Control: must-understand, no-store, max-age=10",
            Err(Status),
        ),
        (
            299,
            "Cache-Control: must-understand, max-age=10",
            Err(Status),
        ),
        (
            200,
            "Cache-Control: no-store|CDN-Cache-Control: max-age=10",
            Ok(10),
        ),
        (
            200,
            "Cache-Control: max-age=10|CDN-Cache-Control: no-store",
            Err(Forbidden),
        ),
        (
            200,
            "Cache-Control: max-age=10|CDN-Cache-Control: max-age=20",
            Ok(20),
        ),
        (
            200,
            "Cache-Control: s-maxage=9|CDN-Cache-Control: max-age=20",
            Ok(20),
        ),
        (
            200,
            "Cache-Control: max-age=10|CDN-Cache-Control: max-age=",
            Ok(10),
        ),
        (200, "Cache-Control: max-age=10|CDN-Cache-Control:", Ok(10)),
        (
            200,
            "Expires: Sun, 06 Nov 1994 08:50:37 GMT|CDN-Cache-Control: public",
            Err(NoFreshness),
        ),
    ];

    #[test]
    fn answers_are_stored_that_say_so_and_no_others() {
        for (status, lines, expected) in ANSWERS {
            assert_eq!(lifetime(*status, lines), *expected, "{status} {lines}");
        }
    }

    #[test]
    fn what_is_coded_here_is_for_every_coding() {
        let (head, bytes) =
            request("GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\nA: 1\r\n\r\n");
        for (lines, is_coded_here, names) in [
            ("", true, &["a"][..]),
            ("", false, &["a", "accept-encoding"]),
            ("Content-Encoding: x\r\n", true, &["a", "accept-encoding"]),
        ] {
            let text = format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=9\r\nVary: Accept-Encoding, A\r\n{lines}\r\n"
            );
            let (response, response_bytes) = answer(&text);
            let asked = Asked {
                head: &head,
                bytes: &bytes,
                now: AT,
                delay: 0,
                is_coded_here,
            };
            let judged = judge(asked, (&response, &response_bytes), &Policy::default());
            let (_, selection) = judged.unwrap();
            let own = selection
                .names()
                .iter()
                .map(|name| String::from_utf8_lossy(name));
            assert_eq!(own.collect::<Vec<_>>(), names, "{lines} {is_coded_here}");
        }
    }

    #[test]
    fn requests_have_a_say() {
        let fresh = "Cache-Control: max-age=10";
        for (asked, lines, expected) in [
            ("GET / HTTP/1.1", fresh, Ok(())),
            ("HEAD / HTTP/1.1", fresh, Err(Request)),
            ("POST / HTTP/1.1", fresh, Err(Request)),
            ("OPTIONS / HTTP/1.1", fresh, Err(Request)),
            ("get / HTTP/1.1", fresh, Err(Request)),
            (
                "GET / HTTP/1.1|Cache-Control: no-store",
                fresh,
                Err(Request),
            ),
            ("GET / HTTP/1.1|Cache-Control: no-cache", fresh, Ok(())),
            ("GET / HTTP/1.1|Pragma: no-cache", fresh, Ok(())),
            ("GET / HTTP/1.1|Cookie: a=b", fresh, Ok(())),
            ("GET / HTTP/1.1|Authorization: x", fresh, Err(Private)),
            (
                "GET / HTTP/1.1|Authorization: x",
                "Cache-Control: public, max-age=10",
                Ok(()),
            ),
            (
                "GET / HTTP/1.1|Authorization: x",
                "Cache-Control: s-maxage=10",
                Ok(()),
            ),
            (
                "GET / HTTP/1.1|Authorization: x",
                "Cache-Control: max-age=10, must-revalidate",
                Ok(()),
            ),
            (
                "GET / HTTP/1.1|Authorization: x",
                "Cache-Control: max-age=10, proxy-revalidate",
                Err(Private),
            ),
        ] {
            let judged = judged(asked, 200, lines, &Policy::default()).map(|_| ());
            assert_eq!(judged, expected, "{asked} {lines}");
        }
    }

    #[test]
    fn the_configuration_speaks_where_servers_do_not() {
        let policy = Policy {
            ttl: vec![(200, 30), (404, 5)],
            heuristic: Some(10),
            while_revalidate: 7,
            if_error: 8,
        };
        let terms = |status, lines: &str| {
            let judged = judged("GET / HTTP/1.1", status, lines, &policy);
            judged.map(|(terms, _)| (terms.lifetime, terms.while_revalidate, terms.if_error))
        };
        let changed = "Last-Modified: Sun, 06 Nov 1994 08:33:57 GMT";
        assert_eq!(terms(200, "A: b"), Ok((30, 7, 8)));
        assert_eq!(terms(404, "A: b"), Ok((5, 7, 8)));
        assert_eq!(terms(500, "A: b"), Err(NoFreshness));
        assert_eq!(terms(301, changed), Ok((94, 7, 8)));
        assert_eq!(terms(302, changed), Err(NoFreshness));
        assert_eq!(terms(200, "Cache-Control: max-age=9"), Ok((9, 7, 8)));
        assert_eq!(terms(200, "Cache-Control: no-cache"), Err(NoFreshness));
        assert_eq!(terms(200, "Cache-Control: no-store"), Err(Forbidden));
        assert_eq!(terms(200, "Cache-Control: private"), Err(Private));
        assert_eq!(terms(200, "Set-Cookie: a=b"), Err(Cookie));
        let own = "Cache-Control: max-age=9, stale-while-revalidate=1, stale-if-error=0";
        assert_eq!(terms(200, own), Ok((9, 1, 0)));
        for strict in ["must-revalidate", "proxy-revalidate", "s-maxage=9"] {
            let lines = format!("Cache-Control: max-age=9, stale-if-error=3, {strict}");
            assert_eq!(terms(200, &lines), Ok((9, 0, 0)), "{strict}");
        }
    }
}
