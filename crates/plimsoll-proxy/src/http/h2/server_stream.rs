//! A stream that a client has opened: its request is read, and the answer to it written.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::Reason;
use h2::server::SendResponse;
use plimsoll_http::framing::Framing;
use plimsoll_http::h2::{response, text};
use plimsoll_http::method::Method;
use plimsoll_net::socket::Stream;
use rustls::ServerConnection;

use super::inbound::{Inbound, gone};
use super::outbound::{Outbound, gather};
use super::wire::Wire;
use crate::connection::Connection;

/// One request and its answer.
#[derive(Debug)]
pub(super) struct ServerStream {
    wire: Rc<Wire<Connection>>,
    inbound: RefCell<Inbound>,
    answer: RefCell<Answer>,
}

#[derive(Debug)]
struct Answer {
    respond: SendResponse<Bytes>,
    /// The method that is answered: it says whether there is a body.
    method: Method,
    /// Whether it is asked to become a tunnel.
    is_tunnel: bool,
    /// A head that has not come to its end.
    text: BytesMut,
    /// The body, once its head has been sent.
    body: Option<Outbound>,
    /// Bytes that a write has handed over, and that have not all been sent.
    promised: usize,
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
            text: BytesMut::new(),
            body: None,
            promised: 0,
        };
        Self {
            wire: Rc::clone(wire),
            inbound: RefCell::new(request),
            answer: RefCell::new(answer),
        }
    }
}

impl Stream for ServerStream {
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = self.inbound.borrow_mut().poll_read(context, room);
        if let Poll::Ready(Err(error)) = &read
            && error.kind() == io::ErrorKind::InvalidData
        {
            self.answer.borrow_mut().reset(Reason::PROTOCOL_ERROR);
        }
        read
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let answer = &mut *self.answer.borrow_mut();
        if answer.promised == 0 {
            let mut text = std::mem::take(&mut answer.text);
            answer.promised = gather(parts, &mut text);
            match &mut answer.body {
                Some(body) => body.take(text)?,
                None => answer.take_head(text)?,
            }
        }
        if let Some(body) = &mut answer.body {
            ready!(body.poll_send(context))?;
        }
        Poll::Ready(Ok(std::mem::take(&mut answer.promised)))
    }

    fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()> {
        let answer = &mut *self.answer.borrow_mut();
        match &mut answer.body {
            Some(body) => body.poll_broken(context),
            None => answer.respond.poll_reset(context).map(drop),
        }
    }

    fn end(&self) {
        if let Some(body) = &mut self.answer.borrow_mut().body {
            body.end();
        }
    }

    fn cut(&self) {
        self.answer.borrow_mut().reset(Reason::INTERNAL_ERROR);
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
    fn reset(&mut self, reason: Reason) {
        match &mut self.body {
            Some(body) => body.reset(reason),
            None => self.respond.send_reset(reason),
        }
    }

    /// Sends the heads that `text` begins with, of which only the last is final.
    fn take_head(&mut self, mut text: BytesMut) -> io::Result<()> {
        while !text.is_empty() {
            let Some(length) = text::length(&text) else {
                self.text = text;
                return Ok(());
            };
            let head = text.split_to(length).freeze();
            let told = response::read(&head, self.method);
            let told = told.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
            let Some(length) = told.length else {
                let stream = self.respond.send_response(told.response, false);
                self.body = Some(Outbound::tunnel(stream.map_err(gone)?, text));
                return Ok(());
            };
            if told.response.status().is_informational() {
                let sent = self.respond.send_informational(told.response);
                sent.map_err(gone)?;
                continue;
            }
            if self.is_tunnel && told.response.status().is_success() {
                self.reset(Reason::CANCEL);
                return Err(io::Error::other("a success, and no tunnel"));
            }
            let open = |is_all| self.respond.send_response(told.response, is_all);
            let framing = Framing::of_length(length);
            self.body = Some(Outbound::begin(framing, text, None, open)?);
            return Ok(());
        }
        Ok(())
    }
}
