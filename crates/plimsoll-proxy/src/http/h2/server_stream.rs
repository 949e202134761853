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
use plimsoll_http::h1::parse::{self, Parsed};
use plimsoll_http::h2::response;
use plimsoll_http::head::ResponseHead;
use plimsoll_http::method::Method;
use plimsoll_net::socket::Stream;

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
                None => answer.take_head(text, &mut self.wire.head.borrow_mut())?,
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

    fn with_server_name(&self, look: &mut dyn FnMut(Option<&str>)) {
        self.wire.owner.socket.with_server_name(look);
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
    fn take_head(&mut self, mut text: BytesMut, head: &mut ResponseHead) -> io::Result<()> {
        let invalid = |bad| io::Error::new(io::ErrorKind::InvalidData, bad);
        while !text.is_empty() {
            if parse::response(&text, head).map_err(invalid)? == Parsed::Partial {
                self.text = text;
                return Ok(());
            }
            let bytes = text.split_to(head.len).freeze();
            if head.status == 101 {
                let response = response::read_switch(head, &bytes).map_err(io::Error::other)?;
                let stream = self.respond.send_response(response, false).map_err(gone)?;
                self.body = Some(Outbound::tunnel(stream, text));
                return Ok(());
            }
            let response = response::read(head, &bytes).map_err(io::Error::other)?;
            if response.status().is_informational() {
                self.respond.send_informational(response).map_err(gone)?;
                continue;
            }
            if self.is_tunnel && response.status().is_success() {
                self.reset(Reason::CANCEL);
                return Err(io::Error::other("a success, and no tunnel"));
            }
            let framing = Framing::of_response(head, &bytes, self.method);
            let framing = framing.map_err(io::Error::other)?;
            let open = |is_all| self.respond.send_response(response, is_all);
            self.body = Some(Outbound::begin(framing, text, open)?);
            return Ok(());
        }
        Ok(())
    }
}
