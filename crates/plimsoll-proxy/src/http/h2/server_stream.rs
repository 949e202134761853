//! A stream that a client has opened: its request is read, and the answer to it written.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use plimsoll_http::h2::frame::Reason;
use plimsoll_net::socket::Stream;
use rustls::ServerConnection;

use super::wire::{Wire, failed};
use crate::connection::Connection;

/// One request and its answer.
#[derive(Debug)]
pub(super) struct ServerStream {
    pub(super) wire: Rc<Wire<Connection>>,
    pub(super) id: u32,
}

impl Drop for ServerStream {
    fn drop(&mut self) {
        self.wire.release(self.id);
    }
}

impl Stream for ServerStream {
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self
            .wire
            .with(|connection| connection.poll_read(self.id, context, room));
        read.map_err(failed)
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self
            .wire
            .with(|connection| connection.poll_write(self.id, context, parts));
        written.map_err(failed)
    }

    fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()> {
        self.wire
            .with(|connection| connection.poll_broken(self.id, context))
    }

    fn end(&self) {
        self.wire.with(|connection| connection.end(self.id));
    }

    fn cut(&self) {
        self.wire
            .with(|connection| connection.reset(self.id, Reason::INTERNAL_ERROR));
    }

    fn is_secure(&self) -> bool {
        self.wire.owner.socket.is_secure()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.wire.owner.socket.local_address()
    }

    fn look_at_tls(&self, look: &mut dyn FnMut(Option<&ServerConnection>)) {
        self.wire.owner.socket.look_at_tls(look);
    }
}
