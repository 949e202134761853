//! A second reader of HTTP/1.1 requests, written from the grammar of RFC 9112 and 9110 alone, one
//! byte after the other. It is slow and refuses whatever the grammar does not have.

/// A request as this reader understands it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) minor: u8,
    /// Names in lower case, values without the white space around them.
    pub(crate) fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// Bytes of the head, its empty line included.
    pub(crate) head: usize,
    pub(crate) body: Body,
}

/// How a body is delimited.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Body {
    None,
    Length(u64),
    Chunked,
}

/// Reads bytes in order.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn expect(&mut self, text: &[u8]) -> Option<()> {
        let rest = self.bytes.get(self.at..)?;
        rest.starts_with(text).then(|| self.at += text.len())
    }

    fn while_is(&mut self, is: impl Fn(u8) -> bool) -> &'a [u8] {
        let start = self.at;
        while self.peek().is_some_and(&is) {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }
}

/// RFC 9110 §5.6.2.
fn is_tchar(b: u8) -> bool {
    match b {
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' => true,
        b'^' | b'_' | b'`' | b'|' | b'~' => true,
        _ => b.is_ascii_digit() || b.is_ascii_alphabetic(),
    }
}

fn is_vchar(b: u8) -> bool {
    (0x21..=0x7e).contains(&b)
}

/// RFC 9110 §5.5: field-vchar, and the white space between two of them.
fn is_value(b: u8) -> bool {
    is_vchar(b) || b >= 0x80 || b == b' ' || b == b'\t'
}

/// Reads a request's head; nothing when it is not one, or not all of one.
pub(crate) fn request(bytes: &[u8]) -> Option<Request> {
    let mut cursor = Cursor { bytes, at: 0 };
    while cursor.expect(b"\r\n").is_some() {} // RFC 9112 §2.2
    let method = cursor.while_is(is_tchar).to_vec();
    cursor.expect(b" ")?;
    let target = cursor.while_is(is_vchar).to_vec();
    cursor.expect(b" HTTP/1.")?;
    let minor = match cursor.next()? {
        b'0' => 0,
        b'1' => 1,
        _ => return None,
    };
    cursor.expect(b"\r\n")?;
    if method.is_empty() || target.is_empty() {
        return None;
    }
    let mut fields = Vec::new();
    while cursor.expect(b"\r\n").is_none() {
        fields.push(field_line(&mut cursor)?);
    }
    let body = body(&fields, minor)?;
    let hosts = fields.iter().filter(|(name, _)| name == b"host").count();
    if hosts > 1 || (minor == 1 && hosts == 0) {
        return None; // RFC 9112 §3.2
    }
    Some(Request {
        method,
        target,
        minor,
        fields,
        head: cursor.at,
        body,
    })
}

fn field_line(cursor: &mut Cursor<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let name = cursor.while_is(is_tchar).to_ascii_lowercase();
    if name.is_empty() {
        return None;
    }
    cursor.expect(b":")?;
    let value = cursor.while_is(is_value).to_vec();
    cursor.expect(b"\r\n")?;
    let is_blank = |b: &u8| *b == b' ' || *b == b'\t';
    let start = value
        .iter()
        .position(|b| !is_blank(b))
        .unwrap_or(value.len());
    let end = value
        .iter()
        .rposition(|b| !is_blank(b))
        .map_or(start, |at| at + 1);
    Some((name, value[start..end].to_vec()))
}

/// RFC 9112 §6.3, with everything refused in which two readers could differ.
fn body(fields: &[(Vec<u8>, Vec<u8>)], minor: u8) -> Option<Body> {
    let all = |wanted: &[u8]| {
        let of = fields.iter().filter(|(name, _)| name == wanted);
        of.map(|(_, value)| value.as_slice()).collect::<Vec<_>>()
    };
    match (
        all(b"content-length").as_slice(),
        all(b"transfer-encoding").as_slice(),
    ) {
        ([], []) => Some(Body::None),
        ([length], []) => {
            let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let length = std::str::from_utf8(length).ok().filter(|_| is_number)?;
            length.parse().ok().map(Body::Length)
        }
        ([], [coding]) if minor == 1 && coding.eq_ignore_ascii_case(b"chunked") => {
            Some(Body::Chunked)
        }
        _ => None,
    }
}

/// Reads a whole chunked body (RFC 9112 §7.1): its data, and how many bytes it took.
pub(crate) fn chunked(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut cursor = Cursor { bytes, at: 0 };
    let mut data = Vec::new();
    loop {
        let digits = cursor.while_is(|b| b.is_ascii_hexdigit());
        let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        extensions(&mut cursor)?;
        cursor.expect(b"\r\n")?;
        if size == 0 {
            break;
        }
        for _ in 0..size {
            data.push(cursor.next()?);
        }
        cursor.expect(b"\r\n")?;
    }
    while cursor.expect(b"\r\n").is_none() {
        field_line(&mut cursor)?;
    }
    Some((data, cursor.at))
}

/// RFC 9112 §7.1.1, without the white space that it calls bad.
fn extensions(cursor: &mut Cursor<'_>) -> Option<()> {
    while cursor.expect(b";").is_some() {
        if cursor.while_is(is_tchar).is_empty() {
            return None;
        }
        if cursor.expect(b"=").is_none() {
            continue;
        }
        if cursor.expect(b"\"").is_none() {
            if cursor.while_is(is_tchar).is_empty() {
                return None;
            }
            continue;
        }
        loop {
            match cursor.next()? {
                b'"' => break,
                b'\\' => {
                    cursor.next().filter(|b| is_value(*b))?;
                }
                b => {
                    is_value(b).then_some(())?;
                }
            }
        }
    }
    Some(())
}
