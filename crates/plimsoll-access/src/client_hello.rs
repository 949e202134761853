//! The first message of a client that comes with TLS, from the records that it comes in (RFC 8446 §4.1.2,
//! §5.1): nothing is deciphered, and nobody is answered.

use std::borrow::Cow;
use std::net::IpAddr;

/// The most that a first message may hold; rustls takes no longer one.
const HELLO_BYTES_MAX: usize = 64 * 1024;

/// What stands before the content of a record.
const RECORD_HEADER_BYTES: usize = 5;

/// What stands before the body of a message.
const MESSAGE_HEADER_BYTES: usize = 4;

/// The most that a name may hold (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

pub(crate) const SERVER_NAME: u16 = 0x0000;
pub(crate) const ALPN: u16 = 0x0010;

/// Why bytes are no first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Something else begins there.
    Other,
    /// It holds more than any client says.
    TooLong,
    /// Its connection ends before it does.
    Truncated,
    /// What it holds does not fit its lengths, or stands there twice.
    Content,
    /// The name that it asks for cannot be one.
    Name,
}

impl Malformed {
    /// For logs.
    pub fn text(self) -> &'static str {
        match self {
            Self::Other => "TLS does not begin with a ClientHello",
            Self::TooLong => "the ClientHello is too long",
            Self::Truncated => "the ClientHello is cut off",
            Self::Content => "the ClientHello is malformed",
            Self::Name => "the ClientHello asks for what is no name",
        }
    }
}

/// How far a first message has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress<'a> {
    /// All of it is there; this is its body.
    Whole(Cow<'a, [u8]>),
    /// It goes on: before there are so many bytes in all, there is no need to look again.
    Partial(usize),
}

/// How far the first message has come on a connection that begins with these bytes. What follows it does
/// not count.
///
/// # Errors
/// It is none, or one that nobody would take.
pub fn progress(bytes: &[u8]) -> Result<Progress<'_>, Malformed> {
    let mut message = Cow::Borrowed(&[][..]);
    let mut rest = Input(bytes);
    loop {
        let before = match record(&mut rest)? {
            None => RECORD_HEADER_BYTES - rest.0.len(),
            Some(len) => {
                let (fragment, more) = rest.0.split_at(len.min(rest.0.len()));
                append(&mut message, fragment);
                rest = Input(more);
                // A record that is not all there may hold all that is missing.
                match missing(&message)? {
                    0 => return Ok(Progress::Whole(body(message))),
                    missing if missing <= len - fragment.len() => 0,
                    _ if fragment.len() == len => continue,
                    _ => RECORD_HEADER_BYTES,
                }
            }
        };
        // Each byte of the message takes one at least.
        let least = bytes.len() + before + missing(&message)?;
        return Ok(Progress::Partial(least));
    }
}

/// How long a message is with its header; nothing before that is there.
fn extent(message: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut input = Input(message);
    if input.byte().is_some_and(|kind| kind != 1) {
        return Err(Malformed::Other);
    }
    let (Some(high), Some(low)) = (input.byte(), input.short()) else {
        return Ok(None);
    };
    match usize::from(high) << 16 | usize::from(low) {
        len if len > HELLO_BYTES_MAX => Err(Malformed::TooLong),
        len => Ok(Some(MESSAGE_HEADER_BYTES + len)),
    }
}

/// How many bytes a message lacks, as far as that is known.
fn missing(message: &[u8]) -> Result<usize, Malformed> {
    let len = extent(message)?.unwrap_or(MESSAGE_HEADER_BYTES);
    Ok(len.saturating_sub(message.len()))
}

/// The body of a message that is all there, and perhaps more.
fn body(message: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
    let end = extent(&message).ok().flatten().unwrap_or_default();
    match message {
        Cow::Borrowed(bytes) => {
            let body = bytes.get(MESSAGE_HEADER_BYTES..end);
            Cow::Borrowed(body.unwrap_or_default())
        }
        Cow::Owned(mut bytes) => {
            bytes.truncate(end);
            bytes.drain(..MESSAGE_HEADER_BYTES.min(end));
            Cow::Owned(bytes)
        }
    }
}

/// Takes the header of a record; nothing where not all of it is there.
fn record(rest: &mut Input<'_>) -> Result<Option<usize>, Malformed> {
    let mut input = Input(rest.0);
    if input.byte().is_some_and(|kind| kind != 22) {
        return Err(Malformed::Other);
    }
    // A type, a version that says nothing, and a length.
    let (Some(_version), Some(len)) = (input.short(), input.short()) else {
        return Ok(None);
    };
    *rest = input;
    match len {
        0 => Err(Malformed::Content),
        len => Ok(Some(usize::from(len))),
    }
}

fn append<'a>(message: &mut Cow<'a, [u8]>, fragment: &'a [u8]) {
    match message.is_empty() {
        true => *message = Cow::Borrowed(fragment),
        false => message.to_mut().extend_from_slice(fragment),
    }
}

/// Bytes that are read from the front; nothing when there are too few.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    pub(crate) fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = self.byte()?;
        self.take(usize::from(len))
    }

    pub(crate) fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.short()?;
        self.take(usize::from(len))
    }

    /// All that is left, which must be one vector.
    fn only_vector16(mut self) -> Option<&'a [u8]> {
        let content = self.vector16()?;
        self.0.is_empty().then_some(content)
    }
}

/// The parts of a first message.
#[derive(Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) version: u16,
    pub(crate) ciphers: &'a [u8],
    extensions: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Divides the body of a first message.
    pub(crate) fn read(body: &'a [u8]) -> Option<Self> {
        let mut input = Input(body);
        let version = input.short()?;
        let (_random, _session) = (input.take(32)?, input.vector8()?);
        let ciphers = input.vector16()?;
        let _compression = input.vector8()?;
        // Very old clients end here.
        let extensions = match input.0 {
            [] => &[],
            _ => input.vector16()?,
        };
        Some(Self {
            version,
            ciphers,
            extensions,
        })
    }

    /// Has `look` see each extension; nothing when one is cut off or `look` says so.
    pub(crate) fn each_extension(
        &self,
        mut look: impl FnMut(u16, &'a [u8]) -> Option<()>,
    ) -> Option<()> {
        let mut extensions = Input(self.extensions);
        while !extensions.0.is_empty() {
            let kind = extensions.short()?;
            look(kind, extensions.vector16()?)?;
        }
        Some(())
    }
}

/// Tells whether a number only keeps servers from choking on what they do not know (RFC 8701).
pub(crate) fn is_grease([high, low]: [u8; 2]) -> bool {
    high == low && low & 0x0f == 0x0a
}

/// Where a client wants to go, and what it would speak there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The name that it asks for (RFC 6066 §3), in lower case and without a dot at its end. An address is
    /// no name.
    pub name: Option<Box<str>>,
    /// The protocols, as they were sent: each with its length before it.
    protocols: Box<[u8]>,
}

impl Hello {
    /// That of a client that asks for this name, if for any, and offers these protocols. An address is none.
    ///
    /// # Errors
    /// It is no name.
    pub fn new<'a>(
        name: Option<&[u8]>,
        protocols: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, Malformed> {
        let with_len = |protocol: &'a [u8]| Some((u8::try_from(protocol.len()).ok()?, protocol));
        let sent = protocols
            .filter_map(with_len)
            .flat_map(|(len, protocol)| std::iter::once(len).chain(protocol.iter().copied()));
        Ok(Self {
            name: name.map(canonical).transpose()?.flatten(),
            protocols: sent.collect(),
        })
    }

    /// Reads the body of a first message.
    ///
    /// # Errors
    /// Servers would not take it.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let (mut names, mut protocols) = (None, None);
        let parts = Parts::read(body).ok_or(Malformed::Content)?;
        let once = |place: &mut Option<_>, content| match place.replace(content) {
            Some(_) => None,
            None => Some(()),
        };
        let seen = parts.each_extension(|kind, content| match kind {
            SERVER_NAME => once(&mut names, content),
            ALPN => once(&mut protocols, content),
            _ => Some(()),
        });
        seen.ok_or(Malformed::Content)?;
        let name = names.map(name_of).transpose()?.flatten();
        let protocols = protocols.map(|list| protocols_of(list).ok_or(Malformed::Content));
        Ok(Self {
            name,
            protocols: protocols.transpose()?.unwrap_or_default().into(),
        })
    }

    /// The protocols that it would speak (RFC 7301), in its order.
    pub fn protocols(&self) -> impl Iterator<Item = &[u8]> {
        let mut input = Input(&self.protocols);
        let all = std::iter::from_fn(move || input.vector8());
        all.filter(|protocol| !matches!(protocol, [a, b] if is_grease([*a, *b])))
    }

    /// The protocols as one text, with commas between.
    pub fn list(&self) -> Vec<u8> {
        let all: Vec<&[u8]> = self.protocols().collect();
        all.join(&b',')
    }

    /// Tells whether it would speak this one.
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.protocols().any(|offered| offered == protocol)
    }
}

/// The list of protocols in an extension, which are not empty.
fn protocols_of(content: &[u8]) -> Option<&[u8]> {
    let list = Input(content).only_vector16()?;
    let mut input = Input(list);
    while !input.0.is_empty() {
        input.vector8().filter(|protocol| !protocol.is_empty())?;
    }
    (!list.is_empty()).then_some(list)
}

/// The one name in an extension.
fn name_of(content: &[u8]) -> Result<Option<Box<str>>, Malformed> {
    let list = Input(content).only_vector16();
    let mut input = Input(list.ok_or(Malformed::Content)?);
    let mut name = None;
    while !input.0.is_empty() {
        let entry = input.byte().zip(input.vector16());
        let (kind, text) = entry.ok_or(Malformed::Content)?;
        if kind == 0 && name.replace(text).is_some() {
            return Err(Malformed::Content);
        }
    }
    canonical(name.ok_or(Malformed::Content)?)
}

/// A name as all of them are compared.
fn canonical(name: &[u8]) -> Result<Option<Box<str>>, Malformed> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let text = std::str::from_utf8(name).map_err(|_| Malformed::Name)?;
    if text.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    let is_letter = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    let is_label = |label: &[u8]| (1..=63).contains(&label.len()) && label.iter().all(is_letter);
    let is_name = name.len() <= NAME_BYTES_MAX && name.split(|b| *b == b'.').all(is_label);
    match is_name {
        true => Ok(Some(text.to_ascii_lowercase().into())),
        false => Err(Malformed::Name),
    }
}

/// For a fuzzer: whatever comes, the answer does not depend on how the message is cut, each piece is no
/// nearer to the end than was said, and what is said of a name holds.
///
/// # Panics
/// When that does not hold.
pub fn fuzz(bytes: &[u8]) {
    let found = progress(bytes);
    check_pieces(bytes, &found);
    let Ok(Progress::Whole(body)) = found else {
        return;
    };
    if let Ok(hello) = Hello::read(&body) {
        let name = hello.name.as_deref().unwrap_or("a");
        assert!(!name.ends_with('.') && name.parse::<IpAddr>().is_err());
        assert_eq!(canonical(name.as_bytes()), Ok(Some(name.into())));
        assert!(hello.protocols().all(|protocol| !protocol.is_empty()));
    }
}

/// Checks that the first bytes never say anything else than all of them.
fn check_pieces(bytes: &[u8], found: &Result<Progress<'_>, Malformed>) {
    let mut len = 0;
    while len < bytes.len() {
        match progress(bytes.get(..len).unwrap_or_default()) {
            Ok(Progress::Partial(least)) => {
                assert!(least > len, "it would be looked at for ever");
                len = least;
            }
            early => return assert_eq!(early, *found, "the cut matters"),
        }
    }
    if let (true, Ok(Progress::Partial(least))) = (len > bytes.len(), found) {
        assert!(*least >= len, "an earlier look promised less");
    }
    let is_whole = matches!(found, Ok(Progress::Whole(_)));
    assert!(
        !is_whole || len <= bytes.len(),
        "it was there earlier than was said"
    );
}

#[cfg(test)]
mod tests;
