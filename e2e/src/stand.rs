//! Plimsoll in front of a recording upstream, and what must hold for every message between them.

use crate::head::Framing;
use crate::plimsoll::{Plimsoll, Start};
use crate::raw::Raw;
use crate::recorder::{Recorder, Request};
use crate::script::{Answer, Gate, Step};
use crate::wire::{Close, Response};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A request that stands behind one that is refused, and must never be read as a request.
pub const POISON: &str = "GET /poison HTTP/1.1\r\nHost: poison\r\n\r\n";

/// How long a closing connection may take to close.
const CLOSE_MAX: Duration = Duration::from_secs(10);

/// Between two segments, so that they are read apart.
const PAUSE: Duration = Duration::from_micros(300);

/// How many cases run at once: they mostly wait.
const THREADS: usize = 12;

/// A Plimsoll and the only server of its pool.
pub struct Stand {
    /// The program under test.
    pub plimsoll: Plimsoll,
    /// What it forwards to.
    pub upstream: Recorder,
}

/// How bytes are cut into segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Not at all.
    Whole,
    /// After each byte.
    Bytewise,
    /// Once, before this offset.
    At(usize),
}

impl Cut {
    /// Returns every cut of a short message: whole, bytewise, and in two at each place.
    pub fn all(length: usize) -> impl Iterator<Item = Self> {
        [Self::Whole, Self::Bytewise]
            .into_iter()
            .chain((1..length).map(Self::At))
    }

    /// Sends `bytes` in these segments.
    ///
    /// # Errors
    /// That of the socket: the peer may have closed, which is not always a failure.
    pub fn send(self, client: &mut Raw, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match self {
            Self::Whole => client.send(bytes),
            Self::Bytewise => client.send_bytewise(bytes, PAUSE / 4),
            Self::At(offset) => client.send_split(bytes, &[offset], PAUSE),
        }
    }
}

impl Stand {
    /// Starts both; `script` is the upstream's.
    #[must_use]
    pub fn start(script: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let upstream = Recorder::start(script);
        let plimsoll = Start::proxy(&[upstream.address()]).start();
        Self { plimsoll, upstream }
    }

    /// Starts with an upstream that answers every request with `ok`.
    #[must_use]
    pub fn ok() -> Self {
        Self::start(|_| Answer::ok("ok"))
    }

    /// Starts Plimsoll with a configuration in which `{server}` is the upstream.
    #[must_use]
    pub fn run(
        configuration: &str,
        script: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let upstream = Recorder::start(script);
        let start = Start::run(configuration).set("server", upstream.address());
        let plimsoll = start.start();
        Self { plimsoll, upstream }
    }

    /// Starts with an upstream that answers with the target, and `/wait` when the gate opens.
    #[must_use]
    pub fn gated(configuration: &str) -> (Self, Gate) {
        let gate = Gate::new();
        let held = gate.clone();
        let stand = Self::run(configuration, move |request| {
            let answer = Answer::ok(&request.head.target);
            match request.head.target.as_str() {
                "/wait" => answer.after(Step::Await(held.clone())),
                _ => answer,
            }
        });
        (stand, gate)
    }

    /// Returns where Plimsoll listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.plimsoll.address()
    }

    /// Connects to Plimsoll.
    #[must_use]
    pub fn connect(&self) -> Raw {
        Raw::connect(self.address())
    }

    /// Sends `bytes` on a connection of its own and returns the first response to `method`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn ask(&self, method: &str, bytes: impl AsRef<[u8]>) -> Response {
        let mut client = self.connect();
        client
            .send(bytes)
            .unwrap_or_else(|error| panic!("send: {error}"));
        client.response(method)
    }

    /// Checks that `vector` is refused with `status`, that the connection is closed in order, and
    /// that nothing behind the vector is answered.
    ///
    /// # Errors
    /// What happened instead.
    pub fn refuses(&self, vector: &[u8], status: u16, cut: Cut) -> Result<(), String> {
        let mut client = self.connect();
        let bytes = [vector, POISON.as_bytes()].concat();
        // Sending may fail once the answer is there; the answer is what counts.
        let _ = cut.send(&mut client, &bytes);
        let case = || format!("{} cut {cut:?}", vector.escape_ascii());
        let response = client
            .try_response("GET")
            .map_err(|unfinished| format!("{}: {unfinished:?}", case()))?;
        if response.status() != status || !response.head.wants_close() {
            return Err(format!(
                "{}: expected {status} and close, got {}",
                case(),
                response.raw_head.escape_ascii()
            ));
        }
        let left = client.read_to_close(CLOSE_MAX);
        match (left.bytes.is_empty(), left.close) {
            (true, Close::Fin) => Ok(()),
            _ => Err(format!("{}: after the answer {left:?}", case())),
        }
    }

    /// Checks that an early answer to a `POST` ends with the request's body: behind one that came
    /// along the connection goes on, and one that is still to come ends it and is no request.
    /// `head` lacks its end, and how long the body is.
    ///
    /// # Panics
    /// If that does not hold.
    pub fn assert_ends_with_its_body(&self, head: &str, status: u16) {
        let body = format!("{POISON}{:60}", "");
        let head = format!("{head}Content-Length: {}\r\n\r\n", body.len());
        let next = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let mut client = self.connect();
        let sent = client.send(format!("{head}{body}{next}"));
        assert!(sent.is_ok(), "{head}");
        assert_eq!(client.response("POST").status(), status, "{head}");
        assert!(client.response("GET").status() < 500, "{head}");
        let mut client = self.connect();
        assert!(client.send(&head).is_ok(), "{head}");
        let response = client.response("POST");
        assert_eq!(response.status(), status, "{head}");
        assert!(response.head.wants_close(), "{head}");
        let _ = client.send(&body); // it may be closed by now
        let left = client.read_to_close(CLOSE_MAX);
        assert_eq!((left.bytes.len(), left.close), (0, Close::Fin), "{head}");
        let mut seen = self.upstream.requests().into_iter();
        assert!(seen.all(|request| !request.head.target.contains("poison")));
    }

    /// Sends `requests` one behind the other on one connection, and returns their answers. Checks that
    /// these, and what the upstream sees, are the same bytes however the requests are cut, but for
    /// dates and for the ids of requests. One with a body is for the upstream: what is answered before
    /// its body has come ends the connection.
    ///
    /// # Panics
    /// With every cut for which this does not hold.
    pub fn answers_however_cut(&self, requests: &[String]) -> Vec<Response> {
        let before = self.upstream.requests().len();
        let whole = self
            .answers(requests, Cut::Whole)
            .unwrap_or_else(|unfinished| panic!("{unfinished}"));
        let expected: Vec<_> = whole.iter().map(bytes_of_answer).collect();
        let forwarded = count(self.upstream.requests().split_off(before));
        let cuts: Vec<_> = Cut::all(requests.concat().len()).collect();
        check_all(&cuts, |cut| {
            let answers = self.answers(requests, *cut)?;
            let answers: Vec<_> = answers.iter().map(bytes_of_answer).collect();
            match answers == expected {
                true => Ok(()),
                false => Err(format!("{cut:?}: {answers:#?} and not {expected:#?}")),
            }
        });
        let times = cuts.len() + 1;
        let expected = forwarded
            .into_iter()
            .map(|(bytes, once)| (bytes, once * times));
        let seen = count(self.upstream.requests().split_off(before));
        assert_eq!(seen, expected.collect(), "what the upstream sees");
        assert_eq!(self.upstream.malformed(), []);
        whole
    }

    fn answers(&self, requests: &[String], cut: Cut) -> Result<Vec<Response>, String> {
        let mut client = self.connect();
        cut.send(&mut client, requests.concat())
            .map_err(|error| format!("{cut:?}: {error}"))?;
        let methods = requests
            .iter()
            .filter_map(|request| request.split(' ').next());
        let answers = methods.map(|method| client.try_response(method));
        answers
            .map(|answer| answer.map_err(|unfinished| format!("{cut:?}: {unfinished:?}")))
            .collect()
    }

    /// Checks that each of `vectors` is refused with its status however it is cut, and that the
    /// upstream saw nothing at all.
    ///
    /// # Panics
    /// With every vector for which this does not hold.
    pub fn assert_refused(&self, vectors: &[(Vec<u8>, u16)]) {
        self.assert_cut_off(vectors);
        let seen: Vec<_> = self.upstream.requests().into_iter().map(raw_head).collect();
        assert!(seen.is_empty(), "the upstream saw {seen:#?}");
        assert_eq!(self.upstream.malformed(), []);
    }

    /// Checks that each of `vectors` is refused with its status however it is cut, and that no
    /// request came to its end at the upstream: the fault may be in a body that is under way.
    ///
    /// # Panics
    /// With every vector for which this does not hold.
    pub fn assert_cut_off(&self, vectors: &[(Vec<u8>, u16)]) {
        let mut cases = Vec::new();
        for (vector, status) in vectors {
            // The long ones are long for their length, not for their grammar.
            match vector.len() {
                ..=150 => cases.extend(Cut::all(vector.len()).map(|cut| (vector, *status, cut))),
                _ => cases.push((vector, *status, Cut::Whole)),
            }
        }
        check_all(&cases, |(vector, status, cut)| {
            self.refuses(vector, *status, *cut)
        });
        let requests = self.upstream.requests().into_iter();
        let complete: Vec<_> = requests
            .filter(|request| request.complete || request.head.target.contains("poison"))
            .map(raw_head)
            .collect();
        assert!(complete.is_empty(), "the upstream saw {complete:#?}");
        assert_eq!(self.upstream.malformed(), []);
    }
}

/// What a client sees of an answer, without what differs from one to the next.
fn bytes_of_answer(answer: &Response) -> String {
    let text = answer.text();
    let text = match answer.field("x-request-id") {
        Some(id) => text.replace(id, "ID"),
        None => text,
    };
    lines_that_stay(&answer.raw_head) + &text
}

/// How often the upstream saw each request.
fn count(requests: Vec<Request>) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for request in requests {
        let body = request.body.bytes.escape_ascii();
        let bytes = format!("{}{body}", lines_that_stay(&request.raw_head));
        *times.entry(bytes).or_default() += 1;
    }
    times
}

/// A head without its dates and ids.
fn lines_that_stay(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head).into_owned();
    let stays = |line: &&str| {
        let line = line.to_ascii_lowercase();
        !line.starts_with("date:") && !line.starts_with("x-request-id:")
    };
    head.split_inclusive("\r\n").filter(stays).collect()
}

fn raw_head(request: Request) -> String {
    request.raw_head.escape_ascii().to_string()
}

/// Runs `check` on each case, several at once.
///
/// # Panics
/// With all that failed.
pub fn check_all<T: Sync + Debug>(
    cases: &[T],
    check: impl Fn(&T) -> Result<(), String> + Send + Sync,
) {
    let next = AtomicUsize::new(0);
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..THREADS.min(cases.len()) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, SeqCst)) {
                    if let Err(what) = check(case) {
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        failed.push(what);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let first: Vec<_> = failed.iter().take(20).collect();
    assert!(
        failed.is_empty(),
        "{} of {} failed: {first:#?}",
        failed.len(),
        cases.len()
    );
}

/// Checks what every forwarded request must be: one framing, one `Host`, and nothing that belongs
/// to the client's connection. The recorder's parser has checked the grammar before.
///
/// # Panics
/// If it is not.
pub fn assert_canonical(request: &Request) {
    let head = &request.head;
    let fields = &head.fields;
    assert_eq!(head.minor, 1, "{head:?}");
    assert_eq!(fields.all("host").count(), 1, "{head:?}");
    assert_eq!(head.hop_by_hop(), Vec::<&str>::new(), "{head:?}");
    let (lengths, codings) = (
        fields.all("content-length").count(),
        fields.all("transfer-encoding").count(),
    );
    match head.framing() {
        Ok(Framing::None) => assert_eq!((lengths, codings), (0, 0), "{head:?}"),
        Ok(Framing::Length(length)) => {
            assert_eq!((lengths, codings), (1, 0), "{head:?}");
            assert_eq!(
                fields.first("content-length"),
                Some(&*length.to_string()),
                "{head:?}"
            );
        }
        Ok(Framing::Chunked) => assert_eq!((lengths, codings), (0, 1), "{head:?}"),
        other => panic!("{other:?}: {head:?}"),
    }
}
