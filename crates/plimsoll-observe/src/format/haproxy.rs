//! HAProxy's logs of requests (`httplog`) and of connections (`tcplog`), so that halog reads them.

use std::time::Duration;

use super::{millis, number, padded, request_line};
use crate::access_log::{Dates, Record};

pub(super) fn write(record: &Record<'_>, dates: &mut Dates, out: &mut Vec<u8>) {
    whose(record, dates, out);
    match record.status {
        Some(status) => request(record, status, out),
        None => connection(record, out),
    }
}

/// When it began, from whom, and who served it.
fn whose(record: &Record<'_>, dates: &mut Dates, out: &mut Vec<u8>) {
    out.extend_from_slice(record.client);
    out.push(b':');
    number(u64::from(record.client_port), out);
    out.extend_from_slice(b" [");
    out.extend_from_slice(dates.common(record.at));
    out.push(b'.');
    padded(record.at.subsec_millis(), 3, out);
    out.extend_from_slice(b"] ");
    out.extend_from_slice(record.site.as_bytes());
    out.push(b' ');
    out.extend_from_slice(record.pool.unwrap_or("<NOSRV>").as_bytes());
    out.push(b'/');
    out.extend_from_slice(record.server.unwrap_or("<NOSRV>").as_bytes());
    out.push(b' ');
}

/// How long something took; -1 is "did not happen".
fn time(time: Option<Duration>, out: &mut Vec<u8>) {
    match time {
        Some(time) => number(millis(time), out),
        None => out.extend_from_slice(b"-1"),
    }
    out.push(b'/');
}

/// How many connections there were, which nobody has counted here, and how often another server was asked.
fn counts(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b" 0/0/0/0/");
    number(u64::from(record.attempts.saturating_sub(1)), out);
    out.extend_from_slice(b" 0/0");
}

/// Tw/Tc/Tt, bytes to the client, how it ended, counts.
fn connection(record: &Record<'_>, out: &mut Vec<u8>) {
    time(Some(record.queue.unwrap_or_default()), out);
    time(record.connect, out);
    number(millis(record.total), out);
    out.push(b' ');
    number(record.res_bytes, out);
    out.push(b' ');
    out.extend_from_slice(termination(record.reason).get(..2).unwrap_or_default());
    counts(record, out);
    out.push(b'\n');
}

/// TR/Tw/Tc/Tr/Ta, status, bytes to the client, cookies, how it ended, counts, the request.
fn request(record: &Record<'_>, status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0/");
    time(Some(record.queue.unwrap_or_default()), out);
    time(record.connect, out);
    time(record.first_byte, out);
    number(millis(record.total), out);
    out.push(b' ');
    number(u64::from(status), out);
    out.push(b' ');
    number(record.res_bytes, out);
    out.extend_from_slice(b" - - ");
    out.extend_from_slice(termination(record.reason));
    counts(record, out);
    out.extend_from_slice(b" \"");
    if record.method.is_empty() {
        out.extend_from_slice(b"<BADREQ>");
    } else {
        request_line(record, out);
    }
    out.extend_from_slice(b"\"\n");
}

/// HAProxy's two letters: who ended it, and when. The cookie letters do not apply.
fn termination(reason: Option<&str>) -> &'static [u8] {
    match reason {
        None => b"----",
        Some("client_aborted") => b"CD--",
        Some("client_timeout") => b"cR--",
        Some("client_stalled") => b"cD--",
        Some("http_request_error") => b"PR--",
        Some(
            "connection_refused"
            | "connection_timeout"
            | "destination_ip_unroutable"
            | "dns_timeout"
            | "dns_error",
        ) => b"SC--",
        Some("http_response_timeout") => b"sH--",
        Some("connection_read_timeout") => b"sD--",
        Some("connection_terminated") => b"SH--",
        Some("http_response_incomplete") => b"SD--",
        Some("destination_unavailable" | "connection_limit_reached") => b"SC--",
        Some("proxy_internal_response") => b"LR--",
        Some(_) => b"PH--",
    }
}
