//! Moving a body from socket to socket inside the kernel, through a pipe.
//!
//! A large body whose bytes nobody needs to look at never enters the process. Pipes are made once
//! and kept; one that still holds bytes when its exchange ends is thrown away.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::socket::{Need, Socket};
use rustix::pipe::{PipeFlags, SpliceFlags};

/// What a pipe may hold: as much as an unprivileged process may ask for.
const PIPE_BYTES: usize = 1024 * 1024;

/// Pipes that a worker keeps.
const KEPT_MAX: usize = 64;

/// Lends pipes.
#[derive(Debug, Default)]
pub struct PipePool {
    free: RefCell<Vec<Ends>>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

impl PipePool {
    /// Lends an empty pipe.
    ///
    /// # Errors
    /// The process is out of descriptors.
    pub fn lend(self: &Rc<Self>) -> io::Result<Pipe> {
        let kept = self.free.borrow_mut().pop();
        let ends = match kept {
            Some(ends) => ends,
            None => Ends::open()?,
        };
        Ok(Pipe {
            ends: Some(ends),
            held: 0,
            home: Rc::clone(self),
        })
    }
}

impl Ends {
    fn open() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // A smaller pipe works too, with more calls.
        let _ = rustix::pipe::fcntl_setpipe_size(&write, PIPE_BYTES);
        Ok(Self { read, write })
    }
}

/// A pipe between two sockets.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<Ends>,
    held: usize,
    home: Rc<PipePool>,
}

impl Pipe {
    /// Bytes that were taken in and not yet put out.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Takes up to `limit` bytes in from `socket`; 0 is the end of the stream. The pipe must be empty.
    pub fn poll_fill(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else {
            return Poll::Ready(Ok(0));
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(PIPE_BYTES);
        let moved =
            ready!(socket.poll_io(context, Need::Read, 0, |fd| splice(fd, &ends.write, limit)))?;
        self.held += moved;
        Poll::Ready(Ok(moved))
    }

    /// Puts bytes out to `socket`.
    pub fn poll_drain(
        &mut self,
        socket: &Socket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else {
            return Poll::Ready(Ok(0));
        };
        let held = self.held;
        let moved =
            ready!(socket.poll_io(context, Need::Write, 0, |fd| splice(&ends.read, fd, held)))?;
        self.held -= moved;
        Poll::Ready(Ok(moved))
    }
}

fn splice(
    from: impl std::os::fd::AsFd,
    to: impl std::os::fd::AsFd,
    limit: usize,
) -> rustix::io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    rustix::pipe::splice(from, None, to, None, limit, flags)
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let mut free = self.home.free.borrow_mut();
        if let Some(ends) = self.ends.take()
            && self.held == 0
            && free.len() < KEPT_MAX
        {
            free.push(ends);
        }
    }
}
