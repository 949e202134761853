//! An open-loop load, for the overload case of the benchmark: requests come at a rate, whether
//! those before have been answered or not, as they do from many clients that know nothing of each
//! other. A client gives up when its patience ends.
//!
//! `bench-open-loop ADDRESS PATIENCE_MS RATE:SECONDS…` goes through the phases and writes a line
//! for each request: the phase, when it was due (seconds), what became of it, and how long after
//! it was due (seconds).
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout_at};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n";

fn main() -> ExitCode {
    let outcome =
        run().and_then(|report| Ok(io::Write::write_all(&mut io::stdout(), report.as_bytes())?));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Requests at `rate` a second.
struct Phase {
    rate: f64,
    length: Duration,
}

fn run() -> Result<String, Box<dyn Error>> {
    const USAGE: &str = "usage: bench-open-loop ADDRESS PATIENCE_MS RATE:SECONDS…";
    let mut words = std::env::args().skip(1);
    let address = words.next().ok_or(USAGE)?.parse()?;
    let patience = Duration::from_millis(words.next().ok_or(USAGE)?.parse()?);
    let mut phases = Vec::new();
    for word in words {
        let (rate, seconds) = word.split_once(':').ok_or(USAGE)?;
        phases.push(Phase {
            rate: rate.parse()?,
            length: Duration::from_secs_f64(seconds.parse()?),
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let crowd = Rc::new(Crowd {
        address,
        patience,
        start: Instant::now(),
        kept: RefCell::default(),
        report: RefCell::default(),
    });
    LocalSet::new().block_on(&runtime, crowd.go_through(&phases));
    Ok(crowd.report.take())
}

/// What became of a request.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It was served in time.
    Good,
    /// It was answered, with anything but 200.
    Refused,
    /// There was no answer.
    Failed,
    /// There was none in time.
    Late,
}

struct Crowd {
    address: SocketAddr,
    patience: Duration,
    start: Instant,
    /// Connections for further requests; the last one is used first.
    kept: RefCell<Vec<TcpStream>>,
    report: RefCell<String>,
}

impl Crowd {
    async fn go_through(self: &Rc<Self>, phases: &[Phase]) {
        let mut clients = JoinSet::new();
        let mut random: u64 = 0x2545_F491_4F6C_DD1D;
        let mut begin = self.start;
        for (number, phase) in phases.iter().enumerate() {
            let end = begin + phase.length;
            let mut due = begin;
            loop {
                due += Duration::from_secs_f64(gap(&mut random) / phase.rate);
                if due >= end {
                    break;
                }
                sleep_until(due).await;
                clients.spawn_local(Rc::clone(self).client(number, due));
                while clients.try_join_next().is_some() {}
            }
            begin = end;
        }
        while clients.join_next().await.is_some() {}
    }

    async fn client(self: Rc<Self>, phase: usize, due: Instant) {
        let fate = timeout_at(due + self.patience, self.ask()).await;
        let fate = fate.unwrap_or(Ok(Fate::Late)).unwrap_or(Fate::Failed);
        let at = due.duration_since(self.start).as_secs_f64();
        let took = due.elapsed().as_secs_f64();
        let _ = writeln!(
            self.report.borrow_mut(),
            "{phase} {at:.6} {fate:?} {took:.6}"
        );
    }

    async fn ask(&self) -> io::Result<Fate> {
        let kept = self.kept.borrow_mut().pop();
        if let Some(stream) = kept
            && let Ok(fate) = self.ask_on(stream).await
        {
            return Ok(fate);
        }
        // A connection that was closed meanwhile tells nothing of this request.
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        self.ask_on(stream).await
    }

    async fn ask_on(&self, mut stream: TcpStream) -> io::Result<Fate> {
        stream.write_all(REQUEST).await?;
        let mut input = Vec::with_capacity(1024);
        let head = loop {
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
                break String::from_utf8_lossy(input.get(..end).unwrap_or_default()).into_owned();
            }
        };
        let head = head.to_ascii_lowercase();
        let field = |name| head.lines().find_map(|line| line.strip_prefix(name));
        let length: usize = field("content-length:")
            .and_then(|value| value.trim().parse().ok())
            .ok_or(io::ErrorKind::Unsupported)?;
        while input.len() < head.len() + 4 + length {
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        if field("connection:").is_none_or(|value| value.trim() != "close") {
            self.kept.borrow_mut().push(stream);
        }
        Ok(match head.split(' ').nth(1) {
            Some("200") => Fate::Good,
            _ => Fate::Refused,
        })
    }
}

/// Draws the time to the next of events that come once in a while independently: with mean 1, as
/// in a Poisson process.
fn gap(random: &mut u64) -> f64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let upper = u32::try_from(*random >> 32).unwrap_or_default();
    let uniform = (f64::from(upper) + 1.0) / 4_294_967_296.0;
    -uniform.ln()
}
