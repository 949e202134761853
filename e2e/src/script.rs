//! What a scripted upstream answers, step by step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

/// One part of an answer.
#[derive(Clone, Debug)]
pub enum Step {
    /// Read the request's body to its end.
    ReadBody,
    /// Do nothing for this time.
    Wait(Duration),
    /// Do nothing until the gate opens.
    Await(Gate),
    /// Open the gate, to tell the test how far the answer has come.
    Open(Gate),
    /// Send these bytes.
    Send(Vec<u8>),
    /// Send these bytes this many times.
    Repeat(Vec<u8>, u64),
    /// Close the sending direction.
    Finish,
    /// Close in order.
    Close,
    /// Close with a reset.
    Reset,
    /// Read and drop what comes until the peer closes.
    Hold,
}

/// What the upstream does once it has read a request's head.
#[derive(Clone, Debug)]
pub struct Answer(pub Vec<Step>);

impl Answer {
    /// Reads the body and answers 200 with `body`.
    #[must_use]
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200, body)
    }

    /// Reads the body and answers `status` with `body`.
    #[must_use]
    pub fn status(status: u16, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!(
            "HTTP/1.1 {status} Scripted\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        Self::bytes([head.as_bytes(), body].concat())
    }

    /// Reads the body and answers exactly these bytes.
    #[must_use]
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(vec![Step::ReadBody, Step::Send(bytes.into())])
    }

    /// Answers before reading the body.
    #[must_use]
    pub fn early(mut self) -> Self {
        self.0.retain(|step| !matches!(step, Step::ReadBody));
        self
    }

    /// Does `step` after the rest.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// Does `step` before the answer is sent, after reading the body.
    #[must_use]
    pub fn after(mut self, step: Step) -> Self {
        let at = usize::from(matches!(self.0.first(), Some(Step::ReadBody)));
        self.0.insert(at, step);
        self
    }
}

/// A door that a test opens once, for answers that must wait for something.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    /// Creates a closed gate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets everyone through from now on.
    pub fn open(&self) {
        self.0.store(true, SeqCst);
    }

    /// Tells whether it was opened.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.0.load(SeqCst)
    }
}
