//! Weighted turns for many servers: earliest deadline first, in the time of a heap.
//!
//! Each server is due again one stride after its last turn, and a stride is shorter the more it
//! weighs. Whoever is due first is next. A server that may not be picked when it is due waits a
//! stride like one that was, so it does not catch up with a burst when it comes back.

use crate::eligible::Rule;
use crate::pool::{Pool, ServerIndex, Tier};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

/// The stride of a server of weight 1.
const WHOLE: u64 = 1 << 32;

/// The turns of one worker's picks from one tier.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    due: BinaryHeap<Reverse<(u64, ServerIndex)>>,
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
        }
    }

    pub(crate) fn choose(&mut self, pool: &Pool, rule: Rule<'_>) -> Option<ServerIndex> {
        // Once around, and every server has been looked at.
        for _ in 0..self.due.len() {
            let mut first = self.due.peek_mut()?;
            let Reverse((due, index)) = *first;
            let Some((server, stride)) = pool.server(index).zip(stride(pool, index)) else {
                PeekMut::pop(first);
                continue;
            };
            *first = Reverse((due.saturating_add(stride), index));
            drop(first);
            if rule.admits(index, server) {
                return Some(index);
            }
        }
        None
    }
}

/// How long after a turn the next one is due; nothing for a server without weight.
fn stride(pool: &Pool, index: ServerIndex) -> Option<u64> {
    let weight = u64::from(pool.server(index)?.weight());
    WHOLE.checked_div(weight)
}
