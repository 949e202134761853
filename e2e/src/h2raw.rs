//! One end of an HTTP/2 connection, frame by frame: it sends whatever a test likes, right or wrong,
//! and keeps what comes back by its stream.

use crate::frame::{Frame, PREFACE, code, flag, kind, setting};
use crate::h2server::Returned;
use crate::hpack::{self, Decoder, Field};
use crate::raw::PATIENCE;
use crate::wire::{Close, Wire};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most bytes of a body that are kept.
const KEPT_MAX: usize = 4 << 20;

/// How long a body may wait for room.
const ROOM_WITHIN: Duration = Duration::from_secs(30);

/// What a stream or connection may receive where nobody has said otherwise.
const WINDOW: i64 = 65_535;

/// For how much that came room is made at once.
const ROOM_BYTES: u32 = 16_384;

/// The longest frame that everybody takes.
const FRAME_BYTES: usize = 16_384;

/// One end of a connection.
pub struct Peer {
    wire: Wire,
    decoder: Decoder,
    /// The block of fields that is on its way, and the first frame of it.
    block: Option<Frame>,
    /// What came, by stream.
    pub messages: BTreeMap<u32, Message>,
    /// What the other end has said of itself.
    pub settings: BTreeMap<u16, u32>,
    /// The last stream, and the code of the error, with which the other end leaves.
    pub goaway: Option<(u32, u32)>,
    /// How many frames of each type have come.
    pub counts: BTreeMap<u8, usize>,
    /// Whether room is made as data comes.
    pub is_reading: bool,
    closed: Option<Close>,
    /// What may be sent, on the connection and on the streams that have sent something.
    window: i64,
    windows: BTreeMap<u32, i64>,
    /// What came and was not made room for again.
    owed: BTreeMap<u32, u32>,
    next: u32,
    log: Option<(usize, Log)>,
    /// Requests that a server's script knows.
    pub(crate) returned: Returned,
}

/// What came on the connections of a server, by the number of the connection.
pub(crate) type Log = Arc<Mutex<Vec<(usize, Event)>>>;

/// Something that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The head of a request.
    Head(u32, Vec<Field>),
    /// The end of a message.
    End(u32),
    /// The other end has reset a stream, with this code.
    Reset(u32, u32),
    /// The other end leaves, with this code.
    Leaves(u32),
    /// The connection has ended.
    Closed,
}

/// What came on a stream.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its blocks of fields: heads, and trailers.
    pub blocks: Vec<Vec<Field>>,
    /// What is kept of its body.
    pub body: Vec<u8>,
    /// How long the body is.
    pub length: u64,
    /// How many frames of data it came in.
    pub pieces: usize,
    /// How it ended, if it has.
    pub end: Option<End>,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With its message.
    Complete,
    /// The other end has reset it, with this code.
    Reset(u32),
    /// The other end has left, with this code, and will not look at it.
    Left(u32),
    /// The connection has ended before, or nothing has come for too long.
    Closed(Close),
}

impl Message {
    /// Returns the first value of a field, in any block.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<String> {
        self.blocks.iter().find_map(|block| field(block, name))
    }

    /// Returns the statuses of its heads.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        let status = |block: &Vec<Field>| field(block, ":status")?.parse().ok();
        self.blocks.iter().filter_map(status).collect()
    }

    /// Returns the last status, or 0.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.statuses().last().copied().unwrap_or_default()
    }

    /// Returns the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Returns the first value of a field.
#[must_use]
pub fn field(block: &[Field], name: &str) -> Option<String> {
    let mut found = block.iter().filter(|(of, _)| of == name.as_bytes());
    let (_, value) = found.next()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The block of a request for `path` of the host `test`, with more fields.
#[must_use]
pub fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", path),
    ];
    hpack::block(&[&fields, more].concat())
}

impl Peer {
    /// Connects to `address` and begins as a client.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[])
    }

    /// Does the same with these settings.
    ///
    /// # Panics
    /// If nothing listens there.
    #[must_use]
    pub fn connect_with(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE);
        let stream = stream.unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Self::client(stream, settings)
    }

    /// Begins as a client on a connection.
    #[must_use]
    pub fn client(stream: TcpStream, settings: &[(u16, u32)]) -> Self {
        let mut this = Self::silent(stream);
        let settings = Frame::settings(settings).encode();
        this.wire.send(&[PREFACE, &settings].concat()).ok(); // reading tells
        this
    }

    /// Says nothing yet.
    #[must_use]
    pub fn silent(stream: TcpStream) -> Self {
        Self {
            wire: Wire::new(stream, 0),
            decoder: Decoder::default(),
            block: None,
            messages: BTreeMap::new(),
            settings: BTreeMap::new(),
            goaway: None,
            counts: BTreeMap::new(),
            is_reading: true,
            closed: None,
            window: WINDOW,
            windows: BTreeMap::new(),
            owed: BTreeMap::new(),
            next: 1,
            log: None,
            returned: Returned::new(),
        }
    }

    /// Waits as a server for what a client says first.
    pub(crate) fn server(stream: TcpStream, number: usize, log: &Log) -> Option<Self> {
        let mut this = Self::silent(stream);
        this.log = Some((number, Arc::clone(log)));
        while this.wire.pending().len() < PREFACE.len() {
            this.wire.fill(None).ok()?;
        }
        let mut came = this.wire.take_pending();
        let rest = came.split_off(PREFACE.len());
        this.wire.put_back(&rest);
        (came == PREFACE).then_some(this)
    }

    /// Lets the other end keep that much of what it writes, as a setting has told it.
    pub fn allow_table(&mut self, bytes: usize) {
        self.decoder.allow(bytes);
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// That of the socket: the peer may have closed, which is not always a failure.
    pub fn send(&mut self, frame: &Frame) -> io::Result<()> {
        self.wire.send(&frame.encode())
    }

    /// Sends these bytes.
    ///
    /// # Errors
    /// That of the socket.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wire.send(bytes)
    }

    /// Returns the number of a new stream of a client.
    pub fn open(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends a request without a body, and returns its stream.
    pub fn get(&mut self, path: &str) -> u32 {
        self.request("GET", path, &[])
    }

    /// Sends a request without a body, and returns its stream.
    pub fn request(&mut self, method: &str, path: &str, more: &[(&str, &str)]) -> u32 {
        self.ask(head(method, path, more))
    }

    /// Sends a request without a body, and returns its stream.
    pub fn ask(&mut self, block: Vec<u8>) -> u32 {
        let stream = self.open();
        self.send(&Frame::headers(stream, block).ending()).ok(); // reading tells
        stream
    }

    /// Sends the head of a request with a body, and returns its stream.
    pub fn begin(&mut self, method: &str, path: &str, more: &[(&str, &str)]) -> u32 {
        let stream = self.open();
        let head = head(method, path, more);
        self.send(&Frame::headers(stream, head)).ok(); // reading tells
        stream
    }

    /// Answers a request.
    pub fn respond(&mut self, stream: u32, status: u16, body: &[u8]) {
        let head = hpack::block(&[(":status", status.to_string())]);
        let head = Frame::headers(stream, head);
        match body {
            [] => drop(self.send(&head.ending())),
            body => {
                self.send(&head).ok(); // reading tells
                self.send_body(stream, body, true);
            }
        }
    }

    /// Sends a body as room is made for it; tells whether all of it went.
    pub fn send_body(&mut self, stream: u32, body: &[u8], is_last: bool) -> bool {
        let mut pieces = body.chunks(FRAME_BYTES).peekable();
        let mut is_sent = true;
        while let (true, Some(piece)) = (is_sent, pieces.next()) {
            let frame = Frame::data(stream, piece);
            let is_end = is_last && pieces.peek().is_none();
            is_sent = self.send_data(&if is_end { frame.ending() } else { frame });
        }
        is_sent
    }

    /// Sends a frame of data once there is room for it; tells whether it went.
    pub fn send_data(&mut self, frame: &Frame) -> bool {
        let deadline = Instant::now() + ROOM_WITHIN;
        let length = i64::try_from(frame.payload.len()).unwrap_or(i64::MAX);
        let stream = frame.stream;
        while self.window.min(self.window_of(stream)) < length {
            let end = self.messages.get(&stream).and_then(|message| message.end);
            if matches!(end, Some(End::Reset(_))) || !self.step(Some(deadline)) {
                return false;
            }
        }
        self.window -= length;
        let left = self.window_of(stream) - length;
        self.windows.insert(stream, left);
        self.send(frame).is_ok()
    }

    fn window_of(&mut self, stream: u32) -> i64 {
        let initial = self.settings.get(&setting::INITIAL_WINDOW_SIZE);
        let initial = initial.map_or(WINDOW, |value| i64::from(*value));
        *self.windows.entry(stream).or_insert(initial)
    }

    /// Reads until `is_done`, or nothing more comes; tells whether it is.
    pub fn wait(&mut self, within: Duration, mut is_done: impl FnMut(&Self) -> bool) -> bool {
        let deadline = Instant::now() + within;
        loop {
            if is_done(self) {
                return true;
            }
            if !self.step(Some(deadline)) {
                return false;
            }
        }
    }

    /// Waits until a stream has ended; tells how.
    pub fn end(&mut self, stream: u32) -> End {
        self.end_within(stream, PATIENCE)
    }

    /// Waits for that time.
    pub fn end_within(&mut self, stream: u32, within: Duration) -> End {
        let ended = |peer: &Self| peer.messages.get(&stream).and_then(|message| message.end);
        let is_left = |peer: &Self| peer.goaway.filter(|(last, _)| *last < stream);
        self.wait(within, |peer| {
            ended(peer).is_some() || is_left(peer).is_some()
        });
        match (ended(self), is_left(self), self.closed) {
            (Some(end), ..) => end,
            (None, None, Some(_)) if let Some((_, code @ 1..)) = self.goaway => End::Left(code),
            (None, Some((_, code)), _) => End::Left(code),
            (None, None, closed) => End::Closed(closed.unwrap_or(Close::Open)),
        }
    }

    /// Waits for the whole message on a stream.
    ///
    /// # Panics
    /// If it does not come to its end.
    pub fn message(&mut self, stream: u32) -> Message {
        let end = self.end(stream);
        let message = self.messages.get(&stream).cloned().unwrap_or_default();
        assert_eq!(end, End::Complete, "{message:?}, {:?}", self.goaway);
        message
    }

    /// Waits until the other end closes; tells the code with which it left, if it said one.
    pub fn left(&mut self, within: Duration) -> Option<u32> {
        let is_closed = |peer: &Self| matches!(peer.closed, Some(Close::Fin | Close::Reset));
        self.wait(within, is_closed);
        let code = self.goaway.map(|(_, code)| code);
        is_closed(self).then_some(code).flatten()
    }

    /// Tells how the connection has ended, if it has.
    #[must_use]
    pub fn closed(&self) -> Option<Close> {
        self.closed
    }

    /// Closes the sending direction.
    pub fn finish(&self) {
        self.wire.finish();
    }

    /// Closes both directions.
    pub(crate) fn hang_up(&self) {
        self.wire.stream().shutdown(std::net::Shutdown::Both).ok(); // or it is closed already
    }

    /// Closes with a reset.
    pub fn abort(self) {
        self.wire.reset();
    }

    /// Waits for a frame and takes it in; tells whether one came.
    pub fn step(&mut self, deadline: Option<Instant>) -> bool {
        let (frame, length) = loop {
            if let Some(found) = Frame::parse(self.wire.pending()) {
                break found;
            }
            match self.wire.fill(deadline) {
                Ok(()) => {}
                Err(Close::Open) => return false,
                Err(close) => {
                    if self.closed.replace(close).is_none() {
                        self.note(Event::Closed);
                    }
                    return false;
                }
            }
        };
        self.wire.skip(length);
        *self.counts.entry(frame.kind).or_default() += 1;
        self.take(frame);
        true
    }

    fn take(&mut self, frame: Frame) {
        let stream = frame.stream;
        match frame.kind {
            kind::DATA => self.take_data(&frame),
            kind::HEADERS => self.take_block(frame),
            kind::CONTINUATION => {
                let mut whole = self.block.take().expect("it continues a head");
                whole.payload.extend(frame.payload);
                whole.flags |= frame.flags & flag::END_HEADERS;
                self.take_block(whole);
            }
            kind::RST_STREAM => {
                let code = frame.number(0).unwrap_or_default();
                self.messages.entry(stream).or_default().end = Some(End::Reset(code));
                self.note(Event::Reset(stream, code));
            }
            kind::SETTINGS if !frame.has(flag::ACK) => self.take_settings(&frame),
            kind::PING if !frame.has(flag::ACK) => {
                let pong = Frame::new(kind::PING, flag::ACK, 0, frame.payload);
                self.send(&pong).ok(); // reading tells
            }
            kind::GOAWAY => {
                let numbers = (frame.number(0), frame.number(4));
                self.goaway = numbers.0.zip(numbers.1);
                self.note(Event::Leaves(numbers.1.unwrap_or(code::NO_ERROR)));
            }
            kind::WINDOW_UPDATE => {
                let more = i64::from(frame.number(0).unwrap_or_default());
                match stream {
                    0 => self.window += more,
                    _ => {
                        let window = self.window_of(stream) + more;
                        self.windows.insert(stream, window);
                    }
                }
            }
            _ => {}
        }
    }

    fn take_data(&mut self, frame: &Frame) {
        let content = frame
            .content()
            .unwrap_or_else(|wrong| panic!("{wrong}: {frame:?}"));
        let message = self.messages.entry(frame.stream).or_default();
        message.length += content.len() as u64;
        message.pieces += 1;
        let room = KEPT_MAX
            .saturating_sub(message.body.len())
            .min(content.len());
        message
            .body
            .extend_from_slice(content.get(..room).unwrap_or_default());
        let length = u32::try_from(frame.payload.len()).unwrap_or_default();
        let is_last = frame.has(flag::END_STREAM);
        if self.is_reading {
            self.make_room(0, length);
            if !is_last {
                self.make_room(frame.stream, length);
            }
        }
        if is_last {
            self.complete(frame.stream);
        }
    }

    /// Has the other end send as much again, once it is worth a frame.
    fn make_room(&mut self, stream: u32, length: u32) {
        let owed = self.owed.entry(stream).or_default();
        *owed += length;
        if *owed >= ROOM_BYTES {
            let room = Frame::window_update(stream, std::mem::take(owed));
            self.send(&room).ok(); // reading tells
        }
    }

    fn take_block(&mut self, frame: Frame) {
        if !frame.has(flag::END_HEADERS) {
            self.block = Some(frame);
            return;
        }
        let content = frame
            .content()
            .unwrap_or_else(|wrong| panic!("{wrong}: {frame:?}"));
        let fields = self.decoder.decode(content);
        let fields = fields.unwrap_or_else(|wrong| panic!("{wrong}: {frame:?}"));
        let message = self.messages.entry(frame.stream).or_default();
        let is_first = message.blocks.is_empty();
        message.blocks.push(fields.clone());
        if is_first {
            self.note(Event::Head(frame.stream, fields));
        }
        if frame.has(flag::END_STREAM) {
            self.complete(frame.stream);
        }
    }

    fn complete(&mut self, stream: u32) {
        self.messages.entry(stream).or_default().end = Some(End::Complete);
        self.note(Event::End(stream));
    }

    fn take_settings(&mut self, frame: &Frame) {
        let before = self.window_of(0); // nobody sends on this stream
        for pair in frame.payload.chunks_exact(6) {
            let [a, b, c, d, e, f] = *pair else { continue };
            let value = u32::from_be_bytes([c, d, e, f]);
            self.settings.insert(u16::from_be_bytes([a, b]), value);
        }
        self.windows.remove(&0);
        let change = self.window_of(0) - before;
        self.windows.remove(&0);
        for window in self.windows.values_mut() {
            *window += change;
        }
        self.send(&Frame::settings_ack()).ok(); // reading tells
    }

    fn note(&self, event: Event) {
        if let Some((number, log)) = &self.log {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push((*number, event));
        }
    }
}
