//! TLS on a connection, from a client or to a server. A session belongs to its socket: whoever reads
//! and writes does not see whether there is one.

mod client;
mod server;

pub use client::secure;
pub use server::Choose;

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustls::{ClientConnection, Connection, HandshakeKind, ServerConnection};

use crate::socket::{Need, Socket};
use server::{Hello, Refusal};

/// From this much text on, a session takes nothing before some of it has been read.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// What is read of a connection at once: the text of one record, as TLS has it at most, for which a
/// session has room.
const CIPHER_BYTES_MAX: usize = 16 * 1024;

/// How much is read at once of what is no text: messages of handshakes, and tickets.
const ASIDE_BYTES: usize = 4 * 1024;

/// How often an idle connection is read on end before it is taken for one that is not silent.
const ASIDES_MAX: usize = 8;

/// A session on one connection.
#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    /// Bytes that a write has handed over, and that have not all been sent.
    promised: usize,
    /// What came of the connection and is not deciphered before there is room for the text.
    surplus: Vec<u8>,
    /// Who wants to know when all is agreed on with a client.
    opening: Option<Arc<dyn Choose>>,
    /// What is to be known of what the client said first.
    note: Option<Box<str>>,
}

enum State {
    /// A client has not said all that is needed to choose.
    Hello(Box<Hello>),
    Open(Box<Connection>),
    /// The client left before it said who it wants.
    Left,
    /// It has failed, or nobody serves the client; these are the last words.
    Over(Vec<u8>),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello(..) => "Hello",
            Self::Open(_) => "Open",
            Self::Left => "Left",
            Self::Over(_) => "Over",
        })
    }
}

impl Session {
    /// One with a client, of which nothing has come yet.
    pub(crate) fn with_client(choose: Arc<dyn Choose>) -> Self {
        Self::new(State::Hello(Box::new(Hello::new(choose))))
    }

    /// One with a server, to which nothing has been said yet.
    pub(crate) fn with_server(connection: ClientConnection) -> Self {
        Self::new(State::Open(Box::new(connection.into())))
    }

    fn new(state: State) -> Self {
        Self {
            state,
            promised: 0,
            surplus: Vec::new(),
            opening: None,
            note: None,
        }
    }

    /// What was agreed with a client, once it has said who it wants to talk to.
    pub(crate) fn connection(&self) -> Option<&ServerConnection> {
        match &self.state {
            State::Open(connection) => match &**connection {
                Connection::Server(connection) => Some(connection),
                Connection::Client(_) => None,
            },
            State::Hello(_) | State::Left | State::Over(_) => None,
        }
    }

    /// Tells whether the two ends have not agreed yet.
    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.state {
            State::Hello(_) => true,
            State::Open(connection) => connection.is_handshaking(),
            State::Left | State::Over(_) => false,
        }
    }

    /// What is to be known of what the client said first; once.
    pub(crate) fn take_note(&mut self) -> Option<Box<str>> {
        self.note.take()
    }

    /// Tells whether the two ends knew each other from before; nothing before that is known.
    pub(crate) fn is_resumed(&self) -> Option<bool> {
        match &self.state {
            State::Open(connection) => {
                let kind = connection.handshake_kind()?;
                Some(kind == HandshakeKind::Resumed)
            }
            State::Hello(_) | State::Left | State::Over(_) => None,
        }
    }

    /// What the two ends have agreed to speak, if they have (RFC 7301).
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        match &self.state {
            State::Open(connection) => connection.alpn_protocol(),
            State::Hello(_) | State::Left | State::Over(_) => None,
        }
    }

    /// Reads text into `room`, which holds what comes of the connection until it is deciphered.
    pub(crate) fn poll_read(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let whole = room.len().min(CIPHER_BYTES_MAX);
        loop {
            if let Some(read) = self.text(room) {
                return Poll::Ready(read);
            }
            let cipher = room.get_mut(..whole).unwrap_or_default();
            ready!(self.poll_more(socket, context, cipher))?;
        }
    }

    /// Takes what comes of the connection next, into `cipher` first. What a session has to say by
    /// itself goes before.
    fn poll_more(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
        cipher: &mut [u8],
    ) -> Poll<io::Result<()>> {
        // Where that must wait, the peer may still speak.
        if let Poll::Ready(Err(error)) = self.poll_flush(socket, context) {
            return Poll::Ready(Err(error));
        }
        let taken = if self.surplus.is_empty() {
            let read = ready!(socket.poll_io(context, Need::Read, cipher.len(), |fd| {
                rustix::net::recv(fd, &mut *cipher, RecvFlags::empty()).map(|(read, _)| read)
            }))?;
            self.take(cipher.get(..read).unwrap_or_default())
        } else {
            let surplus = std::mem::take(&mut self.surplus);
            self.take(&surplus)
        };
        if taken.is_err() {
            // The peer is told why, if it still listens.
            let _told = self.poll_flush(socket, context);
            self.state = State::Over(Vec::new());
        }
        Poll::Ready(taken)
    }

    /// Text that has been deciphered; nothing when more has to come before.
    fn text(&mut self, room: &mut [u8]) -> Option<io::Result<usize>> {
        let connection = match &mut self.state {
            State::Open(connection) => connection,
            State::Hello(_) => return None,
            State::Left => return Some(Ok(0)),
            State::Over(_) => return Some(Err(io::ErrorKind::ConnectionAborted.into())),
        };
        match connection.reader().read(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            // The end of the connection without the end of the session. Requests know their own end;
            // an answer may not, and then anybody in between could have cut it off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Some(match **connection {
                    Connection::Server(_) => Ok(0),
                    Connection::Client(_) => Err(error),
                })
            }
            read => Some(read),
        }
    }

    /// Takes what came of the connection; nothing is its end.
    fn take(&mut self, mut cipher: &[u8]) -> io::Result<()> {
        loop {
            let before = cipher.len();
            match &mut self.state {
                State::Left | State::Over(_) => return Ok(()),
                State::Hello(..) if before == 0 => {
                    self.state = State::Left;
                    return Ok(());
                }
                State::Hello(hello) => {
                    hello.read(&mut cipher)?;
                    self.greet()?;
                }
                State::Open(connection) => {
                    connection.read_tls(&mut cipher)?;
                    let state = connection.process_new_packets().map_err(invalid)?;
                    if let Connection::Server(connection) = &**connection
                        && !connection.is_handshaking()
                        && let Some(opening) = self.opening.take()
                    {
                        opening.opened(connection);
                    }
                    // With the rest of a record from before, this may be more than a session holds.
                    if state.plaintext_bytes_to_read() >= TEXT_BYTES_MAX {
                        self.surplus.extend_from_slice(cipher);
                        return Ok(());
                    }
                }
            }
            // Behind the end of a session nothing is taken.
            if cipher.is_empty() || cipher.len() == before {
                return Ok(());
            }
        }
    }

    /// Chooses who serves the client, once it has said enough.
    fn greet(&mut self) -> io::Result<()> {
        let State::Hello(hello) = &mut self.state else {
            return Ok(());
        };
        match hello.greet() {
            Ok(None) => Ok(()),
            Ok(Some(connection)) => {
                let mut connection = Box::new(Connection::from(connection));
                // What came behind the greeting waits in there.
                let processed = connection.process_new_packets().map(drop);
                self.opening = Some(Arc::clone(&hello.choose));
                self.note = hello.note();
                self.state = State::Open(connection);
                processed.map_err(invalid)
            }
            Err(Refusal { words, error }) => {
                self.state = State::Over(words);
                Err(error)
            }
        }
    }

    /// Ready when the peer has something to say, or will say nothing more. Tickets, which servers send
    /// when they like, are nothing.
    pub(crate) fn poll_readable(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut cipher = [0; ASIDE_BYTES];
        loop {
            if self.says() != Says::Nothing {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_more(socket, context, &mut cipher))?;
        }
    }

    /// What has come that nobody has read.
    fn says(&mut self) -> Says {
        match &mut self.state {
            State::Open(connection) => match connection.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() > 0 => Says::Text,
                Ok(state) if state.peer_has_closed() => Says::End,
                Ok(_) => match connection.reader().read(&mut [0]) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Says::End,
                    _ => Says::Nothing,
                },
                Err(_) => Says::End,
            },
            State::Hello(_) => Says::Nothing,
            State::Left | State::Over(_) => Says::End,
        }
    }

    /// Tells whether the peer has not said that it says nothing more.
    pub(crate) fn was_cut_off(&mut self) -> bool {
        match &mut self.state {
            State::Open(connection) => {
                let state = connection.process_new_packets();
                !state.is_ok_and(|state| state.peer_has_closed())
            }
            State::Hello(_) | State::Left | State::Over(_) => true,
        }
    }

    /// Tells whether nothing has come that nobody has read, as far as that is known here.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.says() == Says::Nothing
    }

    /// Tells whether the peer is known to say nothing more, and all that it said has been read.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.says() == Says::End
    }

    /// Tells whether an idle connection is still open, and the peer has said nothing on it. Tickets do
    /// not count, so they are taken first.
    pub(crate) fn is_quiet(&mut self, fd: BorrowedFd<'_>) -> bool {
        let mut cipher = [0; ASIDE_BYTES];
        for _ in 0..ASIDES_MAX {
            if self.says() != Says::Nothing {
                return false;
            }
            match rustix::net::recv(fd, &mut cipher, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
                Ok((read, _)) => {
                    if read == 0 || self.take(cipher.get(..read).unwrap_or_default()).is_err() {
                        return false;
                    }
                }
            }
        }
        false
    }

    /// Writes a part of `parts`. What was handed over once counts as written when all of it has been
    /// sent, so a caller that has to wait comes back with the same.
    pub(crate) fn poll_write(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.promised == 0 {
            let State::Open(connection) = &mut self.state else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            self.promised = connection.writer().write_vectored(parts)?;
        }
        ready!(self.poll_flush(socket, context))?;
        Poll::Ready(Ok(std::mem::take(&mut self.promised)))
    }

    /// Sends what waits to be sent.
    fn poll_flush(&mut self, socket: &Socket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            match &mut self.state {
                State::Open(connection) if connection.wants_write() => {
                    ready!(socket.poll_io(context, Need::Write, 1, |fd| {
                        let written = connection.write_tls(&mut Wire(fd));
                        written.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
                    }))?;
                }
                State::Over(words) if !words.is_empty() => {
                    let whole = words.len();
                    let sent = ready!(socket.poll_io(context, Need::Write, whole, |fd| {
                        rustix::net::send(fd, words, SendFlags::NOSIGNAL)
                    }))?;
                    words.drain(..sent.min(whole));
                }
                State::Hello(_) | State::Open(_) | State::Left | State::Over(_) => {
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Says that nothing more will be sent, as far as that can be said at once.
    pub(crate) fn close(&mut self, fd: BorrowedFd<'_>) {
        if let State::Open(connection) = &mut self.state {
            connection.send_close_notify();
            while connection.wants_write() && connection.write_tls(&mut Wire(fd)).is_ok() {}
        }
    }
}

/// What a peer has said that nobody has read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Nothing,
    Text,
    /// That it says nothing more, in one way or another.
    End,
}

/// What TLS itself has against a connection on which `error` came up; nothing for other errors.
pub fn fault(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The connection below.
struct Wire<'a>(BorrowedFd<'a>);

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        Ok(rustix::io::writev(self.0, parts)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
