//! The connection below the streams.
//!
//! The library flushes after each frame of data. Here what it writes is only collected, and is sent
//! once all streams that had something to say have said it: so sixteen answers cost one system call.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut};
use plimsoll_http::h2::meter::Meter;
use plimsoll_net::buffer::{Buffer, BufferPool};
use plimsoll_net::clock;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream::{self, Then};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::inbound::Inbound;

/// A connection, with what waits to be taken or sent.
#[derive(Debug)]
pub(super) struct Wire<C> {
    /// What has the socket.
    pub(super) owner: C,
    inbound: RefCell<Buffer>,
    outbound: RefCell<Buffer>,
    meter: RefCell<Meter>,
    is_excessive: Cell<bool>,
    /// The bodies that come on it.
    bodies: RefCell<Vec<Weak<RefCell<Inbound>>>>,
    /// Whether something was read since the streams had their turn.
    has_read: Cell<bool>,
}

impl<C: AsRef<Socket>> Wire<C> {
    /// A connection on which `first` came already.
    pub(super) fn new(owner: C, first: Buffer, meter: Meter, buffers: &Rc<BufferPool>) -> Rc<Self> {
        let this = Self {
            owner,
            inbound: RefCell::new(first),
            outbound: RefCell::new(buffers.lend()),
            meter: RefCell::new(meter),
            is_excessive: Cell::new(false),
            bodies: RefCell::default(),
            has_read: Cell::new(true),
        };
        this.see(&this.inbound.borrow());
        Rc::new(this)
    }

    /// Tells whether the peer has asked for too much work; nothing more is read of it then.
    pub(super) fn is_excessive(&self) -> bool {
        self.is_excessive.get()
    }

    /// The last stream that the peer will look at, if it leaves.
    pub(super) fn last_stream(&self) -> Option<u32> {
        self.meter.borrow().last_stream()
    }

    /// Tells whether the settings of the peer have come, and have been looked at.
    pub(super) fn is_settled(&self) -> bool {
        self.meter.borrow().is_settled() && self.inbound.borrow().is_empty()
    }

    fn see(&self, inbound: &Buffer) {
        let second = clock::unix_time().as_secs();
        let seen = self.meter.borrow_mut().see(inbound.filled(), second);
        self.is_excessive.set(seen.is_err());
    }

    /// Makes a body known that comes on this connection.
    pub(super) fn receive(&self, body: Inbound) -> Rc<RefCell<Inbound>> {
        let is_open = body.is_open();
        let body = Rc::new(RefCell::new(body));
        if is_open {
            let bodies = &mut *self.bodies.borrow_mut();
            if bodies.len() == bodies.capacity() {
                bodies.retain(|body| body.strong_count() > 0);
            }
            bodies.push(Rc::downgrade(&body));
        }
        body
    }

    /// Keeps small pieces of bodies from piling up where nobody reads them yet: a peer may not have many
    /// of them waiting. It has to be called between any two reads.
    pub(super) fn gather(&self) {
        if self.meter.borrow_mut().have_piled_up() {
            let bodies = self.bodies.borrow();
            for body in bodies.iter().filter_map(Weak::upgrade) {
                body.borrow_mut().gather();
            }
        }
    }

    /// Sends what was written.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outbound = &mut *self.outbound.borrow_mut();
        while !outbound.is_empty() {
            let bytes = outbound.filled();
            let sent = ready!(stream::poll_write(
                self.owner.as_ref(),
                context,
                bytes,
                Then::Open
            ))?;
            outbound.take(sent);
        }
        outbound.rest();
        Poll::Ready(Ok(()))
    }
}

/// A connection as the library wants it.
#[derive(Debug)]
pub(super) struct Transport<C>(pub(super) Rc<Wire<C>>);

impl<C: AsRef<Socket>> AsyncRead for Transport<C> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &*self.0;
        if wire.is_excessive() {
            return Poll::Pending; // who serves it looks
        }
        let inbound = &mut *wire.inbound.borrow_mut();
        if inbound.is_empty() {
            let has_read = wire.has_read.replace(false);
            if ready!(stream::poll_read(wire.owner.as_ref(), context, inbound))? == 0 {
                return Poll::Ready(Ok(()));
            }
            wire.see(inbound);
            wire.has_read.set(true);
            if has_read {
                // Small pieces would pile up while the streams that they are for get no turn.
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        let here = inbound.filled();
        let taken = here.get(..room.remaining()).unwrap_or(here);
        room.put_slice(taken);
        let taken = taken.len();
        inbound.take(taken);
        Poll::Ready(Ok(()))
    }
}

impl<C: AsRef<Socket>> AsyncWrite for Transport<C> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut outbound = self.0.outbound.borrow_mut();
            outbound.compact();
            let room = outbound.room();
            if room.is_empty() {
                drop(outbound);
                ready!(self.0.poll_send(context))?;
                continue;
            }
            let taken = bytes.len().min(room.len());
            let mut room = room;
            room.put(bytes.take(taken));
            outbound.add(taken);
            return Poll::Ready(Ok(taken));
        }
    }

    /// Does nothing: who serves the connection sends.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send(context)
    }
}
