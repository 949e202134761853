//! An upstream that fails in one named way.

use crate::recorder::Recorder;
use crate::script::{Answer, Step};
use crate::wire::Wire;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// How the upstream fails. Offsets count from the start of [`RESPONSE`], which it would send if
/// it were sound, after it has read the whole request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Connections are refused.
    Refuse,
    /// Connections are never answered: the segments that open them are dropped.
    BlackHole,
    /// Connections are accepted and nothing is read or sent.
    Silent,
    /// It resets the connection after this many bytes.
    ResetAt(usize),
    /// It closes the connection in order after this many bytes.
    CloseAt(usize),
    /// It sends this many bytes and then nothing.
    StallAt(usize),
    /// It sends one byte at a time, with this pause.
    Drip(Duration),
    /// It sends bytes that are no HTTP, and closes.
    Garbage,
    /// It declares more bytes than it sends, and closes in order.
    TruncatedLength,
    /// It leaves out the last chunk, and closes in order.
    TruncatedChunked,
}

/// The head of a sound response; a body of 1,000 bytes follows.
pub const RESPONSE_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";

/// Returns the whole response of a sound server.
#[must_use]
pub fn response() -> Vec<u8> {
    let body = b"0123456789".repeat(100);
    [RESPONSE_HEAD.as_bytes(), &body].concat()
}

/// The upstream; stops when it is dropped.
pub struct Fault {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    kind: Kind,
}

/// What keeps the fault alive.
enum Kind {
    Script(Recorder),
    /// A socket without an acceptor, and the connections that fill its queue.
    Sockets {
        _held: Vec<Socket>,
    },
    Silent,
}

impl Fault {
    /// Starts on a port of the system's choice.
    #[must_use]
    pub fn start(mode: Mode) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), mode)
    }

    /// Starts on `address`: where a sound server was before.
    ///
    /// # Panics
    /// If the address is in use.
    #[must_use]
    pub fn start_at(address: SocketAddr, mode: Mode) -> Self {
        let started = match mode {
            Mode::Refuse => refuse(address),
            Mode::BlackHole => black_hole(address),
            Mode::Silent => silent(address),
            _ => Ok(scripted(address, answer(mode))),
        };
        started.unwrap_or_else(|error| panic!("{mode:?} on {address}: {error}"))
    }

    /// Returns where it listens, or would.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many connections it accepted.
    #[must_use]
    pub fn connections(&self) -> usize {
        match &self.kind {
            Kind::Script(recorder) => recorder.connections().len(),
            _ => self.connections.load(SeqCst),
        }
    }

    /// Returns the recorder behind a mode that reads requests.
    #[must_use]
    pub fn recorder(&self) -> Option<&Recorder> {
        match &self.kind {
            Kind::Script(recorder) => Some(recorder),
            _ => None,
        }
    }

    fn new(address: SocketAddr, kind: Kind) -> Self {
        Self {
            address,
            connections: Arc::default(),
            kind,
        }
    }
}

fn answer(mode: Mode) -> Answer {
    let first = |count: usize| response().into_iter().take(count).collect::<Vec<_>>();
    match mode {
        Mode::ResetAt(count) => Answer::bytes(first(count)).then(Step::Reset),
        Mode::CloseAt(count) => Answer::bytes(first(count)).then(Step::Close),
        Mode::StallAt(count) => Answer::bytes(first(count)).then(Step::Hold),
        Mode::Drip(pause) => {
            let steps = response()
                .into_iter()
                .flat_map(|b| [Step::Send(vec![b]), Step::Wait(pause)]);
            Answer([Step::ReadBody].into_iter().chain(steps).collect())
        }
        Mode::Garbage => Answer::bytes(b"\x16\x03\x01\x00garbage\0\xff\r\n\r\n").then(Step::Close),
        Mode::TruncatedLength => Answer::bytes(first(RESPONSE_HEAD.len() + 500)).then(Step::Close),
        Mode::TruncatedChunked => {
            let part = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
            Answer::bytes(part).then(Step::Close)
        }
        Mode::Refuse | Mode::BlackHole | Mode::Silent => Answer(Vec::new()), // read no request
    }
}

fn scripted(address: SocketAddr, answer: Answer) -> Fault {
    let recorder = Recorder::start_at(address, move |_| answer.clone());
    Fault::new(recorder.address(), Kind::Script(recorder))
}

fn bound(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    let address = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket, address))
}

/// A socket that is bound and does not listen refuses, and keeps others from the port.
fn refuse(address: SocketAddr) -> io::Result<Fault> {
    let (socket, address) = bound(address)?;
    Ok(Fault::new(
        address,
        Kind::Sockets {
            _held: vec![socket],
        },
    ))
}

/// With its queue full, a listening socket drops the segments that open connections.
fn black_hole(address: SocketAddr) -> io::Result<Fault> {
    let (socket, address) = bound(address)?;
    socket.listen(0)?;
    let mut held = vec![socket];
    for _ in 0..16 {
        let filler = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let full = filler.connect_timeout(&SockAddr::from(address), Duration::from_millis(100));
        held.push(filler);
        if full.is_err() {
            return Ok(Fault::new(address, Kind::Sockets { _held: held }));
        }
    }
    Err(io::Error::other(
        "the queue of the listening socket does not fill",
    ))
}

/// Accepts for as long as the test runs: a thread that waits costs nothing, and a connection to
/// wake it would be one too many in its count.
fn silent(address: SocketAddr) -> io::Result<Fault> {
    let listener = TcpListener::bind(address)?;
    let fault = Fault::new(listener.local_addr()?, Kind::Silent);
    let connections = Arc::clone(&fault.connections);
    thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            connections.fetch_add(1, SeqCst);
            held.push(Wire::new(stream, 0));
        }
    });
    Ok(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;
    use crate::wire::{Close, Stop, Unfinished};
    use std::net::TcpStream;
    use std::time::Instant;

    const SOON: Duration = Duration::from_secs(5);

    fn ask(mode: Mode) -> (Fault, Raw) {
        let fault = Fault::start(mode);
        let mut client = Raw::connect(fault.address());
        client
            .send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
            .unwrap();
        (fault, client)
    }

    fn fails(mode: Mode) -> Unfinished {
        ask(mode).1.try_response("POST").unwrap_err()
    }

    #[test]
    fn refuses() {
        let fault = Fault::start(Mode::Refuse);
        let error = TcpStream::connect(fault.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn swallows_connections() {
        let fault = Fault::start(Mode::BlackHole);
        let tried = TcpStream::connect_timeout(&fault.address(), Duration::from_millis(300));
        assert_eq!(tried.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn accepts_and_says_nothing() {
        let (fault, mut client) = ask(Mode::Silent);
        assert!(client.is_quiet(Duration::from_millis(100)));
        assert_eq!(fault.connections(), 1);
    }

    #[test]
    fn ends_at_the_byte_it_is_told() {
        let head = RESPONSE_HEAD.len() as u64;
        for count in [0, 1, 20, RESPONSE_HEAD.len(), 500] {
            let came = (count as u64).saturating_sub(head);
            let stop = |close| {
                let part = if count < RESPONSE_HEAD.len() {
                    count as u64
                } else {
                    came
                };
                Stop::Ended(close, part)
            };
            assert_eq!(
                fails(Mode::CloseAt(count)).stop,
                stop(Close::Fin),
                "{count}"
            );
            // A reset may overtake the bytes before it.
            let reset = fails(Mode::ResetAt(count)).stop;
            assert!(
                matches!(reset, Stop::Ended(Close::Reset, _)),
                "{count}: {reset:?}"
            );
        }
    }

    #[test]
    fn stalls_at_the_byte_it_is_told() {
        let (_fault, mut client) = ask(Mode::StallAt(100));
        let came = client.read_at_least(100, SOON).unwrap();
        assert_eq!(came, response()[..100]);
        assert!(client.is_quiet(Duration::from_millis(100)));
    }

    #[test]
    fn drips() {
        let start = Instant::now();
        let (_fault, mut client) = ask(Mode::Drip(Duration::from_micros(100)));
        assert_eq!(client.response("POST").body.length, 1_000);
        assert!(start.elapsed() > Duration::from_millis(100));
    }

    #[test]
    fn breaks_the_protocol() {
        assert!(matches!(fails(Mode::Garbage).stop, Stop::Malformed(_)));
        assert_eq!(
            fails(Mode::TruncatedLength).stop,
            Stop::Ended(Close::Fin, 500)
        );
        let chunked = fails(Mode::TruncatedChunked);
        assert_eq!(
            (chunked.stop, &*chunked.body.bytes),
            (Stop::Ended(Close::Fin, 5), &b"hello"[..])
        );
    }
}
