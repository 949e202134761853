//! A stream that we have opened to a server: a request is written, and the answer to it read.

use std::cell::RefCell;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::client::ResponseFuture;
use h2::ext::Protocol;
use h2::{Reason, SendStream};
use plimsoll_http::framing::Framing;
use plimsoll_http::grpc::web::Web;
use plimsoll_http::h2::response::{self, Follows};
use plimsoll_http::h2::{request, text};
use plimsoll_http::head::HEAD_BYTES_MAX;
use plimsoll_net::socket::Stream;
use plimsoll_net::stream::untouched;
use rustls::ServerConnection;

use super::inbound::{Inbound, gone};
use super::outbound::{Outbound, Written};
use super::upstream::Lease;

/// One request and its answer.
#[derive(Debug)]
pub(super) struct ClientStream {
    lease: Lease,
    request: RefCell<Request>,
    written: RefCell<Written>,
    answer: RefCell<Answer>,
}

/// What has been asked for.
#[derive(Debug, Default)]
struct Request {
    /// The key of a request for WebSocket.
    websocket_key: Option<Bytes>,
    is_head: bool,
    /// The client, if it is one of gRPC that sees no trailers.
    web: Option<Web>,
}

#[derive(Debug)]
enum Answer {
    /// Nothing has been sent.
    Unasked,
    /// Its head has not come.
    Awaited(ResponseFuture),
    /// Its head is to be read, or has been.
    Begun(Rc<RefCell<Inbound>>),
}

/// The head of an answer, as text.
enum Head {
    Interim(Vec<u8>),
    /// With the body that follows.
    Final(Vec<u8>, Inbound),
}

impl ClientStream {
    pub(super) fn new(lease: Lease) -> Self {
        Self {
            lease,
            request: RefCell::default(),
            written: RefCell::default(),
            answer: RefCell::new(Answer::Unasked),
        }
    }

    /// Sends the head that `text` begins with, once all of it is there.
    fn open(&self, text: &mut BytesMut) -> io::Result<Option<Outbound>> {
        let invalid = |bad| io::Error::new(io::ErrorKind::InvalidInput, bad);
        let Some(length) = text::length(text) else {
            return Ok(None);
        };
        let request = &mut *self.request.borrow_mut();
        let bytes = text.split_to(length).freeze();
        let link = self.lease.link();
        let mut asked = request::read(&bytes, link.scheme).map_err(invalid)?;
        request.is_head = asked.request.method() == http::Method::HEAD;
        request.web = request::take_web(&mut asked.request);
        if let Some(key) = asked
            .websocket_key
            .take()
            .filter(|_| link.takes_websocket())
        {
            request::make_websocket(&mut asked.request);
            let protocol = Protocol::from_static("websocket");
            asked.request.extensions_mut().insert(protocol);
            let (answer, stream) = link.send(asked.request, false).map_err(gone)?;
            request.websocket_key = Some(key);
            *self.answer.borrow_mut() = Answer::Awaited(answer);
            return Ok(Some(Outbound::tunnel(stream, text.split())));
        }
        let send = |is_all| -> Result<SendStream<Bytes>, h2::Error> {
            let (answer, stream) = link.send(asked.request, is_all)?;
            *self.answer.borrow_mut() = Answer::Awaited(answer);
            Ok(stream)
        };
        let framing = Framing::of_length(asked.length);
        let base64 = request.web.and_then(Web::decoder);
        Outbound::begin(framing, text.split(), base64, send).map(Some)
    }

    /// The head of the answer, as text; with its body, if it is the final one.
    fn poll_head(
        &self,
        context: &mut Context<'_>,
        answer: &mut ResponseFuture,
    ) -> Poll<Result<Head, h2::Error>> {
        if let Poll::Ready(Some(interim)) = answer.poll_informational(context) {
            let (interim, ()) = interim?.into_parts();
            let text = text(&interim, Follows::Nothing);
            return Poll::Ready(Ok(Head::Interim(text)));
        }
        let (mut head, body) = ready!(Pin::new(answer).poll(context))?.into_parts();
        let web = self.request.borrow().web;
        let web = web.filter(|web| response::put_web(*web, &mut head));
        let key = self.request.borrow_mut().websocket_key.take();
        if let Some(key) = key.filter(|_| head.status.is_success()) {
            let mut text = Vec::new();
            response::write_switch(&head, &key, &mut text);
            let body = Inbound::new(Some(body), false);
            return Poll::Ready(Ok(Head::Final(text, body)));
        }
        let has_body = !body.is_end_stream();
        let follows = match (has_body, self.request.borrow().is_head) {
            (true, _) => Follows::Body,
            (false, true) => Follows::Nothing,
            (false, false) => Follows::NoBody,
        };
        let text = text(&head, follows);
        let is_coded = text::is_coded(has_body, &head.headers);
        let body = Inbound::new(has_body.then_some(body), is_coded).for_web(web);
        Poll::Ready(Ok(Head::Final(text, body)))
    }

    /// What a failure means: the server may have said that it did nothing.
    fn fault(&self, error: h2::Error, stream: h2::StreamId) -> io::Error {
        let is_refused =
            error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
        let last = self.lease.link().last_stream();
        let is_behind_last = last.is_some_and(|last| stream.as_u32() > last);
        match is_refused || is_behind_last {
            true => untouched(error),
            false => gone(error),
        }
    }
}

/// What a head has beside the fields of the answer: the status, what tells of the body, and the end.
const OWN_BYTES: usize = 64;

/// The head of an answer, as text. One that is malformed or too large has no end.
fn text(head: &http::response::Parts, follows: Follows) -> Vec<u8> {
    let lines = head.headers.iter();
    let lines = lines.map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len());
    let wanted = OWN_BYTES + lines.sum::<usize>();
    let mut room = vec![0; wanted.min(HEAD_BYTES_MAX)];
    let written = response::write(head, follows, &mut room);
    room.resize(written.unwrap_or(HEAD_BYTES_MAX), 0);
    room
}

impl Stream for ClientStream {
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let answer = &mut *self.answer.borrow_mut();
        loop {
            match answer {
                Answer::Unasked => return Poll::Pending,
                Answer::Begun(body) => return body.borrow_mut().poll_read(context, room),
                Answer::Awaited(future) => {
                    let stream = future.stream_id();
                    let head = ready!(self.poll_head(context, future));
                    match head.map_err(|error| self.fault(error, stream))? {
                        Head::Final(text, mut body) => {
                            body.put_back(text);
                            *answer = Answer::Begun(self.lease.link().receive(body));
                        }
                        Head::Interim(text) => {
                            // Interim heads are small, and are read whole.
                            let room = room.get_mut(..text.len());
                            let room = room.ok_or(io::ErrorKind::InvalidData)?;
                            room.copy_from_slice(&text);
                            return Poll::Ready(Ok(text.len()));
                        }
                    }
                }
            }
        }
    }

    fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let open = |text: &mut _| self.open(text);
        self.written.borrow_mut().poll_write(context, parts, open)
    }

    fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.written.borrow_mut().body() {
            Some(body) => body.poll_broken(context),
            None => Poll::Pending,
        }
    }

    fn end(&self) {
        self.written.borrow_mut().end();
    }

    fn cut(&self) {
        if let Some(body) = self.written.borrow_mut().body() {
            body.reset(Reason::CANCEL);
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
