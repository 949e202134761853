//! A stream that we have opened to a server: a request is written, and the answer to it read.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::task::{Context, Poll};

use plimsoll_http::h2::frame::Reason;
use plimsoll_http::h2::text;
use plimsoll_net::socket::Stream;
use rustls::ServerConnection;

use super::upstream::Lease;
use super::wire::failed;

/// One request and its answer.
#[derive(Debug)]
pub(super) struct ClientStream {
    lease: Lease,
    /// Its number, once the head of the request is there: the order of these is that in which streams are opened.
    id: Cell<Option<u32>>,
    /// The head, as far as it has come.
    head: RefCell<Vec<u8>>,
}

impl ClientStream {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            lease,
            id: Cell::new(None),
            head: RefCell::default(),
        }
    }

    /// Takes of `parts` what belongs to the head, and opens the stream once that is there.
    fn open(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut head = self.head.borrow_mut();
        let before = head.len();
        for part in parts {
            head.extend_from_slice(part);
        }
        let Some(end) = text::length(&head) else {
            return Ok(head.len() - before);
        };
        head.truncate(end);
        let link = self.lease.link();
        let id = link
            .wire
            .with(|connection| connection.ask(&head, link.scheme.as_bytes()));
        self.id.set(Some(id.map_err(failed)?));
        *head = Vec::new();
        Ok(end - before)
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        if let Some(id) = self.id.get() {
            self.lease.link().wire.release(id);
        }
    }
}

impl Stream for ClientStream {
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(id) = self.id.get() else {
            return Poll::Pending; // nobody is asked yet
        };
        let wire = &self.lease.link().wire;
        let read = wire.with(|connection| connection.poll_read(id, context, room));
        read.map_err(failed)
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Some(id) = self.id.get() else {
            return Poll::Ready(self.open(parts));
        };
        let wire = &self.lease.link().wire;
        let written = wire.with(|connection| connection.poll_write(id, context, parts));
        written.map_err(failed)
    }

    fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()> {
        let Some(id) = self.id.get() else {
            return Poll::Pending;
        };
        let wire = &self.lease.link().wire;
        wire.with(|connection| connection.poll_broken(id, context))
    }

    fn end(&self) {
        if let Some(id) = self.id.get() {
            self.lease.link().wire.with(|connection| connection.end(id));
        }
    }

    fn cut(&self) {
        if let Some(id) = self.id.get() {
            let wire = &self.lease.link().wire;
            wire.with(|connection| connection.reset(id, Reason::CANCEL));
        }
    }

    fn is_secure(&self) -> bool {
        self.lease.link().scheme == "https"
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::Unsupported.into()) // nobody asks where we are to a server
    }

    fn look_at_tls(&self, look: &mut dyn FnMut(Option<&ServerConnection>)) {
        look(None);
    }
}
