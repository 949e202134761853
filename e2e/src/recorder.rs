//! An upstream that records what reaches it, byte by byte and request by request, and answers by
//! a script the test writes.

use crate::body::Body;
use crate::head::{Framing, RequestHead};
use crate::script::{Answer, Gate, Step};
use crate::wait;
use crate::wire::{Close, Stop, Wire};
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The most bytes kept of one connection.
const KEPT_MAX: usize = 1 << 20;

/// A request that reached the upstream.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its place among all requests of this upstream, by the time of its head.
    pub number: usize,
    /// The connection it came on, as in [`Recorder::connections`].
    pub connection: usize,
    /// Its head.
    pub head: RequestHead,
    /// The bytes of its head.
    pub raw_head: Vec<u8>,
    /// What came of its body.
    pub body: Body,
    /// Whether its body came to its end.
    pub complete: bool,
}

/// How a connection to the upstream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer ended it between two messages.
    Peer(Close),
    /// The peer ended it within a message.
    Within(Close),
    /// The script, or the end of the test, did.
    Here,
    /// What came is no HTTP, for this reason.
    Malformed(String),
}

/// A connection that reached the upstream.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The address of the other end.
    pub peer: SocketAddr,
    /// Its first bytes, up to one mebibyte.
    pub received: Vec<u8>,
    /// How it ended, if it has.
    pub end: Option<End>,
}

struct Entry {
    peer: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
    stream: Option<TcpStream>,
    end: Option<End>,
}

#[derive(Default)]
struct Log {
    connections: Vec<Entry>,
    requests: Vec<Request>,
}

type Script = dyn Fn(&Request) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    log: Mutex<Log>,
    completed: AtomicUsize,
    stopped: AtomicBool,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The upstream. It stops when it is dropped, closing its connections.
pub struct Recorder {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts on a port of the system's choice; `script` answers each request by its head.
    #[must_use]
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    /// Starts on `address`: to come back where another upstream was.
    ///
    /// # Panics
    /// If the address is in use.
    #[must_use]
    pub fn start_at(
        address: SocketAddr,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|error| panic!("bind {address}: {error}"));
        let address = listener
            .local_addr()
            .expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            log: Mutex::default(),
            completed: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Starts an upstream that answers each request with its `X-Load-Id`, as [`Load`] expects.
    ///
    /// [`Load`]: crate::load::Load
    #[must_use]
    pub fn echo() -> Self {
        Self::start(|request| Answer::ok(request.head.fields.first("x-load-id").unwrap_or("")))
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns all requests so far, by the time of their heads.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.log().requests.clone()
    }

    /// Returns how many requests came to their end.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.shared.completed.load(SeqCst)
    }

    /// Returns all connections so far.
    #[must_use]
    pub fn connections(&self) -> Vec<Connection> {
        let log = self.shared.log();
        let copy = |entry: &Entry| Connection {
            peer: entry.peer,
            received: entry
                .received
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            end: entry.end.clone(),
        };
        log.connections.iter().map(copy).collect()
    }

    /// Returns how many connections are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.shared
            .log()
            .connections
            .iter()
            .filter(|entry| entry.end.is_none())
            .count()
    }

    /// Returns what broke the protocol, by connection.
    #[must_use]
    pub fn malformed(&self) -> Vec<(usize, String)> {
        let log = self.shared.log();
        let ends = log.connections.iter().map(|entry| &entry.end).enumerate();
        ends.filter_map(|(number, end)| match end {
            Some(End::Malformed(what)) => Some((number, what.clone())),
            _ => None,
        })
        .collect()
    }

    /// Waits until `count` requests have come to their end.
    ///
    /// # Panics
    /// If they have not within `within`.
    pub fn wait_completed(&self, count: usize, within: Duration) {
        wait::expect(&format!("{count} complete requests"), within, || {
            self.completed() >= count
        });
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        TcpStream::connect(self.address).ok(); // wakes `accept`, which then sees the flag
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().ok(); // it closes the listener, so the address is free again
        }
        for entry in &self.shared.log().connections {
            if let Some(stream) = &entry.stream {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stopped.load(SeqCst) {
            return;
        }
        let Ok((stream, peer)) = accepted else {
            continue;
        };
        let wire = match stream.try_clone() {
            Ok(copy) => Wire::new(copy, KEPT_MAX),
            Err(_) => continue,
        };
        let number = {
            let mut log = shared.log();
            let received = wire.received();
            log.connections.push(Entry {
                peer,
                received,
                stream: Some(stream),
                end: None,
            });
            log.connections.len() - 1
        };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let end = serve(wire, number, &shared);
            if let Some(entry) = shared.log().connections.get_mut(number) {
                entry.stream = None;
                entry.end = Some(end);
            }
        });
    }
}

/// Answers the requests of one connection and returns how it ended.
fn serve(mut wire: Wire, connection: usize, shared: &Shared) -> End {
    loop {
        let raw_head = match wire.read_head(None) {
            Ok(raw_head) => raw_head,
            Err(stop) => return end(stop, &mut wire, shared),
        };
        let parsed = RequestHead::parse(&raw_head).and_then(|head| Ok((head.framing()?, head)));
        let (framing, head) = match parsed {
            Ok(parsed) => parsed,
            Err(wrong) => return end(wrong.into(), &mut wire, shared),
        };
        let closes = head.wants_close();
        let request = {
            let mut log = shared.log();
            let number = log.requests.len();
            let body = Body::default();
            let request = Request {
                number,
                connection,
                head,
                raw_head,
                body,
                complete: false,
            };
            log.requests.push(request.clone());
            request
        };
        let mut run = Run {
            wire,
            framing: Some(framing),
            number: request.number,
            shared,
        };
        for step in (shared.script)(&request).0 {
            match run.step(step) {
                Ok(Next::Continue) => {}
                Ok(Next::Close) => return End::Here,
                Ok(Next::Reset) => {
                    run.wire.reset();
                    return End::Here;
                }
                Err(stop) => return end(stop, &mut run.wire, shared),
            }
        }
        if let Err(stop) = run.read_body() {
            return end(stop, &mut run.wire, shared);
        }
        if closes {
            return End::Here;
        }
        wire = run.wire;
    }
}

fn end(stop: Stop, wire: &mut Wire, shared: &Shared) -> End {
    match stop {
        _ if shared.stopped.load(SeqCst) => End::Here,
        Stop::Ended(close, 0) => End::Peer(close),
        Stop::Ended(close, _) => End::Within(close),
        Stop::Malformed(what) => {
            wire.send(
                b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            )
            .ok(); // the record counts, not whether the sender of garbage reads this
            End::Malformed(what.0)
        }
    }
}

/// One request being answered.
struct Run<'a> {
    wire: Wire,
    /// Set until the body was read.
    framing: Option<Framing>,
    number: usize,
    shared: &'a Shared,
}

enum Next {
    Continue,
    Close,
    Reset,
}

impl Run<'_> {
    fn step(&mut self, step: Step) -> Result<Next, Stop> {
        match step {
            Step::ReadBody => self.read_body()?,
            Step::Wait(time) => thread::sleep(time),
            Step::Await(gate) => self.pass(&gate),
            Step::Open(gate) => gate.open(),
            Step::Send(bytes) => self.wire.send(&bytes).map_err(broken)?,
            Step::Repeat(bytes, times) => {
                (0..times)
                    .try_for_each(|_| self.wire.send(&bytes))
                    .map_err(broken)?;
            }
            Step::Finish => self.wire.finish(),
            Step::Close => return Ok(Next::Close),
            Step::Reset => return Ok(Next::Reset),
            Step::Hold => loop {
                self.wire
                    .fill(None)
                    .map_err(|close| Stop::Ended(close, 0))?;
                self.wire.take_pending();
            },
        }
        Ok(Next::Continue)
    }

    fn read_body(&mut self) -> Result<(), Stop> {
        let Some(framing) = self.framing.take() else {
            return Ok(());
        };
        let mut body = Body::default();
        let read = self.wire.read_body(framing, &mut body, None);
        if let Some(request) = self.shared.log().requests.get_mut(self.number) {
            (request.body, request.complete) = (body, read.is_ok());
        }
        if read.is_ok() {
            self.shared.completed.fetch_add(1, SeqCst);
        }
        // Its head has come, so this is within a message even if no byte of the body has.
        read.map_err(|stop| match stop {
            Stop::Ended(close, part) => Stop::Ended(close, part.max(1)),
            other => other,
        })
    }

    fn pass(&self, gate: &Gate) {
        while !gate.is_open() && !self.shared.stopped.load(SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn broken(_: io::Error) -> Stop {
    Stop::Ended(Close::Reset, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::digest;
    use crate::raw::{Raw, get};

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn records_requests_and_answers_each() {
        let upstream = Recorder::start(|request| Answer::ok(request.head.target.as_bytes()));
        let mut client = Raw::connect(upstream.address());
        client
            .send(
                "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
                 POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3\r\nabc\r\n0\r\n\r\n\
                 GET /c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            )
            .unwrap();
        for target in ["/a", "/b", "/c"] {
            assert_eq!(client.response("GET").text(), target);
        }
        let left = client.read_to_close(SOON);
        assert_eq!((left.bytes.len(), left.close), (0, Close::Fin));
        let requests = upstream.requests();
        assert_eq!((requests.len(), upstream.completed()), (3, 3));
        assert_eq!(requests[0].body.digest, digest(b"hello"));
        assert_eq!(
            (&*requests[1].body.bytes, requests[1].body.chunks),
            (&b"abc"[..], 1)
        );
        assert!(
            requests
                .iter()
                .all(|request| request.complete && request.connection == 0)
        );
        let connection = &upstream.connections()[0];
        assert_eq!(connection.peer, client.local_address());
        assert!(connection.received.ends_with(b"Connection: close\r\n\r\n"));
    }

    #[test]
    fn a_head_sent_byte_by_byte_is_one_request() {
        let upstream = Recorder::start(|_| Answer::ok("x"));
        let mut client = Raw::connect(upstream.address());
        let request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        client
            .send_bytewise(request, Duration::from_micros(100))
            .unwrap();
        assert_eq!(client.response("GET").text(), "x");
        client
            .send_split(request, &[3, 10, 26], Duration::from_millis(1))
            .unwrap();
        assert_eq!(client.response("GET").text(), "x");
        assert_eq!(
            upstream.connections()[0].received,
            request.repeat(2).as_bytes()
        );
    }

    #[test]
    fn a_malformed_request_is_recorded_and_refused() {
        let upstream = Recorder::start(|_| Answer::ok("x"));
        let mut client = Raw::connect(upstream.address());
        client
            .send("GET / HTTP/1.1\r\nHost: x\nX: y\r\n\r\n")
            .unwrap();
        assert_eq!(client.response("GET").status(), 400);
        let malformed = wait::until(SOON, || upstream.malformed().first().cloned());
        assert_eq!(malformed, Some((0, "bare LF in a head".into())));
        assert_eq!(upstream.requests().len(), 0);
    }

    #[test]
    fn a_body_that_breaks_off_is_not_complete() {
        for part in ["", "four"] {
            let upstream = Recorder::start(|_| Answer::ok("x"));
            let mut client = Raw::connect(upstream.address());
            let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
            client.send(format!("{head}{part}")).unwrap();
            client.finish();
            let ended = wait::until(SOON, || upstream.connections().first()?.end.clone());
            assert_eq!(ended, Some(End::Within(Close::Fin)));
            let request = upstream.requests().remove(0);
            assert_eq!(request.body.bytes, part.as_bytes());
            assert_eq!((request.complete, upstream.completed()), (false, 0));
        }
    }

    #[test]
    fn answers_early_and_late_and_in_part() {
        let gate = Gate::new();
        let upstream = Recorder::start({
            let gate = gate.clone();
            move |request| match &*request.head.target {
                "/early" => Answer::status(413, "no").early().then(Step::Close),
                "/late" => Answer::ok("late").after(Step::Await(gate.clone())),
                "/part" => Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour")
                    .then(Step::Reset),
                _ => Answer::ok("").then(Step::Finish).then(Step::Hold),
            }
        });
        let mut early = Raw::connect(upstream.address());
        early
            .send("POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
            .unwrap();
        assert_eq!(early.response("POST").status(), 413);

        let mut late = Raw::connect(upstream.address());
        late.send("GET /late HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(late.is_quiet(Duration::from_millis(50)));
        gate.open();
        assert_eq!(late.response("GET").text(), "late");

        let mut part = Raw::connect(upstream.address());
        part.send("GET /part HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let unfinished = part.try_response("GET").unwrap_err();
        assert_eq!(
            unfinished.stop,
            Stop::Ended(Close::Reset, unfinished.body.length)
        );

        let mut half = Raw::connect(upstream.address());
        half.send("GET /half HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert_eq!(half.response("GET").status(), 200);
        assert_eq!(half.read_to_close(SOON).close, Close::Fin);
        half.abort();
        wait::expect("the reset to be seen", SOON, || {
            upstream.connections()[3].end == Some(End::Peer(Close::Reset))
        });
    }

    #[test]
    fn a_long_body_is_counted_and_hashed_but_not_kept() {
        let upstream = Recorder::start(|_| Answer::ok(""));
        let mut client = Raw::connect(upstream.address());
        let body = vec![b'z'; crate::body::KEPT_MAX + 5];
        let head = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        client.send(head).unwrap();
        client.send(&body).unwrap();
        assert_eq!(client.response("POST").status(), 200);
        let got = upstream.requests().remove(0).body;
        assert_eq!((got.length, got.digest), (body.len() as u64, digest(&body)));
        assert_eq!(got.bytes.len(), crate::body::KEPT_MAX);
    }

    #[test]
    fn its_address_is_free_when_it_is_gone() {
        let upstream = Recorder::start(|_| Answer::ok("one"));
        let address = upstream.address();
        assert_eq!(get(address, "/").text(), "one");
        drop(upstream);
        assert!(Raw::try_connect(address).is_err());
        let _again = Recorder::start_at(address, |_| Answer::ok("two"));
        assert_eq!(get(address, "/").text(), "two");
    }
}
