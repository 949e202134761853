//! What a peer sends on a stream, as HTTP/1.1 would write it.

use std::io;
use std::task::{Context, Poll, Waker, ready};

use bytes::{BufMut, Bytes, BytesMut};
use h2::RecvStream;
use http::HeaderMap;
use plimsoll_http::chunked::size_line;
use plimsoll_http::grpc::web::Web;
use plimsoll_http::h2::trailer;
use plimsoll_net::buffer::Buffer;

/// What the chunked coding puts around a piece, at most.
const CHUNK_BYTES: usize = 18 + 2;

/// The least room for which a piece is not copied twice.
const ROOM_MIN: usize = 64;

/// A body on its way in.
#[derive(Debug)]
pub(super) struct Inbound {
    /// Nothing once it has ended.
    body: Option<RecvStream>,
    /// Pieces that have come, and were put together.
    gathered: BytesMut,
    /// Who waits for the next one.
    reader: Waker,
    /// Data that has come and has not been read.
    piece: Bytes,
    /// Whether it is read in the chunked coding.
    is_chunked: bool,
    /// What is read before all else.
    text: Bytes,
    /// What is read when all data has been.
    end: Bytes,
    /// The client, if it is one of gRPC that sees no trailers.
    web: Option<Web>,
    /// Whether what came is no body.
    is_malformed: bool,
}

impl Inbound {
    pub(super) fn new(body: Option<RecvStream>, is_chunked: bool) -> Self {
        Self {
            body,
            gathered: BytesMut::new(),
            reader: Waker::noop().clone(),
            piece: Bytes::new(),
            is_chunked,
            text: Bytes::new(),
            end: Bytes::new(),
            web: None,
            is_malformed: false,
        }
    }

    /// Reads what has come already behind what `buffer` holds: a request that is here as a whole can be
    /// sent a second time.
    pub(super) fn read_ahead(&mut self, buffer: &mut Buffer) {
        let mut context = Context::from_waker(Waker::noop());
        // Who reads on finds the same end or error.
        if let Poll::Ready(Ok(read)) = self.poll_read(&mut context, buffer.room()) {
            buffer.add(read);
        }
    }

    /// The same for a client of gRPC that sees no trailers.
    pub(super) fn for_web(mut self, web: Option<Web>) -> Self {
        self.web = web;
        self
    }

    /// Has `text` read before the body.
    pub(super) fn put_back(&mut self, text: Vec<u8>) {
        self.text = text.into();
    }

    /// Tells whether pieces may come.
    pub(super) fn is_open(&self) -> bool {
        self.body.is_some()
    }

    /// Puts together what has come and nobody has read, so that it costs no more than it holds.
    pub(super) fn gather(&mut self) {
        let Some(body) = &mut self.body else {
            return;
        };
        let mut context = Context::from_waker(&self.reader);
        while let Poll::Ready(Some(Ok(piece))) = body.poll_data(&mut context) {
            self.gathered.extend_from_slice(&piece);
        }
    }

    /// Reads what has come, as far as there is room. Pieces can be small, and a peer may not have many
    /// of them waiting: they are not read one by one.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut read = ready!(self.poll_read_one(context, room))?;
        while let Some(left) = room.get_mut(read..)
            && left.len() >= ROOM_MIN
        {
            match self.poll_read_one(context, left) {
                Poll::Ready(Ok(more @ 1..)) => read += more,
                _ => break, // who reads on finds the same
            }
        }
        Poll::Ready(Ok(read))
    }

    /// Reads of the first piece that there is.
    fn poll_read_one(
        &mut self,
        context: &mut Context<'_>,
        room: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if !self.text.is_empty() {
                return Poll::Ready(Ok(fill(room, &mut self.text)));
            }
            if !self.piece.is_empty() {
                if let Some(read) = self.read_piece(room) {
                    return Poll::Ready(Ok(read));
                }
                continue;
            }
            if self.is_malformed {
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            let Some(body) = &mut self.body else {
                self.text = std::mem::take(&mut self.end);
                match self.text.is_empty() {
                    true => return Poll::Ready(Ok(0)),
                    false => continue,
                }
            };
            if !self.gathered.is_empty() {
                let pieces = self.gathered.split().freeze();
                self.take(pieces);
                continue;
            }
            let piece = body.poll_data(context);
            if piece.is_pending() {
                self.reader.clone_from(context.waker());
            }
            match ready!(piece) {
                Some(piece) => self.take(piece.map_err(gone)?),
                None => {
                    let fields = ready!(body.poll_trailers(context)).map_err(gone)?;
                    let fields = fields.unwrap_or_default();
                    self.is_malformed = !trailer::is_sound(&fields);
                    self.finish(fields);
                }
            }
        }
    }

    fn take(&mut self, piece: Bytes) {
        self.piece = match self.web {
            Some(web) => {
                self.release(piece.len());
                web.piece(piece.into()).into()
            }
            None => piece,
        };
    }

    /// Notes what follows the data.
    fn finish(&mut self, mut trailers: HeaderMap) {
        self.body = None;
        if let Some(web) = self.web {
            self.piece = web.trailers(&trailers).into();
            trailers.clear();
        }
        if self.is_chunked {
            let mut end = Vec::new();
            trailer::write(&trailers, &mut end);
            self.end = end.into();
        }
    }

    /// Reads of the piece that is here; nothing where it must be cut to fit first.
    fn read_piece(&mut self, room: &mut [u8]) -> Option<usize> {
        if !self.is_chunked {
            let read = fill(room, &mut self.piece);
            self.release_read(read);
            return Some(read);
        }
        if room.len() < ROOM_MIN {
            let taken = self.piece.len().min(ROOM_MIN);
            let mut text = size_line(taken, &mut [0; 18]).to_vec();
            text.extend_from_slice(&self.piece.split_to(taken));
            text.extend_from_slice(b"\r\n");
            self.text = text.into();
            self.release_read(taken);
            return None;
        }
        let taken = self.piece.len().min(room.len() - CHUNK_BYTES);
        let whole = room.len();
        let mut room = room;
        room.put_slice(size_line(taken, &mut [0; 18]));
        room.put(self.piece.split_to(taken));
        room.put_slice(b"\r\n");
        self.release_read(taken);
        Some(whole - room.len())
    }

    /// Lets the peer send as much again as has been read, where that is what it sent.
    fn release_read(&mut self, bytes: usize) {
        if self.web.is_none() {
            self.release(bytes);
        }
    }

    /// Lets the peer send as much again.
    fn release(&mut self, bytes: usize) {
        if let Some(body) = &mut self.body {
            // It fails only for bytes that never came.
            let _ = body.flow_control().release_capacity(bytes);
        }
    }
}

/// Moves as much as fits from `bytes` to `room`.
fn fill(room: &mut [u8], bytes: &mut Bytes) -> usize {
    let taken = bytes.len().min(room.len());
    let mut room = room;
    room.put(bytes.split_to(taken));
    taken
}

/// A stream or connection that has failed.
pub(super) fn gone(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
