//! Key sets that are fetched while we serve: the control plane fetches them, the data plane says when
//! a token names a key that is not there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use plimsoll_config::model;
use tokio::sync::Notify;

use crate::material::Material;

/// A key set that is fetched.
#[derive(Debug)]
pub struct KeySet {
    /// How it is fetched.
    pub source: model::KeySet,
    /// What it holds, and how fetching it went.
    pub material: Material,
    /// Whether it is wanted before its time.
    pub wish: Arc<Wish>,
}

/// The wish for a set before its time: a token named a key that it does not have, as tokens do when
/// their issuer has a new key.
#[derive(Debug, Default)]
pub struct Wish {
    is_made: AtomicBool,
    made: Notify,
}

impl Wish {
    /// Makes the wish. Whoever is first wakes the one who fetches, which takes a lock for a moment; all
    /// others leave it at a look until it is taken, so that a flood of forged tokens costs nothing.
    pub fn make(&self) {
        if !self.is_made.load(Relaxed) && !self.is_made.swap(true, Relaxed) {
            self.made.notify_one();
        }
    }

    /// Tells whether it was made since it was taken last.
    pub fn is_made(&self) -> bool {
        self.is_made.load(Relaxed)
    }

    /// Takes the wish, so that it can be made again.
    pub fn take(&self) {
        self.is_made.store(false, Relaxed);
    }

    /// Waits until it is made.
    pub async fn made(&self) {
        self.made.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn a_wish_wakes_once_until_it_is_taken() {
        let wish = Wish::default();
        let wakes = || {
            let mut context = Context::from_waker(Waker::noop());
            pin!(wish.made()).poll(&mut context) == Poll::Ready(())
        };
        assert!(!wish.is_made() && !wakes());
        wish.make();
        wish.make();
        assert!(wish.is_made() && wakes());
        wish.make();
        assert!(!wakes(), "it is known already");
        wish.take();
        assert!(!wish.is_made());
        wish.make();
        assert!(wish.is_made() && wakes());
    }
}
