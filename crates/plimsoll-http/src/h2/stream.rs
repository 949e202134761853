//! Streams of one connection.

use std::task::{Context, Poll, Waker};

use super::frame::Reason;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::request::Sent;
use crate::method::Method;

/// One of them, until nobody has anything to do with it any more.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: u32,
    pub(super) exchange: Exchange,
    pub(super) inbound: Inbound,
    pub(super) outbound: Outbound,
    /// Why it ended before its time.
    pub(super) fault: Option<Fault>,
    /// Who waits for that.
    watcher: Option<Waker>,
}

/// What is exchanged.
#[derive(Debug)]
pub(super) enum Exchange {
    /// We answer. The method says whether there is a body, and CONNECT asks for a tunnel.
    Answer(Method),
    /// We have asked.
    Question(Sent),
    /// The final answer has begun.
    Answered,
}

/// Why a stream ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// What came is no message; the peer was told.
    #[error("the message is malformed")]
    Malformed,
    /// The peer, or we, have reset it.
    #[error("the stream was reset: {0}")]
    Reset(Reason),
    /// The peer has said that it did nothing for it.
    #[error("the stream was refused")]
    Untouched,
    /// The connection has ended.
    #[error("the connection has ended")]
    Gone,
    /// What was written is no message.
    #[error("what was written is no message")]
    Unwritable,
}

impl Stream {
    pub(super) fn new(id: u32, exchange: Exchange, inbound: Inbound, outbound: Outbound) -> Self {
        Self {
            id,
            exchange,
            inbound,
            outbound,
            fault: None,
            watcher: None,
        }
    }

    /// Tells whether something may still be sent either way.
    pub(super) fn is_open(&self) -> bool {
        self.fault.is_none() && !(self.inbound.has_ended() && self.outbound.is_over())
    }

    /// Ends it before its time, and wakes all who wait.
    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
        for waker in [
            self.inbound.reader.take(),
            self.outbound.writer.take(),
            self.watcher.take(),
        ] {
            wake(waker);
        }
    }

    /// Ready when the peer has reset it.
    pub(super) fn poll_broken(&mut self, context: &Context<'_>) -> Poll<()> {
        match self.fault {
            Some(_) => Poll::Ready(()),
            None => {
                wait(&mut self.watcher, context);
                Poll::Pending
            }
        }
    }
}

/// Notes who waits.
pub(super) fn wait(place: &mut Option<Waker>, context: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(context.waker()),
        None => *place = Some(context.waker().clone()),
    }
}

/// Wakes who waits.
pub(super) fn wake(waiting: Option<Waker>) {
    if let Some(waker) = waiting {
        waker.wake();
    }
}

/// The streams that somebody has to do with, in the order of their numbers.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "those behind one that is removed are moved")]
pub(super) struct Streams(Vec<Box<Stream>>);

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn find(&mut self, id: u32) -> Option<&mut Stream> {
        let at = self.0.binary_search_by_key(&id, |stream| stream.id).ok()?;
        self.0.get_mut(at).map(|stream| &mut **stream)
    }

    /// The same, unless it has ended before its time.
    pub(super) fn find_sound(&mut self, id: u32) -> Option<&mut Stream> {
        self.find(id).filter(|stream| stream.fault.is_none())
    }

    /// Adds the one with the largest number.
    pub(super) fn add(&mut self, stream: Stream) -> &mut Stream {
        debug_assert!(
            self.0.last().is_none_or(|last| last.id < stream.id),
            "numbers grow"
        );
        self.0.push_mut(Box::new(stream))
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Box<Stream>> {
        let at = self.0.binary_search_by_key(&id, |stream| stream.id).ok()?;
        Some(self.0.remove(at))
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.0.iter_mut().map(|stream| &mut **stream)
    }

    /// How many may still send or get something.
    pub(super) fn open(&self) -> usize {
        self.0.iter().filter(|stream| stream.is_open()).count()
    }

    /// Wakes all who wait to write, those first that come behind `last`: so everybody has a turn.
    pub(super) fn wake_writers(&mut self, last: u32) {
        let behind = self.0.partition_point(|stream| stream.id <= last);
        let (first, rest) = self.0.split_at_mut(behind);
        for stream in rest.iter_mut().chain(first) {
            wake(stream.outbound.writer.take());
        }
    }
}
