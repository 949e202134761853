//! Which answers are sent in a content coding, and what is said of that (RFC 9110 §7.7, §8.4, §12.5.3).

use crate::coding::{Coding, Liked};
use crate::field::{self, Name};
use crate::framing::Length;
use crate::head::{Field, RequestHead, ResponseHead, Version};

/// What is compressed.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// The codings that there are.
    pub codings: Vec<Coding>,
    /// Media types, in lower case: `text/html`, or `text/*`.
    pub types: Vec<Box<str>>,
    /// The least bytes that are worth it, where it is known how many there are.
    pub min: u64,
    /// Whether answers are compressed too that may hold a secret beside what somebody else has written:
    /// their lengths give it away (RFC 9113 §10.6).
    pub secrets: bool,
}

/// How an answer is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// As it is, to everybody.
    Never,
    /// As it is, to this client.
    Plain,
    /// In this coding.
    Coded(Coding),
}

/// A request and its answer.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The request.
    pub request: (&'a RequestHead, &'a [u8]),
    /// The answer.
    pub response: (&'a ResponseHead, &'a [u8]),
    /// The length of its body.
    pub length: Length,
    /// Whether it answers a HEAD, which is told what a GET would be.
    pub is_head: bool,
}

impl Policy {
    /// Decides how the answer is sent.
    pub fn choose(&self, pair: &Pair<'_>) -> Choice {
        if !self.may(pair) {
            return Choice::Never;
        }
        let (request, bytes) = pair.request;
        let liked = Liked::of(request, bytes);
        match liked.best(|coding| self.codings.contains(&coding)) {
            Some(coding) => Choice::Coded(coding),
            None => Choice::Plain,
        }
    }

    fn may(&self, pair: &Pair<'_>) -> bool {
        let (request, request_bytes) = pair.request;
        let (response, bytes) = pair.response;
        let has_body = match pair.length {
            Length::Empty => pair.is_head,
            Length::Exactly(length) => length >= self.min.max(1),
            Length::Chunked | Length::UntilClose => true,
        };
        let is_told = |name: &[u8]| response.fields.by_text(bytes, name).is_some();
        has_body
            && request.version != Version::Http10
            && !matches!(response.status, 100..=199 | 204 | 206 | 304)
            && !is_told(b"content-encoding")
            && !is_told(b"content-range")
            && !is_fixed(
                request.fields.all_by_text(request_bytes, b"cache-control"),
                request_bytes,
            )
            && !is_fixed(response.fields.all_by_text(bytes, b"cache-control"), bytes)
            && (self.secrets
                || (request.fields.first(Name::Authorization).is_none()
                    && response.fields.first(Name::SetCookie).is_none()))
            && self.takes(content_type(response, bytes))
    }

    /// Tells whether a media type is compressed.
    pub fn takes(&self, media: &[u8]) -> bool {
        let kind = media.split(|&b| b == b';').next().unwrap_or_default();
        let kind = kind.trim_ascii();
        self.types
            .iter()
            .any(|known| match known.strip_suffix('*') {
                Some(start) => kind
                    .get(..start.len())
                    .is_some_and(|of| of.eq_ignore_ascii_case(start.as_bytes())),
                None => kind.eq_ignore_ascii_case(known.as_bytes()),
            })
    }
}

fn content_type<'a>(response: &ResponseHead, bytes: &'a [u8]) -> &'a [u8] {
    let line = response.fields.by_text(bytes, b"content-type");
    line.map(|line| line.value.of(bytes)).unwrap_or_default()
}

/// Tells whether `Cache-Control` forbids to change what is sent.
fn is_fixed<'a>(mut lines: impl Iterator<Item = &'a Field>, bytes: &[u8]) -> bool {
    lines.any(|line| {
        let mut members = field::list(line.value.of(bytes));
        members.any(|member| member.eq_ignore_ascii_case(b"no-transform"))
    })
}

/// Names of fields that say what is not true of an answer in a coding, or count its bytes.
pub const UNTRUE: &[u8] =
    b"Content-Length: \r\nAccept-Ranges: \r\nContent-MD5: \r\nContent-Digest: \r\n";

impl Choice {
    /// Appends the lines for an answer that says that its client has it already: those of [`Self::write_lines`] that
    /// tell one form from another (RFC 9110 §15.4.5).
    pub fn write_lines_of_304(self, response: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
        if self == Self::Never {
            return;
        }
        vary(response, bytes, out);
        if matches!(self, Self::Coded(_)) {
            weak_tag(response, bytes, out);
        }
    }

    /// Appends the lines that take the place of those of the server with the same names.
    pub fn write_lines(self, response: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
        if self == Self::Never {
            return;
        }
        vary(response, bytes, out);
        let Self::Coded(coding) = self else { return };
        field::write_line(b"Content-Encoding", coding.token().as_bytes(), out);
        weak_tag(response, bytes, out);
    }
}

/// Other bytes, the same to whoever reads them: that is what weak tags are for.
fn weak_tag(response: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    if let Some(line) = response.fields.by_text(bytes, b"etag") {
        let tag = line.value.of(bytes);
        let weak: &[u8] = if tag.starts_with(b"W/") { b"" } else { b"W/" };
        field::write_line(b"ETag", &[weak, tag].concat(), out);
    }
}

/// Says that the answer depends on what the client accepts, besides what the server says it does.
fn vary(response: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    let lines = || response.fields.all_by_text(bytes, b"vary");
    let members = || lines().flat_map(|line| field::list(line.value.of(bytes)));
    let is_said =
        members().any(|member| member == b"*" || member.eq_ignore_ascii_case(b"accept-encoding"));
    out.extend_from_slice(b"Vary: ");
    for (at, member) in members().enumerate() {
        let between: &[u8] = if at > 0 { b", " } else { b"" };
        out.extend_from_slice(between);
        out.extend_from_slice(member);
    }
    if !is_said {
        let between: &[u8] = if members().next().is_some() {
            b", "
        } else {
            b""
        };
        out.extend_from_slice(between);
        out.extend_from_slice(b"Accept-Encoding");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framing::Framing;
    use crate::h1::parse::{self, HeadLimits};
    use crate::method::Method;

    fn policy(secrets: bool) -> Policy {
        Policy {
            codings: Coding::ALL.to_vec(),
            types: vec!["text/*".into(), "application/json".into()],
            min: 1000,
            secrets,
        }
    }

    fn choose(request: &str, response: &str, secrets: bool) -> (Choice, String) {
        let request = format!("{request}\r\n\r\n");
        let response = format!("{response}\r\n\r\n");
        let (mut asked, mut said) = (RequestHead::default(), ResponseHead::default());
        parse::request(request.as_bytes(), &HeadLimits::default(), &mut asked).unwrap();
        parse::response(response.as_bytes(), &mut said).unwrap();
        let framing = Framing::of_response(&said, response.as_bytes(), asked.method).unwrap();
        let pair = Pair {
            request: (&asked, request.as_bytes()),
            response: (&said, response.as_bytes()),
            length: framing.length(),
            is_head: asked.method == Method::Head,
        };
        let choice = policy(secrets).choose(&pair);
        let mut lines = Vec::new();
        choice.write_lines(&said, response.as_bytes(), &mut lines);
        (choice, String::from_utf8(lines).unwrap())
    }

    const ASKED: &str = "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip";
    const SAID: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1000";

    #[test]
    fn what_is_text_and_long_enough_is_compressed() {
        for (more, expected) in [
            ("", Choice::Coded(Coding::Gzip)),
            ("\r\nA: b", Choice::Coded(Coding::Gzip)),
            ("\r\nContent-Encoding: br", Choice::Never),
            ("\r\nContent-Range: bytes 0-9/10", Choice::Never),
            ("\r\nCache-Control: max-age=1, No-Transform", Choice::Never),
            ("\r\nSet-Cookie: a=b", Choice::Never),
        ] {
            assert_eq!(
                choose(ASKED, &format!("{SAID}{more}"), false).0,
                expected,
                "{more}"
            );
        }
        for (said, is_coded) in [
            (
                "HTTP/1.1 404 No\r\nContent-Type: TEXT/plain; charset=utf-8\r\nContent-Length: 1000",
                true,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked",
                true,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Type: text/html", true),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 999",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000",
                false,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Type: application/jsonx\r\nContent-Length: 1000",
                false,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1000", false),
            (
                "HTTP/1.1 206 OK\r\nContent-Type: text/html\r\nContent-Length: 1000",
                false,
            ),
            (
                "HTTP/1.1 304 OK\r\nContent-Type: text/html\r\nContent-Length: 1000",
                false,
            ),
        ] {
            let choice = choose(ASKED, said, false).0;
            assert_eq!(choice == Choice::Coded(Coding::Gzip), is_coded, "{said}");
            assert_eq!(choice == Choice::Never, !is_coded, "{said}");
        }
    }

    #[test]
    fn clients_are_asked_first() {
        let coded = Choice::Coded(Coding::Gzip);
        for (asked, expected) in [
            ("GET / HTTP/1.1\r\nHost: a", Choice::Plain),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip;q=0",
                Choice::Plain,
            ),
            ("HEAD / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip", coded),
            (
                "GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip",
                Choice::Never,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nCache-Control: no-transform",
                Choice::Never,
            ),
            (
                "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\nAuthorization: Basic x",
                Choice::Never,
            ),
        ] {
            assert_eq!(choose(asked, SAID, false).0, expected, "{asked}");
        }
        let secret = format!("{SAID}\r\nSet-Cookie: a=b");
        assert_eq!(choose(ASKED, &secret, true).0, coded);
    }

    #[test]
    fn what_is_said_stays_true() {
        for (more, lines) in [
            ("", "Vary: Accept-Encoding\r\nContent-Encoding: gzip\r\n"),
            (
                "\r\nETag: \"a\"\r\nVary: Cookie",
                "Vary: Cookie, Accept-Encoding\r\nContent-Encoding: gzip\r\nETag: W/\"a\"\r\n",
            ),
            (
                "\r\nETag: W/\"a\"\r\nVary: accept-encoding\r\nVary: X",
                "Vary: accept-encoding, X\r\nContent-Encoding: gzip\r\nETag: W/\"a\"\r\n",
            ),
            ("\r\nVary: *", "Vary: *\r\nContent-Encoding: gzip\r\n"),
        ] {
            assert_eq!(
                choose(ASKED, &format!("{SAID}{more}"), false).1,
                lines,
                "{more}"
            );
        }
        let plain = choose("GET / HTTP/1.1\r\nHost: a", SAID, false).1;
        assert_eq!(plain, "Vary: Accept-Encoding\r\n");
    }
}
