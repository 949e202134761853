//! Requests that fail on purpose.

use plimsoll_config::model::{Abort, Fault};
use plimsoll_http::reason::Reason;
use plimsoll_net::clock;

use crate::http::attempt::Failure;
use crate::http::exchange::Exchange;
use crate::http::respond::Answer;

/// How a request ends that fails on purpose.
pub(crate) enum Failed {
    /// With an answer.
    Answer(Answer<'static>),
    /// With a reset of its connection.
    Reset,
    /// Its client did not wait.
    Left(Failure),
}

/// Holds a request up, or ends it, if the lot falls on it.
pub(crate) async fn inject(exchange: &Exchange<'_>, fault: &Fault) -> Result<(), Failed> {
    if exchange.plane.worker.random() % 100 >= u64::from(fault.percent) {
        return Ok(());
    }
    if let Some(delay) = fault.delay {
        exchange.timer.set(clock::now() + delay);
        // The deadline is what is waited for.
        let left = exchange.timer.limit(exchange.client.broken()).await;
        if left.is_ok() {
            return Err(Failed::Left(Failure::downstream(Reason::ClientAborted, "")));
        }
    }
    match fault.abort {
        None => Ok(()),
        Some(Abort::Reset) => Err(Failed::Reset),
        Some(Abort::Status(status)) => Err(Failed::Answer(Answer {
            status,
            ..Answer::to(Reason::ProxyInternalResponse, "failed on purpose")
        })),
    }
}
