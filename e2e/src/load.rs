//! A closed-loop client that accounts for every request: each carries an id, and each ends as
//! exactly one [`Fate`].

use crate::raw::PATIENCE;
use crate::wire::{Close, Response, Stop, Wire};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The response is complete and the right one.
    Ok,
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// The connection closed before the end of the response.
    Short,
    /// The response is complete and belongs to another request, or is changed.
    WrongBody,
    /// The status is 5xx.
    ServerError,
    /// Anything else: another status, a malformed response, silence past the deadline.
    Other,
}

/// What body is right.
#[derive(Clone, Debug)]
pub enum Expect {
    /// The request's id, which a [`Recorder::echo`](crate::recorder::Recorder::echo) sends back.
    Id,
    /// These bytes.
    Bytes(Vec<u8>),
    /// Any.
    Any,
}

/// Whether a client keeps its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// It sends its next request on the same connection, unless the server closes it.
    Keep,
    /// It asks for each connection to be closed after one request.
    Close,
}

/// What to send. Each thread sends its next request when the last one has ended.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub address: SocketAddr,
    /// How many clients at once.
    pub threads: usize,
    /// Whether they keep their connections.
    pub reuse: Reuse,
    /// The method.
    pub method: &'static str,
    /// The path; the id follows as `?id=`.
    pub path: String,
    /// The body; none if empty.
    pub body: Vec<u8>,
    /// What must come back.
    pub expect: Expect,
    /// How long a response may take.
    pub patience: Duration,
}

impl Load {
    /// GET requests to `address` by 4 clients that keep their connections and expect their id.
    #[must_use]
    pub fn on(address: SocketAddr) -> Self {
        Self {
            address,
            threads: 4,
            reuse: Reuse::Keep,
            method: "GET",
            path: "/".to_owned(),
            body: Vec::new(),
            expect: Expect::Id,
            patience: PATIENCE,
        }
    }

    /// Sends `count` requests and accounts for them.
    #[must_use]
    pub fn run(self, count: u64) -> Report {
        self.begin(count).join()
    }

    /// Starts sending until [`Running::stop`].
    #[must_use]
    pub fn start(self) -> Running {
        self.begin(u64::MAX)
    }

    fn begin(self, count: u64) -> Running {
        let threads = self.threads;
        let shared = Arc::new(Shared {
            load: self,
            count,
            next: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            ended: AtomicU64::new(0),
        });
        let clients = (0..threads).map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || Client::default().run(&shared))
        });
        Running {
            clients: clients.collect(),
            shared,
        }
    }
}

struct Shared {
    load: Load,
    count: u64,
    next: AtomicU64,
    stopped: AtomicBool,
    ended: AtomicU64,
}

/// A load that is being sent.
pub struct Running {
    clients: Vec<JoinHandle<Report>>,
    shared: Arc<Shared>,
}

impl Running {
    /// Returns how many requests have ended so far.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.shared.ended.load(SeqCst)
    }

    /// Lets every request that was sent end, and accounts for all.
    #[must_use]
    pub fn stop(self) -> Report {
        self.shared.stopped.store(true, SeqCst);
        self.join()
    }

    fn join(self) -> Report {
        let mut report = Report::default();
        for client in self.clients {
            report.add(client.join().expect("a client does not panic"));
        }
        report.latencies.sort_unstable();
        report
    }
}

/// What became of the requests of a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many ended in each way.
    pub counts: BTreeMap<Fate, u64>,
    /// The ids of those that did not end well, and what happened.
    pub failures: Vec<(u64, Fate, String)>,
    /// How long the good ones took, sorted.
    pub latencies: Vec<Duration>,
    /// How many connections were opened.
    pub connections: u64,
}

impl Report {
    /// Returns how many ended as `fate`.
    #[must_use]
    pub fn count(&self, fate: Fate) -> u64 {
        self.counts.get(&fate).copied().unwrap_or(0)
    }

    /// Returns how many requests were sent.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Returns the time within which this part (0.99) of the good responses came.
    #[must_use]
    pub fn percentile(&self, part: f64) -> Duration {
        let rank = Duration::from_secs_f64(part.clamp(0.0, 1.0)).as_nanos()
            * self.latencies.len().saturating_sub(1) as u128
            / 1_000_000_000;
        let rank = usize::try_from(rank).unwrap_or(usize::MAX);
        self.latencies.get(rank).copied().unwrap_or_default()
    }

    /// Checks that every request ended well.
    ///
    /// # Panics
    /// With the first failures, if one did not.
    pub fn assert_all_ok(&self) {
        let first: Vec<_> = self.failures.iter().take(10).collect();
        assert!(
            self.failures.is_empty(),
            "{:?}, first: {first:#?}",
            self.counts
        );
        assert!(self.total() > 0, "no request was sent");
    }

    fn add(&mut self, other: Self) {
        for (fate, count) in other.counts {
            *self.counts.entry(fate).or_default() += count;
        }
        self.failures.extend(other.failures);
        self.latencies.extend(other.latencies);
        self.connections += other.connections;
    }
}

#[derive(Default)]
struct Client {
    wire: Option<Wire>,
    report: Report,
}

impl Client {
    fn run(mut self, shared: &Shared) -> Report {
        while !shared.stopped.load(SeqCst) {
            let id = shared.next.fetch_add(1, SeqCst);
            if id >= shared.count {
                break;
            }
            let start = Instant::now();
            let (fate, what) = match self.exchange(&shared.load, id) {
                Ok(response) => judge(&shared.load, id, &response),
                Err(failed) => failed,
            };
            *self.report.counts.entry(fate).or_default() += 1;
            match fate {
                Fate::Ok => self.report.latencies.push(start.elapsed()),
                _ => self.report.failures.push((id, fate, what)),
            }
            shared.ended.fetch_add(1, SeqCst);
        }
        self.report
    }

    /// Sends one request and reads its response. A connection is kept only after a good one.
    fn exchange(&mut self, load: &Load, id: u64) -> Result<Response, (Fate, String)> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => self.connect(load)?,
        };
        let sent = wire.send(&request(load, id));
        let deadline = Some(Instant::now() + load.patience);
        let mut response = wire.read_response(load.method, deadline);
        while matches!(&response, Ok(interim) if interim.status() < 200) {
            response = wire.read_response(load.method, deadline);
        }
        // A server may answer and close before it has read all: the answer counts.
        let response = response.map_err(|unfinished| match (unfinished.stop, sent) {
            (Stop::Ended(Close::Fin, _), Ok(())) => (Fate::Short, "closed".to_owned()),
            (Stop::Ended(Close::Open, _), Ok(())) => (Fate::Other, "no end in time".to_owned()),
            (Stop::Ended(..), Err(error)) => (Fate::Reset, error.to_string()),
            (Stop::Ended(Close::Reset, _), Ok(())) => (Fate::Reset, "reset".to_owned()),
            (Stop::Malformed(what), _) => (Fate::Other, what.to_string()),
        })?;
        if load.reuse == Reuse::Keep && !response.head.wants_close() {
            self.wire = Some(wire);
        }
        Ok(response)
    }

    fn connect(&mut self, load: &Load) -> Result<Wire, (Fate, String)> {
        let stream = TcpStream::connect_timeout(&load.address, load.patience);
        let stream = stream.map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused => (Fate::Refused, "refused".to_owned()),
            io::ErrorKind::ConnectionReset => (Fate::Reset, "reset".to_owned()),
            _ => (Fate::Other, format!("connect: {error}")),
        })?;
        self.report.connections += 1;
        Ok(Wire::new(stream, 0))
    }
}

fn request(load: &Load, id: u64) -> Vec<u8> {
    let Load { method, path, .. } = load;
    let close = if load.reuse == Reuse::Close {
        "Connection: close\r\n"
    } else {
        ""
    };
    let length = match load.body.len() {
        0 => String::new(),
        length => format!("Content-Length: {length}\r\n"),
    };
    let head = format!(
        "{method} {path}?id={id} HTTP/1.1\r\nHost: load\r\nX-Load-Id: {id}\r\n{length}{close}\r\n"
    );
    [head.as_bytes(), &load.body].concat()
}

fn judge(load: &Load, id: u64, response: &Response) -> (Fate, String) {
    let right = match &load.expect {
        Expect::Id => response.body.bytes == id.to_string().as_bytes(),
        Expect::Bytes(bytes) => response.body.digest == crate::body::digest(bytes),
        Expect::Any => true,
    };
    match response.status() {
        status @ 500..=599 => (Fate::ServerError, format!("status {status}")),
        status if !(200..300).contains(&status) => (Fate::Other, format!("status {status}")),
        _ if !right => (Fate::WrongBody, response.text().chars().take(80).collect()),
        _ => (Fate::Ok, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{Fault, Mode};
    use crate::recorder::Recorder;
    use crate::script::Answer;
    use std::collections::BTreeSet;

    #[test]
    fn every_request_arrives_once_and_is_accounted_for() {
        for (reuse, connections) in [(Reuse::Keep, 4), (Reuse::Close, 400)] {
            let upstream = Recorder::echo();
            let report = Load {
                reuse,
                ..Load::on(upstream.address())
            }
            .run(400);
            report.assert_all_ok();
            assert_eq!((report.count(Fate::Ok), report.total()), (400, 400));
            assert_eq!(report.connections, connections);
            let ids: BTreeSet<_> = upstream
                .requests()
                .into_iter()
                .map(|request| request.head.target)
                .collect();
            assert_eq!((ids.len(), upstream.completed()), (400, 400));
            assert!(report.percentile(0.5) <= report.percentile(0.99));
        }
    }

    #[test]
    fn a_load_can_be_stopped() {
        let upstream = Recorder::echo();
        let running = Load::on(upstream.address()).start();
        crate::wait::expect("100 requests", PATIENCE, || running.ended() >= 100);
        let report = running.stop();
        report.assert_all_ok();
        assert_eq!(report.total(), upstream.completed() as u64);
    }

    fn fate(address: SocketAddr, patience: Duration) -> Fate {
        let report = Load {
            threads: 1,
            patience,
            ..Load::on(address)
        }
        .run(1);
        assert_eq!((report.total(), report.failures.len()), (1, 1));
        report.failures[0].1
    }

    #[test]
    fn each_fault_has_its_name() {
        for (mode, expected) in [
            (Mode::Refuse, Fate::Refused),
            (Mode::ResetAt(0), Fate::Reset),
            (Mode::ResetAt(100), Fate::Reset),
            (Mode::CloseAt(0), Fate::Short),
            (Mode::CloseAt(100), Fate::Short),
            (Mode::TruncatedChunked, Fate::Short),
            (Mode::Garbage, Fate::Other),
            (Mode::Silent, Fate::Other),
            (Mode::StallAt(100), Fate::Other),
            (Mode::CloseAt(usize::MAX), Fate::WrongBody),
        ] {
            let fault = Fault::start(mode);
            let ends = !matches!(mode, Mode::Silent | Mode::StallAt(_));
            let patience = if ends {
                PATIENCE
            } else {
                Duration::from_millis(300)
            };
            assert_eq!(fate(fault.address(), patience), expected, "{mode:?}");
        }
        for (status, expected) in [(503, Fate::ServerError), (404, Fate::Other)] {
            let upstream = Recorder::start(move |_| Answer::status(status, ""));
            assert_eq!(fate(upstream.address(), PATIENCE), expected, "{status}");
        }
    }
}
