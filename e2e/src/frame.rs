//! Frames of HTTP/2 (RFC 9113 §4 and §6), right and wrong ones.

/// What a client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The types of frames.
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of the standard")]
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

/// The flags of frames.
pub mod flag {
    #![allow(missing_docs, reason = "the names are those of the standard")]
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// The numbers of settings.
pub mod setting {
    #![allow(missing_docs, reason = "the names are those of the standard")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
    pub const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// The codes of errors (RFC 9113 §7).
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the standard")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

const HEAD_BYTES: usize = 9;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is, of [`kind`].
    pub kind: u8,
    /// Of [`flag`].
    pub flags: u8,
    /// Its stream; 0 is the connection.
    pub stream: u32,
    /// The rest.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Makes any frame.
    #[must_use]
    pub fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            kind,
            flags,
            stream,
            payload: payload.into(),
        }
    }

    /// Settings.
    #[must_use]
    pub fn settings(settings: &[(u16, u32)]) -> Self {
        let pair = |(number, value): &(u16, u32)| {
            [&number.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
        };
        let payload: Vec<_> = settings.iter().flat_map(pair).collect();
        Self::new(kind::SETTINGS, 0, 0, payload)
    }

    /// Says that settings were heard.
    #[must_use]
    pub fn settings_ack() -> Self {
        Self::new(kind::SETTINGS, flag::ACK, 0, [])
    }

    /// A head in one piece.
    #[must_use]
    pub fn headers(stream: u32, block: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::HEADERS, flag::END_HEADERS, stream, block)
    }

    /// A piece of a body.
    #[must_use]
    pub fn data(stream: u32, bytes: impl Into<Vec<u8>>) -> Self {
        Self::new(kind::DATA, 0, stream, bytes)
    }

    /// The end of a stream.
    #[must_use]
    pub fn reset(stream: u32, code: u32) -> Self {
        Self::new(kind::RST_STREAM, 0, stream, code.to_be_bytes())
    }

    /// A ping.
    #[must_use]
    pub fn ping() -> Self {
        Self::new(kind::PING, 0, 0, [7; 8])
    }

    /// The end of a connection behind `last`.
    #[must_use]
    pub fn goaway(last: u32, code: u32) -> Self {
        let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
        Self::new(kind::GOAWAY, 0, 0, payload)
    }

    /// More room.
    #[must_use]
    pub fn window_update(stream: u32, bytes: u32) -> Self {
        Self::new(kind::WINDOW_UPDATE, 0, stream, bytes.to_be_bytes())
    }

    /// A change of priority.
    #[must_use]
    pub fn priority(stream: u32, on: u32) -> Self {
        let payload = [&on.to_be_bytes()[..], &[16]].concat();
        Self::new(kind::PRIORITY, 0, stream, payload)
    }

    /// The same frame as the last one of its stream.
    #[must_use]
    pub fn ending(mut self) -> Self {
        self.flags |= flag::END_STREAM;
        self
    }

    /// The same frame without the end of its head.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.flags &= !flag::END_HEADERS;
        self
    }

    /// The same frame with padding.
    #[must_use]
    pub fn padded(mut self, padding: u8) -> Self {
        self.flags |= flag::PADDED;
        self.payload.insert(0, padding);
        let length = self.payload.len() + usize::from(padding);
        self.payload.resize(length, 0);
        self
    }

    /// Tells whether a flag is set.
    #[must_use]
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The frame on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("tests send no such frames");
        let [_, a, b, c] = length.to_be_bytes();
        let [s, t, u, v] = self.stream.to_be_bytes();
        let mut bytes = vec![a, b, c, self.kind, self.flags, s, t, u, v];
        bytes.extend_from_slice(&self.payload);
        bytes
    }

    /// Reads the frame that `bytes` begin with, and tells how long it is; nothing if it is not all there.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
        let [a, b, c, kind, flags, s, t, u, v] = *head;
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        let stream = u32::from_be_bytes([s, t, u, v]) & 0x7fff_ffff;
        let payload = rest.get(..length)?;
        Some((Self::new(kind, flags, stream, payload), HEAD_BYTES + length))
    }

    /// What it carries without its padding and priority.
    ///
    /// # Errors
    /// The padding is longer than the frame.
    pub fn content(&self) -> Result<&[u8], String> {
        let mut content = &*self.payload;
        if self.has(flag::PADDED) && matches!(self.kind, kind::DATA | kind::HEADERS) {
            let (padding, rest) = content.split_first().ok_or("no length of a padding")?;
            let length = rest.len().checked_sub(usize::from(*padding));
            content = length
                .and_then(|length| rest.get(..length))
                .ok_or("too much padding")?;
        }
        if self.has(flag::PRIORITY) && self.kind == kind::HEADERS {
            content = content.get(5..).ok_or("a short priority")?;
        }
        Ok(content)
    }

    /// The number at `at` in the payload.
    #[must_use]
    pub fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.payload.get(at..at + 4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_were_written() {
        let frame = Frame::data(3, "abc").padded(2).ending();
        let bytes = frame.encode();
        assert_eq!(bytes, b"\0\0\x06\0\x09\0\0\0\x03\x02abc\0\0");
        for end in 0..bytes.len() {
            assert_eq!(Frame::parse(&bytes[..end]), None);
        }
        let (read, length) = Frame::parse(&bytes).unwrap();
        assert_eq!((&read, length), (&frame, bytes.len()));
        assert_eq!(read.content(), Ok(&b"abc"[..]));
        assert!(
            Frame::new(kind::DATA, flag::PADDED, 1, [3, 0, 0])
                .content()
                .is_err()
        );
        assert_eq!(Frame::goaway(5, 11).number(4), Some(11));
    }
}
