//! The one owner of message framing.
//!
//! [`Framing`] alone knows how long a message is, whether it has ended, and whether its connection
//! may carry another one. Every byte of every body passes through it (or is reported to it), and
//! [`Framing::reuse`] is the only way to learn that a connection may be kept: for a forwarded
//! message, for one that was answered early, and for one that was cut off.

use crate::chunked::{BadChunk, Decoded, Decoder};
use crate::field::{self, Name};
use crate::head::{Field, Fields, RequestHead, ResponseHead, Version};
use crate::method::Method;

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is no body.
    Empty,
    /// So many bytes.
    Exactly(u64),
    /// The chunked coding says.
    Chunked,
    /// The connection closes. Only responses end like this.
    UntilClose,
}

/// Whether a connection may carry another message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It may.
    Keep,
    /// It must be closed.
    Close,
}

/// Why a head does not say where its message ends. The connection is closed after each of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFraming {
    /// `Content-Length` and `Transfer-Encoding` are both present.
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// `Content-Length` stands twice.
    #[error("more than one Content-Length")]
    TwoLengths,
    /// `Content-Length` is not a plain decimal number of at most 19 digits.
    #[error("malformed Content-Length")]
    Length,
    /// `Transfer-Encoding` is malformed, repeated, or does not end in one `chunked`.
    #[error("malformed Transfer-Encoding")]
    Coding,
    /// `Transfer-Encoding` is well formed and names a coding that is not offered.
    #[error("unknown transfer coding")]
    UnknownCoding,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    /// `Connection` nominates a field that frames the message.
    #[error("Connection names a framing field")]
    Nominated,
    /// `Connection` has too many members.
    #[error("too many connection options")]
    ConnectionOptions,
}

/// Why a body was not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// The chunked coding is broken.
    #[error(transparent)]
    Chunk(#[from] BadChunk),
    /// The connection closed before the end.
    #[error("body ended early")]
    Truncated,
}

#[derive(Debug)]
enum Left {
    Nothing,
    Bytes(u64),
    Chunks(Decoder),
    UntilClose,
    Broken,
}

/// Where one message stands.
#[derive(Debug)]
pub struct Framing {
    left: Left,
    length: Length,
    reuse: Reuse,
}

impl Framing {
    /// The framing of a request.
    ///
    /// # Errors
    /// The length is ambiguous or malformed (RFC 9112 §6.1 to §6.3).
    pub fn of_request(head: &RequestHead, bytes: &[u8]) -> Result<Self, BadFraming> {
        let connection = Connection::read(&head.fields, bytes)?;
        let length = match declared(&head.fields, bytes, head.version)? {
            Some(length) => length,
            // RFC 9112 §6.3: a request without a declared length has no body, in HTTP/1.0 too.
            None => Length::Empty,
        };
        let mut reuse = connection.persistence(head.version);
        if head.version == Version::Http10 && head.method == Method::Post && length == Length::Empty
        {
            // A body "until close" is what such a client may mean; its bytes are never a request.
            reuse = Reuse::Close;
        }
        Ok(Self::new(length, reuse))
    }

    /// The framing of a final response to a request with `method`.
    ///
    /// # Errors
    /// The length is ambiguous or malformed (RFC 9112 §6.1 to §6.3).
    pub fn of_response(
        head: &ResponseHead,
        bytes: &[u8],
        method: Method,
    ) -> Result<Self, BadFraming> {
        let connection = Connection::read(&head.fields, bytes)?;
        let declared = declared(&head.fields, bytes, head.version)?;
        let length = match declared {
            _ if method == Method::Head || matches!(head.status, 100..=199 | 204 | 304) => {
                Length::Empty
            }
            Some(length) => length,
            None => Length::UntilClose,
        };
        let reuse = match length {
            Length::UntilClose => Reuse::Close,
            _ => connection.persistence(head.version),
        };
        Ok(Self::new(length, reuse))
    }

    /// The framing of a message that we have written ourselves.
    pub fn of_length(length: Length) -> Self {
        Self::new(length, Reuse::Keep)
    }

    fn new(length: Length, reuse: Reuse) -> Self {
        let left = match length {
            Length::Empty | Length::Exactly(0) => Left::Nothing,
            Length::Exactly(bytes) => Left::Bytes(bytes),
            Length::Chunked => Left::Chunks(Decoder::default()),
            Length::UntilClose => Left::UntilClose,
        };
        Self {
            left,
            length,
            reuse,
        }
    }

    /// How the end of the body is found.
    pub fn length(&self) -> Length {
        self.length
    }

    /// Takes the coding off `buffer` in place: the data is then at its start.
    ///
    /// # Errors
    /// The coding is broken; the connection cannot be reused.
    pub fn decode(&mut self, buffer: &mut [u8]) -> Result<Decoded, BadBody> {
        let here = buffer.len();
        match &mut self.left {
            Left::Nothing | Left::Broken => Ok(Decoded::default()),
            Left::Bytes(left) => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(here);
                self.moved(take as u64);
                Ok(Decoded {
                    data: take,
                    consumed: take,
                })
            }
            Left::UntilClose => Ok(Decoded {
                data: here,
                consumed: here,
            }),
            Left::Chunks(decoder) => {
                let decoded = decoder.decode(buffer);
                if decoded.is_err() {
                    self.left = Left::Broken;
                }
                Ok(decoded?)
            }
        }
    }

    /// How many bytes may be moved without being looked at (by splice, say); each is then reported
    /// with [`Framing::moved`]. `None` when the bytes must be decoded.
    pub fn opaque(&self) -> Option<u64> {
        match self.left {
            Left::Bytes(left) => Some(left),
            _ => None,
        }
    }

    /// Reports that `bytes` of an [`Framing::opaque`] body were moved.
    pub fn moved(&mut self, bytes: u64) {
        if let Left::Bytes(left) = &mut self.left {
            debug_assert!(bytes <= *left, "moved more than the message has");
            *left = left.saturating_sub(bytes);
            if *left == 0 {
                self.left = Left::Nothing;
            }
        }
    }

    /// Reports that the peer closed its side.
    ///
    /// # Errors
    /// The message is incomplete.
    pub fn end_of_input(&mut self) -> Result<(), BadBody> {
        self.reuse = Reuse::Close;
        match self.left {
            Left::Nothing => Ok(()),
            Left::UntilClose => {
                self.left = Left::Nothing;
                Ok(())
            }
            _ if self.is_complete() => Ok(()),
            _ => {
                self.left = Left::Broken;
                Err(BadBody::Truncated)
            }
        }
    }

    /// Tells whether the whole message has been read.
    pub fn is_complete(&self) -> bool {
        match &self.left {
            Left::Nothing => true,
            Left::Chunks(decoder) => decoder.ended(),
            _ => false,
        }
    }

    /// Forbids another message on the connection.
    pub fn close(&mut self) {
        self.reuse = Reuse::Close;
    }

    /// Tells whether the peer allows another message, before the end of this one is reached.
    pub fn peer_allows(&self) -> Reuse {
        self.reuse
    }

    /// Tells whether the connection may carry another message now.
    pub fn reuse(&self) -> Reuse {
        if self.is_complete() {
            self.reuse
        } else {
            Reuse::Close
        }
    }

    /// The trailer fields that may be passed on.
    pub fn trailer(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let decoder = match &self.left {
            Left::Chunks(decoder) => Some(decoder),
            _ => None,
        };
        decoder.into_iter().flat_map(Decoder::trailer)
    }
}

/// What `Connection` says.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    close: bool,
    keep_alive: bool,
}

impl Connection {
    /// Matching each field against each option costs their product: an honest head has three.
    const OPTIONS_MAX: usize = 16;

    fn read(fields: &Fields, bytes: &[u8]) -> Result<Self, BadFraming> {
        let mut this = Self::default();
        let mut options = 0;
        for line in fields.all(Name::Connection) {
            for option in field::list(line.value.of(bytes)) {
                options += 1;
                if options > Self::OPTIONS_MAX {
                    return Err(BadFraming::ConnectionOptions);
                }
                match Name::from_bytes(option) {
                    Name::ContentLength | Name::TransferEncoding => {
                        return Err(BadFraming::Nominated);
                    }
                    _ if option.eq_ignore_ascii_case(b"close") => this.close = true,
                    Name::KeepAlive => this.keep_alive = true,
                    _ => {}
                }
            }
        }
        Ok(this)
    }

    fn persistence(self, version: Version) -> Reuse {
        match version {
            _ if self.close => Reuse::Close,
            Version::Http11 | Version::Http2 => Reuse::Keep,
            Version::Http10 if self.keep_alive => Reuse::Keep,
            Version::Http10 => Reuse::Close,
        }
    }
}

/// Tells whether `Connection` names any field at all; mostly it says `close` or `keep-alive`.
pub fn nominates(fields: &Fields, bytes: &[u8]) -> bool {
    fields
        .all(Name::Connection)
        .flat_map(|line| field::list(line.value.of(bytes)))
        .any(|option| {
            !option.eq_ignore_ascii_case(b"close") && !option.eq_ignore_ascii_case(b"keep-alive")
        })
}

/// Tells whether `Connection` takes the field away from the next hop. What a client must not take
/// away is never nominated.
pub fn is_nominated(fields: &Fields, bytes: &[u8], field: &Field) -> bool {
    let name = field.name_span.of(bytes);
    if field.name.is_protected() || field::is_vouched(name) {
        return false;
    }
    fields
        .all(Name::Connection)
        .flat_map(|line| field::list(line.value.of(bytes)))
        .any(|option| option.eq_ignore_ascii_case(name))
}

/// The declared length, if the head declares one.
fn declared(fields: &Fields, bytes: &[u8], version: Version) -> Result<Option<Length>, BadFraming> {
    let mut lengths = fields.all(Name::ContentLength);
    let mut codings = fields.all(Name::TransferEncoding);
    match (lengths.next(), codings.next()) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(BadFraming::LengthAndCoding),
        (Some(length), None) => {
            if lengths.next().is_some() {
                return Err(BadFraming::TwoLengths);
            }
            if !is_snug(bytes, length) {
                return Err(BadFraming::Length);
            }
            content_length(length.value.of(bytes)).map(|n| Some(Length::Exactly(n)))
        }
        (None, Some(_)) if version == Version::Http10 => Err(BadFraming::CodingInHttp10),
        (None, Some(coding)) => {
            if codings.next().is_some() || !is_snug(bytes, coding) {
                return Err(BadFraming::Coding);
            }
            transfer_coding(coding.value.of(bytes)).map(|()| Some(Length::Chunked))
        }
    }
}

/// Parses a `Content-Length`: digits, no sign, no leading zero, no list, within 63 bits.
fn content_length(value: &[u8]) -> Result<u64, BadFraming> {
    let digits = std::str::from_utf8(value).map_err(|_| BadFraming::Length)?;
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    match digits.parse::<i64>() {
        Ok(length) if plain => u64::try_from(length).map_err(|_| BadFraming::Length),
        _ => Err(BadFraming::Length),
    }
}

/// Tells whether at most one space stands before the value and nothing behind it. Other blanks are
/// legal, but parsers differ on which bytes are blanks, and framing is no place for that.
fn is_snug(bytes: &[u8], field: &Field) -> bool {
    let (name, value) = (field.name_span.of(bytes), field.value.of(bytes));
    if name.is_empty() || value.is_empty() {
        return false;
    }
    let after_name = name.as_ptr() as usize - bytes.as_ptr() as usize + name.len();
    let at_value = value.as_ptr() as usize - bytes.as_ptr() as usize;
    at_value - after_name <= 2 && bytes.get(at_value + value.len()) == Some(&b'\r')
}

/// Accepts exactly `chunked`. A list of tokens that ends in one `chunked` is well formed, but its
/// other codings are not offered.
fn transfer_coding(value: &[u8]) -> Result<(), BadFraming> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut chunked = 0;
    let mut last_is_chunked = false;
    for member in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
        if member.is_empty()
            || !member.iter().all(|&b| field::is_tchar(b))
            || member.eq_ignore_ascii_case(b"identity")
        {
            return Err(BadFraming::Coding);
        }
        last_is_chunked = member.eq_ignore_ascii_case(b"chunked");
        chunked += usize::from(last_is_chunked);
    }
    if last_is_chunked && chunked == 1 {
        Err(BadFraming::UnknownCoding)
    } else {
        Err(BadFraming::Coding)
    }
}

#[cfg(test)]
mod tests;
