//! Listening to what workers log.

use std::sync::Arc;

use plimsoll_proxy::changeover::Order;
pub use plimsoll_proxy::tail::{BadQuery, Heard, Query};

use crate::engine::Engine;
use crate::sessions::ask;

impl Engine {
    /// Listens to all workers that there are, until what is returned is dropped. Lines that begin after this are heard.
    ///
    /// # Errors
    /// What is wrong with the question.
    pub async fn listen(&self, query: Query) -> Result<Heard, BadQuery> {
        let (tail, heard) = query.open()?;
        let tail = Arc::new(tail);
        for worker in self.workers() {
            let tail = Arc::clone(&tail);
            let _heard = ask(worker, |done| Order::Listen(tail, done)).await; // or it is gone
        }
        Ok(heard)
    }
}
