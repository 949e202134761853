//! The connection below the streams.
//!
//! What streams write is only collected, and is sent once all that had something to say have said it: so sixteen
//! answers cost one system call.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use plimsoll_http::h2::connection::{Connection, Event, Role};
use plimsoll_http::h2::frame::{Head, Reason, kind};
use plimsoll_http::h2::request::Asked;
use plimsoll_http::h2::{Fault, Limits};
use plimsoll_net::buffer::Buffer;
use plimsoll_net::clock;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream::{self, Then};

use super::LAST_WORDS;

/// Reads after which streams have their turn.
const READS_MAX: u32 = 4;

/// A connection, with what waits to be taken or sent.
#[derive(Debug)]
pub(super) struct Wire<C> {
    /// What has the socket.
    pub(super) owner: C,
    inbound: RefCell<Buffer>,
    connection: RefCell<Connection>,
    /// Who moves what is received and sent, and whether it knows that there is something to do.
    mover: RefCell<Waker>,
    is_called: Cell<bool>,
    /// Whether a stream waits for another one to be released.
    is_held: Cell<bool>,
}

/// What happens on a connection.
#[derive(Debug)]
pub(super) enum Happened {
    /// The client has opened a stream.
    Opened(u32, Asked),
    /// The connection has ended, but for what may wait to be sent.
    Ended,
}

impl<C: AsRef<Socket>> Wire<C> {
    /// A connection on which `first` came already.
    pub(super) fn new(owner: C, first: Buffer, role: Role, limits: Limits) -> Rc<Self> {
        Rc::new(Self {
            owner,
            inbound: RefCell::new(first),
            connection: RefCell::new(Connection::new(role, limits)),
            mover: RefCell::new(Waker::noop().clone()),
            is_called: Cell::new(false),
            is_held: Cell::new(false),
        })
    }

    /// Has a stream do something; what that leaves to be sent will be.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Connection) -> T) -> T {
        let connection = &mut *self.connection.borrow_mut();
        let done = act(connection);
        if !connection.out().is_empty() {
            self.call();
        }
        done
    }

    /// Forgets a stream.
    pub(super) fn release(&self, id: u32) {
        self.with(|connection| connection.release(id));
        if self.is_held.replace(false) {
            self.call();
        }
    }

    fn call(&self) {
        if !self.is_called.replace(true) {
            self.mover.borrow().wake_by_ref();
        }
    }

    /// Does all that can be done now.
    pub(super) fn poll(&self, context: &mut Context<'_>) -> Poll<Happened> {
        self.mover.borrow_mut().clone_from(context.waker());
        let moved = self.poll_move(context);
        self.is_called.set(false);
        match moved {
            Poll::Ready(Ok(happened)) => Poll::Ready(happened),
            Poll::Ready(Err(_)) => {
                self.connection.borrow_mut().fail();
                Poll::Ready(Happened::Ended)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_move(&self, context: &mut Context<'_>) -> Poll<io::Result<Happened>> {
        let mut reads = 0;
        loop {
            if let Some(happened) = self.take() {
                return Poll::Ready(Ok(happened));
            }
            if self.connection.borrow().is_full() {
                ready!(self.poll_send(context))?;
            }
            if self.is_held.get() {
                break;
            }
            if reads == READS_MAX {
                context.waker().wake_by_ref();
                break;
            }
            reads += 1;
            match self.poll_read(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        match self.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }

    fn poll_read(&self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let inbound = &mut *self.inbound.borrow_mut();
        inbound.compact();
        stream::poll_read(self.owner.as_ref(), context, inbound)
    }

    /// Takes what has come, until something happens.
    fn take(&self) -> Option<Happened> {
        let (inbound, connection) = (
            &mut *self.inbound.borrow_mut(),
            &mut *self.connection.borrow_mut(),
        );
        let second = clock::unix_time().as_secs();
        loop {
            let received = match connection.receive(inbound.filled(), second) {
                Ok(received) => received,
                Err(reason) => {
                    connection.abort(reason);
                    return Some(Happened::Ended);
                }
            };
            inbound.take(received.taken);
            match received.event {
                Event::Nothing => {}
                Event::Incomplete => return None,
                Event::Held => {
                    self.is_held.set(true);
                    return None;
                }
                Event::Opened(id, asked) => {
                    take_body(id, inbound, connection, second);
                    return Some(Happened::Opened(id, asked));
                }
            }
        }
    }

    /// Says goodbye, unless that was said, and ends the connection.
    pub(super) async fn close(&self, timer: &Timer) {
        self.with(|connection| connection.abort(Reason::NO_ERROR));
        timer.set(clock::now() + LAST_WORDS);
        let said = poll_fn(|context| self.poll_send(context));
        let _heard = timer.limit(said).await; // or the peer does not listen
        stream::close(self.owner.as_ref());
    }

    /// Sends what waits.
    fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let connection = &mut *self.connection.borrow_mut();
        while !connection.out().is_empty() {
            let sent =
                stream::poll_write(self.owner.as_ref(), context, connection.out(), Then::Open);
            connection.note_sent(ready!(sent)?);
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes the body that has come right behind its head: a request that is here as a whole can be sent a second time.
fn take_body(id: u32, inbound: &mut Buffer, connection: &mut Connection, second: u64) {
    let is_of_body = |head: &Head| (head.stream, head.kind) == (id, kind::DATA);
    while Head::read(inbound.filled()).as_ref().is_some_and(is_of_body)
        // What is wrong with it is found again by who goes on.
        && let Ok(received) = connection.receive(inbound.filled(), second)
        && received.taken > 0
    {
        inbound.take(received.taken);
    }
}

/// What a stream that failed looks like to who reads and writes it.
pub(super) fn failed(fault: Fault) -> io::Error {
    match fault {
        Fault::Untouched => stream::untouched(fault),
        Fault::Malformed | Fault::Unwritable => io::Error::new(io::ErrorKind::InvalidData, fault),
        Fault::Reset(_) | Fault::Gone => io::Error::new(io::ErrorKind::ConnectionReset, fault),
    }
}
