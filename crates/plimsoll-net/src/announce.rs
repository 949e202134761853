//! What is said on a connection before its first byte: read without taking more than that, and written.

use std::future::poll_fn;
use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use crate::options::set_number;
use crate::socket::{Need, Socket};

/// Looks at what has come on a connection from its network, and leaves it there. Ready when that is more
/// than `known` bytes, or no more will come.
pub fn poll_peek(
    socket: &Socket,
    context: &mut Context<'_>,
    room: &mut [u8],
    known: usize,
) -> Poll<io::Result<usize>> {
    // What is left there makes no new event, so it must go on counting as ready.
    socket.poll_io(context, Need::Read, 0, |fd| {
        let (there, _) = rustix::net::recv(fd, &mut *room, RecvFlags::PEEK)?;
        match there > known || has_ended(fd)? {
            true => Ok(there),
            false => Err(Errno::AGAIN),
        }
    })
}

/// Has a connection count as ready only when at least so many bytes are there, or no more will come: who
/// waits for many is not woken for each. The system makes room for them.
pub fn wake_at(socket: &Socket, bytes: usize) {
    let number = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    let set = socket
        .fd()
        .map_err(io::Error::from)
        .and_then(|fd| set_number(fd, libc::SOL_SOCKET, libc::SO_RCVLOWAT, number));
    if let Err(error) = set {
        // Then it is looked at each time that something comes.
        tracing::debug!(%error, "cannot wait for a number of bytes");
    }
}

/// Tells whether the peer sends nothing more, whatever has not been read.
fn has_ended(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::RDHUP)];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let ready = rustix::event::poll(&mut fds, Some(&at_once))?;
    Ok(ready > 0)
}

/// Takes the first `len` bytes, which have been looked at.
///
/// # Errors
/// The connection broke.
pub fn take(socket: &Socket, room: &mut [u8], len: usize) -> io::Result<()> {
    let mut left = len;
    while left > 0 {
        let room = room.get_mut(..left).ok_or(Errno::INVAL)?;
        match rustix::net::recv(socket.fd()?, room, RecvFlags::empty()) {
            Ok((0, _)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok((taken, _)) => left = left.saturating_sub(taken),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends `bytes`, with what is written next where that follows at once.
///
/// # Errors
/// The connection broke.
pub async fn send(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        let sent = poll_fn(|context| {
            socket.poll_io(context, Need::Write, left.len(), |fd| {
                rustix::net::send(fd, left, SendFlags::NOSIGNAL | SendFlags::MORE)
            })
        });
        left = left.get(sent.await?..).unwrap_or_default();
    }
    Ok(())
}
