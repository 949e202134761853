//! A stream that a client has opened: its request is read, and the answer to it written.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use h2::Reason;
use h2::server::SendResponse;
use plimsoll_http::framing::Framing;
use plimsoll_http::h2::{response, text};
use plimsoll_http::method::Method;
use plimsoll_net::socket::Stream;
use rustls::ServerConnection;

use super::inbound::{Inbound, gone};
use super::outbound::{Outbound, Written};
use super::wire::Wire;
use crate::connection::Connection;

/// One request and its answer.
#[derive(Debug)]
pub(super) struct ServerStream {
    wire: Rc<Wire<Connection>>,
    inbound: Rc<RefCell<Inbound>>,
    answer: RefCell<Answer>,
    written: RefCell<Written>,
}

#[derive(Debug)]
struct Answer {
    respond: SendResponse<Bytes>,
    /// The method that is answered: it says whether there is a body.
    method: Method,
    /// Whether it is asked to become a tunnel.
    is_tunnel: bool,
}

impl ServerStream {
    pub(super) fn new(
        wire: &Rc<Wire<Connection>>,
        method: Method,
        request: Inbound,
        respond: SendResponse<Bytes>,
    ) -> Self {
        let answer = Answer {
            respond,
            // There is no other CONNECT that anybody answers with a success.
            is_tunnel: method == Method::Connect,
            method,
        };
        Self {
            wire: Rc::clone(wire),
            inbound: wire.receive(request),
            answer: RefCell::new(answer),
            written: RefCell::default(),
        }
    }

    fn reset(&self, reason: Reason) {
        match self.written.borrow_mut().body() {
            Some(body) => body.reset(reason),
            None => self.answer.borrow_mut().respond.send_reset(reason),
        }
    }
}

impl Stream for ServerStream {
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.inbound.borrow_mut().poll_read(context, room);
        if let Poll::Ready(Err(error)) = &read
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.reset(Reason::PROTOCOL_ERROR);
        }
        read
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let open = |text: &mut _| self.answer.borrow_mut().open(text);
        self.written.borrow_mut().poll_write(context, parts, open)
    }

    fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.written.borrow_mut().body() {
            Some(body) => body.poll_broken(context),
            None => self
                .answer
                .borrow_mut()
                .respond
                .poll_reset(context)
                .map(drop),
        }
    }

    fn end(&self) {
        self.written.borrow_mut().end();
    }

    fn cut(&self) {
        self.reset(Reason::INTERNAL_ERROR);
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

impl Answer {
    /// Sends the heads that `text` begins with, of which only the last is final.
    fn open(&mut self, text: &mut BytesMut) -> io::Result<Option<Outbound>> {
        while let Some(length) = text::length(text) {
            let head = text.split_to(length).freeze();
            let told = response::read(&head, self.method);
            let told = told.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
            let Some(length) = told.length else {
                let stream = self.respond.send_response(told.response, false);
                return Ok(Some(Outbound::tunnel(stream.map_err(gone)?, text.split())));
            };
            if told.response.status().is_informational() {
                let sent = self.respond.send_informational(told.response);
                sent.map_err(gone)?;
                continue;
            }
            if self.is_tunnel && told.response.status().is_success() {
                self.respond.send_reset(Reason::CANCEL);
                return Err(io::Error::other("a success, and no tunnel"));
            }
            let open = |is_all| self.respond.send_response(told.response, is_all);
            let framing = Framing::of_length(length);
            return Outbound::begin(framing, text.split(), None, open).map(Some);
        }
        Ok(None)
    }
}
