//! TLS on a client's connection. A session belongs to its socket: whoever reads and writes does not
//! see whether there is one.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustls::ServerConnection;
use rustls::server::{AcceptedAlert, Acceptor, ClientHello, ServerConfig};

use crate::socket::{Need, Socket};

/// What is read of a connection at once: the text of one record, as TLS has it at most, for which a
/// session has room.
const CIPHER_BYTES_MAX: usize = 16 * 1024;

/// A fatal alert, as it is sent before anything is agreed on (RFC 8446 §6, RFC 6066 §3).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What a client is told that speaks HTTP where TLS is spoken.
const PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 62\r\nConnection: close\r\n\r\n\
    this port is for HTTPS: write https:// in front of the address";

/// Finds out who a client wants to talk to, and how.
pub trait Choose: fmt::Debug + Send + Sync {
    /// What serves this client; nothing refuses it.
    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>>;

    /// Takes note that a client and we have agreed.
    fn opened(&self, connection: &ServerConnection);
}

/// A session on one connection.
#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    /// Bytes that a write has handed over, and that have not all been sent.
    promised: usize,
    /// Whether the first byte that came begins a method, and not TLS.
    is_plain: bool,
    /// What came and there was no room for: so much text has to be read before.
    rest: Vec<u8>,
}

enum State {
    /// The client has not said all that is needed to choose.
    Hello(Box<Acceptor>, Arc<dyn Choose>),
    /// Until all is agreed on, with who wants to know.
    Open(Box<ServerConnection>, Option<Arc<dyn Choose>>),
    /// It has failed, or nobody serves the client; these are the last words.
    Over(Vec<u8>),
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello(..) => "Hello",
            Self::Open(..) => "Open",
            Self::Over(_) => "Over",
        })
    }
}

impl Session {
    /// One of which nothing has come yet.
    pub(crate) fn new(choose: Arc<dyn Choose>) -> Self {
        Self {
            state: State::Hello(Box::default(), choose),
            promised: 0,
            is_plain: false,
            rest: Vec::new(),
        }
    }

    /// What was agreed with the client, once it has said who it wants to talk to.
    pub(crate) fn connection(&self) -> Option<&ServerConnection> {
        match &self.state {
            State::Open(connection, _) => Some(connection),
            State::Hello(..) | State::Over(_) => None,
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
            if !self.rest.is_empty() {
                let rest = std::mem::take(&mut self.rest);
                match self.take(&rest) {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Err(self.fail(error, socket, context))),
                }
            }
            // What a handshake has to say goes first; where it must wait, the client may still speak.
            if let Poll::Ready(Err(error)) = self.poll_flush(socket, context) {
                return Poll::Ready(Err(error));
            }
            let cipher = room.get_mut(..whole).unwrap_or_default();
            let read = ready!(socket.poll_io(context, Need::Read, whole, |fd| {
                rustix::net::recv(fd, &mut *cipher, RecvFlags::empty()).map(|(read, _)| read)
            }))?;
            let cipher = cipher.get(..read).unwrap_or_default();
            if let Err(error) = self.take(cipher) {
                return Poll::Ready(Err(self.fail(error, socket, context)));
            }
        }
    }

    /// Ends the session; the client is told why, if it still listens.
    fn fail(&mut self, error: io::Error, socket: &Socket, context: &mut Context<'_>) -> io::Error {
        let _told = self.poll_flush(socket, context);
        self.state = State::Over(Vec::new());
        error
    }

    /// Text that has been deciphered; nothing when more has to come before.
    fn text(&mut self, room: &mut [u8]) -> Option<io::Result<usize>> {
        let State::Open(connection, _) = &mut self.state else {
            return match &self.state {
                State::Over(_) => Some(Ok(0)),
                _ => None,
            };
        };
        match connection.reader().read(room) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            // The end of the connection without the end of the session: messages know their own end.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Some(Ok(0)),
            read => Some(read),
        }
    }

    /// Takes what came of the connection; nothing is its end.
    fn take(&mut self, mut cipher: &[u8]) -> io::Result<()> {
        loop {
            let before = cipher.len();
            match &mut self.state {
                State::Over(_) => return Ok(()),
                State::Hello(..) if before == 0 => {
                    self.state = State::Over(Vec::new());
                    return Ok(());
                }
                State::Hello(acceptor, _) => {
                    self.is_plain |= cipher.first().is_some_and(u8::is_ascii_uppercase);
                    acceptor.read_tls(&mut cipher)?;
                    self.greet()?;
                }
                State::Open(connection, choose) => {
                    match connection.read_tls(&mut cipher) {
                        // A record that ends in there has filled it with text.
                        Err(error) if error.kind() == io::ErrorKind::Other => {
                            self.rest = cipher.to_vec();
                            return Ok(());
                        }
                        read => read?,
                    };
                    connection.process_new_packets().map_err(invalid)?;
                    if !connection.is_handshaking()
                        && let Some(choose) = choose.take()
                    {
                        choose.opened(connection);
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
        let State::Hello(acceptor, choose) = &mut self.state else {
            return Ok(());
        };
        let accepted = match acceptor.accept() {
            Ok(None) => return Ok(()),
            Ok(Some(accepted)) => accepted,
            Err((error, alert)) => return Err(self.refuse(error, alert)),
        };
        let Some(config) = choose.choose(&accepted.client_hello()) else {
            self.state = State::Over(UNRECOGNIZED_NAME.to_vec());
            return Err(invalid("no site for this name"));
        };
        match accepted.into_connection(config) {
            Ok(mut connection) => {
                // What came behind the greeting waits in there.
                let processed = connection.process_new_packets().map(drop);
                let choose = Arc::clone(choose);
                self.state = State::Open(Box::new(connection), Some(choose));
                processed.map_err(invalid)
            }
            Err((error, alert)) => Err(self.refuse(error, alert)),
        }
    }

    fn refuse(&mut self, error: rustls::Error, mut alert: AcceptedAlert) -> io::Error {
        let mut words = Vec::new();
        if self.is_plain {
            words.extend_from_slice(PLAIN_HTTP);
        } else {
            let _fits = alert.write_all(&mut words); // memory takes all
        }
        self.state = State::Over(words);
        invalid(error)
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
            let State::Open(connection, _) = &mut self.state else {
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
                State::Open(connection, _) if connection.wants_write() => {
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
                State::Hello(..) | State::Open(..) | State::Over(_) => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Says that nothing more will be sent, as far as that can be said at once.
    pub(crate) fn close(&mut self, fd: BorrowedFd<'_>) {
        if let State::Open(connection, _) = &mut self.state {
            connection.send_close_notify();
            while connection.wants_write() && connection.write_tls(&mut Wire(fd)).is_ok() {}
        }
    }
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
