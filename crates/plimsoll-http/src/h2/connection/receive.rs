//! Frames that come.

use super::{Begun, Connection, Leaving, Role};
use crate::framing::Length;
use crate::h2::fields::{BadMessage, Trailers};
use crate::h2::frame::{self, HEAD_BYTES, Head, PAYLOAD_MAX, PREFACE, Reason, flag, kind};
use crate::h2::inbound::WrongLength;
use crate::h2::meter::Excess;
use crate::h2::request::{Asked, Follows};
use crate::h2::response;
use crate::h2::stream::{Exchange, Fault, wake};
use crate::head::HEAD_BYTES_MAX;
use crate::method::Method;

/// The ping whose answer says that a client has heard that we leave.
pub(super) const LEAVING: [u8; 8] = *b"leaving\0";

/// The largest block of fields, and the most frames that it may come in: it is read once all of it is there.
const BLOCK_BYTES_MAX: usize = 4 * HEAD_BYTES_MAX;
const BLOCK_FRAMES_MAX: u32 = 128;

/// A block of fields of which a part is missing.
#[derive(Debug)]
pub(super) struct Block {
    stream: u32,
    is_last: bool,
    frames: u32,
    bytes: Vec<u8>,
}

/// What [`Connection::receive`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes that were used up.
    pub taken: usize,
    /// What has happened.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing that anybody has to know; there may be more frames.
    Nothing,
    /// What is there is no whole frame.
    Incomplete,
    /// A stream could be opened once another one, which has ended, is released.
    Held,
    /// A client has opened this stream; [`Connection::head`] is its request.
    Opened(u32, Asked),
}

type Outcome = Result<Event, Reason>;

impl Connection {
    /// Takes the frame that `bytes` begin with; `second` is that in which it came.
    ///
    /// # Errors
    /// The connection has to end: see [`Connection::abort`].
    pub fn receive(&mut self, bytes: &[u8], second: u64) -> Result<Received, Reason> {
        let received = |taken, event| Ok(Received { taken, event });
        if self.begun == Begun::Preface {
            let here = bytes.get(..PREFACE.len()).unwrap_or(bytes);
            return match PREFACE.strip_prefix(here) {
                None => Err(Reason::PROTOCOL_ERROR),
                Some([]) => {
                    self.begun = Begun::Settings;
                    received(PREFACE.len(), Event::Nothing)
                }
                Some(_) => received(0, Event::Incomplete),
            };
        }
        let Some(head) = Head::read(bytes) else {
            return received(0, Event::Incomplete);
        };
        if head.length > PAYLOAD_MAX {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let end = HEAD_BYTES + head.length;
        let Some(payload) = bytes.get(HEAD_BYTES..end) else {
            return received(0, Event::Incomplete);
        };
        if self.must_wait(head) {
            return received(0, Event::Held);
        }
        let event = self.frame(head, payload, second)?;
        received(end, event)
    }

    /// Tells whether a stream would be one too many as long as those that have ended are not released.
    fn must_wait(&self, head: Head) -> bool {
        let most = self.limits.streams as usize;
        self.role == Role::Server
            && head.kind == kind::HEADERS
            && head.stream > self.last
            && self.streams.len() >= most
            && self.streams.open() < most
    }

    fn frame(&mut self, head: Head, payload: &[u8], second: u64) -> Outcome {
        if self.begun == Begun::Settings && (head.kind != kind::SETTINGS || head.has(flag::ACK)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let is_next =
            |block: &Block| head.kind == kind::CONTINUATION && head.stream == block.stream;
        if self.block.as_ref().is_some_and(|block| !is_next(block)) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let content = match head.kind {
            kind::DATA | kind::HEADERS => {
                frame::unpadded(head, payload).ok_or(Reason::PROTOCOL_ERROR)?
            }
            _ => payload,
        };
        let counted = self.meter.count(head, content.len(), second);
        counted.map_err(|Excess| Reason::ENHANCE_YOUR_CALM)?;
        match (head.kind, head.stream) {
            (kind::SETTINGS | kind::PING | kind::GOAWAY, 1..)
            | (
                kind::DATA | kind::HEADERS | kind::PRIORITY | kind::RST_STREAM | kind::PUSH_PROMISE,
                0,
            ) => {
                return Err(Reason::PROTOCOL_ERROR);
            }
            (kind::DATA, _) => self.data(head, content)?,
            (kind::HEADERS, _) => return self.headers(head, content),
            (kind::CONTINUATION, _) => return self.continuation(head, content),
            (kind::PRIORITY, _) => self.priority(head, content)?,
            (kind::RST_STREAM, _) => self.was_reset(head, content)?,
            (kind::SETTINGS, _) => self.settings(head, content)?,
            (kind::PUSH_PROMISE, _) => return Err(Reason::PROTOCOL_ERROR),
            (kind::PING, _) => self.ping(head, content)?,
            (kind::GOAWAY, _) => self.peer_leaves(content)?,
            (kind::WINDOW_UPDATE, _) => self.more_window(head, content)?,
            _ => {} // one that is not known (RFC 9113 §4.1)
        }
        Ok(Event::Nothing)
    }

    /// Tells whether a stream was never opened.
    fn is_idle(&self, stream: u32) -> bool {
        stream > self.last || stream.is_multiple_of(2)
    }

    /// Data (RFC 9113 §6.1).
    fn data(&mut self, head: Head, data: &[u8]) -> Result<(), Reason> {
        let cost = head.length;
        self.allowance
            .take(cost)
            .map_err(|_| Reason::FLOW_CONTROL_ERROR)?;
        if self.is_idle(head.stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let Some(stream) = self.streams.find_sound(head.stream) else {
            self.free(cost);
            // It was on its way when its stream ended.
            return match self.ended.contains(&head.stream) {
                true => Ok(()),
                false => Err(Reason::STREAM_CLOSED),
            };
        };
        let is_answer_begun = !matches!(stream.exchange, Exchange::Question(_));
        let problem = if stream.inbound.has_ended() {
            Some(Reason::STREAM_CLOSED)
        } else if stream.inbound.allowance.take(cost).is_err() {
            Some(Reason::FLOW_CONTROL_ERROR)
        } else if !is_answer_begun || stream.inbound.take(data, cost).is_err() {
            Some(Reason::PROTOCOL_ERROR)
        } else {
            None
        };
        if let Some(reason) = problem {
            self.free(cost);
            return self.fault(head.stream, reason);
        }
        wake(stream.inbound.reader.take());
        match head.has(flag::END_STREAM) {
            true => self.end_of(head.stream, Vec::new()),
            false => Ok(()),
        }
    }

    /// Notes that all of a message has come.
    fn end_of(&mut self, stream: u32, trailers: Vec<u8>) -> Result<(), Reason> {
        let Some(found) = self.streams.find(stream) else {
            return Ok(());
        };
        wake(found.inbound.reader.take());
        match found.inbound.end(trailers) {
            Ok(()) => Ok(()),
            Err(WrongLength) => self.fault(stream, Reason::PROTOCOL_ERROR),
        }
    }

    /// Resets a stream on which a rule was broken; too many of them end the connection.
    fn fault(&mut self, stream: u32, reason: Reason) -> Result<(), Reason> {
        self.count_error()?;
        self.end_stream(stream, reason, Fault::Malformed);
        Ok(())
    }

    fn count_error(&mut self) -> Result<(), Reason> {
        self.errors += 1;
        match self.errors > self.limits.errors {
            true => Err(Reason::ENHANCE_YOUR_CALM),
            false => Ok(()),
        }
    }

    /// A block of fields, or the beginning of one (RFC 9113 §6.2).
    fn headers(&mut self, head: Head, mut content: &[u8]) -> Outcome {
        if head.stream.is_multiple_of(2) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        if head.has(flag::PRIORITY) {
            // It is out of use; what depends on itself was never right (RFC 7540 §5.3.1).
            let (priority, rest) = content
                .split_at_checked(5)
                .ok_or(Reason::FRAME_SIZE_ERROR)?;
            if frame::number(priority).is_some_and(|on| on & 0x7fff_ffff == head.stream) {
                return Err(Reason::PROTOCOL_ERROR);
            }
            content = rest;
        }
        let is_last = head.has(flag::END_STREAM);
        if head.has(flag::END_HEADERS) {
            return self.fields(head.stream, is_last, content);
        }
        self.block = Some(Block {
            stream: head.stream,
            is_last,
            frames: 0,
            bytes: content.to_vec(),
        });
        Ok(Event::Nothing)
    }

    fn continuation(&mut self, head: Head, content: &[u8]) -> Outcome {
        let block = self.block.as_mut().ok_or(Reason::PROTOCOL_ERROR)?;
        block.frames += 1;
        if block.frames > BLOCK_FRAMES_MAX || block.bytes.len() + content.len() > BLOCK_BYTES_MAX {
            return Err(Reason::ENHANCE_YOUR_CALM);
        }
        block.bytes.extend_from_slice(content);
        match self.block.take_if(|_| head.has(flag::END_HEADERS)) {
            Some(block) => self.fields(block.stream, block.is_last, &block.bytes),
            None => Ok(Event::Nothing),
        }
    }

    /// A block of fields that is complete. Whatever becomes of it, it changes the table.
    fn fields(&mut self, id: u32, is_last: bool, block: &[u8]) -> Outcome {
        let is_new = self.role == Role::Server && id > self.last;
        if is_new && self.leaving != Leaving::Last {
            return self.request(id, is_last, block);
        }
        let Some(stream) = self.streams.find_sound(id) else {
            self.pass_over(block)?;
            return match is_new || self.ended.contains(&id) {
                true => Ok(Event::Nothing),
                false => Err(Reason::PROTOCOL_ERROR),
            };
        };
        if stream.inbound.has_ended() {
            self.pass_over(block)?;
            self.fault(id, Reason::STREAM_CLOSED)?;
        } else if matches!(stream.exchange, Exchange::Question(_)) {
            self.answer(id, is_last, block)?;
        } else {
            self.trailers(id, is_last, block)?;
        }
        Ok(Event::Nothing)
    }

    fn pass_over(&mut self, block: &[u8]) -> Result<(), Reason> {
        let decoded = self.decoder.decode(block, |_, _| ());
        decoded.map_err(|_| Reason::COMPRESSION_ERROR)
    }

    /// Opens a stream that a client asks for.
    fn request(&mut self, id: u32, is_last: bool, block: &[u8]) -> Outcome {
        self.last = id;
        let reader = &mut self.reader;
        reader.begin();
        let fields = |name: &[u8], value: &[u8]| reader.field(name, value);
        let decoded = self.decoder.decode(block, fields);
        decoded.map_err(|_| Reason::COMPRESSION_ERROR)?;
        if self.streams.len() >= self.limits.streams as usize {
            self.refuse(id, is_last, Reason::REFUSED_STREAM);
            return Ok(Event::Nothing);
        }
        match self.reader.end(!is_last, &mut self.head) {
            Ok(asked) => {
                let stream = self.add(id, Exchange::Answer(asked.method));
                let is_coded = asked.follows == Follows::Coded;
                stream.inbound.begin(is_coded, asked.length, None);
                if is_last {
                    self.end_of(id, Vec::new())?;
                }
                Ok(Event::Opened(id, asked))
            }
            Err(BadMessage::Malformed(_)) => {
                self.count_error()?;
                self.refuse(id, is_last, Reason::PROTOCOL_ERROR);
                Ok(Event::Nothing)
            }
            Err(BadMessage::TooLarge) => {
                self.count_error()?;
                self.say_too_large(id);
                if !is_last {
                    self.refuse(id, is_last, Reason::NO_ERROR);
                }
                Ok(Event::Nothing)
            }
        }
    }

    /// Resets a stream of which nobody has heard.
    fn refuse(&mut self, id: u32, has_ended: bool, reason: Reason) {
        self.tell_reset(id, reason);
        if !has_ended {
            self.note_ended(id);
        }
    }

    fn say_too_large(&mut self, id: u32) {
        let text = b"HTTP/1.1 431 \r\nContent-Length: 0\r\n\r\n";
        let mut sink = self.sink(id);
        let told = sink.block(|encoder, out| {
            let told = response::encode(text, Method::Get, encoder, out)?;
            Ok::<_, super::BadText>((told, true))
        });
        debug_assert!(told.is_ok_and(|told| told.length == Some(Length::Exactly(0))));
    }

    /// The head of an answer.
    fn answer(&mut self, id: u32, is_last: bool, block: &[u8]) -> Result<(), Reason> {
        let mut reader = response::Reader::default();
        let decoded = self
            .decoder
            .decode(block, |name, value| reader.field(name, value));
        decoded.map_err(|_| Reason::COMPRESSION_ERROR)?;
        let Some(stream) = self.streams.find(id) else {
            return Ok(());
        };
        let Exchange::Question(sent) = &stream.exchange else {
            return Ok(());
        };
        let mut text = Vec::new();
        let heard = match reader.end(sent, !is_last, &mut text) {
            Ok(heard) if stream.inbound.said() + text.len() <= 2 * HEAD_BYTES_MAX => heard,
            Ok(_) => return self.fault(id, BadMessage::TooLarge.reason()),
            Err(bad) => return self.fault(id, bad.reason()),
        };
        let web = sent.web.filter(|_| heard.is_web);
        stream.inbound.say(&text);
        wake(stream.inbound.reader.take());
        if !heard.is_interim {
            stream.inbound.begin(heard.is_coded, heard.length, web);
            stream.exchange = Exchange::Answered;
        }
        match is_last {
            true => self.end_of(id, Vec::new()),
            false => Ok(()),
        }
    }

    /// What follows a body.
    fn trailers(&mut self, id: u32, is_last: bool, block: &[u8]) -> Result<(), Reason> {
        let mut trailers = Trailers::default();
        let decoded = self
            .decoder
            .decode(block, |name, value| trailers.field(name, value));
        decoded.map_err(|_| Reason::COMPRESSION_ERROR)?;
        match trailers.end() {
            Ok(lines) if is_last => self.end_of(id, lines),
            Ok(_) => self.fault(id, Reason::PROTOCOL_ERROR),
            Err(bad) => self.fault(id, bad.reason()),
        }
    }

    /// A priority, which says nothing any more (RFC 9113 §5.3.2).
    fn priority(&mut self, head: Head, content: &[u8]) -> Result<(), Reason> {
        if content.len() != 5 {
            return self.fault(head.stream, Reason::FRAME_SIZE_ERROR);
        }
        match frame::number(content).is_some_and(|on| on & 0x7fff_ffff == head.stream) {
            true => self.fault(head.stream, Reason::PROTOCOL_ERROR),
            false => Ok(()),
        }
    }

    /// The peer has no use for a stream any more (RFC 9113 §6.4).
    fn was_reset(&mut self, head: Head, content: &[u8]) -> Result<(), Reason> {
        if content.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if self.is_idle(head.stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let reason = Reason(frame::number(content).unwrap_or_default());
        let Some(stream) = self.streams.find(head.stream) else {
            return Ok(());
        };
        let is_answered = self.role == Role::Client && stream.inbound.has_ended();
        match reason {
            // All of the answer is here, and of the request no more is wanted (RFC 9113 §8.1).
            Reason::NO_ERROR if is_answered => {
                stream.outbound.give_up();
                wake(stream.outbound.writer.take());
                return Ok(());
            }
            Reason::REFUSED_STREAM if self.role == Role::Client => stream.fail(Fault::Untouched),
            _ => stream.fail(Fault::Reset(reason)),
        }
        let freed = stream.inbound.forget();
        self.free(freed);
        Ok(())
    }

    fn settings(&mut self, head: Head, content: &[u8]) -> Result<(), Reason> {
        if head.has(flag::ACK) {
            return if content.is_empty() {
                Ok(())
            } else {
                Err(Reason::FRAME_SIZE_ERROR)
            };
        }
        let before = i64::from(self.peer.window);
        let encoder = &mut self.encoder;
        let is_server = self.role == Role::Server;
        self.peer.take(content, |size| {
            if is_server {
                encoder.resize(size as usize);
            }
        })?;
        let more = i64::from(self.peer.window) - before;
        for stream in self.streams.all() {
            let added = stream.outbound.window.add(more);
            added.map_err(|_| Reason::FLOW_CONTROL_ERROR)?;
        }
        if more > 0 {
            self.streams.wake_writers(self.turn);
        }
        self.begun = Begun::Yes;
        frame::write(kind::SETTINGS, flag::ACK, 0, &[], &mut self.out);
        Ok(())
    }

    fn ping(&mut self, head: Head, content: &[u8]) -> Result<(), Reason> {
        if content.len() != 8 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        if !head.has(flag::ACK) {
            frame::write(kind::PING, flag::ACK, 0, content, &mut self.out);
        } else if self.leaving == Leaving::Told && content == LEAVING {
            self.leaving = Leaving::Last;
            self.tell_leaving(self.last, Reason::NO_ERROR);
        }
        Ok(())
    }

    /// The peer takes no more streams, and says which of those that there are it will look at (RFC 9113 §6.8).
    fn peer_leaves(&mut self, content: &[u8]) -> Result<(), Reason> {
        if content.len() < 8 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let last = frame::number(content).unwrap_or_default() & 0x7fff_ffff;
        self.last_of_peer = Some(last);
        if self.role == Role::Client {
            for stream in self.streams.all().filter(|stream| stream.id > last) {
                stream.fail(Fault::Untouched);
            }
        }
        Ok(())
    }

    fn more_window(&mut self, head: Head, content: &[u8]) -> Result<(), Reason> {
        if content.len() != 4 {
            return Err(Reason::FRAME_SIZE_ERROR);
        }
        let more = frame::number(content).unwrap_or_default() & 0x7fff_ffff;
        if head.stream == 0 {
            if more == 0 {
                return Err(Reason::PROTOCOL_ERROR);
            }
            self.window
                .add(more.into())
                .map_err(|_| Reason::FLOW_CONTROL_ERROR)?;
            self.streams.wake_writers(self.turn);
            return Ok(());
        }
        if self.is_idle(head.stream) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let Some(stream) = self.streams.find_sound(head.stream) else {
            return Ok(());
        };
        if more == 0 {
            return self.fault(head.stream, Reason::PROTOCOL_ERROR);
        }
        match stream.outbound.window.add(more.into()) {
            Ok(()) => {
                wake(stream.outbound.writer.take());
                Ok(())
            }
            Err(_) => self.fault(head.stream, Reason::FLOW_CONTROL_ERROR),
        }
    }
}
