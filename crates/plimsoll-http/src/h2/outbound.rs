//! What is written to a stream, taken out of the text of HTTP/1.1.

use std::io::IoSlice;
use std::task::Waker;

use super::frame::{HEAD_BYTES, Head, PAYLOAD_MAX, flag, kind};
use super::hpack::encode::Encoder;
use super::response;
use super::text::BadText;
use super::window::Window;
use crate::framing::{Framing, Length};
use crate::grpc::web::Decoder;

/// What waits to be sent on a connection, before streams have to wait.
pub(super) const OUT_MAX: usize = 64 * 1024;

/// A message on its way out.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) window: Window,
    pub(super) state: State,
    /// Takes off what only clients of gRPC have that see no trailers.
    base64: Option<Decoder>,
    /// Data that could not be sent at once, from this place on.
    pending: Vec<u8>,
    at: usize,
    /// Text that was taken, and that the writer hears of once all of it has been sent.
    promised: usize,
    /// Who waits to write more.
    pub(super) writer: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum State {
    /// A head, as far as it has come.
    Head(Vec<u8>),
    /// A body.
    Body(Framing),
    /// Bytes that are no messages.
    Tunnel,
    /// All was sent.
    Over,
}

/// Where a stream writes to.
pub(super) struct Sink<'a> {
    pub(super) stream: u32,
    pub(super) out: &'a mut Vec<u8>,
    pub(super) window: &'a mut Window,
    pub(super) encoder: &'a mut Encoder,
}

impl Sink<'_> {
    /// How much data may be written now.
    fn room(&self, window: Window) -> usize {
        match self.out.len() < OUT_MAX {
            true => window.room().min(self.window.room()).min(PAYLOAD_MAX),
            false => 0,
        }
    }

    fn data_head(&self, length: usize, is_last: bool) -> [u8; HEAD_BYTES] {
        let head = Head {
            length,
            kind: kind::DATA,
            flags: if is_last { flag::END_STREAM } else { 0 },
            stream: self.stream,
        };
        head.bytes()
    }

    /// Ends a stream without more data.
    fn end(&mut self) {
        let head = self.data_head(0, true);
        self.out.extend_from_slice(&head);
    }

    /// Writes a block of fields that `encode` makes, in as many frames as it needs; it tells whether it is the last
    /// thing.
    pub(super) fn block<T, E>(
        &mut self,
        encode: impl FnOnce(&mut Encoder, &mut Vec<u8>) -> Result<(T, bool), E>,
    ) -> Result<T, E> {
        let start = self.out.len();
        self.out.extend_from_slice(&[0; HEAD_BYTES]);
        let encoded = encode(self.encoder, self.out);
        let (told, is_last) = encoded.inspect_err(|_| self.out.truncate(start))?;
        let length = self.out.len() - start - HEAD_BYTES;
        let rest = self
            .out
            .split_off(start + HEAD_BYTES + length.min(PAYLOAD_MAX));
        let end = |is_end: bool| if is_end { flag::END_HEADERS } else { 0 };
        let last = if is_last { flag::END_STREAM } else { 0 };
        let head = |kind, length, flags| {
            Head {
                length,
                kind,
                flags,
                stream: self.stream,
            }
            .bytes()
        };
        let first = head(
            kind::HEADERS,
            length.min(PAYLOAD_MAX),
            last | end(rest.is_empty()),
        );
        if let Some(place) = self.out.get_mut(start..start + HEAD_BYTES) {
            place.copy_from_slice(&first);
        }
        let pieces = rest.chunks(PAYLOAD_MAX);
        let count = pieces.len();
        for (at, piece) in pieces.enumerate() {
            let head = head(kind::CONTINUATION, piece.len(), end(at + 1 == count));
            self.out.extend_from_slice(&head);
            self.out.extend_from_slice(piece);
        }
        Ok(told)
    }
}

impl Outbound {
    pub(super) fn new(window: Window) -> Self {
        Self {
            window,
            state: State::Head(Vec::new()),
            base64: None,
            pending: Vec::new(),
            at: 0,
            promised: 0,
            writer: None,
        }
    }

    /// Notes how the body ends whose head was sent; nothing where it is a tunnel.
    pub(super) fn begin(&mut self, length: Option<Length>, base64: Option<Decoder>) {
        self.base64 = base64;
        self.state = match length {
            Some(length) => State::Body(Framing::of_length(length)),
            None => State::Tunnel,
        };
        if length.is_some_and(is_nothing) {
            self.state = State::Over;
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over) && self.at == self.pending.len()
    }

    /// Forgets what is not sent: nobody wants it.
    pub(super) fn give_up(&mut self) {
        self.state = State::Over;
        (self.pending, self.at) = (Vec::new(), 0);
    }

    /// Ends bytes that are no messages.
    pub(super) fn end(&mut self, sink: &mut Sink<'_>) {
        if matches!(self.state, State::Tunnel) {
            self.state = State::Over;
            sink.end();
        }
    }

    /// Writes text of a body, of which the first `skip` bytes were taken already; nothing as long as it has to wait.
    /// A writer that has to comes back with the same.
    pub(super) fn write(
        &mut self,
        parts: &[IoSlice<'_>],
        skip: usize,
        sink: &mut Sink<'_>,
    ) -> Result<Option<usize>, BadText> {
        if self.promised > 0 {
            let is_sent = self.flush(sink);
            return Ok(is_sent.then(|| std::mem::take(&mut self.promised)));
        }
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut taken = skip;
        while taken < total {
            taken += self.take(parts, taken, (total - taken).min(PAYLOAD_MAX), sink)?;
            if !self.flush(sink) {
                self.promised = taken;
                return Ok(None);
            }
        }
        Ok(Some(taken))
    }

    /// Takes the next `length` bytes of text, and sends what they stand for if it can be sent at once.
    fn take(
        &mut self,
        parts: &[IoSlice<'_>],
        skip: usize,
        length: usize,
        sink: &mut Sink<'_>,
    ) -> Result<usize, BadText> {
        if self.base64.is_some() || sink.room(self.window) < length {
            copy(parts, skip, length, &mut self.pending);
            let data = decode(&mut self.state, &mut self.pending)?;
            self.pending.truncate(data);
            if let Some(base64) = &mut self.base64 {
                self.pending = base64.decode(&self.pending).map_err(|_| BadText)?;
            }
            return Ok(length);
        }
        let start = sink.out.len();
        sink.out.extend_from_slice(&[0; HEAD_BYTES]);
        copy(parts, skip, length, sink.out);
        let text = sink.out.get_mut(start + HEAD_BYTES..).unwrap_or_default();
        let data = decode(&mut self.state, text)?;
        if data == 0 {
            sink.out.truncate(start);
            return Ok(length);
        }
        sink.out.truncate(start + HEAD_BYTES + data);
        let is_last = self.ends_with_data();
        if is_last {
            self.state = State::Over;
        }
        let head = sink.data_head(data, is_last);
        if let Some(place) = sink.out.get_mut(start..start + HEAD_BYTES) {
            place.copy_from_slice(&head);
        }
        self.window.take(data);
        sink.window.take(data);
        Ok(length)
    }

    /// Sends what waits, as far as the peer lets us; tells whether that was all.
    fn flush(&mut self, sink: &mut Sink<'_>) -> bool {
        while let Some(data) = self.pending.get(self.at..)
            && !data.is_empty()
        {
            let room = sink.room(self.window);
            let data = data.get(..room).unwrap_or(data);
            if data.is_empty() {
                return false;
            }
            let now = data.len();
            let is_last = self.at + now == self.pending.len() && self.ends_with_data();
            sink.out.extend_from_slice(&sink.data_head(now, is_last));
            sink.out.extend_from_slice(data);
            self.at += now;
            self.window.take(now);
            sink.window.take(now);
            if is_last {
                self.state = State::Over;
            }
        }
        (self.pending, self.at) = (Vec::new(), 0);
        self.finish(sink);
        true
    }

    /// Sends the end of a body of which all data has been sent.
    fn finish(&mut self, sink: &mut Sink<'_>) {
        let State::Body(framing) = &mut self.state else {
            return;
        };
        if !framing.is_complete() {
            return;
        }
        match framing.trailer().next() {
            None => sink.end(),
            Some(_) => {
                let sent: Result<(), BadText> = sink.block(|encoder, out| {
                    response::encode_trailers(framing.trailer(), encoder, out);
                    Ok(((), true))
                });
                debug_assert!(sent.is_ok(), "fields can be written");
            }
        }
        self.state = State::Over;
    }

    /// Tells whether nothing follows the data that has come.
    fn ends_with_data(&self) -> bool {
        match &self.state {
            State::Body(framing) => framing.is_complete() && framing.trailer().next().is_none(),
            State::Head(_) | State::Tunnel | State::Over => false,
        }
    }
}

/// Tells whether there is no body.
pub(super) fn is_nothing(length: Length) -> bool {
    matches!(length, Length::Empty | Length::Exactly(0))
}

/// Takes the coding off in place; tells how much data there is.
fn decode(state: &mut State, text: &mut [u8]) -> Result<usize, BadText> {
    match state {
        State::Body(framing) => Ok(framing.decode(text).map_err(|_| BadText)?.data),
        State::Tunnel => Ok(text.len()),
        State::Head(_) | State::Over => Ok(0),
    }
}

/// Appends `length` bytes of `parts`, behind the first `skip`.
fn copy(parts: &[IoSlice<'_>], mut skip: usize, mut length: usize, out: &mut Vec<u8>) {
    for part in parts {
        let skipped = skip.min(part.len());
        skip -= skipped;
        let part = part.get(skipped..).unwrap_or_default();
        let part = part.get(..length).unwrap_or(part);
        length -= part.len();
        out.extend_from_slice(part);
    }
}
