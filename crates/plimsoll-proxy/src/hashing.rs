//! Hashing passwords beside the workers. Guessing is not free to be stopped, so it is bounded: few at
//! once over all workers, few that wait, and none of them for long.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use plimsoll_access::verified::Verified;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// Requests of a worker that wait for a password to be hashed.
const WAITING_MAX: usize = 64;

/// What all workers share.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    /// Who hashes has one of these, until he is done, whether anyone still waits for it or not.
    turns: Arc<Semaphore>,
    /// What marks of credentials are keyed with.
    seed: [u8; 32],
}

impl Turns {
    /// A quarter of the workers' cores, and one at least, may be taken by hashing; `secret` is secret
    /// and random.
    pub(crate) fn new(workers: usize, secret: u64) -> Self {
        // Random numbers of workers will not do: they stand in ids that clients see.
        let seed = Sha256::new()
            .chain_update(b"marks of credentials")
            .chain_update(secret.to_le_bytes());
        Self {
            turns: Arc::new(Semaphore::new((workers / 4).max(1))),
            seed: seed.finalize().into(),
        }
    }
}

/// Who of a worker waits for a password to be hashed, and what was found good.
#[derive(Debug)]
pub(crate) struct Hashing {
    pub(crate) verified: RefCell<Verified>,
    turns: Arc<Semaphore>,
    waiting: Cell<usize>,
}

impl Hashing {
    /// Nobody waits.
    pub(crate) fn new(shared: &Turns) -> Self {
        Self {
            verified: RefCell::new(Verified::new(shared.seed)),
            turns: Arc::clone(&shared.turns),
            waiting: Cell::new(0),
        }
    }

    /// Does something costly in its turn, and not on this thread; nothing when too many wait.
    pub(crate) async fn in_turn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.waiting.get() >= WAITING_MAX {
            return None;
        }
        let _waits = self.wait();
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        let job = move || {
            let done = job();
            // A client that left does not end what was begun for it.
            drop(turn);
            done
        };
        tokio::task::spawn_blocking(job).await.ok()
    }

    fn wait(&self) -> Waits<'_> {
        self.waiting.set(self.waiting.get() + 1);
        Waits(self)
    }
}

/// One who waits.
struct Waits<'a>(&'a Hashing);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::sync::mpsc::sync_channel;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn hashing_takes_a_quarter_of_the_workers_and_one_at_least() {
        for (workers, most) in [(1, 1), (2, 1), (4, 1), (8, 2), (64, 16)] {
            assert_eq!(Turns::new(workers, 1).turns.available_permits(), most);
        }
        assert_ne!(Turns::new(1, 1).seed, Turns::new(1, 2).seed);
    }

    #[test]
    fn a_turn_lasts_until_its_work_is_done_whoever_has_left() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let shared = Turns::new(1, 7);
        let hashing = Hashing::new(&shared);
        let (finish, wait) = sync_channel::<()>(0);
        let mut context = Context::from_waker(Waker::noop());
        {
            let mut first = pin!(hashing.in_turn(move || wait.recv().is_ok()));
            assert!(first.as_mut().poll(&mut context).is_pending());
            assert_eq!(hashing.waiting.get(), 1);
        }
        assert_eq!(hashing.waiting.get(), 0);
        assert_eq!(shared.turns.available_permits(), 0);
        let mut second = pin!(hashing.in_turn(|| 2));
        assert!(second.as_mut().poll(&mut context).is_pending());
        finish.send(()).unwrap();
        assert_eq!(runtime.block_on(second), Some(2));
    }

    #[test]
    fn only_so_many_wait() {
        let shared = Turns::new(1, 7);
        let hashing = Hashing::new(&shared);
        let _taken = Arc::clone(&shared.turns).try_acquire_owned().unwrap();
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| Box::pin(hashing.in_turn(|| ())))
            .collect();
        for waits in &mut waiting {
            assert!(waits.as_mut().poll(&mut context).is_pending());
        }
        let mut one_more = pin!(hashing.in_turn(|| ()));
        assert_eq!(one_more.as_mut().poll(&mut context), Poll::Ready(None));
        waiting.pop();
        let mut one_more = pin!(hashing.in_turn(|| ()));
        assert!(one_more.as_mut().poll(&mut context).is_pending());
    }
}
