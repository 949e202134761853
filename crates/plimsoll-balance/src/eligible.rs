//! The one predicate: may this server be picked now?
//!
//! Every algorithm asks here and nowhere else, so that a rule added below holds for all of them.

use crate::hash::mix;
use crate::pool::ServerIndex;
use crate::server::{FULL_SHARE, Server};
use crate::standing::Bars;
use crate::tried::Tried;

/// Whether a server may be picked, and if not, the first reason why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eligibility {
    /// It may be picked.
    Eligible,
    /// It is down, rests, drains, or has weight 0: waiting does not help this request.
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
    Rule::usual(tried).judge(index, server)
}

/// Which servers one search for a server may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule<'a> {
    tried: &'a Tried,
    /// What keeps requests away from a server.
    bars: Bars,
    /// Decides who goes to a server that does not take its full share yet; nothing means everyone.
    dice: Option<u64>,
}

impl<'a> Rule<'a> {
    /// Every server that is well.
    #[inline]
    pub(crate) fn usual(tried: &'a Tried) -> Self {
        Self {
            tried,
            bars: Bars::ALL,
            dice: None,
        }
    }

    /// Servers that start slowly are taken by `dice`.
    #[inline]
    pub(crate) fn with_dice(self, dice: u64) -> Self {
        Self {
            dice: Some(dice),
            ..self
        }
    }

    /// Only `bars` keep requests away.
    pub(crate) fn barring(self, bars: Bars) -> Self {
        Self { bars, ..self }
    }

    #[inline]
    pub(crate) fn admits(&self, index: ServerIndex, server: &Server) -> bool {
        self.judge(index, server) == Eligibility::Eligible
    }

    #[inline]
    pub(crate) fn judge(&self, index: ServerIndex, server: &Server) -> Eligibility {
        if server.weight() == 0 || server.bars().meets(self.bars) || !self.is_drawn(index, server) {
            Eligibility::Down
        } else if self.tried.contains(index) {
            Eligibility::Tried
        } else if server.is_full() {
            Eligibility::Full
        } else {
            Eligibility::Eligible
        }
    }

    #[inline]
    fn is_drawn(&self, index: ServerIndex, server: &Server) -> bool {
        let share = server.share();
        share == FULL_SHARE
            || self.dice.is_none_or(|dice| {
                let throw = mix(dice ^ mix(index.position() as u64)) >> 56;
                throw < u64::from(share)
            })
    }
}
