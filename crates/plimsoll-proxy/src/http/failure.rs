//! Why a request got no answer from a server, or none that is passed on.

use plimsoll_http::reason::Reason;

use crate::http::answer::Keep;
use crate::http::line;

/// Why an attempt failed before any of the answer was passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// What the client is told.
    pub(crate) status: u16,
    /// More about it, for people.
    pub(crate) detail: &'static str,
    pub(crate) sent: Sent,
    pub(crate) blame: Side,
    /// Whether the server's connection may be kept all the same.
    pub(crate) keep: Keep,
}

/// How much of the request may have reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing did.
    Nothing,
    /// It was sent, and the server says that it has not looked at it.
    Untouched,
    /// Something may have, and no byte of an answer came back.
    Unanswered,
    /// An answer began.
    Answered,
    /// An answer came, and is to be had from another server.
    PassedOver,
    /// An answer came that no client is to see.
    Hidden,
    /// An answer came that names who answers instead.
    Elsewhere,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The server's.
    Upstream,
    /// The client's: no other server would do better.
    Downstream,
    /// Ours: something ran out here, and the server may be as well as ever.
    Plimsoll,
}

impl Failure {
    pub(crate) fn upstream(reason: Reason, detail: &'static str, sent: Sent) -> Self {
        Self {
            reason,
            status: reason.status(),
            detail,
            sent,
            blame: Side::Upstream,
            keep: Keep::No,
        }
    }

    /// The client waits no longer.
    pub(crate) fn overdue() -> Self {
        Self::downstream(Reason::HttpResponseTimeout, line::OVERDUE)
    }

    /// No connection could be opened, for want of something on this side.
    pub(crate) fn plimsoll(detail: &'static str) -> Self {
        Self {
            blame: Side::Plimsoll,
            ..Self::upstream(Reason::DestinationUnavailable, detail, Sent::Nothing)
        }
    }

    pub(crate) fn downstream(reason: Reason, detail: &'static str) -> Self {
        Self {
            reason,
            status: reason.status(),
            detail,
            sent: Sent::Answered,
            blame: Side::Downstream,
            keep: Keep::No,
        }
    }
}
