//! The one predicate: may this server be picked now?
//!
//! Every algorithm asks here and nowhere else, so that a rule added below holds for all of them.

use crate::pool::ServerIndex;
use crate::server::{Server, Standing};
use crate::tried::Tried;

/// Whether a server may be picked, and if not, the first reason why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// It may be picked.
    Eligible,
    /// It is down, drains, or has weight 0: waiting does not help this request.
    Down,
    /// This request has been there.
    Tried,
    /// It has as many requests in flight as it may.
    Full,
}

/// Tells whether `server`, at `index`, may receive a request that was at `tried` before.
#[must_use]
#[inline]
pub fn eligibility(index: ServerIndex, server: &Server, tried: &Tried) -> Eligibility {
    if server.weight() == 0 || server.standing() != Standing::Ready {
        Eligibility::Down
    } else if tried.contains(index) {
        Eligibility::Tried
    } else if server.is_full() {
        Eligibility::Full
    } else {
        Eligibility::Eligible
    }
}

#[inline]
pub(crate) fn is_eligible(index: ServerIndex, server: &Server, tried: &Tried) -> bool {
    eligibility(index, server, tried) == Eligibility::Eligible
}
