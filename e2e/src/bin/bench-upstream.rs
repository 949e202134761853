//! The server behind the proxies of the benchmark: one thread, one epoll set, answers rendered
//! before the first request. It costs the shared load core as little as a server can.
//!
//! `bench-upstream ADDRESS…` listens on each address. It answers `/1k`, `/1m`, `/chunked1k` and
//! `/chunked256k` with that much, the first two below `/cached` too, `/text/64k` with text, other paths with 2 bytes, and reads request bodies with a
//! `Content-Length`. Datagrams to the same addresses it sends back. It trusts its clients: this is no server for anything else.
#![forbid(unsafe_code)]

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

fn main() -> ExitCode {
    match serve(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench-upstream: {error}"); // nowhere else to say it
            ExitCode::FAILURE
        }
    }
}

fn serve(addresses: impl Iterator<Item = String>) -> io::Result<()> {
    let addresses: Vec<String> = addresses.collect();
    let listeners = addresses
        .iter()
        .map(TcpListener::bind)
        .collect::<io::Result<Vec<_>>>()?;
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    let ports = addresses
        .iter()
        .map(UdpSocket::bind)
        .collect::<io::Result<Vec<_>>>()?;
    for (token, port) in (0..u64::MAX).rev().zip(&ports) {
        port.set_nonblocking(true)?;
        epoll::add(&set, port, EventData::new_u64(token), EventFlags::IN)?;
    }
    for (token, listener) in (0..).zip(&listeners) {
        listener.set_nonblocking(true)?;
        epoll::add(&set, listener, EventData::new_u64(token), EventFlags::IN)?;
    }
    let mut server = Server {
        set,
        pages: Pages::render(),
        connections: Vec::new(),
        free: Vec::new(),
    };
    let mut events = Vec::with_capacity(1024);
    loop {
        events.clear();
        match epoll::wait(
            &server.set,
            rustix::buffer::spare_capacity(&mut events),
            None,
        ) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        for event in &events {
            let token = event.data.u64();
            let port = usize::try_from(u64::MAX - 1 - token).unwrap_or(usize::MAX);
            if let Some(port) = ports.get(port) {
                echo(port);
                continue;
            }
            let token = usize::try_from(token).unwrap_or(usize::MAX);
            match (listeners.get(token), token.checked_sub(listeners.len())) {
                (Some(listener), _) => server.accept(listener, listeners.len())?,
                (None, Some(slot)) => server.advance(slot),
                (None, None) => {}
            }
        }
    }
}

/// Sends back what has come, as far as there is room for it.
fn echo(port: &UdpSocket) {
    let mut room = [0; 2048];
    while let Ok((len, from)) = port.recv_from(&mut room) {
        let _ = port.send_to(room.get(..len).unwrap_or_default(), from); // or it is lost
    }
}

struct Server {
    set: OwnedFd,
    pages: Pages,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, offset: usize) -> io::Result<()> {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let slot = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let token = EventData::new_u64((slot + offset) as u64);
            // Edge-triggered: every event is worked off until the socket would block.
            let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
            epoll::add(&self.set, &stream, token, flags)?;
            if let Some(place) = self.connections.get_mut(slot) {
                *place = Some(Connection::new(stream));
            }
        }
        Ok(())
    }

    fn advance(&mut self, slot: usize) {
        let Some(place) = self.connections.get_mut(slot) else {
            return;
        };
        let Some(connection) = place else { return };
        if connection.advance(&self.pages).is_err() {
            *place = None;
            self.free.push(slot);
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// The part of a head that has come.
    input: Vec<u8>,
    /// What is still to come of a request's body; its answer waits for that.
    body_left: usize,
    answer: &'static [u8],
    closes: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let (input, answer) = (Vec::with_capacity(1024), &[][..]);
        Self {
            stream,
            input,
            body_left: 0,
            answer,
            closes: false,
        }
    }

    /// Reads, answers and reads again until the socket would block; an error ends the connection.
    fn advance(&mut self, pages: &Pages) -> io::Result<()> {
        let mut block = [0; 64 << 10];
        while self.write()? {
            match self.stream.read(&mut block) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.take(block.get(..count).unwrap_or_default(), pages)?;
                    if count < block.len() {
                        // Nothing more is there: epoll tells when more comes.
                        return self.write().map(|_| ());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what is left of the answer; tells whether that is done.
    fn write(&mut self) -> io::Result<bool> {
        while !self.answer.is_empty() && self.body_left == 0 {
            match self.stream.write(self.answer) {
                Ok(count) => self.answer = self.answer.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
            if self.answer.is_empty() && self.closes {
                return Err(ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(true)
    }

    fn take(&mut self, mut bytes: &[u8], pages: &Pages) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.body_left > 0 {
                let used = self.body_left.min(bytes.len());
                self.body_left -= used;
                bytes = bytes.get(used..).unwrap_or_default();
                continue;
            }
            if !self.answer.is_empty() {
                return Err(ErrorKind::Unsupported.into()); // no load here is pipelined
            }
            let before = self.input.len();
            self.input.extend_from_slice(bytes);
            let Some(end) = head_end(&self.input) else {
                return Ok(());
            };
            let head = self.input.get(..end).unwrap_or_default();
            let request = Request::read(head)?;
            (self.answer, self.body_left) = (pages.find(&request), request.length);
            self.closes = request.closes;
            self.input.clear();
            bytes = bytes.get(end - before..).unwrap_or_default();
        }
        Ok(())
    }
}

fn head_end(input: &[u8]) -> Option<usize> {
    if input.ends_with(b"\r\n\r\n") {
        return Some(input.len()); // every request without a body
    }
    input
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .map(|at| at + 4)
}

struct Request<'a> {
    path: &'a str,
    length: usize,
    closes: bool,
}

impl<'a> Request<'a> {
    fn read(head: &'a [u8]) -> io::Result<Self> {
        let head = std::str::from_utf8(head).map_err(|_| ErrorKind::InvalidData)?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(path), Some(version)) = (words.nth(1), words.next()) else {
            return Err(ErrorKind::InvalidData.into());
        };
        let mut request = Self {
            path,
            length: 0,
            closes: version == "HTTP/1.0",
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                request.length = value.parse().map_err(|_| ErrorKind::InvalidData)?;
            } else if name.eq_ignore_ascii_case("connection") {
                request.closes = value.eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(ErrorKind::Unsupported.into());
            }
        }
        Ok(request)
    }
}

/// The answers, heads included; they live as long as the process.
struct Pages {
    kept: Set,
    closed: Set,
}

/// The answers that keep the connection, or those that announce its end.
struct Set {
    named: [(&'static str, &'static [u8]); 8],
    other: &'static [u8],
}

impl Pages {
    fn render() -> Self {
        Self {
            kept: Set::render(""),
            closed: Set::render("Connection: close\r\n"),
        }
    }

    fn find(&self, request: &Request<'_>) -> &'static [u8] {
        let set = if request.closes {
            &self.closed
        } else {
            &self.kept
        };
        let found = set.named.iter().find(|(name, _)| *name == request.path);
        found.map_or(set.other, |&(_, page)| page)
    }
}

impl Set {
    fn render(connection: &str) -> Self {
        Self {
            named: [
                ("/1k", sized(1 << 10, connection)),
                ("/1k?fields", sized(1 << 10, connection)),
                ("/1m", sized(1 << 20, connection)),
                ("/cached/1k", sized(1 << 10, connection)),
                ("/cached/1m", sized(1 << 20, connection)),
                ("/text/64k", page(text(64 << 10), connection)),
                ("/chunked1k", chunked(1 << 10, 1, connection)),
                ("/chunked256k", chunked(16 << 10, 16, connection)),
            ],
            other: sized(2, connection),
        }
    }
}

const HEAD: &str = "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\n";

fn sized(length: usize, connection: &str) -> &'static [u8] {
    page("x".repeat(length), connection)
}

fn page(body: String, connection: &str) -> &'static [u8] {
    let length = body.len();
    let page = format!("{HEAD}{connection}Content-Length: {length}\r\n\r\n{body}");
    page.leak().as_bytes()
}

/// Text as dense as a page of the web: words of 400 kinds, the frequent ones far more often than the others, in
/// tags now and then.
fn text(length: usize) -> String {
    let mut state = 1_u32;
    let mut draw = |most: u32| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) % most
    };
    let letter = |number: u32| char::from(b'a' + u8::try_from(number).unwrap_or_default());
    let mut word = |_| -> String { (0..2 + draw(8)).map(|_| letter(draw(26))).collect() };
    let words: Vec<String> = (0..400).map(&mut word).collect();
    let mut text = String::new();
    while text.len() < length {
        let most = 1 + draw(400);
        let word = usize::try_from(draw(most))
            .ok()
            .and_then(|at| words.get(at));
        let word = word.map_or("", String::as_str);
        text += &match draw(12) {
            0 => format!("<a href=\"/{word}/{}\">{word}</a> ", draw(100_000)),
            1 => format!("<p class=\"{word}\">"),
            _ => format!("{word} "),
        };
    }
    text.truncate(length);
    text
}

fn chunked(size: usize, count: usize, connection: &str) -> &'static [u8] {
    let body = format!("{size:x}\r\n{}\r\n", "x".repeat(size)).repeat(count);
    let page = format!("{HEAD}{connection}Transfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n");
    page.leak().as_bytes()
}
