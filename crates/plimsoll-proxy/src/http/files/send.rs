//! Files on their way to clients.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Arc;

use plimsoll_config::model::Way;
use plimsoll_http::framing::Reuse;
use plimsoll_http::method::Method;
use plimsoll_net::send_file::poll_send_file;
use plimsoll_net::stream::Then;
use plimsoll_net::tree::{Wait, read_at};

use crate::files::Content;
use crate::http::answer::cut;
use crate::http::exchange::{Ending, Exchange};
use crate::http::files::head::{Body, Reply};
use crate::http::flow::{Coding, Fault, Writer};
use crate::http::pace::Toll;
use crate::http::respond::last;
use crate::plane::Plane;

/// How much a client has to take before the patience with it begins anew.
const PIECE_BYTES: u64 = 256 * 1024;

/// How much is read at once where a disk has to be waited for.
const READ_BYTES: u64 = 64 * 1024;

/// Sends a file, or a part of it.
pub(super) async fn send(exchange: &mut Exchange<'_>, reply: &Reply<'_>) -> Ending {
    exchange.facts.status = reply.status;
    let reuse = exchange.reuse();
    reply.write_head(exchange, reuse);
    let mut head = std::mem::take(&mut exchange.scratch.response_out);
    let sent = Sending::new(exchange).run(reply, &mut head, reuse).await;
    exchange.scratch.response_out = head;
    match sent {
        Ok(()) => exchange.ending(reuse),
        Err(fault) => cut(&mut exchange.facts, &fault),
    }
}

/// An answer on its way.
struct Sending<'a> {
    plane: &'a Plane,
    writer: Writer<'a>,
    toll: Toll<'a>,
    /// Counts the bytes of the body.
    moved: &'a Cell<u64>,
    boundary: &'a [u8],
    has_body: bool,
}

impl<'a> Sending<'a> {
    fn new(exchange: &'a Exchange<'_>) -> Self {
        Self {
            plane: exchange.plane,
            writer: exchange.writer(Then::More),
            toll: Toll {
                plane: exchange.plane,
                paces: &exchange.paces,
                way: Way::Down,
            },
            moved: exchange.facts.response_bytes,
            boundary: exchange.facts.id.as_bytes(),
            has_body: exchange.scratch.head.method != Method::Head,
        }
    }

    async fn run(&self, reply: &Reply<'_>, head: &mut Vec<u8>, reuse: Reuse) -> Result<(), Fault> {
        let ending = Writer {
            then: last(reuse),
            ..self.writer
        };
        let file = reply.file;
        let part = match &reply.body {
            Body::Parts(parts) if self.has_body => {
                self.write(head).await?;
                let multipart = reply.multipart(self.boundary);
                for part in parts.iter() {
                    head.clear();
                    multipart.begin(&part, head);
                    self.write(head).await?;
                    self.content(&file.content, part).await?;
                }
                head.clear();
                multipart.end(head);
                return ending.write(&mut [IoSlice::new(head)]).await;
            }
            Body::Part(part) if self.has_body => part.clone(),
            Body::Whole if self.has_body => 0..file.meta.size,
            _ => 0..0,
        };
        match &file.content {
            Content::Held(bytes) => {
                let data = slice(bytes, &part);
                self.toll.pay(data.len()).await;
                self.moved.set(data.len() as u64);
                ending.write_message(head, data, None, Coding::Plain).await
            }
            Content::Open(_) if part.is_empty() => ending.write(&mut [IoSlice::new(head)]).await,
            content => {
                self.write(head).await?;
                self.content(content, part).await
            }
        }
    }

    /// Writes what more follows.
    async fn write(&self, bytes: &[u8]) -> Result<(), Fault> {
        self.writer.write(&mut [IoSlice::new(bytes)]).await
    }

    /// Sends a part of what a file holds.
    async fn content(&self, content: &Content, mut part: Range<u64>) -> Result<(), Fault> {
        while !part.is_empty() {
            let most = PIECE_BYTES.min(self.toll.piece() as u64);
            let piece = part.start..part.end.min(part.start + most);
            let bytes = piece.end - piece.start;
            self.toll
                .pay(usize::try_from(bytes).unwrap_or(usize::MAX))
                .await;
            part.start = piece.end;
            match content {
                Content::Held(held) => self.write(slice(held, &piece)).await?,
                Content::Open(file) if self.writer.sink.is_direct() => {
                    self.send_file(file, piece).await?;
                }
                Content::Open(file) => self.copy(file, piece).await?,
            }
            self.moved.set(self.moved.get() + bytes);
        }
        Ok(())
    }

    /// Has the kernel send a piece.
    async fn send_file(&self, file: &Arc<File>, mut piece: Range<u64>) -> Result<(), Fault> {
        let last = read_at(file, piece.end - 1, &mut [0], Wait::Never);
        if is_cold(&last) {
            self.warm(file, piece.clone()).await?;
        }
        let mut wait = self.writer.timer.wait(self.writer.patience);
        while !piece.is_empty() {
            let most = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
            let sink = self.writer.sink;
            let sent =
                wait.on(|context| poll_send_file(sink, context, file, &mut piece.start, most));
            let sent = sent
                .await
                .map_err(|_| Fault::SinkLate)?
                .map_err(|_| Fault::SinkGone { written: 0 })?;
            if sent == 0 {
                return Err(Fault::SourceGone);
            }
        }
        Ok(())
    }

    /// Reads a piece from the disk, so that the kernel has it at hand.
    async fn warm(&self, file: &Arc<File>, mut piece: Range<u64>) -> Result<(), Fault> {
        while !piece.is_empty() {
            piece.start += read_slowly(file, &piece).await?.len() as u64;
        }
        Ok(())
    }

    /// Sends a piece through this process: it is encrypted, or framed, on its way.
    async fn copy(&self, file: &Arc<File>, mut piece: Range<u64>) -> Result<(), Fault> {
        let mut buffer = self.plane.worker.buffers.lend();
        while !piece.is_empty() {
            buffer.clear();
            let room = buffer.room();
            let left = usize::try_from(piece.end - piece.start).unwrap_or(usize::MAX);
            let most = room.len().min(left);
            let room = room.get_mut(..most).unwrap_or_default();
            let read = read_at(file, piece.start, room, Wait::Never);
            if is_cold(&read) {
                let bytes = read_slowly(file, &piece).await?;
                self.write(&bytes).await?;
                piece.start += bytes.len() as u64;
                continue;
            }
            match read {
                Ok(read @ 1..) => {
                    buffer.add(read);
                    self.write(buffer.filled()).await?;
                    piece.start += read as u64;
                }
                _ => return Err(Fault::SourceGone),
            }
        }
        Ok(())
    }
}

/// The part of what is held; an empty one if it is not there.
fn slice<'b>(bytes: &'b [u8], part: &Range<u64>) -> &'b [u8] {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
    bytes.get(at(part.start)..at(part.end)).unwrap_or_default()
}

fn is_cold(read: &io::Result<usize>) -> bool {
    let kind = read.as_ref().err().map(io::Error::kind);
    kind == Some(io::ErrorKind::WouldBlock)
}

/// Reads the beginning of a piece from the disk, not on this thread.
async fn read_slowly(file: &Arc<File>, piece: &Range<u64>) -> Result<Vec<u8>, Fault> {
    let (file, at) = (Arc::clone(file), piece.start);
    let most = (piece.end - piece.start).min(READ_BYTES);
    let job = move || {
        let mut bytes = vec![0; usize::try_from(most).unwrap_or_default()];
        let read = read_at(&file, at, &mut bytes, Wait::Allowed)?;
        bytes.truncate(read);
        io::Result::Ok(bytes)
    };
    match tokio::task::spawn_blocking(job).await {
        Ok(Ok(bytes)) if !bytes.is_empty() => Ok(bytes),
        _ => Err(Fault::SourceGone),
    }
}
