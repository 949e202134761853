//! Where a server is. A name may lead elsewhere while we serve.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use plimsoll_http::reason::Reason;

/// Addresses, at least one, in the order in which they are tried; or why there is none.
pub type Known = Result<Box<[SocketAddr]>, Reason>;

/// Where a server is now, in all generations. Read when a connection is opened, not for each request.
#[derive(Clone, Debug)]
pub struct Addresses(Arc<ArcSwap<Known>>);

impl Addresses {
    pub(crate) fn new(known: Known) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(known)))
    }

    /// What is known now.
    pub fn now(&self) -> Arc<Known> {
        self.0.load_full()
    }

    /// Replaces what is known; connections that are open stay where they are.
    pub fn set(&self, known: Known) {
        self.0.store(Arc::new(known));
    }
}
