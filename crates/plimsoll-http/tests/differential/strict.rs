//! A second reader of HTTP/1 requests, made from the grammars of RFC 9110, 9112 and 3986 alone.
//!
//! It shares no code with the crate and no library: it reads byte by byte, allocates freely, and
//! refuses whatever the grammar does not say. Where an RFC lets a recipient choose between repair
//! and refusal, it refuses. The one exception is a target's visible characters that RFC 3986
//! leaves out (`|`, `"`): browsers send them, and no reader takes them for a delimiter.

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The bytes end before the message does.
    More,
    /// No further byte can make it a message.
    Bad,
}

type Read<T> = Result<T, Stop>;

/// Where the body of a request ends (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(u64),
    Chunked,
}

pub(crate) type Line<'a> = (&'a [u8], &'a [u8]);

/// A request head.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub method: &'a [u8],
    pub target: &'a [u8],
    /// The digit behind `HTTP/1.`
    pub minor: u8,
    pub fields: Vec<Line<'a>>,
    /// Of the target if it has one, else of `Host`.
    pub authority: &'a [u8],
    pub body: Body,
    /// Whether another request may follow (RFC 9112 §9.3).
    pub persists: bool,
    /// Bytes of the head, with all that stands before it.
    pub len: usize,
}

/// What a chunked body holds, up to where reading it stopped.
#[derive(Debug, Default)]
pub(crate) struct Chunks<'a> {
    pub data: Vec<u8>,
    pub trailer: Vec<Line<'a>>,
    /// Whether the last chunk was reached.
    pub in_trailer: bool,
    /// Bytes that were read.
    pub len: usize,
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Read<u8> {
        self.bytes.get(self.at).copied().ok_or(Stop::More)
    }

    fn expect(&mut self, text: &[u8]) -> Read<()> {
        for &expected in text {
            if self.peek()? != expected {
                return Err(Stop::Bad);
            }
            self.at += 1;
        }
        Ok(())
    }

    /// One or more bytes of a kind, and a byte behind them that is of another.
    fn some(&mut self, is_kind: fn(u8) -> bool) -> Read<&'a [u8]> {
        let text = self.any(is_kind)?;
        if text.is_empty() {
            return Err(Stop::Bad);
        }
        Ok(text)
    }

    fn any(&mut self, is_kind: fn(u8) -> bool) -> Read<&'a [u8]> {
        let start = self.at;
        while is_kind(self.peek()?) {
            self.at += 1;
        }
        Ok(self.bytes.get(start..self.at).unwrap_or_default())
    }
}

/// Reads a request head.
pub(crate) fn request(bytes: &[u8]) -> Read<Request<'_>> {
    let mut reader = Reader { bytes, at: 0 };
    // RFC 9112 §2.2: empty lines before the request line are ignored.
    while reader.peek()? == b'\r' {
        reader.expect(b"\r\n")?;
    }
    let method = reader.some(is_tchar)?;
    reader.expect(b" ")?;
    let target = reader.some(|b| is_vchar(b) && b != b'#')?;
    reader.expect(b" HTTP/1.")?;
    let minor = match reader.peek()? {
        b'0' => 0,
        b'1' => 1,
        _ => return Err(Stop::Bad),
    };
    reader.at += 1;
    reader.expect(b"\r\n")?;
    let fields = field_lines(&mut reader)?;
    let host = host(&fields, minor)?;
    let authority = target_authority(method, target)?.or(host);
    let request = Request {
        method,
        target,
        minor,
        authority: authority.unwrap_or_default(),
        body: body(&fields, minor)?,
        persists: persists(&fields, minor),
        len: reader.at,
        fields,
    };
    Ok(request)
}

/// Reads a chunked body (RFC 9112 §7.1) into `chunks`, as far as it goes.
pub(crate) fn chunked<'a>(bytes: &'a [u8], chunks: &mut Chunks<'a>) -> Read<()> {
    let mut reader = Reader { bytes, at: 0 };
    loop {
        let digits = reader.some(|b| b.is_ascii_hexdigit())?;
        let size = number(digits, 16)?;
        chunk_extensions(&mut reader)?;
        reader.expect(b"\r\n")?;
        if size == 0 {
            break;
        }
        for _ in 0..size {
            chunks.data.push(reader.peek()?);
            reader.at += 1;
        }
        reader.expect(b"\r\n")?;
    }
    chunks.in_trailer = true;
    chunks.trailer = field_lines(&mut reader)?;
    chunks.len = reader.at;
    Ok(())
}

/// The segments that a path names (RFC 3986 §5.2.4), decoded, and whether it ends in a slash.
/// Empty segments name nothing. There is no meaning above the root.
pub(crate) fn meaning(path: &[u8]) -> Option<(Vec<Vec<u8>>, bool)> {
    let mut segments: Vec<Vec<u8>> = Vec::new();
    let mut is_folder = false;
    for segment in path.strip_prefix(b"/")?.split(|&b| b == b'/') {
        let name = decode(segment)?;
        is_folder = matches!(name.as_slice(), b"" | b"." | b"..");
        match name.as_slice() {
            b"" | b"." => {}
            b".." => drop(segments.pop()?),
            _ => segments.push(name),
        }
    }
    Some((segments, is_folder))
}

/// `1*( "/" segment )` of RFC 9110 §4.1.
pub(crate) fn is_absolute_path(path: &[u8]) -> bool {
    let is_pchar = |&b: &u8| is_unreserved(b) || is_sub_delim(b) || b"%:@/".contains(&b);
    path.first() == Some(&b'/') && path.iter().all(is_pchar) && decode(path).is_some()
}

/// `*( field-line CRLF ) CRLF`, without the obsolete folding.
fn field_lines<'a>(reader: &mut Reader<'a>) -> Read<Vec<Line<'a>>> {
    let mut lines = Vec::new();
    while reader.peek()? != b'\r' {
        let name = reader.some(is_tchar)?;
        reader.expect(b":")?;
        let value = reader.any(|b| is_blank(b) || is_vchar(b) || b >= 0x80)?;
        reader.expect(b"\r\n")?;
        lines.push((name, without_blanks(value)));
    }
    reader.expect(b"\r\n")?;
    Ok(lines)
}

/// RFC 9112 §7.1.1, without the white space that it calls bad.
fn chunk_extensions(reader: &mut Reader<'_>) -> Read<()> {
    while reader.peek()? == b';' {
        reader.at += 1;
        reader.some(is_tchar)?;
        if reader.peek()? != b'=' {
            continue;
        }
        reader.at += 1;
        match reader.peek()? {
            b'"' => quoted_string(reader)?,
            _ => drop(reader.some(is_tchar)?),
        }
    }
    Ok(())
}

fn quoted_string(reader: &mut Reader<'_>) -> Read<()> {
    reader.expect(b"\"")?;
    loop {
        let byte = reader.peek()?;
        reader.at += 1;
        match byte {
            b'"' => return Ok(()),
            b'\\' => {
                let escaped = reader.peek()?;
                if !(is_blank(escaped) || is_vchar(escaped) || escaped >= 0x80) {
                    return Err(Stop::Bad);
                }
                reader.at += 1;
            }
            b if is_blank(b) || is_vchar(b) || b >= 0x80 => {}
            _ => return Err(Stop::Bad),
        }
    }
}

fn values<'a>(fields: &[Line<'a>], name: &str) -> Vec<&'a [u8]> {
    let named = fields
        .iter()
        .filter(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| *value).collect()
}

/// RFC 9112 §3.2: HTTP/1.1 has one valid `Host`, HTTP/1.0 may have one.
fn host<'a>(fields: &[Line<'a>], minor: u8) -> Read<Option<&'a [u8]>> {
    match values(fields, "host").as_slice() {
        [] if minor == 0 => Ok(None),
        [host] if is_authority(host) => Ok(Some(host)),
        _ => Err(Stop::Bad),
    }
}

/// The four forms of a target (RFC 9112 §3.2); returns the authority that it holds.
fn target_authority<'a>(method: &[u8], target: &'a [u8]) -> Read<Option<&'a [u8]>> {
    let authority = match target {
        _ if method == b"CONNECT" => target,
        b"*" if method == b"OPTIONS" => return Ok(None),
        [b'/', ..] => return Ok(None),
        _ => {
            let (scheme, rest) = target.split_at_checked(7).ok_or(Stop::Bad)?;
            if !scheme.eq_ignore_ascii_case(b"http://") {
                return Err(Stop::Bad);
            }
            let end = rest.iter().position(|b| b"/?".contains(b));
            rest.get(..end.unwrap_or(rest.len())).unwrap_or_default()
        }
    };
    if is_authority(authority) {
        Ok(Some(authority))
    } else {
        Err(Stop::Bad)
    }
}

/// `uri-host [ ":" port ]`, neither of them empty, and without user information.
fn is_authority(text: &[u8]) -> bool {
    let host_end = match text.iter().position(|&b| b == b']') {
        Some(bracket) => bracket + 1,
        None => text.iter().position(|&b| b == b':').unwrap_or(text.len()),
    };
    let Some((host, port)) = text.split_at_checked(host_end) else {
        return false;
    };
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let is_host = match host {
        [] => false,
        [b'[', address @ .., b']'] => std::str::from_utf8(address)
            .is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        name => {
            let is_name = |&b: &u8| is_unreserved(b) || is_sub_delim(b) || b == b'%';
            name.iter().all(is_name) && decode(name).is_some()
        }
    };
    is_port && is_host
}

/// RFC 9112 §6.1 to §6.3, where anything that could be read in two ways is an error.
fn body(fields: &[Line<'_>], minor: u8) -> Read<Body> {
    let lengths = values(fields, "content-length");
    let codings = values(fields, "transfer-encoding");
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(Body::None),
        ([length], []) if length.iter().all(u8::is_ascii_digit) => {
            Ok(Body::Length(number(length, 10)?))
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Body::Chunked)
        }
        _ => Err(Stop::Bad),
    }
}

fn persists(fields: &[Line<'_>], minor: u8) -> bool {
    let options: Vec<&[u8]> = values(fields, "connection")
        .into_iter()
        .flat_map(|value| value.split(|&b| b == b','))
        .map(without_blanks)
        .collect();
    let says = |option: &str| {
        options
            .iter()
            .any(|said| said.eq_ignore_ascii_case(option.as_bytes()))
    };
    !says("close") && (minor == 1 || says("keep-alive"))
}

/// A number that 64 bits hold; there is at least one digit.
fn number(digits: &[u8], radix: u32) -> Read<u64> {
    let digits = std::str::from_utf8(digits).map_err(|_| Stop::Bad)?;
    let mut value: u64 = 0;
    for digit in digits.chars() {
        let digit = u64::from(digit.to_digit(radix).ok_or(Stop::Bad)?);
        value = value
            .checked_mul(u64::from(radix))
            .and_then(|value| value.checked_add(digit))
            .ok_or(Stop::Bad)?;
    }
    match digits {
        "" => Err(Stop::Bad),
        _ => Ok(value),
    }
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let [high, low, after @ ..] = rest else {
            return None;
        };
        let digit = |b: u8| char::from(b).to_digit(16);
        out.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
        rest = after;
    }
    Some(out)
}

fn without_blanks(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

fn is_blank(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

fn is_vchar(b: u8) -> bool {
    matches!(b, 0x21..=0x7e)
}

fn is_tchar(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
        )
        || matches!(b, b'`' | b'|' | b'~')
}

fn is_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~')
}

fn is_sub_delim(b: u8) -> bool {
    matches!(
        b,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}
