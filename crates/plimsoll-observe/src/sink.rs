//! Handing log lines to the thread that writes them: bounded, and never waiting.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Batches that may wait for the writer. With [`BATCH_BYTES`] it bounds what a blocked sink holds.
const QUEUE: usize = 64;

/// A batch this large is handed over at once; a smaller one when the worker flushes.
const BATCH_BYTES: usize = 32 * 1024;

/// Makes the two ends of a sink.
pub fn sink() -> (Tap, Drain) {
    let (send, receive) = sync_channel(QUEUE);
    let (give_back, used) = sync_channel(QUEUE);
    (
        Tap {
            batch: Vec::with_capacity(2 * BATCH_BYTES),
            lines: 0,
            send,
            used,
        },
        Drain { receive, give_back },
    )
}

/// A worker's end.
#[derive(Debug)]
pub struct Tap {
    batch: Vec<u8>,
    lines: u64,
    send: SyncSender<Vec<u8>>,
    used: Receiver<Vec<u8>>,
}

impl Tap {
    /// Adds a line; returns how many lines were dropped because the sink is blocked.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        write(&mut self.batch);
        self.lines += 1;
        if self.batch.len() < BATCH_BYTES {
            0
        } else {
            self.flush()
        }
    }

    /// Hands over what is there; returns how many lines were dropped.
    pub fn flush(&mut self) -> u64 {
        if self.batch.is_empty() {
            return 0;
        }
        let fresh = self
            .used
            .try_recv()
            .unwrap_or_else(|_| Vec::with_capacity(2 * BATCH_BYTES));
        let batch = std::mem::replace(&mut self.batch, fresh);
        let lines = std::mem::take(&mut self.lines);
        match self.send.try_send(batch) {
            Ok(()) => 0,
            Err(TrySendError::Full(mut batch) | TrySendError::Disconnected(mut batch)) => {
                batch.clear();
                self.batch = batch;
                lines
            }
        }
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Drain {
    receive: Receiver<Vec<u8>>,
    give_back: SyncSender<Vec<u8>>,
}

impl Drain {
    /// Waits for a batch.
    ///
    /// # Errors
    /// None came in time, or the worker is gone.
    pub fn wait(&self, timeout: Duration) -> Result<Vec<u8>, RecvTimeoutError> {
        self.receive.recv_timeout(timeout)
    }

    /// Gives the memory of a batch back.
    pub fn done(&self, mut batch: Vec<u8>) {
        batch.clear();
        let _ = self.give_back.try_send(batch);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_sink_drops_and_counts() {
        let (mut tap, drain) = sink();
        let mut dropped = 0;
        for _ in 0..QUEUE + 3 {
            dropped += tap.line(|batch| batch.resize(BATCH_BYTES, b'x'));
        }
        assert_eq!(dropped, 3);
        let batch = drain.wait(Duration::ZERO).unwrap();
        assert_eq!(batch.len(), BATCH_BYTES);
        drain.done(batch);
        assert_eq!(tap.line(|batch| batch.push(b'y')), 0);
        assert_eq!(tap.flush(), 0);
    }
}
