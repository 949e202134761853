//! Weighted turns for many servers: earliest deadline first, in the time of a heap.
//!
//! Each server is due again one stride after its last turn, and a stride is shorter the more it
//! weighs. Whoever is due first is next. The turns of a server that may not be picked pass as if it
//! had taken them, so it does not catch up with a burst when it comes back.

use crate::eligible::Rule;
use crate::pool::{Pool, ServerIndex, Tier};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The stride of a server of weight 1.
const WHOLE: u64 = 1 << 32;

/// The turns of one worker's picks from one tier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    due: BinaryHeap<Reverse<(u64, ServerIndex)>>,
    /// Those that one choice passes over. Empty between choices.
    passed: Vec<Turn>,
}

impl Schedule {
    /// Begins in the middle of each server's first stride, so that heavy ones do not all come first.
    pub(crate) fn new(pool: &Pool, tier: &Tier) -> Self {
        let members = tier.members.iter().filter_map(|&index| {
            let stride = stride(pool, index)?;
            Some(Reverse((stride / 2, index)))
        });
        Self {
            due: members.collect(),
            passed: Vec::new(),
        }
    }

    pub(crate) fn choose(&mut self, pool: &Pool, rule: Rule<'_>) -> Option<ServerIndex> {
        let taken = loop {
            let Some(Reverse((due, index))) = self.due.pop() else {
                break None;
            };
            // No server of this pool: its turns end.
            let Some((server, stride)) = pool.server(index).zip(stride(pool, index)) else {
                continue;
            };
            let turn = Turn { due, index, stride };
            if rule.admits(index, server) {
                break Some(turn);
            }
            self.passed.push(turn);
        };
        // Where nobody took a turn, no time passed.
        let now = taken.map_or(0, |turn| turn.due);
        for turn in self.passed.drain(..).chain(taken) {
            self.due.push(turn.after(now));
        }
        taken.map(|turn| turn.index)
    }
}

/// A server whose turn it is.
#[derive(Clone, Copy, Debug)]
struct Turn {
    due: u64,
    index: ServerIndex,
    stride: u64,
}

impl Turn {
    /// The first turn of the same server after `now`.
    fn after(self, now: u64) -> Reverse<(u64, ServerIndex)> {
        let strides = now
            .checked_sub(self.due)
            .map_or(0, |late| late / self.stride + 1);
        let due = self.due.saturating_add(self.stride.saturating_mul(strides));
        Reverse((due, self.index))
    }
}

/// How long after a turn the next one is due; nothing for a server without weight.
fn stride(pool: &Pool, index: ServerIndex) -> Option<u64> {
    let weight = u64::from(pool.server(index)?.weight());
    // Never 0, as a weight is below the whole.
    WHOLE.checked_div(weight)
}
