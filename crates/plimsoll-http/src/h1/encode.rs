//! Heads to bytes. What is written here is canonical: one form of line end, one length.

use crate::cookie::{self, Hide, Mark};
use crate::edit::FieldEdits;
use crate::field::{self, Name};
use crate::forwarded::{self, Told};
use crate::framing::{self, Length};
use crate::head::{Field, Fields, RequestHead, ResponseHead, Version};
use crate::request;

/// What a forwarded request says besides the client's own fields.
#[derive(Debug)]
pub struct Forward<'a> {
    /// The method.
    pub method: &'a [u8],
    /// The path, in canonical form.
    pub path: &'a [u8],
    /// The query, without its question mark.
    pub query: Option<&'a [u8]>,
    /// What `Host` says.
    pub host: &'a [u8],
    /// Who sent it, and how.
    pub told: Told<'a>,
    /// Lines about the certificate that the client has shown; nothing where nobody asked for one.
    pub certificate: Option<&'a [u8]>,
    /// The id of the request.
    pub request_id: &'a [u8],
    /// How the body is sent on.
    pub length: Length,
    /// The new value of `Max-Forwards`, when it counts.
    pub max_forwards: Option<u32>,
    /// Whether the client needs no longer be told to send the body.
    pub is_body_here: bool,
    /// The protocol that is asked for instead of HTTP.
    pub upgrade: Option<&'a [u8]>,
    /// What servers do not see of its cookies.
    pub hide: Option<Hide<'a>>,
    /// What rules do to its fields.
    pub edits: Option<&'a FieldEdits>,
    /// Lines that rules add, whole.
    pub added: &'a [u8],
    /// Whether the whole answer is asked for, although the client asked for a part of it or has it already.
    pub is_whole: bool,
    /// Whether it is asked for without a content coding, whatever the client likes.
    pub is_plain: bool,
}

/// Appends the head of a forwarded request to `out`; returns how many fields it left out because
/// their names could be taken for others.
pub fn request(head: &RequestHead, bytes: &[u8], forward: &Forward<'_>, out: &mut Vec<u8>) -> u32 {
    request_line(forward, out);
    let nominates = framing::nominates(&head.fields, bytes);
    let mut aliases = 0;
    for line in head.fields.iter() {
        if request::is_alias(line.name_span.of(bytes)) {
            aliases += 1;
            continue;
        }
        let replaced = match line.name {
            Name::Host | Name::ContentLength | Name::XRequestId => true,
            Name::Expect => head.version == Version::Http10 || forward.is_body_here,
            Name::MaxForwards => forward.max_forwards.is_some(),
            Name::Other => {
                let name = line.name_span.of(bytes);
                (forward.is_whole && request::narrows(name))
                    || (forward.is_plain && name.eq_ignore_ascii_case(b"accept-encoding"))
                    || (forward.told.trusted.is_none() && field::is_vouched(name))
                    || (forward.certificate.is_some() && field::is_certificate(name))
            }
            name => name.is_hop_by_hop() || name.is_forwarding(),
        };
        if replaced || (nominates && framing::is_nominated(&head.fields, bytes, line)) {
            continue;
        }
        match forward.hide {
            Some(hide) if line.name == Name::Cookie => {
                cookie::request_field(line.value.of(bytes), hide, out);
            }
            _ => edited_line(line, bytes, forward.edits, out),
        }
    }
    own_lines(head, bytes, forward, out);
    out.extend_from_slice(forward.added);
    if forward.is_plain {
        field::write_line(b"Accept-Encoding", b"identity", out);
    }
    length(forward.length, out);
    if let Some(protocol) = forward.upgrade {
        upgrade(protocol, out);
    }
    out.extend_from_slice(b"\r\n");
    aliases
}

fn request_line(forward: &Forward<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(forward.method);
    out.push(b' ');
    out.extend_from_slice(forward.path);
    if let Some(query) = forward.query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(forward.host);
    out.extend_from_slice(b"\r\n");
}

/// What this proxy says of a request, unless rules say something else.
fn own_lines(head: &RequestHead, bytes: &[u8], forward: &Forward<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    if let Some(hops) = forward.max_forwards {
        out.extend_from_slice(b"Max-Forwards: ");
        decimal(u64::from(hops), out);
        out.extend_from_slice(b"\r\n");
    }
    // RFC 9110 §7.6.3: the version of the message that was received.
    out.extend_from_slice(match head.version {
        Version::Http10 => b"Via: 1.0 plimsoll\r\n",
        Version::Http11 => b"Via: 1.1 plimsoll\r\n",
        Version::Http2 => b"Via: 2.0 plimsoll\r\n",
    });
    forwarded::write(head, bytes, &forward.told, out);
    out.extend_from_slice(forward.certificate.unwrap_or_default());
    out.extend_from_slice(b"X-Request-ID: ");
    out.extend_from_slice(forward.request_id);
    out.extend_from_slice(b"\r\n");
    if let Some(edits) = forward.edits {
        edits.change_lines(start, out);
    }
}

/// How a response is sent on.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Status and phrase in place of its own.
    pub status: Option<(u16, &'a str)>,
    /// How the client finds the end; `Empty` leaves a `Content-Length` that describes what is not
    /// sent (HEAD, 304) as it is.
    pub length: Length,
    /// What `Connection` says, if anything.
    pub connection: Option<&'static str>,
    /// The protocol that is switched to.
    pub upgrade: Option<&'a [u8]>,
    /// The date, for servers that do not send one.
    pub date: &'a [u8],
    /// What says which server the client belongs to.
    pub mark: Option<Mark<'a>>,
    /// What rules do to its fields.
    pub edits: Option<&'a FieldEdits>,
    /// Lines whose names its own fields give way to; cookies do not.
    pub over: &'a [u8],
    /// Lines that rules add, whole.
    pub added: &'a [u8],
}

/// Appends the head of a forwarded final response to `out`.
pub fn response(head: &ResponseHead, bytes: &[u8], reply: &Reply<'_>, out: &mut Vec<u8>) {
    status_line(head, bytes, reply.status, out);
    let keep_length = reply.length == Length::Empty && !matches!(head.status, 101 | 204);
    let mut dated = false;
    response_fields(&head.fields, bytes, reply.edits, out, |line, out| {
        dated |= line.name == Name::Date;
        let gives_way = !reply.over.is_empty() && line.name != Name::SetCookie;
        if gives_way && has_line(reply.over, line.name_span.of(bytes)) {
            return false;
        }
        match (reply.mark, line.name) {
            (_, Name::ContentLength) => keep_length,
            (Some(mark), Name::SetCookie) => {
                !cookie::response_field(line.value.of(bytes), mark, out)
            }
            _ => true,
        }
    });
    if let Some(Mark::Add(cookie)) = reply.mark {
        cookie.write(out);
        out.extend_from_slice(b"Cache-Control: private\r\n");
    }
    let dated = dated || reply.edits.is_some_and(|edits| edits.drops(b"date"));
    if !dated {
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(reply.date);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(reply.added);
    if reply.length != Length::Empty {
        length(reply.length, out);
    }
    if let Some(connection) = reply.connection {
        out.extend_from_slice(b"Connection: ");
        out.extend_from_slice(connection.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if let Some(protocol) = reply.upgrade {
        upgrade(protocol, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn upgrade(protocol: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"Connection: Upgrade\r\n");
    field::write_line(b"Upgrade", protocol, out);
}

/// Appends an interim (1xx) response to `out`.
pub fn interim(head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    status_line(head, bytes, None, out);
    response_fields(&head.fields, bytes, None, out, |line, _| {
        line.name != Name::ContentLength
    });
    out.extend_from_slice(b"\r\n");
}

/// Appends what ends a chunked body: the last chunk, the trailer section, the empty line.
pub fn last_chunk<'a>(trailer: impl Iterator<Item = (&'a [u8], &'a [u8])>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailer {
        field::write_line(name, value, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends `n` in decimal.
pub fn decimal(n: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
}

fn status_line(head: &ResponseHead, bytes: &[u8], other: Option<(u16, &str)>, out: &mut Vec<u8>) {
    let own = || (head.status, head.phrase.of(bytes));
    let (status, phrase) = other.map_or_else(own, |(status, phrase)| (status, phrase.as_bytes()));
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(u64::from(status), out);
    out.push(b' ');
    out.extend_from_slice(phrase);
    out.extend_from_slice(b"\r\n");
}

fn response_fields(
    fields: &Fields,
    bytes: &[u8],
    edits: Option<&FieldEdits>,
    out: &mut Vec<u8>,
    mut keep: impl FnMut(&Field, &mut Vec<u8>) -> bool,
) {
    let nominates = framing::nominates(fields, bytes);
    for line in fields.iter() {
        let internal = line.name == Name::XSendfile
            || (line.name == Name::Other && field::is_internal(line.name_span.of(bytes)));
        if line.name.is_hop_by_hop()
            || internal
            || (nominates && framing::is_nominated(fields, bytes, line))
        {
            continue;
        }
        if keep(line, out) {
            edited_line(line, bytes, edits, out);
        }
    }
}

/// Tells whether one of the lines in `lines` is called `name`.
pub fn has_line(lines: &[u8], name: &[u8]) -> bool {
    lines.split(|b| *b == b'\n').any(|line| {
        let (start, rest) = line.split_at_checked(name.len()).unwrap_or_default();
        rest.starts_with(b":") && start.eq_ignore_ascii_case(name)
    })
}

fn edited_line(line: &Field, bytes: &[u8], edits: Option<&FieldEdits>, out: &mut Vec<u8>) {
    let (name, value) = (line.name_span.of(bytes), line.value.of(bytes));
    if !edits.is_some_and(|edits| edits.write(name, value, out)) {
        field::write_line(name, value, out);
    }
}

fn length(length: Length, out: &mut Vec<u8>) {
    match length {
        Length::Empty | Length::UntilClose => {}
        Length::Exactly(bytes) => {
            out.extend_from_slice(b"Content-Length: ");
            decimal(bytes, out);
            out.extend_from_slice(b"\r\n");
        }
        Length::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarded::AddressText;
    use crate::h1::parse::{self, HeadLimits};
    use crate::method::Method;
    use crate::target::Target;

    fn forwarded_head(text: &str) -> String {
        let bytes = text.as_bytes();
        let (mut head, mut target) = (RequestHead::default(), Target::default());
        parse::request(bytes, &HeadLimits::default(), &mut head).unwrap();
        let sound = request::check(&head, bytes, &mut target).unwrap();
        let mut out = Vec::new();
        let forward = Forward {
            certificate: None,
            method: head.method_span.of(bytes),
            path: target.path(bytes),
            query: target.query.map(|query| query.of(bytes)),
            host: sound.authority.of(bytes),
            told: Told {
                peer: &AddressText::new("192.0.2.1".parse().unwrap()),
                host: sound.authority.of(bytes),
                scheme: "http",
                trusted: None,
            },
            request_id: &forwarded::request_id(0, 0),
            length: sound.framing.length(),
            max_forwards: None,
            is_body_here: false,
            upgrade: None,
            hide: None,
            edits: None,
            added: b"",
            is_whole: false,
            is_plain: false,
        };
        request(&head, bytes, &forward, &mut out);
        String::from_utf8(out).unwrap()
    }

    const OURS: &str = "Via: 1.1 plimsoll\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n\
        X-Forwarded-Host: h\r\nForwarded: for=192.0.2.1;proto=http;host=\"h\"\r\n\
        X-Request-ID: 00000000-0000-7000-8000-000000000000\r\n";

    #[test]
    fn requests_lose_what_ends_here_and_gain_what_we_say() {
        let sent = forwarded_head(
            "POST /a/../b?c HTTP/1.1\r\nhost: h\r\nA:  1 \r\nConnection: close, B, Cookie, X-Forwarded-For\r\nB: 2\r\n\
             Keep-Alive: x\r\nTE: trailers\r\nUpgrade: h2c\r\nProxy-Connection: x\r\nX-Forwarded-For: 6.6.6.6\r\n\
             X_Forwarded_For: 6\r\nForwarded: for=6\r\nX-Real-IP: 6\r\nX-Request-ID: 6\r\nCookie: c\r\nA: 2\r\n\
             Content-Length: 3\r\n\r\nabc",
        );
        assert_eq!(
            sent,
            format!(
                "POST /b?c HTTP/1.1\r\nHost: h\r\nA: 1\r\nCookie: c\r\nA: 2\r\n{OURS}Content-Length: 3\r\n\r\n"
            )
        );
    }

    #[test]
    fn the_authority_of_the_target_wins() {
        let sent = forwarded_head("GET http://h/x HTTP/1.1\r\nHost: other\r\n\r\n");
        assert_eq!(sent, format!("GET /x HTTP/1.1\r\nHost: h\r\n{OURS}\r\n"));
    }

    #[test]
    fn responses_lose_what_ends_here() {
        let bytes = b"HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nX-Accel-Redirect: /x\r\nConnection: X-A\r\nX-A: 1\r\n\
            Set-Cookie: a\r\nSet-Cookie: b\r\nTransfer-Encoding: x\r\n\r\n";
        let mut head = ResponseHead::default();
        parse::response(bytes, &mut head).unwrap();
        let mut out = Vec::new();
        let reply = Reply {
            status: None,
            length: Length::Exactly(5),
            connection: Some("close"),
            upgrade: None,
            date: b"D",
            mark: None,
            edits: None,
            over: b"",
            added: b"",
        };
        response(&head, bytes, &reply, &mut out);
        assert_eq!(
            std::str::from_utf8(&out),
            Ok(
                "HTTP/1.1 200 Fine\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: D\r\nContent-Length: 5\r\nConnection: close\r\n\r\n"
            )
        );
        assert_eq!(Method::Get, Method::from_token(b"GET"));
    }
}
