//! A client that sends exactly the bytes it is given and reports exactly what comes back.

use crate::wire::{Close, Response, Unfinished, Wire};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How long a client waits where a test does not say.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The most bytes of a connection that are kept.
const KEPT_MAX: usize = 64 << 20;

/// A connection under the test's control, byte by byte.
pub struct Raw {
    wire: Wire,
}

/// All that came on a connection, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The bytes, from the end of the last response read.
    pub bytes: Vec<u8>,
    /// How the connection ended.
    pub close: Close,
}

impl Raw {
    /// Connects to `address`.
    ///
    /// # Panics
    /// If nothing listens there.
    #[must_use]
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("connect to {address}: {error}"))
    }

    /// Connects to `address`.
    ///
    /// # Errors
    /// That of the connection.
    pub fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        Ok(Self {
            wire: Wire::new(stream, KEPT_MAX),
        })
    }

    /// Takes a connection over that was accepted.
    #[must_use]
    pub fn accepted(stream: TcpStream) -> Self {
        Self {
            wire: Wire::new(stream, KEPT_MAX),
        }
    }

    /// Connects with a small receive buffer, to be a client that reads slowly: what it does not
    /// read soon stops the sender.
    ///
    /// # Panics
    /// If nothing listens there.
    #[must_use]
    pub fn connect_narrow(address: SocketAddr, receive_buffer: usize) -> Self {
        let connect = || -> io::Result<TcpStream> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_recv_buffer_size(receive_buffer)?; // before the window is agreed
            socket.connect_timeout(&SockAddr::from(address), PATIENCE)?;
            Ok(socket.into())
        };
        let stream = connect().unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        Self {
            wire: Wire::new(stream, KEPT_MAX),
        }
    }

    /// Returns a second handle of the connection, to send on while this one reads.
    ///
    /// # Errors
    /// That of the socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        let stream = self.wire.stream().try_clone()?;
        let wire = Wire::new(stream, KEPT_MAX);
        Ok(Self { wire })
    }

    /// Returns this end's address, by which logs know the connection.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.wire
            .stream()
            .local_addr()
            .expect("a connected socket has an address")
    }

    /// Sends `bytes` at once.
    ///
    /// # Errors
    /// That of the socket: the peer may have closed, which is not always a failure.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.send(bytes.as_ref())
    }

    /// Sends `bytes` in parts that end at the offsets `at`, with `pause` between them.
    ///
    /// # Errors
    /// That of the socket.
    pub fn send_split(
        &mut self,
        bytes: impl AsRef<[u8]>,
        at: &[usize],
        pause: Duration,
    ) -> io::Result<()> {
        let mut rest = bytes.as_ref();
        let mut sent = 0;
        for &offset in at {
            let (part, after) = rest.split_at(offset.saturating_sub(sent).min(rest.len()));
            self.wire.send(part)?;
            (rest, sent) = (after, sent + part.len());
            thread::sleep(pause);
        }
        self.wire.send(rest)
    }

    /// Sends `bytes` one byte a segment, with `pause` after each.
    ///
    /// # Errors
    /// That of the socket.
    pub fn send_bytewise(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) -> io::Result<()> {
        for byte in bytes.as_ref() {
            self.wire.send(std::slice::from_ref(byte))?;
            thread::sleep(pause);
        }
        Ok(())
    }

    /// Closes the sending direction: the peer reads the end, and may still answer.
    pub fn finish(&mut self) {
        self.wire.finish();
    }

    /// Closes with a reset.
    pub fn abort(self) {
        self.wire.reset();
    }

    /// Reads the next response to `method`, interim ones included, within [`PATIENCE`].
    ///
    /// # Errors
    /// Why it is not complete.
    pub fn try_response(&mut self, method: &str) -> Result<Response, Unfinished> {
        self.try_response_within(method, PATIENCE)
    }

    /// Reads the next response to `method` within this time: for one that is long.
    ///
    /// # Errors
    /// Why it is not complete.
    pub fn try_response_within(
        &mut self,
        method: &str,
        within: Duration,
    ) -> Result<Response, Unfinished> {
        self.wire
            .read_response(method, Some(Instant::now() + within))
    }

    /// Reads the next response to `method`.
    ///
    /// # Panics
    /// If it is not complete.
    #[must_use]
    pub fn response(&mut self, method: &str) -> Response {
        self.try_response(method)
            .unwrap_or_else(|unfinished| panic!("{unfinished:?}"))
    }

    /// Reads until the peer closes or `within` has passed.
    #[must_use]
    pub fn read_to_close(&mut self, within: Duration) -> Capture {
        let deadline = Instant::now() + within;
        loop {
            if let Err(close) = self.wire.fill(Some(deadline)) {
                return Capture {
                    bytes: self.wire.take_pending(),
                    close,
                };
            }
        }
    }

    /// Reads until at least `count` bytes are there, and returns all that are.
    ///
    /// # Errors
    /// What came until the connection ended or `within` had passed.
    pub fn read_at_least(&mut self, count: usize, within: Duration) -> Result<Vec<u8>, Capture> {
        let deadline = Instant::now() + within;
        while self.wire.pending().len() < count {
            if let Err(close) = self.wire.fill(Some(deadline)) {
                return Err(Capture {
                    bytes: self.wire.take_pending(),
                    close,
                });
            }
        }
        Ok(self.wire.take_pending())
    }

    /// Tells whether the peer has sent nothing and closed nothing by now.
    #[must_use]
    pub fn is_quiet(&mut self, during: Duration) -> bool {
        self.wire.pending().is_empty()
            && self.wire.fill(Some(Instant::now() + during)) == Err(Close::Open)
    }
}

/// Sends one request on a connection of its own and reads the response.
///
/// # Panics
/// If there is no complete response.
#[must_use]
pub fn get(address: SocketAddr, target: &str) -> Response {
    let mut client = Raw::connect(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    client
        .send(request)
        .unwrap_or_else(|error| panic!("send to {address}: {error}"));
    client.response("GET")
}
