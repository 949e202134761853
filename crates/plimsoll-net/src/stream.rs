//! Reading and writing a socket through a shared reference, so that both directions of a
//! connection can be under way in one task.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::buffer::Buffer;

/// Reads into the room of `buffer`; 0 is the end of the stream. The buffer must have room.
pub fn poll_read(
    stream: &TcpStream,
    context: &mut Context<'_>,
    buffer: &mut Buffer,
) -> Poll<io::Result<usize>> {
    let room = buffer.room();
    let read = ready!(poll_io(
        stream,
        context,
        Interest::READABLE,
        room.len(),
        || { Ok(rustix::net::recv(stream, &mut *room, RecvFlags::empty())?.0) }
    ))?;
    buffer.add(read);
    Poll::Ready(Ok(read))
}

/// What follows a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More writes, some time.
    Open,
    /// The end of our direction, at once: the kernel holds the last bytes back for it, and sends
    /// one packet instead of two.
    End,
}

/// Writes a part of `bytes`.
pub fn poll_write(
    stream: &TcpStream,
    context: &mut Context<'_>,
    bytes: &[u8],
    then: Then,
) -> Poll<io::Result<usize>> {
    let flags = match then {
        Then::Open => SendFlags::NOSIGNAL,
        Then::End => SendFlags::NOSIGNAL | SendFlags::MORE,
    };
    poll_io(stream, context, Interest::WRITABLE, bytes.len(), || {
        Ok(rustix::net::send(stream, bytes, flags)?)
    })
}

/// Writes a part of `parts`, one after the other, in one call.
pub fn poll_write_vectored(
    stream: &TcpStream,
    context: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let whole = parts.iter().map(|part| part.len()).sum();
    poll_io(stream, context, Interest::WRITABLE, whole, || {
        Ok(rustix::io::writev(stream, parts)?)
    })
}

/// Runs `call` when the socket is ready. A call that moved less than `whole` has used the
/// readiness up: noting that saves the call that would only say so.
pub(crate) fn poll_io(
    stream: &TcpStream,
    context: &mut Context<'_>,
    interest: Interest,
    whole: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        if interest.is_readable() {
            ready!(stream.poll_read_ready(context))?;
        } else {
            ready!(stream.poll_write_ready(context))?;
        }
        let mut partial = None;
        let outcome = stream.try_io(interest, || match call()? {
            moved if 0 < moved && moved < whole => {
                partial = Some(moved);
                Err(io::ErrorKind::WouldBlock.into())
            }
            moved => Ok(moved),
        });
        match (outcome, partial) {
            (_, Some(moved)) => return Poll::Ready(Ok(moved)),
            (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {}
            (Err(error), None) if error.kind() == io::ErrorKind::Interrupted => {}
            (outcome, None) => return Poll::Ready(outcome),
        }
    }
}

/// Tells, without a system call, whether an idle connection is still as it was left: open, and
/// silent. Bytes that nobody asked for are as bad as the end of the stream.
pub fn is_quiet(stream: &TcpStream) -> bool {
    let mut context = Context::from_waker(std::task::Waker::noop());
    stream.poll_read_ready(&mut context).is_pending()
}

/// Asks the kernel whether an idle connection is still as it was left.
pub fn is_quiet_now(stream: &TcpStream) -> bool {
    let mut byte = [0];
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(
        rustix::net::recv(stream, &mut byte, flags),
        Err(rustix::io::Errno::AGAIN)
    )
}

/// What a silent peer does when it does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// It sent something, or ended its direction and may still listen.
    Spoke,
    /// It reset the connection.
    Broken,
}

/// Watches a peer from whom nothing is expected, without reading.
pub fn poll_signal(stream: &TcpStream, context: &mut Context<'_>) -> Poll<Signal> {
    let mut byte = [0];
    let peeked = ready!(poll_io(stream, context, Interest::READABLE, 0, || {
        Ok(rustix::net::recv(stream, &mut byte, RecvFlags::PEEK)?.0)
    }));
    Poll::Ready(if peeked.is_ok() {
        Signal::Spoke
    } else {
        Signal::Broken
    })
}

/// Ends our direction of a connection; the other one stays open.
pub fn shutdown_write(stream: &TcpStream) {
    // The peer may be gone already, and then there is nothing to end.
    let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Write);
}

/// Makes the kernel reset the connection when it is closed, so that the peer cannot take a
/// truncated message for a complete one.
pub fn reset_on_close(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
}
