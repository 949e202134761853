//! One HTTP/1 connection seen from either end: buffered reading with deadlines, and what kind of
//! close ended it.

use crate::body::{Body, Decoder};
use crate::head::{Framing, Malformed, RequestHead, ResponseHead, head_end};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The longest head a tool reads.
const HEAD_MAX: usize = 1 << 20;

/// How long a tool waits to send to a peer that does not read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How a connection stands at the end of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The peer closed in order.
    Fin,
    /// The peer reset the connection.
    Reset,
    /// The connection was still open at the deadline.
    Open,
}

/// Why a message could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The connection ended, or the deadline passed, after this many bytes of the message.
    Ended(Close, u64),
    /// The message breaks the protocol.
    Malformed(Malformed),
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// When to give up reading; `None` never does.
pub type Deadline = Option<Instant>;

/// A connection and what was received on it.
pub struct Wire {
    stream: TcpStream,
    /// Received and not yet part of a message.
    pending: Vec<u8>,
    /// The first bytes received, up to `keep`; shared so that a test can look while it grows.
    received: Arc<Mutex<Vec<u8>>>,
    keep: usize,
    total: u64,
}

impl Wire {
    /// Wraps a connection and keeps up to `keep` of the bytes received on it.
    #[must_use]
    pub fn new(stream: TcpStream, keep: usize) -> Self {
        stream.set_nodelay(true).ok(); // fails only on a dead connection, which reading will tell
        stream.set_write_timeout(Some(WRITE_TIMEOUT)).ok();
        Self {
            stream,
            pending: Vec::new(),
            received: Arc::default(),
            keep,
            total: 0,
        }
    }

    /// Returns the connection.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Returns the kept bytes, shared with this connection.
    #[must_use]
    pub fn received(&self) -> Arc<Mutex<Vec<u8>>> {
        Arc::clone(&self.received)
    }

    /// Returns how many bytes were received.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Returns what was received and belongs to no message read so far.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Takes what was received and belongs to no message read so far.
    pub fn take_pending(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.pending)
    }

    /// Has `bytes` read before what is pending.
    pub fn put_back(&mut self, bytes: &[u8]) {
        self.pending.splice(..0, bytes.iter().copied());
    }

    /// Drops the first bytes of the pending ones.
    pub fn skip(&mut self, count: usize) {
        self.pending.drain(..count);
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// That of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Closes the sending direction.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).ok(); // an error means that it is closed already
    }

    /// Closes at once with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .ok();
    }

    /// Waits for bytes and appends them to the pending ones.
    ///
    /// # Errors
    /// How the connection stands when none come.
    pub fn fill(&mut self, deadline: Deadline) -> Result<(), Close> {
        let timeout = match deadline.map(|at| at.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Err(Close::Open),
            timeout => timeout,
        };
        self.stream
            .set_read_timeout(timeout)
            .map_err(|error| close_kind(&error))?;
        let mut block = [0; 64 << 10];
        let count = match self.stream.read(&mut block) {
            Ok(0) => return Err(Close::Fin),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => return self.fill(deadline),
            Err(error) => return Err(close_kind(&error)),
        };
        let bytes = block.get(..count).unwrap_or_default();
        self.total += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        let room = self.keep.saturating_sub(received.len());
        received.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        Ok(())
    }

    /// Reads a head, blank line included.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read_head(&mut self, deadline: Deadline) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(end) = head_end(&self.pending)? {
                let rest = self.pending.split_off(end);
                return Ok(std::mem::replace(&mut self.pending, rest));
            }
            if self.pending.len() > HEAD_MAX {
                return Err(Stop::Malformed(Malformed("a head without end".into())));
            }
            let part = self.pending.len() as u64;
            self.fill(deadline)
                .map_err(|close| Stop::Ended(close, part))?;
        }
    }

    /// Reads the body that follows a head into `body`, which holds what came if it breaks off.
    ///
    /// # Errors
    /// Why it is not complete.
    pub fn read_body(
        &mut self,
        framing: Framing,
        body: &mut Body,
        deadline: Deadline,
    ) -> Result<(), Stop> {
        let mut decoder = Decoder::new(framing);
        loop {
            let used = decoder.feed(&self.pending, body)?;
            self.pending.drain(..used);
            if decoder.is_done() {
                return Ok(());
            }
            match self.fill(deadline) {
                Ok(()) => {}
                Err(Close::Fin) if decoder.may_end_here() => return Ok(()),
                Err(close) => return Err(Stop::Ended(close, body.length)),
            }
        }
    }

    /// Reads the head of a request.
    ///
    /// # Errors
    /// Why there is none.
    pub fn read_request_head(&mut self, deadline: Deadline) -> Result<RequestHead, Stop> {
        Ok(RequestHead::parse(&self.read_head(deadline)?)?)
    }

    /// Reads a response to `method`: its head and its body. Interim responses come by themselves.
    ///
    /// # Errors
    /// Why it is not complete, with what was read of it.
    pub fn read_response(
        &mut self,
        method: &str,
        deadline: Deadline,
    ) -> Result<Response, Unfinished> {
        let unfinished = |stop| Unfinished {
            stop,
            head: None,
            body: Body::default(),
        };
        let raw = self.read_head(deadline).map_err(unfinished)?;
        let head = ResponseHead::parse(&raw).map_err(|wrong| unfinished(wrong.into()))?;
        let framing = head
            .framing(method)
            .map_err(|wrong| unfinished(wrong.into()))?;
        let mut body = Body::default();
        match self.read_body(framing, &mut body, deadline) {
            Ok(()) => Ok(Response {
                head,
                raw_head: raw,
                framing,
                body,
            }),
            Err(stop) => Err(Unfinished {
                stop,
                head: Some(head),
                body,
            }),
        }
    }
}

/// A complete response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its head.
    pub head: ResponseHead,
    /// The bytes of its head.
    pub raw_head: Vec<u8>,
    /// How its length was given.
    pub framing: Framing,
    /// Its body.
    pub body: Body,
}

impl Response {
    /// Returns the status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// Returns the first value of a field.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.fields.first(name)
    }

    /// Returns the body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.bytes).into_owned()
    }
}

/// A response that did not come to its end.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// Why.
    pub stop: Stop,
    /// Its head, if that was complete.
    pub head: Option<ResponseHead>,
    /// What came of its body.
    pub body: Body,
}

/// Returns what an error of a socket says of its connection.
fn close_kind(error: &io::Error) -> Close {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Close::Open,
        _ => Close::Reset,
    }
}
