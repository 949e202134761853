//! NGINX's `combined` format, byte for byte, so that goaccess and fail2ban read it.

use super::{cut, escape_hex, number, request_line};
use crate::access_log::{Dates, Record};
use crate::redact;

pub(super) fn write(record: &Record<'_>, dates: &mut Dates, out: &mut Vec<u8>) {
    out.extend_from_slice(record.client);
    out.extend_from_slice(b" - ");
    match record.user {
        "" => out.push(b'-'),
        // A blank would be taken for the end of the user.
        user => user
            .split(' ')
            .for_each(|part| escape_hex(part.as_bytes(), out)),
    }
    out.extend_from_slice(b" [");
    out.extend_from_slice(dates.common(record.at));
    out.extend_from_slice(b" +0000] \"");
    if !record.method.is_empty() {
        request_line(record, out);
    }
    out.extend_from_slice(b"\" ");
    number(u64::from(record.status.unwrap_or_default()), out);
    out.push(b' ');
    number(record.res_bytes, out);
    out.extend_from_slice(b" \"");
    match record.referer {
        b"" => out.push(b'-'),
        referer => redact::uri(cut(referer), record.secrets, |part| escape_hex(part, out)),
    }
    out.extend_from_slice(b"\" \"");
    match record.user_agent {
        b"" => out.push(b'-'),
        user_agent => escape_hex(user_agent, out),
    }
    out.push(b'"');
    out.push(b'\n');
}
