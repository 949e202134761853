//! How fast bodies may go. What is above a limit of bytes is not refused: it waits.

use std::time::Duration;

use plimsoll_balance::rate::{RateTable, Verdict};
use plimsoll_config::model::Way;
use plimsoll_net::clock;

use crate::plane::Plane;

/// Pieces are so small that eight of them take a second, but not smaller than this.
const PIECE_MIN: u32 = 1024;

/// How long to wait at most before asking again: others of the same key may have left.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// A limit of bytes that a request is under.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace<'a> {
    pub(crate) table: &'a RateTable,
    pub(crate) key: u64,
    pub(crate) way: Way,
}

/// All limits of one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Toll<'a> {
    pub(crate) plane: &'a Plane,
    pub(crate) paces: &'a [Pace<'a>],
    pub(crate) way: Way,
}

impl<'a> Toll<'a> {
    fn paces(&self) -> impl Iterator<Item = &'a Pace<'a>> {
        let way = self.way;
        self.paces.iter().filter(move |pace| pace.way == way)
    }

    /// The most bytes to take from the source at once.
    pub(crate) fn piece(&self) -> usize {
        let pieces = self.paces().map(|pace| {
            let piece = (pace.table.rate().count / 8).max(PIECE_MIN);
            piece.min(pace.table.burst()) as usize
        });
        pieces.min().unwrap_or(usize::MAX)
    }

    /// Waits until `bytes` more may go.
    pub(crate) async fn pay(&self, bytes: usize) {
        for pace in self.paces() {
            let mut left = bytes as u64;
            while left > 0 {
                let part = left.min(pace.table.burst().into());
                let now = self.plane.since_start(clock::now());
                match pace.table.take(pace.key, part, now) {
                    Verdict::Allowed { .. } => left -= part,
                    Verdict::Limited { retry_after } => {
                        tokio::time::sleep(retry_after.min(WAIT_MAX)).await;
                    }
                }
            }
        }
    }
}
