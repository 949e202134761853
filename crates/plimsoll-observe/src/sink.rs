//! Handing log lines to the thread that writes them: bounded, and never waiting.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// Batches that may wait for the writer. With [`BATCH_BYTES`] it bounds what a blocked sink holds.
const QUEUE: usize = 16;

/// A batch this large is handed over at once; a smaller one when the worker flushes. Large writes
/// are cheap ones: the system makes room for a file page by page, and wakes the writer each time.
const BATCH_BYTES: usize = 256 * 1024;

/// Makes a sink: an end for each of `workers` workers, and one for the writer.
pub fn sink(workers: usize) -> (Vec<Tap>, Drain) {
    let (send, receive) = sync_channel(QUEUE);
    let (give_back, used): (Vec<_>, Vec<_>) = (0..workers).map(|_| sync_channel(QUEUE)).unzip();
    let tap = |(worker, used)| {
        let batch = Batch {
            worker,
            lines: empty(),
        };
        Tap {
            batch,
            count: 0,
            send: send.clone(),
            used,
        }
    };
    (
        used.into_iter().enumerate().map(tap).collect(),
        Drain { receive, give_back },
    )
}

fn empty() -> Vec<u8> {
    Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 4)
}

/// Lines on their way.
#[derive(Debug)]
pub struct Batch {
    worker: usize,
    lines: Vec<u8>,
}

impl Batch {
    /// The lines, each with its end.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }
}

/// A worker's end.
#[derive(Debug)]
pub struct Tap {
    batch: Batch,
    count: u64,
    send: SyncSender<Batch>,
    used: Receiver<Vec<u8>>,
}

impl Tap {
    /// Adds a line; returns how many lines were dropped because the sink is blocked.
    pub fn line(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        write(&mut self.batch.lines);
        self.count += 1;
        if self.batch.lines.len() < BATCH_BYTES {
            0
        } else {
            self.flush()
        }
    }

    /// Hands over what is there; returns how many lines were dropped.
    pub fn flush(&mut self) -> u64 {
        if self.batch.lines.is_empty() {
            return 0;
        }
        let lines = self.used.try_recv().unwrap_or_else(|_| empty());
        let fresh = Batch {
            worker: self.batch.worker,
            lines,
        };
        let batch = std::mem::replace(&mut self.batch, fresh);
        let count = std::mem::take(&mut self.count);
        match self.send.try_send(batch) {
            Ok(()) => 0,
            Err(TrySendError::Full(mut batch) | TrySendError::Disconnected(mut batch)) => {
                batch.lines.clear();
                self.batch = batch;
                count
            }
        }
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Drain {
    receive: Receiver<Batch>,
    give_back: Vec<SyncSender<Vec<u8>>>,
}

impl Drain {
    /// Waits for a batch.
    ///
    /// # Errors
    /// None came in time, or all workers are gone.
    pub fn wait(&self, timeout: Duration) -> Result<Batch, RecvTimeoutError> {
        self.receive.recv_timeout(timeout)
    }

    /// Gives the memory of a batch back.
    pub fn done(&self, batch: Batch) {
        let Batch { worker, mut lines } = batch;
        lines.clear();
        if let Some(give_back) = self.give_back.get(worker) {
            // A worker that has enough memory lets it go.
            let _ = give_back.try_send(lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_sink_drops_and_counts() {
        let (mut taps, drain) = sink(1);
        let tap = &mut taps[0];
        let mut dropped = 0;
        for _ in 0..QUEUE + 3 {
            dropped += tap.line(|batch| batch.resize(BATCH_BYTES, b'x'));
        }
        assert_eq!(dropped, 3);
        let batch = drain.wait(Duration::ZERO).unwrap();
        assert_eq!(batch.lines().len(), BATCH_BYTES);
        drain.done(batch);
        assert_eq!(tap.line(|batch| batch.push(b'y')), 0);
        assert_eq!(tap.flush(), 0);
    }
}
