//! What is written to a stream, taken out of the text of HTTP/1.1.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::{Reason, SendStream};
use http::HeaderMap;
use plimsoll_http::framing::Framing;
use plimsoll_http::grpc::web::Decoder;
use plimsoll_http::h2::trailer;

use super::inbound::gone;

/// A body on its way out.
#[derive(Debug)]
pub(super) struct Outbound {
    stream: SendStream<Bytes>,
    /// How its end is found; nothing where the bytes are no messages.
    framing: Option<Framing>,
    /// Data that waits for its turn.
    data: Bytes,
    /// What ends the body, once that is known.
    end: Option<HeaderMap>,
    is_over: bool,
    /// Takes off what only clients of gRPC have that see no trailers.
    base64: Option<Decoder>,
}

impl Outbound {
    /// A body of which `start` was written with the head that is sent by `open`; it is told whether the
    /// head is all.
    pub(super) fn begin(
        mut framing: Framing,
        start: BytesMut,
        mut base64: Option<Decoder>,
        open: impl FnOnce(bool) -> Result<SendStream<Bytes>, h2::Error>,
    ) -> io::Result<Self> {
        let (data, end) = decode(&mut framing, base64.as_mut(), start)?;
        let is_over = data.is_empty() && end.as_ref().is_some_and(HeaderMap::is_empty);
        Ok(Self {
            stream: open(is_over).map_err(gone)?,
            framing: Some(framing),
            data,
            end,
            is_over,
            base64,
        })
    }

    /// Bytes that are no messages, of which `start` was written already.
    pub(super) fn tunnel(stream: SendStream<Bytes>, start: BytesMut) -> Self {
        Self {
            stream,
            framing: None,
            data: start.freeze(),
            end: None,
            is_over: false,
            base64: None,
        }
    }

    /// Takes text that was written. All that was taken before has been sent.
    fn take(&mut self, text: BytesMut) -> io::Result<()> {
        match &mut self.framing {
            Some(framing) => {
                (self.data, self.end) = decode(framing, self.base64.as_mut(), text)?;
            }
            None => self.data = text.freeze(),
        }
        Ok(())
    }

    /// Hands over what waits, as far as the peer lets us.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_over {
            return Poll::Ready(Ok(()));
        }
        let ends_with_data = self.end.as_ref().is_some_and(HeaderMap::is_empty);
        while !self.data.is_empty() {
            self.stream.reserve_capacity(self.data.len());
            if self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(context)) {
                    Some(more) => more.map_err(gone)?,
                    None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                };
                continue;
            }
            let now = self.stream.capacity().min(self.data.len());
            let data = self.data.split_to(now);
            self.is_over = ends_with_data && self.data.is_empty();
            self.stream.send_data(data, self.is_over).map_err(gone)?;
        }
        if let Some(end) = self.end.take()
            && !self.is_over
        {
            self.is_over = true;
            let sent = match end.is_empty() {
                true => self.stream.send_data(Bytes::new(), true),
                false => self.stream.send_trailers(end),
            };
            sent.map_err(gone)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has reset the stream.
    pub(super) fn poll_broken(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(context).map(drop)
    }

    fn end(&mut self) {
        if self.framing.is_none() && !std::mem::replace(&mut self.is_over, true) {
            let _gone = self.stream.send_data(Bytes::new(), true); // the peer, before
        }
    }

    /// Ends a body that is not at its end, so that it does not look complete.
    pub(super) fn reset(&mut self, reason: Reason) {
        if !self.is_over {
            self.stream.send_reset(reason);
        }
    }
}

/// What is written to a stream: the head, as far as it has come, and then the body.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// A head that has not come to its end.
    text: BytesMut,
    /// The body, once its head has been sent.
    body: Option<Outbound>,
    /// Bytes that a write has handed over, and that have not all been sent.
    promised: usize,
}

impl Written {
    /// Writes `parts`; `open` sends the head that a text begins with, once all of it is there, and makes
    /// a body of the rest.
    pub(super) fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
        open: impl FnOnce(&mut BytesMut) -> io::Result<Option<Outbound>>,
    ) -> Poll<io::Result<usize>> {
        if self.promised == 0 {
            self.promised = gather(parts, &mut self.text);
            match &mut self.body {
                Some(body) => body.take(std::mem::take(&mut self.text))?,
                None => self.body = open(&mut self.text)?,
            }
        }
        if let Some(body) = &mut self.body {
            ready!(body.poll_send(context))?;
        }
        Poll::Ready(Ok(std::mem::take(&mut self.promised)))
    }

    /// The body, once its head has been sent.
    pub(super) fn body(&mut self) -> Option<&mut Outbound> {
        self.body.as_mut()
    }

    /// Ends bytes that are no messages.
    pub(super) fn end(&mut self) {
        if let Some(body) = &mut self.body {
            body.end();
        }
    }
}

/// Takes the coding off; tells what follows the body, if it ends here.
fn decode(
    framing: &mut Framing,
    base64: Option<&mut Decoder>,
    mut text: BytesMut,
) -> io::Result<(Bytes, Option<HeaderMap>)> {
    let decoded = framing.decode(&mut text);
    let decoded = decoded.map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
    text.truncate(decoded.data);
    let end = framing
        .is_complete()
        .then(|| trailer::read(framing.trailer()));
    let data = match base64 {
        Some(base64) => {
            let decoded = base64.decode(&text);
            decoded
                .map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?
                .into()
        }
        None => text.freeze(),
    };
    Ok((data, end))
}

/// Copies what is written.
fn gather(parts: &[IoSlice<'_>], text: &mut BytesMut) -> usize {
    let total = parts.iter().map(|part| part.len()).sum();
    text.reserve(total);
    for part in parts {
        text.extend_from_slice(part);
    }
    total
}
