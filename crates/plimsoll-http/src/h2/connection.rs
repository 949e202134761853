//! One connection: what comes is taken apart for its streams, and what they say is put together.
//!
//! Nothing here reads or writes a socket: [`Connection::receive`] is given what has come, and what is to be sent waits
//! in [`Connection::out`].

use std::collections::VecDeque;
use std::io::IoSlice;
use std::task::{Context, Poll};

mod receive;

pub use receive::{Event, Received};

use super::frame::{self, PREFACE, Reason, kind};
use super::hpack::decode::Decoder;
use super::hpack::encode::Encoder;
use super::inbound::Inbound;
use super::meter::Meter;
use super::outbound::{OUT_MAX, Outbound, Sink, State, is_nothing};
use super::request::{self, Follows};
use super::response;
use super::settings::{Limits, Peer};
use super::stream::{Exchange, Fault, Stream, Streams, wait};
use super::text::{BadText, length};
use super::window::{self, Allowance, Window};
use crate::grpc::web::Web;
use crate::method::Method;

/// Streams of which we know that we have ended them while the peer may not: what was on its way is passed over. On one
/// that is forgotten it is an error.
const ENDED_MAX: usize = 1_000;

/// The largest number that a stream can have.
const LAST_MAX: u32 = 0x7fff_ffff;

/// Room for what streams write, which is made at once and not bit by bit.
const OUT_MIN: usize = 32 * 1024;

/// What waits to be sent at most, before nothing more is read that could have us say more.
const OUT_FULL: usize = 4 * OUT_MAX;

/// Which end we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A client asks us.
    Server,
    /// We ask a server.
    Client,
}

/// The state of a connection.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    limits: Limits,
    peer: Peer,
    decoder: Decoder,
    encoder: Encoder,
    streams: Streams,
    /// The last stream that was opened.
    last: u32,
    /// Streams that we have ended before the peer did.
    ended: VecDeque<u32>,
    window: Window,
    allowance: Allowance,
    meter: Meter,
    /// Streams that broke rules.
    errors: u32,
    out: Vec<u8>,
    /// What of it was sent.
    sent: usize,
    /// Whether a stream waits for room there.
    is_crowded: bool,
    /// The stream that has written last.
    turn: u32,
    begun: Begun,
    /// A head of which a part is missing.
    block: Option<receive::Block>,
    /// Where the heads of requests are put together.
    reader: request::Reader,
    /// The head of the request that was opened last, without its end.
    head: Vec<u8>,
    leaving: Leaving,
    /// The last stream that the peer will look at, if it leaves.
    last_of_peer: Option<u32>,
    /// Whether nothing more comes or goes.
    is_gone: bool,
}

/// How far a peer has come with its first words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// What a client says first is missing.
    Preface,
    /// Its settings are.
    Settings,
    /// Nothing is.
    Yes,
}

/// How far we are with leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// The client was told that we will, and a ping says when it has heard.
    Told,
    /// It was told which stream is the last one.
    Last,
}

impl Connection {
    /// One on which we play this role; our first words are to be sent.
    pub fn new(role: Role, limits: Limits) -> Self {
        let mut this = Self {
            role,
            limits,
            peer: Peer::default(),
            decoder: Decoder::default(),
            encoder: match role {
                Role::Server => Encoder::default(),
                Role::Client => Encoder::without_table(),
            },
            streams: Streams::default(),
            last: 0,
            ended: VecDeque::new(),
            window: Window::new(window::INITIAL),
            allowance: Allowance::new(limits.connection_window),
            meter: Meter::default(),
            errors: 0,
            out: Vec::new(),
            sent: 0,
            is_crowded: false,
            turn: 0,
            begun: match role {
                Role::Server => Begun::Preface,
                Role::Client => Begun::Settings,
            },
            block: None,
            reader: request::Reader::default(),
            head: Vec::new(),
            leaving: Leaving::No,
            last_of_peer: None,
            is_gone: false,
        };
        this.greet();
        this
    }

    fn greet(&mut self) {
        let settings = match self.role {
            Role::Server => self.limits.for_clients(),
            Role::Client => {
                self.out.extend_from_slice(PREFACE);
                self.limits.for_servers()
            }
        };
        frame::write(kind::SETTINGS, 0, 0, &settings, &mut self.out);
        let more = self
            .limits
            .connection_window
            .saturating_sub(window::INITIAL);
        if more > 0 {
            self.tell_window(0, more);
        }
    }

    /// What is to be sent.
    pub fn out(&self) -> &[u8] {
        self.out.get(self.sent..).unwrap_or_default()
    }

    /// Counts what was sent; who waits for room is woken.
    pub fn note_sent(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent < self.out.len() {
            return;
        }
        self.sent = 0;
        match self.streams.len() {
            0 => self.out = Vec::new(), // nothing is kept for a wait
            _ => self.out.clear(),
        }
        if std::mem::take(&mut self.is_crowded) {
            self.streams.wake_writers(self.turn);
        }
    }

    /// Tells whether so much waits to be sent that nothing more is to be read.
    pub fn is_full(&self) -> bool {
        self.out().len() >= OUT_FULL
    }

    /// The head of the request of the last [`Event::Opened`]; `key` is one of our own for a WebSocket.
    pub fn head(&mut self, follows: Follows, key: [u8; 16]) -> &[u8] {
        request::write_end(follows, key, &mut self.head);
        &self.head
    }

    /// Tells whether the settings of the peer have come.
    pub fn is_settled(&self) -> bool {
        self.begun == Begun::Yes
    }

    /// Tells whether the peer may be asked for one more.
    pub fn has_room(&self, streams: u32) -> bool {
        !self.is_gone
            && self.last_of_peer.is_none()
            && streams < self.peer.streams
            && self.last < LAST_MAX
    }

    /// Opens a stream with the head of a request; tells its number.
    ///
    /// # Errors
    /// It is no head, or the server will not look at it.
    pub fn ask(&mut self, head: &[u8], scheme: &[u8]) -> Result<u32, Fault> {
        if self.is_gone || self.last_of_peer.is_some() {
            return Err(Fault::Untouched);
        }
        let id = if self.last == 0 { 1 } else { self.last + 2 };
        let takes_websocket = self.peer.takes_websocket;
        let encoded = self.sink(id).block(|encoder, out| {
            let (sent, length) = request::encode(head, scheme, takes_websocket, encoder, out)?;
            Ok(((sent, length), length.is_some_and(is_nothing)))
        });
        let (sent, length) = encoded.map_err(|BadText| Fault::Unwritable)?;
        self.last = id;
        let base64 = sent.web.and_then(Web::decoder);
        let stream = self.add(id, Exchange::Question(sent));
        stream.outbound.begin(length, base64);
        Ok(id)
    }

    fn add(&mut self, id: u32, exchange: Exchange) -> &mut Stream {
        let inbound = Inbound::new(Allowance::new(self.limits.stream_window));
        let outbound = Outbound::new(Window::new(self.peer.window));
        self.streams
            .add(Stream::new(id, exchange, inbound, outbound))
    }

    fn sink(&mut self, stream: u32) -> Sink<'_> {
        Sink {
            stream,
            out: &mut self.out,
            window: &mut self.window,
            encoder: &mut self.encoder,
        }
    }

    /// A stream, and where it writes to.
    fn writing(&mut self, id: u32) -> Option<(&mut Stream, Sink<'_>)> {
        let sink = Sink {
            stream: id,
            out: &mut self.out,
            window: &mut self.window,
            encoder: &mut self.encoder,
        };
        Some((self.streams.find(id)?, sink))
    }

    /// Reads what came on a stream, as HTTP/1.1 would write it.
    ///
    /// # Errors
    /// It ended before its time.
    pub fn poll_read(
        &mut self,
        id: u32,
        context: &Context<'_>,
        room: &mut [u8],
    ) -> Poll<Result<usize, Fault>> {
        let Some(stream) = self.streams.find(id) else {
            return Poll::Ready(Err(Fault::Gone));
        };
        // A message that is here as a whole is not lost with its connection.
        let is_whole = stream.fault == Some(Fault::Gone) && stream.inbound.has_ended();
        if let Some(fault) = stream.fault
            && !is_whole
        {
            return Poll::Ready(Err(fault));
        }
        let (read, freed) = stream.inbound.read(room);
        if read.is_none() {
            wait(&mut stream.inbound.reader, context);
        }
        let more = match stream.inbound.has_ended() {
            true => None,
            false => stream.inbound.allowance.give_back(freed),
        };
        if let Some(more) = more {
            self.tell_window(id, more);
        }
        self.free(freed);
        read.map_or(Poll::Pending, |read| Poll::Ready(Ok(read)))
    }

    /// Gives back what of the connection's window is free again.
    fn free(&mut self, bytes: usize) {
        if let Some(more) = self.allowance.give_back(bytes) {
            self.tell_window(0, more);
        }
    }

    fn tell_window(&mut self, stream: u32, more: u32) {
        frame::write(
            kind::WINDOW_UPDATE,
            0,
            stream,
            &more.to_be_bytes(),
            &mut self.out,
        );
    }

    /// Writes a part of `parts`, the text of HTTP/1.1, to a stream. A writer that has to wait comes back with the same.
    ///
    /// # Errors
    /// The stream ended before its time, or the text is none.
    pub fn poll_write(
        &mut self,
        id: u32,
        context: &Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<Result<usize, Fault>> {
        if self.out.is_empty() {
            self.out.reserve(OUT_MIN);
        }
        self.turn = id;
        let Some((stream, mut sink)) = self.writing(id) else {
            return Poll::Ready(Err(Fault::Gone));
        };
        if let Some(fault) = stream.fault {
            return Poll::Ready(Err(fault));
        }
        match stream.write(parts, &mut sink) {
            Ok(Some(written)) => Poll::Ready(Ok(written)),
            Ok(None) => {
                wait(&mut stream.outbound.writer, context);
                self.is_crowded |= self.out.len() >= OUT_MAX;
                Poll::Pending
            }
            Err(BadText) => {
                self.end_stream(id, Reason::INTERNAL_ERROR, Fault::Unwritable);
                Poll::Ready(Err(Fault::Unwritable))
            }
        }
    }

    /// Ends what is written to a stream that is a tunnel.
    pub fn end(&mut self, id: u32) {
        if let Some((stream, mut sink)) = self.writing(id) {
            stream.outbound.end(&mut sink);
        }
    }

    /// Ready when a stream has ended before its time.
    pub fn poll_broken(&mut self, id: u32, context: &Context<'_>) -> Poll<()> {
        match self.streams.find(id) {
            Some(stream) => stream.poll_broken(context),
            None => Poll::Ready(()),
        }
    }

    /// Ends what is written to a stream that is not at its end, so that it does not look complete.
    pub fn reset(&mut self, id: u32, reason: Reason) {
        let is_unfinished = |stream: &mut Stream| !stream.outbound.is_over();
        if self.streams.find(id).is_some_and(is_unfinished) {
            self.end_stream(id, reason, Fault::Reset(reason));
        }
    }

    /// Forgets a stream that nobody reads or writes any more.
    pub fn release(&mut self, id: u32) {
        if let Some(stream) = self.streams.find(id)
            && stream.is_open()
        {
            let is_answered = stream.outbound.is_over() && self.role == Role::Server;
            let reason = if is_answered {
                Reason::NO_ERROR
            } else {
                Reason::CANCEL
            };
            self.end_stream(id, reason, Fault::Reset(reason));
        }
        if let Some(mut stream) = self.streams.remove(id) {
            let freed = stream.inbound.forget();
            self.free(freed);
        }
    }

    /// Resets a stream of ours.
    fn end_stream(&mut self, id: u32, reason: Reason, fault: Fault) {
        let Some(stream) = self.streams.find(id) else {
            return;
        };
        if stream.fault.is_some() {
            return;
        }
        let has_ended = stream.inbound.has_ended();
        stream.fail(fault);
        let freed = stream.inbound.forget();
        self.free(freed);
        self.tell_reset(id, reason);
        if !has_ended {
            self.note_ended(id);
        }
    }

    fn tell_reset(&mut self, id: u32, reason: Reason) {
        frame::write(
            kind::RST_STREAM,
            0,
            id,
            &reason.0.to_be_bytes(),
            &mut self.out,
        );
    }

    /// Notes that what still comes on a stream is to be passed over.
    fn note_ended(&mut self, id: u32) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(id);
    }

    /// Begins to end the connection once what it carries is done: the client is told, and what it asks for until it
    /// has heard is still answered (RFC 9113 §6.8).
    pub fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Told;
            self.tell_leaving(LAST_MAX, Reason::NO_ERROR);
            frame::write(kind::PING, 0, 0, &receive::LEAVING, &mut self.out);
        }
    }

    fn tell_leaving(&mut self, last: u32, reason: Reason) {
        let payload = [last.to_be_bytes(), reason.0.to_be_bytes()];
        frame::write(kind::GOAWAY, 0, 0, payload.as_flattened(), &mut self.out);
    }

    /// Ends the connection; what is to be sent says why.
    pub fn abort(&mut self, reason: Reason) {
        if !self.is_gone {
            let last = if self.role == Role::Server {
                self.last
            } else {
                0
            };
            self.tell_leaving(last, reason);
            self.fail();
        }
    }

    /// Notes that the connection has ended.
    pub fn fail(&mut self) {
        self.is_gone = true;
        for stream in self.streams.all() {
            stream.fail(Fault::Gone);
        }
    }
}

impl Stream {
    /// Writes text; nothing as long as it has to wait.
    fn write(
        &mut self,
        parts: &[IoSlice<'_>],
        sink: &mut Sink<'_>,
    ) -> Result<Option<usize>, BadText> {
        let taken = self.write_head(parts, sink)?;
        match self.outbound.state {
            State::Head(_) => Ok(Some(taken)),
            _ => self.outbound.write(parts, taken, sink),
        }
    }

    /// Takes the heads that `parts` begin with, if those are not sent yet; tells how much of `parts` that was.
    fn write_head(&mut self, parts: &[IoSlice<'_>], sink: &mut Sink<'_>) -> Result<usize, BadText> {
        let State::Head(begun) = &mut self.outbound.state else {
            return Ok(0);
        };
        let first = parts.first().map_or(&[][..], |part| part);
        if begun.is_empty()
            && let Some(end) = length(first)
        {
            return self.answer(first, end, sink);
        }
        let mut text = std::mem::take(begun);
        let before = text.len();
        for part in parts {
            text.extend_from_slice(part);
        }
        // A head in pieces is rare, and one that ends in the middle of them is taken to its end alone.
        let Some(end) = length(&text) else {
            let taken = text.len() - before;
            self.outbound.state = State::Head(text);
            return Ok(taken);
        };
        self.answer(text.get(..end).unwrap_or_default(), end, sink)?;
        Ok(end.saturating_sub(before))
    }

    /// Sends the heads that `text` begins with, of which only the last is final; the first is `end` bytes long. Tells how
    /// long they are.
    fn answer(&mut self, text: &[u8], end: usize, sink: &mut Sink<'_>) -> Result<usize, BadText> {
        let Exchange::Answer(method) = self.exchange else {
            return Err(BadText);
        };
        let (mut taken, mut end) = (0, Some(end));
        while let Some(length_of_head) = end {
            let head = text.get(taken..taken + length_of_head).unwrap_or_default();
            let told = sink.block(|encoder, out| {
                let told = response::encode(head, method, encoder, out)?;
                let is_interim = told.status < 200;
                let is_success = told.length.is_some() && (200..300).contains(&told.status);
                // There is no other CONNECT that anybody answers with a success.
                if method == Method::Connect && is_success {
                    return Err(BadText);
                }
                Ok((told, !is_interim && told.length.is_some_and(is_nothing)))
            })?;
            taken += length_of_head;
            if told.status >= 200 || told.length.is_none() {
                self.outbound.begin(told.length, None);
                break;
            }
            end = text.get(taken..).and_then(length);
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests;
