//! A strict RFC 9112 parser for heads: what it accepts is beyond dispute.
//!
//! It refuses what the RFC lets a recipient tolerate (bare LF, folded fields, two lengths), as
//! what Plimsoll sends must not depend on its peer's tolerance.

use std::fmt;

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn malformed<T>(what: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(what.into()))
}

/// The fields of a message in their order. Bytes above 127 are kept as Latin-1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// Returns the first value of `name`, in any case.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Returns all values of `name`, in any case.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
    }

    /// Returns all names, as they were sent.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| &**name).collect()
    }

    /// Tells whether a value of `name` lists `token`, in any case.
    #[must_use]
    pub fn lists(&self, name: &str, token: &str) -> bool {
        let lists = |value: &str| {
            value
                .split(',')
                .any(|t| t.trim().eq_ignore_ascii_case(token))
        };
        self.all(name).any(lists)
    }

    /// Parses lines `name: value` without their line ends.
    pub(crate) fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, Malformed> {
        lines.map(field).collect::<Result<_, _>>().map(Self)
    }
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: String,
    /// The request target as sent.
    pub target: String,
    /// The minor version: 1 for HTTP/1.1.
    pub minor: u8,
    /// The fields.
    pub fields: Fields,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// The minor version: 1 for HTTP/1.1.
    pub minor: u8,
    /// The fields.
    pub fields: Fields,
}

/// How the length of a body is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection closes.
    Close,
}

/// Returns the length of the head at the start of `bytes`, once it is complete.
///
/// # Errors
/// A line end that is not CRLF, or a NUL.
pub fn head_end(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut previous = 0;
    let mut line_start = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' if previous != b'\r' => return malformed("bare LF in a head"),
            b'\n' if at == line_start + 1 => return Ok(Some(at + 1)),
            b'\n' => line_start = at + 1,
            _ if previous == b'\r' => return malformed("bare CR in a head"),
            0 => return malformed("NUL in a head"),
            _ => {}
        }
        previous = byte;
    }
    Ok(None)
}

impl RequestHead {
    /// Parses a complete head, blank line included.
    ///
    /// # Errors
    /// What breaks the grammar or the rules for `Host`.
    pub fn parse(raw: &[u8]) -> Result<Self, Malformed> {
        let mut lines = lines(raw)?;
        let line = lines.next().unwrap_or_default();
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return malformed(format!("request line {}", text(line)));
        };
        if !is_token(method) || target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
            return malformed(format!("request line {}", text(line)));
        }
        let minor = minor_version(version)?;
        let fields = Fields::parse(lines)?;
        let hosts = fields.all("host").count();
        if hosts > 1 || (minor == 1 && hosts == 0) {
            return malformed(format!("{hosts} Host fields"));
        }
        Ok(Self {
            method: text(method),
            target: text(target),
            minor,
            fields,
        })
    }

    /// Returns how the length of the body is given.
    ///
    /// # Errors
    /// A length that is missing, doubled, or not a plain number.
    pub fn framing(&self) -> Result<Framing, Malformed> {
        Ok(declared(&self.fields, self.minor)?.unwrap_or(Framing::None))
    }

    /// Tells whether the client means to close after the response.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        wants_close(&self.fields, self.minor)
    }

    /// Returns what a proxy must not have sent on: fields that belong to the other connection.
    #[must_use]
    pub fn hop_by_hop(&self) -> Vec<&str> {
        const NAMES: [&str; 6] = [
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "upgrade",
        ];
        let names = self.fields.0.iter().map(|(name, _)| name.as_str());
        names
            .filter(|name| NAMES.iter().any(|n| n.eq_ignore_ascii_case(name)))
            .collect()
    }
}

impl ResponseHead {
    /// Parses a complete head, blank line included.
    ///
    /// # Errors
    /// What breaks the grammar.
    pub fn parse(raw: &[u8]) -> Result<Self, Malformed> {
        let mut lines = lines(raw)?;
        let line = lines.next().unwrap_or_default();
        let mut parts = line.splitn(3, |&byte| byte == b' ');
        let (Some(version), Some(status), Some(reason)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return malformed(format!("status line {}", text(line)));
        };
        let status = match text(status).parse() {
            Ok(number @ 100..=599) if status.len() == 3 => number,
            _ => return malformed(format!("status line {}", text(line))),
        };
        let minor = minor_version(version)?;
        Ok(Self {
            status,
            reason: text(reason),
            minor,
            fields: Fields::parse(lines)?,
        })
    }

    /// Returns how the length of the body is given in an answer to `method`.
    ///
    /// # Errors
    /// A length that is doubled, not a plain number, or not allowed with this status.
    pub fn framing(&self, method: &str) -> Result<Framing, Malformed> {
        let declared = declared(&self.fields, self.minor)?;
        match self.status {
            100..=199 | 204 if declared.is_some() => {
                malformed(format!("a length with status {}", self.status))
            }
            100..=199 | 204 | 304 => Ok(Framing::None),
            _ if method == "HEAD" => Ok(Framing::None),
            _ => Ok(declared.unwrap_or(Framing::Close)),
        }
    }

    /// Tells whether the server means to close after this response.
    #[must_use]
    pub fn wants_close(&self) -> bool {
        wants_close(&self.fields, self.minor)
    }
}

fn wants_close(fields: &Fields, minor: u8) -> bool {
    fields.lists("connection", "close") || (minor == 0 && !fields.lists("connection", "keep-alive"))
}

fn declared(fields: &Fields, minor: u8) -> Result<Option<Framing>, Malformed> {
    let lengths: Vec<_> = fields.all("content-length").collect();
    let codings: Vec<_> = fields.all("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
            match length.parse() {
                Ok(number) => Ok(Some(Framing::Length(number))),
                Err(_) => malformed(format!("Content-Length {length}")),
            }
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case("chunked") => {
            Ok(Some(Framing::Chunked))
        }
        _ => malformed(format!("lengths {lengths:?} and codings {codings:?}")),
    }
}

/// Splits a head into its lines, without the blank one.
fn lines(raw: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Malformed> {
    match (head_end(raw)?, raw.strip_suffix(b"\r\n\r\n")) {
        (Some(end), Some(head)) if end == raw.len() => Ok(head
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))),
        _ => malformed("a head without its one blank line at the end"),
    }
}

fn field(line: &[u8]) -> Result<(String, String), Malformed> {
    let Some(colon) = line.iter().position(|&byte| byte == b':') else {
        return malformed(format!("field {}", text(line)));
    };
    let (name, value) = line.split_at(colon);
    let value = value.strip_prefix(b":").unwrap_or(value).trim_ascii();
    let printable = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if !is_token(name) || !value.iter().all(printable) {
        return malformed(format!("field {}", text(line)));
    }
    Ok((text(name), text(value)))
}

fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

fn minor_version(version: &[u8]) -> Result<u8, Malformed> {
    match version {
        b"HTTP/1.1" => Ok(1),
        b"HTTP/1.0" => Ok(0),
        _ => malformed(format!("version {}", text(version))),
    }
}

/// Returns the bytes as Latin-1, so that none is lost.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(raw: &str) -> Result<(RequestHead, Framing), Malformed> {
        let head = RequestHead::parse(raw.as_bytes())?;
        let framing = head.framing()?;
        Ok((head, framing))
    }

    #[test]
    fn reads_a_request() {
        let (head, framing) =
            request("POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-Y:  z \r\n\r\n")
                .unwrap();
        assert_eq!(
            (&*head.method, &*head.target, head.minor),
            ("POST", "/a?b", 1)
        );
        assert_eq!(
            (framing, head.fields.first("x-y")),
            (Framing::Length(5), Some("z"))
        );
        assert!(!head.wants_close());
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for raw in [
            "GET / HTTP/1.1\nHost: x\n\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\rY: z\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\0c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nnocolon\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
            "GET /\r\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "P / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
            "P / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n",
            "P / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n",
            "P / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n",
            "P / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "P / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "P / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            "P / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(request(raw).is_err(), "{raw:?}");
        }
    }

    #[test]
    fn finds_the_end_of_a_head_and_nothing_before_it() {
        let raw = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        assert_eq!(head_end(raw), Ok(Some(raw.len() - 4)));
        for cut in 0..raw.len() - 4 {
            assert_eq!(head_end(&raw[..cut]), Ok(None), "{cut}");
        }
    }

    #[test]
    fn reads_the_framing_of_a_response() {
        let framing = |raw: &str, method| ResponseHead::parse(raw.as_bytes())?.framing(method);
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(framing(length, "GET"), Ok(Framing::Length(3)));
        assert_eq!(framing(length, "HEAD"), Ok(Framing::None));
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(framing(chunked, "GET"), Ok(Framing::Chunked));
        assert_eq!(framing("HTTP/1.1 200 \r\n\r\n", "GET"), Ok(Framing::Close));
        assert_eq!(
            framing("HTTP/1.1 100 Continue\r\n\r\n", "GET"),
            Ok(Framing::None)
        );
        assert_eq!(
            framing("HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n", "GET"),
            Ok(Framing::None)
        );
        assert!(framing("HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n", "GET").is_err());
        assert!(framing("HTTP/1.1 20 OK\r\n\r\n", "GET").is_err());
        assert!(framing("HTTP/1.1 999 OK\r\n\r\n", "GET").is_err());
        assert!(framing("HTTP/1.1 200\r\n\r\n", "GET").is_err());
    }

    #[test]
    fn names_the_fields_that_belong_to_one_connection() {
        let raw = "GET / HTTP/1.1\r\nHost: x\r\nKeep-Alive: 5\r\nTE: trailers\r\n\r\n";
        assert_eq!(request(raw).unwrap().0.hop_by_hop(), ["Keep-Alive", "TE"]);
    }
}
