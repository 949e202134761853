//! A body on its way from one socket to the other: the only loop that moves bodies, up or down.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::IoSlice;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use plimsoll_cache::body::Body;
use plimsoll_http::chunked::size_line;
use plimsoll_http::edit::FieldEdits;
use plimsoll_http::framing::{BadBody, Framing, Length};
use plimsoll_http::h1::encode;
use plimsoll_net::buffer::Buffer;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::splice::PipePool;
use plimsoll_net::stream::Then;
use plimsoll_net::{clock, stream};

use crate::coder::Lent;
use crate::http::backlog::Backlog;
use crate::http::mirror::Digest;
use crate::http::pace::Toll;

/// From this many bytes on, two calls that move nothing through the process are cheaper than two
/// that copy.
const SPLICE_BYTES_MIN: u64 = 64 * 1024;

/// Pieces up to this size are copied behind their head and leave with it in one plain write.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// A body is not judged by its speed before it is this old.
pub(crate) const RATE_GRACE: Duration = Duration::from_secs(5);

/// One direction of an exchange.
pub(crate) struct Flow<'a> {
    pub(crate) source: &'a Socket,
    pub(crate) sink: Sink<'a>,
    /// Says how long the body is.
    pub(crate) framing: &'a mut Framing,
    /// What was read from the source and not yet looked at.
    pub(crate) buffer: &'a mut Buffer,
    /// How the sink finds the end.
    pub(crate) coding: Coding<'a>,
    pub(crate) timer: &'a Timer,
    /// How long either side may make us wait for one piece.
    pub(crate) patience: Duration,
    /// Counts the bytes of the body.
    pub(crate) moved: &'a Cell<u64>,
    /// The most bytes the body may have.
    pub(crate) limit: Option<u64>,
    /// The least bytes a second the source may send; 0 is any.
    pub(crate) min_rate: u32,
    pub(crate) pipes: &'a Rc<PipePool>,
    /// What limits its speed.
    pub(crate) toll: Toll<'a>,
    /// Who gets a copy.
    pub(crate) copies: Copies<'a>,
    /// What compresses it, where it is sent in a content coding.
    pub(crate) coder: Option<&'a RefCell<Lent>>,
}

/// Who gets a copy of a body on its way.
#[derive(Clone, Copy, Default)]
pub(crate) struct Copies<'a> {
    /// What compares it with another one.
    pub(crate) digest: Option<&'a RefCell<Digest>>,
    /// What is stored of it.
    pub(crate) stored: Option<&'a Body>,
}

impl Copies<'_> {
    fn is_none(&self) -> bool {
        self.digest.is_none() && self.stored.is_none()
    }

    pub(crate) fn push(&self, data: &[u8]) {
        if let Some(digest) = self.digest {
            digest.borrow_mut().body(data);
        }
        if let Some(stored) = self.stored {
            stored.push(data);
        }
    }
}

/// Where a body goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sink<'a> {
    /// To whoever it is for.
    Socket(&'a Socket),
    /// To where it waits for its client.
    Backlog(&'a Backlog),
    /// Nowhere: it is copied.
    Copies,
}

impl Sink<'_> {
    /// Ready when whoever it is for wants nothing more, where that can be told without a system call.
    fn poll_reset(&self, context: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Socket(sink) => sink.poll_reset(context),
            Self::Backlog(_) | Self::Copies => Poll::Pending,
        }
    }
}

/// How the receiver of a body finds its end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Coding<'a> {
    /// It was told the length, or the connection closes.
    Plain,
    /// The chunked coding. What these rules take out of a head does not come behind the body either.
    Chunked(Option<&'a FieldEdits>),
}

impl<'a> Coding<'a> {
    /// How a body of this length is told to the next hop.
    pub(crate) fn of(length: Length, edits: Option<&'a FieldEdits>) -> Self {
        match length {
            Length::Chunked => Self::Chunked(edits),
            _ => Self::Plain,
        }
    }

    fn is_plain(self) -> bool {
        matches!(self, Self::Plain)
    }
}

/// Why a body did not arrive.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The source closed or reset before the end.
    SourceGone,
    /// The source sent something that is not a body.
    SourceMalformed,
    /// The source stopped sending for too long.
    SourceLate,
    /// The source sends more slowly than it may.
    SourceSlow,
    /// The body is over the limit.
    TooLarge,
    /// The sink closed or reset.
    SinkGone {
        /// Bytes of the call that it took before.
        written: usize,
    },
    /// The sink did not take a piece in time.
    SinkLate,
    /// What waited on disk cannot be read.
    Spool,
    /// It could not be compressed.
    Coder,
}

impl Flow<'_> {
    /// Moves the body to its end.
    pub(crate) async fn run(mut self) -> Result<(), Fault> {
        let began = Cell::new(None);
        loop {
            self.pass_on().await?;
            if self.framing.is_complete() {
                return Ok(());
            }
            if self.copies.is_none()
                && self.coding.is_plain()
                && let Sink::Socket(sink) = self.sink
                && sink.is_direct()
                && self.source.is_direct()
                && self.buffer.is_empty()
                && self
                    .framing
                    .opaque()
                    .is_some_and(|left| left >= SPLICE_BYTES_MIN)
            {
                self.splice(sink, &began).await?;
                continue;
            }
            self.buffer.compact();
            if self.next(&began).await? == 0 {
                self.framing.end_of_input().map_err(|_| Fault::SourceGone)?;
                return self.end().await;
            }
        }
    }

    /// Writes what the buffer holds of the body.
    async fn pass_on(&mut self) -> Result<(), Fault> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let decoded = self
            .framing
            .decode(self.buffer.filled_mut())
            .map_err(|bad| match bad {
                BadBody::Chunk(_) => Fault::SourceMalformed,
                BadBody::Truncated => Fault::SourceGone,
            })?;
        let data = self.buffer.filled().get(..decoded.data).unwrap_or_default();
        self.copies.push(data);
        let end = ended(self.framing);
        match self.coder {
            None => {
                self.count(decoded.data as u64)?;
                self.put(data, end).await?;
            }
            Some(coder) => {
                let data = coder.borrow_mut().encode(data, end.is_some());
                let data = data.map_err(|_| Fault::Coder)?;
                self.count(data.len() as u64)?;
                self.put(&data, end).await?;
                // That took a while, in which others have waited.
                tokio::task::yield_now().await;
            }
        }
        self.buffer.take(decoded.consumed);
        Ok(())
    }

    /// Reads on. What the coder still holds goes before a wait.
    async fn next(&mut self, began: &Cell<Option<Instant>>) -> Result<usize, Fault> {
        let Some(coder) = self.coder else {
            return self.read(began).await;
        };
        let (source, buffer) = (self.source, &mut *self.buffer);
        let most = self.toll.piece();
        let at_once =
            poll_fn(|context| Poll::Ready(stream::poll_read_some(source, context, buffer, most)));
        if let Poll::Ready(read) = at_once.await {
            return read.map_err(|_| Fault::SourceGone);
        }
        let data = coder.borrow_mut().flush().map_err(|_| Fault::Coder)?;
        self.count(data.len() as u64)?;
        self.put(&data, None).await?;
        self.read(began).await
    }

    /// Writes a piece of the body; `end` is the framing of a body that ends with it.
    pub(crate) async fn put(&self, data: &[u8], end: Option<&Framing>) -> Result<(), Fault> {
        self.toll.pay(data.len()).await;
        let Coding::Chunked(edits) = self.coding else {
            return self.write(&mut [IoSlice::new(data)]).await;
        };
        let (mut line, mut tail) = ([0; 18], Vec::new());
        let line = match data {
            [] => &[],
            data => size_line(data.len(), &mut line),
        };
        let tail = chunk_tail(data, end, edits, &mut tail);
        let mut parts = [IoSlice::new(line), IoSlice::new(data), IoSlice::new(tail)];
        self.write(&mut parts).await
    }

    async fn write(&self, parts: &mut [IoSlice<'_>]) -> Result<(), Fault> {
        match self.sink {
            Sink::Socket(sink) => {
                let writer = Writer {
                    sink,
                    timer: self.timer,
                    patience: self.patience,
                    then: Then::Open,
                };
                writer.write(parts).await
            }
            Sink::Backlog(backlog) => {
                let pieces: Vec<&[u8]> = parts.iter().map(|part| &**part).collect();
                backlog.push(pieces.concat()).await;
                Ok(())
            }
            Sink::Copies => Ok(()),
        }
    }

    /// Ends a body whose source has closed, as it may.
    async fn end(&mut self) -> Result<(), Fault> {
        if let Some(coder) = self.coder {
            let data = coder.borrow_mut().encode(&[], true);
            let data = data.map_err(|_| Fault::Coder)?;
            self.count(data.len() as u64)?;
            self.put(&data, None).await?;
        }
        if self.coding.is_plain() {
            return Ok(());
        }
        self.write(&mut [IoSlice::new(b"0\r\n\r\n")]).await
    }

    async fn read(&mut self, began: &Cell<Option<Instant>>) -> Result<usize, Fault> {
        let (source, sink, buffer) = (self.source, self.sink, &mut *self.buffer);
        let most = self.toll.piece();
        let mut wait = self.timer.wait(self.patience);
        let read = wait.on(|context| {
            let read = stream::poll_read_some(source, context, buffer, most);
            if read.is_pending() && sink.poll_reset(context).is_ready() {
                return Poll::Ready(Err(Fault::SinkGone { written: 0 }));
            }
            read.map_err(|_| Fault::SourceGone)
        });
        let read = read.await.map_err(|_| Fault::SourceLate)??;
        self.judge_rate(began)?;
        Ok(read)
    }

    /// Moves bytes through a pipe until few are left.
    async fn splice(&mut self, sink: &Socket, began: &Cell<Option<Instant>>) -> Result<(), Fault> {
        let mut pipe = self.pipes.lend().map_err(|_| Fault::SourceGone)?;
        let most = self.toll.piece() as u64;
        while let Some(left) = self.framing.opaque() {
            let left = left.min(most);
            let mut wait = self.timer.wait(self.patience);
            let taken = wait.on(|context| pipe.poll_fill(self.source, context, left));
            let taken = taken
                .await
                .map_err(|_| Fault::SourceLate)?
                .map_err(|_| Fault::SourceGone)?;
            if taken == 0 {
                return self.framing.end_of_input().map_err(|_| Fault::SourceGone);
            }
            self.toll.pay(taken).await;
            let mut wait = self.timer.wait(self.patience);
            while pipe.held() > 0 {
                let put = wait.on(|context| pipe.poll_drain(sink, context));
                put.await
                    .map_err(|_| Fault::SinkLate)?
                    .map_err(|_| Fault::SinkGone { written: 0 })?;
            }
            self.framing.moved(taken as u64);
            self.count(taken as u64)?;
            self.judge_rate(began)?;
        }
        Ok(())
    }

    fn count(&self, bytes: u64) -> Result<(), Fault> {
        let moved = self.moved.get() + bytes;
        self.moved.set(moved);
        match self.limit {
            Some(limit) if moved > limit => Err(Fault::TooLarge),
            _ => Ok(()),
        }
    }

    /// Refuses a source that keeps a connection busy with a trickle.
    fn judge_rate(&self, began: &Cell<Option<Instant>>) -> Result<(), Fault> {
        if self.min_rate == 0 {
            return Ok(());
        }
        let now = clock::now();
        let Some(start) = began.get() else {
            began.set(Some(now));
            return Ok(());
        };
        let age = now.duration_since(start);
        let due = age.as_secs().saturating_mul(u64::from(self.min_rate));
        if age > RATE_GRACE && self.moved.get() < due {
            Err(Fault::SourceSlow)
        } else {
            Ok(())
        }
    }
}

/// The framing of a body whose end has been read.
pub(crate) fn ended(framing: &Framing) -> Option<&Framing> {
    framing.is_complete().then_some(framing)
}

/// What follows the data of a chunk; with the end of the body, where that follows.
fn chunk_tail<'a>(
    data: &[u8],
    end: Option<&Framing>,
    edits: Option<&FieldEdits>,
    room: &'a mut Vec<u8>,
) -> &'a [u8] {
    let Some(framing) = end else {
        return if data.is_empty() { b"" } else { b"\r\n" };
    };
    let is_kept = |(name, _): &(&[u8], _)| edits.is_none_or(|edits| !edits.drops(name));
    let mut trailer = framing.trailer().filter(is_kept).peekable();
    match (data.is_empty(), trailer.peek().is_some()) {
        (true, false) => return b"0\r\n\r\n",
        (false, false) => return b"\r\n0\r\n\r\n",
        (true, true) => {}
        (false, true) => room.extend_from_slice(b"\r\n"),
    }
    encode::last_chunk(trailer, room);
    room
}

/// Writes what goes before `data` behind `out`; returns what goes behind it.
fn begin_piece<'a>(
    out: &mut Vec<u8>,
    data: &[u8],
    end: Option<&Framing>,
    coding: Coding<'_>,
    room: &'a mut Vec<u8>,
) -> &'a [u8] {
    let Coding::Chunked(edits) = coding else {
        return &[];
    };
    if !data.is_empty() {
        out.extend_from_slice(size_line(data.len(), &mut [0; 18]));
    }
    chunk_tail(data, end, edits, room)
}

/// Writes a piece of a body behind `out`, as its receiver expects it.
pub(crate) fn encode_piece(
    out: &mut Vec<u8>,
    data: &[u8],
    end: Option<&Framing>,
    coding: Coding<'_>,
) {
    let mut room = Vec::new();
    let tail = begin_piece(out, data, end, coding, &mut room);
    out.extend_from_slice(data);
    out.extend_from_slice(tail);
}

/// Writes to one socket, with patience.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) sink: &'a Socket,
    pub(crate) timer: &'a Timer,
    pub(crate) patience: Duration,
    /// What follows, for a message that is written in one piece.
    pub(crate) then: Then,
}

impl Writer<'_> {
    /// Writes all of `parts`. One deadline covers them: a sink that takes a byte now and then does
    /// not move it.
    pub(crate) async fn write(&self, mut parts: &mut [IoSlice<'_>]) -> Result<(), Fault> {
        let mut wait = self.timer.wait(self.patience);
        IoSlice::advance_slices(&mut parts, 0);
        let mut total = 0;
        while !parts.is_empty() {
            let written = wait.on(|context| match &*parts {
                [only] => stream::poll_write(self.sink, context, only, self.then),
                parts => stream::poll_write_vectored(self.sink, context, parts),
            });
            let written = written
                .await
                .map_err(|_| Fault::SinkLate)?
                .map_err(|_| Fault::SinkGone { written: total })?;
            total += written;
            IoSlice::advance_slices(&mut parts, written);
        }
        Ok(())
    }

    /// Writes a head and the first piece of its body, in one call; `end` is the framing of a body
    /// that ends with it.
    pub(crate) async fn write_message(
        &self,
        out: &mut Vec<u8>,
        data: &[u8],
        end: Option<&Framing>,
        coding: Coding<'_>,
    ) -> Result<(), Fault> {
        let mut room = Vec::new();
        let tail = begin_piece(out, data, end, coding, &mut room);
        if data.len() <= COPY_BYTES_MAX {
            out.extend_from_slice(data);
            out.extend_from_slice(tail);
            return self.write(&mut [IoSlice::new(out)]).await;
        }
        let mut parts = [IoSlice::new(out), IoSlice::new(data), IoSlice::new(tail)];
        self.write(&mut parts).await
    }
}
