//! The rest of a request's body, on its way up while the answer may come down already.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use plimsoll_http::reason::Reason;

use crate::http::failure::{Failure, Sent};
use crate::http::flow::{Fault, Flow};
use crate::http::hold::Held;

/// The rest of a request's body, on its way up.
pub(crate) struct Upload<'a> {
    pub(crate) flow: Option<Pin<&'a mut dyn Future<Output = Result<(), Fault>>>>,
    pub(crate) progress: &'a Cell<Progress>,
}

/// Sends what of a body did not go with the head: what is on disk, and what is still to come.
pub(crate) async fn send_rest(held: Option<&Held>, flow: Flow<'_>) -> Result<(), Fault> {
    if let Some(held) = held {
        Box::pin(held.send_spilled(&flow)).await?;
    }
    flow.run().await
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    UnderWay,
    Sent,
    /// The server reads no further, and perhaps has answered; the client has more to send.
    Abandoned,
}

impl Progress {
    /// How far it is when the head is sent, with more to come or not.
    pub(crate) fn at_first(is_more: bool) -> Self {
        match is_more {
            true => Self::UnderWay,
            false => Self::Sent,
        }
    }
}

impl Upload<'_> {
    /// Runs `main` while the upload goes on; ends early when the client fails.
    pub(crate) async fn alongside<T>(&mut self, main: impl Future<Output = T>) -> Result<T, Fault> {
        let mut main = pin!(main);
        poll_fn(|context| {
            if let Some(fault) = self.poll(context) {
                return Poll::Ready(Err(fault));
            }
            main.as_mut().poll(context).map(Ok)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Option<Fault> {
        let Poll::Ready(done) = self.flow.as_mut()?.as_mut().poll(context) else {
            return None;
        };
        self.flow = None;
        match done {
            Ok(()) => self.progress.set(Progress::Sent),
            Err(Fault::SinkGone { .. } | Fault::SinkLate) => self.progress.set(Progress::Abandoned),
            Err(fault) => return Some(fault),
        }
        None
    }
}

/// What a request body that did not arrive means.
pub(crate) fn client_failure(fault: &Fault) -> Failure {
    match fault {
        Fault::SourceMalformed => {
            Failure::downstream(Reason::HttpRequestError, "malformed chunked body")
        }
        Fault::SourceLate => Failure::downstream(Reason::ClientTimeout, "the request body stopped"),
        Fault::SourceSlow => {
            Failure::downstream(Reason::ClientTimeout, "the request body is too slow")
        }
        Fault::TooLarge => Failure {
            status: 413,
            ..Failure::downstream(Reason::HttpRequestError, "request body too large")
        },
        Fault::Spool | Fault::Coder => Failure {
            sent: Sent::Answered,
            ..Failure::plimsoll("the spool cannot be read")
        },
        Fault::SourceGone | Fault::SinkGone { .. } | Fault::SinkLate => {
            Failure::downstream(Reason::ClientAborted, "")
        }
    }
}
