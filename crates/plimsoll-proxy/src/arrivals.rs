//! Where clients arrive: sockets that connections are accepted from, and ports that datagrams come to.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use plimsoll_net::accept;
use plimsoll_net::clock;
use tokio::sync::oneshot;

use crate::changeover::Quay;
use crate::connection::PanicWatch;
use crate::datagrams;
use crate::door::{Pier, Post};
use crate::serving::Server;

/// How long to accept nothing when there are as many connections as there may be.
const FULL_PAUSE: Duration = Duration::from_millis(10);

impl<F: Future<Output = ()> + 'static> Server<F> {
    /// Accepts connections until told to stop, and then until all have arrived that are connected.
    pub(crate) async fn listen(self: Rc<Self>, post: Rc<Post>) {
        // Not set before the end, when all timers are woken: so a waiting listener hears of it.
        let timer = self.station.worker.deadlines.timer();
        let mut is_closing = false;
        let is_to_close = || self.station.draining.get() || post.is_closing();
        loop {
            if !is_to_close() && self.planes.current().is_full() {
                tokio::time::sleep(FULL_PAUSE).await; // clients wait in the backlog
                continue;
            }
            let accepted = poll_fn(|context| {
                if post.is_released() {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(accepted) = post.listener.poll_accept(context) {
                    return Poll::Ready(Some(accepted));
                }
                if is_to_close() && !std::mem::replace(&mut is_closing, true) {
                    // Who is connected already is still served.
                    post.listener.stop_deferring();
                    timer.set(clock::now() + accept::LATE_ARRIVALS);
                }
                timer.poll(context).map(|_| None)
            });
            match accepted.await {
                None => break,
                Some(Ok((socket, peer))) => {
                    let door = post.door();
                    let worker = &self.station.worker;
                    if let Some(socket) = worker.hand_over(socket, peer, door.id()) {
                        self.start(socket, peer, door);
                    }
                }
                Some(Err(error)) => accept::recover(&error).await,
            }
        }
        // It is closed when nobody has it any more.
        let is_other = |other: &Rc<Post>| !Rc::ptr_eq(other, &post);
        self.posts.borrow_mut().retain(is_other);
        self.listening.set(self.listening.get() - 1);
    }

    /// Relays what comes to a port. A panic ends the flows that it has, and not the port.
    pub(crate) async fn relay_datagrams(self: Rc<Self>, quay: Quay, pier: Rc<Pier>) {
        if let Err(error) = self.relay_at(&quay, &pier).await {
            tracing::error!(%error, "cannot relay datagrams");
        }
        self.listening.set(self.listening.get() - 1);
    }

    async fn relay_at(&self, quay: &Quay, pier: &Rc<Pier>) -> io::Result<()> {
        let shared = datagrams::Shared::new(&quay.socket, pier)?;
        loop {
            let (stepped_back, successor) = oneshot::channel();
            let (shared, totals) = (Rc::clone(&shared), Arc::clone(&self.station.totals));
            let relay = tokio::task::spawn_local(async move {
                let _watch = PanicWatch(totals);
                datagrams::serve(&shared, stepped_back).await
            });
            // Either the next plane takes the port, or this was the last one.
            if successor.await.is_ok() {
                continue;
            }
            // A panic has been counted and said.
            if let Ok(served) = relay.await {
                return served;
            }
        }
    }
}
