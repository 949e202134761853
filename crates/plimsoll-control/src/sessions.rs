//! What is open, as its workers tell, and how it is ended.

use std::sync::Arc;
use std::time::Duration;

use plimsoll_proxy::changeover::Order;
use plimsoll_proxy::sessions::list::Which;
use tokio::sync::{mpsc, oneshot};

pub use plimsoll_proxy::sessions::list::{BadQuery, Listed, Query, SessionView};

use crate::crew::lock;
use crate::engine::Engine;

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

impl Engine {
    /// What is open of what `which` means. A reload that is under way is not waited for.
    pub async fn sessions(&self, which: Which) -> Listed {
        let (which, mut all) = (Arc::new(which), Listed::default());
        let answers = self.workers().into_iter().map(|worker| {
            let which = Arc::clone(&which);
            tokio::spawn(ask(worker, |reply| Order::Look(which, reply)))
        });
        for answer in answers.collect::<Vec<_>>() {
            let silent = Listed {
                silent_workers: 1,
                ..Listed::default()
            };
            all.add(answer.await.ok().flatten().unwrap_or(silent));
        }
        all.sort(which.shown());
        all
    }

    /// Ends what `which` means; returns how many there were.
    pub async fn close_sessions(&self, which: Which) -> usize {
        let (which, mut count) = (Arc::new(which), 0);
        for worker in self.workers() {
            let (which, left) = (Arc::clone(&which), which.ended() - count);
            let closed = ask(worker, |reply| Order::Close(which, left, reply)).await;
            count += closed.unwrap_or_default();
        }
        tracing::info!(count, ?which, "an operator closed sessions");
        count
    }

    pub(crate) fn workers(&self) -> Vec<mpsc::Sender<Order>> {
        lock(&self.orders).clone()
    }
}

/// Asks a worker something; nothing when it does not answer.
pub(crate) async fn ask<T>(
    worker: mpsc::Sender<Order>,
    order: impl FnOnce(oneshot::Sender<T>) -> Order,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        worker.send(order(reply)).await.ok()?;
        answer.await.ok()
    };
    tokio::time::timeout(PATIENCE, asked).await.ok().flatten()
}
