//! Asking a server whether it works. One file a protocol; nothing here knows of pools.
#![forbid(unsafe_code)]

mod http;

pub use http::HttpProbe;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Probe {
    /// A connection is enough.
    Tcp,
    /// An HTTP request, and what its answer must be.
    Http(HttpProbe),
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it says of the server.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
    /// Why, for people: short, and without control characters.
    pub detail: String,
}

/// What a probe says of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Passed,
    /// It answers, and not as it should, or too late.
    Unfit,
    /// Nothing listens there, or it cannot be reached.
    Unreachable,
}

/// Why a probe did not pass.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke.
    Io(io::Error),
    /// The answer is not what it should be.
    Answer(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks the server at `address`; the whole probe has `timeout`.
pub async fn run(probe: &Probe, address: SocketAddr, timeout: Duration) -> Report {
    let began = Instant::now();
    let deadline = began + timeout;
    let (verdict, detail) = match timeout_at(deadline, TcpStream::connect(address)).await {
        Err(_) => (Verdict::Unreachable, "no connection in time".to_owned()),
        Ok(Err(error)) => (Verdict::Unreachable, printable(&error.to_string())),
        Ok(Ok(stream)) => match timeout_at(deadline, converse(probe, stream)).await {
            Err(_) => (Verdict::Unfit, "no answer in time".to_owned()),
            Ok(Err(Failure::Io(error))) => (Verdict::Unfit, printable(&error.to_string())),
            Ok(Err(Failure::Answer(why))) => (Verdict::Unfit, printable(&why)),
            Ok(Ok(())) => (Verdict::Passed, String::new()),
        },
    };
    Report {
        verdict,
        took: began.elapsed(),
        detail,
    }
}

async fn converse(probe: &Probe, mut stream: TcpStream) -> Result<(), Failure> {
    match probe {
        // Reset, so that thousands of checks leave no connections in TIME_WAIT.
        Probe::Tcp => Ok(stream.set_zero_linger()?),
        Probe::Http(probe) => http::ask(probe, &mut stream).await,
    }
}

/// Text of a server's, made fit for a log.
fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(200).map(clean).collect()
}
