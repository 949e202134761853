//! Frames (RFC 9113 §4 and §6).

/// The size of a frame's head.
pub const HEAD_BYTES: usize = 9;

/// The largest payload that we take and send: what everybody has to take.
pub const PAYLOAD_MAX: usize = 16_384;

/// How a client begins (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames.
pub mod kind {
    #![expect(missing_docs, reason = "they are called what the standard calls them")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Their flags.
pub mod flag {
    #![expect(missing_docs, reason = "they are called what the standard calls them")]
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{self:?}")]
pub struct Reason(pub u32);

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal;)*) => {
        impl Reason {
            $($(#[doc = $doc])* pub const $name: Self = Self($code);)*
        }

        impl std::fmt::Debug for Reason {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.0 {
                    $($code => out.write_str(stringify!($name)),)*
                    code => write!(out, "{code:#x}"),
                }
            }
        }
    };
}

reasons! {
    /// Nothing is wrong.
    NO_ERROR = 0;
    /// A rule was broken that has no code of its own.
    PROTOCOL_ERROR = 1;
    /// Something is wrong with us.
    INTERNAL_ERROR = 2;
    /// More came than there was a window for.
    FLOW_CONTROL_ERROR = 3;
    /// Something came behind the end.
    STREAM_CLOSED = 5;
    /// A frame has a size that it must not have.
    FRAME_SIZE_ERROR = 6;
    /// Nothing was done for this stream.
    REFUSED_STREAM = 7;
    /// The answer is not wanted any more.
    CANCEL = 8;
    /// Fields cannot be read.
    COMPRESSION_ERROR = 9;
    /// Too much work was asked for.
    ENHANCE_YOUR_CALM = 11;
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// How long the payload is.
    pub length: usize,
    /// One of [`kind`], or one that is not known.
    pub kind: u8,
    /// Some of [`flag`].
    pub flags: u8,
    /// The stream; 0 is the connection.
    pub stream: u32,
}

impl Head {
    /// Reads the head that `bytes` begin with, if all of it is there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD_BYTES>()?;
        Some(Self {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        })
    }

    /// What is written.
    pub fn bytes(self) -> [u8; HEAD_BYTES] {
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        let ([_, a, b, c], [d, e, f, g]) = (length.to_be_bytes(), self.stream.to_be_bytes());
        [a, b, c, self.kind, self.flags, d, e, f, g]
    }

    /// Tells whether it has `flag`.
    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Writes a frame that is no message.
pub fn write(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = payload.len();
    let head = Head {
        length,
        kind,
        flags,
        stream,
    };
    out.extend_from_slice(&head.bytes());
    out.extend_from_slice(payload);
}

/// The payload without its padding (RFC 9113 §6.1); nothing if there is more padding than payload.
pub fn unpadded(head: Head, payload: &[u8]) -> Option<&[u8]> {
    if !head.has(flag::PADDED) {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*padding))?)
}

/// The number that a payload begins with.
pub fn number(payload: &[u8]) -> Option<u32> {
    payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written() {
        let head = Head {
            length: 0x01_0203,
            kind: 4,
            flags: 9,
            stream: 0x7654_3210,
        };
        assert_eq!(Head::read(&head.bytes()), Some(head));
        assert_eq!(Head::read(&head.bytes()[..8]), None);
        let reserved = Head {
            stream: 1 << 31 | 5,
            ..head
        };
        assert_eq!(
            Head::read(&reserved.bytes()).unwrap().stream,
            5,
            "one bit says nothing"
        );
    }

    #[test]
    fn padding_is_taken_off() {
        let head = |flags| Head {
            length: 4,
            kind: 0,
            flags,
            stream: 1,
        };
        assert_eq!(unpadded(head(0), &[1, 2, 3, 0]), Some(&[1, 2, 3, 0][..]));
        assert_eq!(
            unpadded(head(flag::PADDED), &[1, 2, 3, 0]),
            Some(&[2, 3][..])
        );
        assert_eq!(unpadded(head(flag::PADDED), &[3, 2, 3, 0]), Some(&[][..]));
        assert_eq!(unpadded(head(flag::PADDED), &[4, 2, 3, 0]), None);
        assert_eq!(unpadded(head(flag::PADDED), &[]), None);
    }

    #[test]
    fn reasons_have_names() {
        assert_eq!(
            format!("{:?} {}", Reason::CANCEL, Reason(99)),
            "CANCEL 0x63"
        );
    }
}
