//! One exchange, as the access log knows it.

use std::time::Duration;

use plimsoll_http::date::{Civil, two_digits};

/// What is known of an exchange when it has ended. Everything is borrowed: a line costs copying.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// When the request began, since 1970.
    pub at: Duration,
    /// The request id.
    pub id: &'a [u8],
    /// The client's address.
    pub client: &'a [u8],
    /// The client's port.
    pub client_port: u16,
    /// The site, or `-`.
    pub site: &'a str,
    /// The route as `file:line`, or nothing.
    pub route: &'a str,
    /// Who came in, where that was asked, or nothing.
    pub user: &'a str,
    /// The number of the configuration that decided.
    pub generation: u64,
    /// The method; empty when the request could not be read.
    pub method: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The host that the client asked for.
    pub host: &'a [u8],
    /// The canonical path.
    pub path: &'a [u8],
    /// The path as it came.
    pub raw_path: &'a [u8],
    /// The query, if there is one.
    pub query: Option<&'a [u8]>,
    /// Names of parameters whose values are not logged, beside those that nobody's are.
    pub secrets: &'a [Box<[u8]>],
    /// The version of TLS, the protocol agreed on there and the name that the client asked for; empty
    /// without.
    pub tls: Secured<'a>,
    /// `HTTP/1.1`, `HTTP/1.0`, `TCP` for a connection that was relayed, or `UDP` for a flow of datagrams.
    pub proto: &'a str,
    /// Status of the answer; 0 when the client got none. A connection has none.
    pub status: Option<u16>,
    /// Bytes of the request's body.
    pub req_bytes: u64,
    /// Bytes of the answer's body.
    pub res_bytes: u64,
    /// The pool, if one was asked.
    pub pool: Option<&'a str>,
    /// The server that was asked last.
    pub server: Option<&'a str>,
    /// How many servers were asked.
    pub attempts: u32,
    /// The server that failed before, and why.
    pub failed: Option<(&'a str, &'static str)>,
    /// Why the exchange did not end with the server's own answer.
    pub reason: Option<&'static str>,
    /// More about it, for people.
    pub detail: Option<&'static str>,
    /// What the cache did with it, or nothing.
    pub cache: &'a str,
    /// Waiting for a server with room.
    pub queue: Option<Duration>,
    /// Opening the connection.
    pub connect: Option<Duration>,
    /// From the request to the first byte of the answer.
    pub first_byte: Option<Duration>,
    /// The whole exchange.
    pub total: Duration,
    /// `User-Agent`.
    pub user_agent: &'a [u8],
    /// `Referer`.
    pub referer: &'a [u8],
    /// The trace id of `traceparent`.
    pub trace_id: &'a [u8],
}

/// What was agreed on with a client that came with TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct Secured<'a> {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The protocol that the client chose with its handshake.
    pub alpn: &'a [u8],
    /// The name that it asked for.
    pub sni: &'a str,
    /// The fingerprint of how it began.
    pub fingerprint: &'a str,
    /// Whom the certificate is for that it has shown.
    pub subject: &'a str,
}

/// Dates as the formats write them, made once a second.
#[derive(Debug, Default)]
pub struct Dates {
    second: Option<u64>,
    iso: [u8; 19],
    common: [u8; 20],
}

impl Dates {
    /// `2026-11-23T06:34:04`
    pub fn iso(&mut self, at: Duration) -> &[u8] {
        self.make(at);
        &self.iso
    }

    /// `23/Nov/2026:06:34:04`
    pub fn common(&mut self, at: Duration) -> &[u8] {
        self.make(at);
        &self.common
    }

    fn make(&mut self, at: Duration) {
        if self.second == Some(at.as_secs()) {
            return;
        }
        self.second = Some(at.as_secs());
        let c = Civil::from_unix(at.as_secs());
        let [y1, y2] = two_digits(u8::try_from(c.year / 100).unwrap_or_default());
        let [y3, y4] = two_digits(u8::try_from(c.year % 100).unwrap_or_default());
        let ([m1, m2], [d1, d2]) = (two_digits(c.month), two_digits(c.day));
        let ([h1, h2], [n1, n2], [s1, s2]) = (
            two_digits(c.hour),
            two_digits(c.minute),
            two_digits(c.second),
        );
        let [a, b, e] = *c.month_name();
        self.iso = [
            y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2,
        ];
        self.common = [
            d1, d2, b'/', a, b, e, b'/', y1, y2, y3, y4, b':', h1, h2, b':', n1, n2, b':', s1, s2,
        ];
    }
}
