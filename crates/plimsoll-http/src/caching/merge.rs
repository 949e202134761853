//! The head of a stored answer: what is kept of one that comes, and what a confirmation changes (RFC 9111 §3.1, §3.2).

use crate::field::{self, Name};
use crate::framing;
use crate::head::{Field, ResponseHead};

/// Appends the head of an answer as it is stored: without what ends at one hop, its length, which is that of the
/// body that is stored, its age, which is reckoned anew, and those named in `dropped`. `date` is when it came, for
/// servers that do not say when they made it.
pub fn stored(
    head: &ResponseHead,
    bytes: &[u8],
    (date, dropped): (&[u8], &[&[u8]]),
    out: &mut Vec<u8>,
) {
    begin(head, bytes, out);
    for line in kept(head, bytes) {
        let name = line.name_span.of(bytes);
        if !dropped
            .iter()
            .any(|dropped| dropped.eq_ignore_ascii_case(name))
        {
            field::write_line(name, line.value.of(bytes), out);
        }
    }
    if head.fields.first(Name::Date).is_none() {
        field::write_line(b"Date", date, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a stored answer after the server has confirmed it: fields of the confirmation take the
/// place of those with their names, but for those that describe the body that is stored.
pub fn merged(
    (old, old_bytes): (&ResponseHead, &[u8]),
    (new, new_bytes): (&ResponseHead, &[u8]),
    (date, dropped): (&[u8], &[&[u8]]),
    out: &mut Vec<u8>,
) {
    begin(old, old_bytes, out);
    let updates = || {
        kept(new, new_bytes).filter(|line| {
            let name = line.name_span.of(new_bytes);
            let is_dropped = dropped
                .iter()
                .any(|dropped| dropped.eq_ignore_ascii_case(name));
            !is_dropped && !describes_body(name)
        })
    };
    let is_dated = new.fields.first(Name::Date).is_some();
    for line in kept(old, old_bytes) {
        let name = line.name_span.of(old_bytes);
        let gives_way = line.name == Name::Date
            || updates().any(|new| new.name_span.of(new_bytes).eq_ignore_ascii_case(name));
        if !gives_way {
            field::write_line(name, line.value.of(old_bytes), out);
        }
    }
    for line in updates() {
        field::write_line(line.name_span.of(new_bytes), line.value.of(new_bytes), out);
    }
    if !is_dated {
        field::write_line(b"Date", date, out);
    }
    out.extend_from_slice(b"\r\n");
}

fn begin(head: &ResponseHead, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(head.status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(head.phrase.of(bytes));
    out.extend_from_slice(b"\r\n");
}

/// Lines that belong to the answer, and not to the connection that it came on.
fn kept<'a>(head: &'a ResponseHead, bytes: &'a [u8]) -> impl Iterator<Item = &'a Field> {
    let nominates = framing::nominates(&head.fields, bytes);
    head.fields.iter().filter(move |line| {
        let name = line.name_span.of(bytes);
        let is_own = line.name.is_hop_by_hop()
            || matches!(
                line.name,
                Name::ContentLength | Name::SetCookie | Name::XSendfile
            )
            || field::is_internal(name)
            || name.eq_ignore_ascii_case(b"age")
            || (nominates && framing::is_nominated(&head.fields, bytes, line));
        !is_own
    })
}

/// Tells whether a field describes a body, which a confirmation has none of.
fn describes_body(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 4] = [
        b"content-encoding",
        b"content-type",
        b"content-range",
        b"content-length",
    ];
    NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::tests::answer;

    const FIRST: &str = "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\nTransfer-Encoding: x\r\nConnection: X-A, close\r\n\
        X-A: 1\r\nKeep-Alive: x\r\nProxy-Authenticate: x\r\nAge: 5\r\nSet-Cookie: a\r\nX-Accel-Expires: 1\r\n\
        Content-Type: text/plain\r\nContent-Encoding: gzip\r\nETag: \"a\"\r\nX-B: 1\r\nX-B: 2\r\nCache-Tag: t\r\n\r\n";

    fn stored_text(text: &str) -> String {
        let (head, bytes) = answer(text);
        let mut out = Vec::new();
        stored(&head, &bytes, (b"D", &[b"cache-tag"]), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_ends_at_one_hop_is_not_stored() {
        assert_eq!(
            stored_text(FIRST),
            "HTTP/1.1 200 Fine\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\nETag: \"a\"\r\n\
             X-B: 1\r\nX-B: 2\r\nDate: D\r\n\r\n"
        );
        let dated = "HTTP/1.1 404 \r\nDate: E\r\n\r\n";
        assert_eq!(stored_text(dated), dated);
    }

    #[test]
    fn confirmations_change_what_is_not_of_the_body() {
        let (old, old_bytes) = answer(&stored_text(FIRST));
        let (new, new_bytes) = answer(
            "HTTP/1.1 304 Not\r\nContent-Type: text/html\r\nContent-Encoding: br\r\nContent-Length: 9\r\n\
             etag: \"b\"\r\nx-b: 3\r\nX-New: 4\r\nCache-Control: max-age=5\r\nConnection: close\r\n\
             Set-Cookie: b\r\nCache-Tag: u\r\n\r\n",
        );
        let mut out = Vec::new();
        let parts = (&b"F"[..], &[&b"cache-tag"[..]][..]);
        merged((&old, &old_bytes), (&new, &new_bytes), parts, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 200 Fine\r\nContent-Type: text/plain\r\nContent-Encoding: gzip\r\netag: \"b\"\r\nx-b: 3\r\n\
             X-New: 4\r\nCache-Control: max-age=5\r\nDate: F\r\n\r\n"
        );
    }
}
