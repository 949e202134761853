//! Bytes that are no messages, both ways between a client and a server, until both have ended.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use plimsoll_net::buffer::BufferPool;
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::stream::Then;
use plimsoll_net::{clock, stream};

/// Two ends between which bytes move.
pub(crate) struct Tunnel<'a> {
    pub(crate) client: &'a Socket,
    pub(crate) server: &'a Socket,
    pub(crate) timer: &'a Timer,
    /// How long neither end may say anything.
    pub(crate) idle: Duration,
    pub(crate) buffers: &'a Rc<BufferPool>,
}

/// One way through it.
pub(crate) struct Way<'a> {
    /// What was read already.
    pub(crate) early: &'a [u8],
    /// Counts what has moved.
    pub(crate) moved: &'a Cell<u64>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both ends have said all that they had to say.
    Both,
    /// Neither has said anything for too long.
    Idle,
    /// One of them has gone.
    Broken,
}

impl Tunnel<'_> {
    /// Moves bytes until it ends. An end that stops sending may still receive.
    pub(crate) async fn run(&self, up: Way<'_>, down: Way<'_>) -> End {
        let touched = Cell::new(clock::now());
        self.timer.set(touched.get() + self.idle);
        let mut up = pin!(self.pump(self.client, self.server, up, &touched));
        let mut down = pin!(self.pump(self.server, self.client, down, &touched));
        let (mut is_up_done, mut is_down_done) = (false, false);
        let end = poll_fn(|context| {
            if !is_up_done && let Poll::Ready(outcome) = up.as_mut().poll(context) {
                is_up_done = true;
                if outcome.is_err() {
                    return Poll::Ready(End::Broken);
                }
            }
            if !is_down_done && let Poll::Ready(outcome) = down.as_mut().poll(context) {
                is_down_done = true;
                if outcome.is_err() {
                    return Poll::Ready(End::Broken);
                }
            }
            if is_up_done && is_down_done {
                return Poll::Ready(End::Both);
            }
            loop {
                ready!(self.timer.poll(context));
                let until = touched.get() + self.idle;
                if until <= clock::now() {
                    return Poll::Ready(End::Idle);
                }
                self.timer.set(until);
            }
        });
        let end = end.await;
        if end == End::Broken {
            stream::reset_on_close(self.client);
            stream::reset_on_close(self.server);
        }
        end
    }

    /// Moves what one end sends to the other, and then its end.
    async fn pump(
        &self,
        from: &Socket,
        to: &Socket,
        way: Way<'_>,
        touched: &Cell<Instant>,
    ) -> io::Result<()> {
        write(to, way.early).await?;
        way.moved.set(way.moved.get() + way.early.len() as u64);
        let mut buffer = self.buffers.lend();
        loop {
            let read = poll_fn(|context| stream::poll_read(from, context, &mut buffer)).await?;
            if read == 0 {
                stream::shutdown_write(to);
                return Ok(());
            }
            touched.set(clock::now());
            write(to, buffer.filled()).await?;
            way.moved.set(way.moved.get() + read as u64);
            buffer.clear();
        }
    }
}

async fn write(to: &Socket, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let write = poll_fn(|context| stream::poll_write(to, context, bytes, Then::Open));
        let written = write.await?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
