//! Reading and writing a socket through a shared reference, so that both directions of a
//! connection can be under way in one task.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use rustix::net::{RecvFlags, SendFlags};

use crate::buffer::Buffer;
use crate::socket::{Need, Socket};
use crate::tls;

/// Reads into the room of `buffer`; 0 is the end of the stream. The buffer must have room. While
/// it waits for its first bytes, it has no memory.
pub fn poll_read(
    socket: &Socket,
    context: &mut Context<'_>,
    buffer: &mut Buffer,
) -> Poll<io::Result<usize>> {
    poll_read_some(socket, context, buffer, usize::MAX)
}

/// Reads as [`poll_read`] does, `most` bytes at once.
pub fn poll_read_some(
    socket: &Socket,
    context: &mut Context<'_>,
    buffer: &mut Buffer,
    most: usize,
) -> Poll<io::Result<usize>> {
    let room = buffer.room();
    let whole = room.len().min(most);
    let room = room.get_mut(..whole).unwrap_or_default();
    let read = match (socket.session(), socket.stream()) {
        (Some(mut session), _) => session.poll_read(socket, context, room),
        (None, Some(stream)) => stream.poll_read(context, room),
        (None, None) => socket.poll_io(context, Need::Read, whole, |fd| {
            rustix::net::recv(fd, &mut *room, RecvFlags::empty()).map(|(read, _)| read)
        }),
    };
    match read {
        Poll::Ready(Ok(read)) => buffer.add(read),
        Poll::Ready(Err(_)) => {}
        Poll::Pending => buffer.rest(),
    }
    read
}

/// What follows a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// More writes, some time.
    Open,
    /// More of the same message, at once: the kernel holds these bytes back for it.
    More,
    /// The end of our direction, at once: the kernel holds the last bytes back for it, and sends
    /// one packet instead of two.
    End,
}

/// Writes a part of `bytes`.
pub fn poll_write(
    socket: &Socket,
    context: &mut Context<'_>,
    bytes: &[u8],
    then: Then,
) -> Poll<io::Result<usize>> {
    if let Some(mut session) = socket.session() {
        return session.poll_write(socket, context, &[IoSlice::new(bytes)]);
    }
    if let Some(stream) = socket.stream() {
        return stream.poll_write(context, &[IoSlice::new(bytes)]);
    }
    let flags = match then {
        Then::Open => SendFlags::NOSIGNAL,
        Then::More | Then::End => SendFlags::NOSIGNAL | SendFlags::MORE,
    };
    socket.poll_io(context, Need::Write, bytes.len(), |fd| {
        rustix::net::send(fd, bytes, flags)
    })
}

/// Writes a part of `parts`, one after the other, in one call.
pub fn poll_write_vectored(
    socket: &Socket,
    context: &mut Context<'_>,
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let Some(mut session) = socket.session() {
        return session.poll_write(socket, context, parts);
    }
    if let Some(stream) = socket.stream() {
        return stream.poll_write(context, parts);
    }
    let whole = parts.iter().map(|part| part.len()).sum();
    socket.poll_io(context, Need::Write, whole, |fd| {
        rustix::io::writev(fd, parts)
    })
}

/// Tells whether an idle connection is still as it was left: open, and silent. Bytes that nobody
/// asked for are as bad as the end of the stream. This costs a system call only on a connection
/// that never made us wait, or that something came on.
pub fn is_quiet(socket: &Socket) -> bool {
    if !socket.is_watched() {
        return is_quiet_now(socket);
    }
    let mut context = Context::from_waker(std::task::Waker::noop());
    if socket.poll_readable(&mut context).is_pending() {
        return socket
            .session()
            .is_none_or(|mut session| session.is_silent());
    }
    // What came may be a ticket.
    socket.is_secure() && is_quiet_now(socket)
}

/// Asks the kernel whether an idle connection is still as it was left.
pub fn is_quiet_now(socket: &Socket) -> bool {
    match socket.session() {
        Some(mut session) => socket.fd().is_ok_and(|fd| session.is_quiet(fd)),
        None => peek(socket) == Err(rustix::io::Errno::AGAIN),
    }
}

/// Ready when there is something to read, or the end of it, or an error.
pub fn poll_readable(socket: &Socket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    match socket.session() {
        Some(mut session) => session.poll_readable(socket, context),
        None => socket.poll_readable(context),
    }
}

/// Ready when the two ends of a session have agreed, for which something may have to come; at once without one.
pub fn poll_handshake(socket: &Socket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    match socket.session() {
        Some(mut session) => session.poll_handshake(socket, context),
        None => Poll::Ready(Ok(())),
    }
}

/// Tells whether what a peer sent has ended without the peer having said so: somebody in between may have cut
/// it off. Without TLS nobody can tell.
pub fn was_cut_off(socket: &Socket) -> bool {
    let was_cut_off = |mut session: std::cell::RefMut<'_, tls::Session>| session.was_cut_off();
    socket.session().is_some_and(was_cut_off)
}

/// Asks the kernel whether the peer will send nothing more. Bytes that nobody has read yet hide it.
pub fn has_ended(socket: &Socket) -> bool {
    let is_over = |mut session: std::cell::RefMut<'_, tls::Session>| session.has_ended();
    socket.session().is_some_and(is_over) || peek(socket) == Ok(0)
}

fn peek(socket: &Socket) -> rustix::io::Result<usize> {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(socket.fd()?, &mut [0], flags).map(|(there, _)| there)
}

/// Says on a connection with TLS that nothing more will be sent: without that, the peer could not tell
/// the end from one that somebody in between has made.
pub fn close(socket: &Socket) {
    if let (Some(mut session), Ok(fd)) = (socket.session(), socket.fd()) {
        session.close(fd);
    }
}

/// Ends our direction of a connection; the other one stays open.
pub fn shutdown_write(socket: &Socket) {
    close(socket);
    if let Ok(fd) = socket.fd() {
        // The peer may be gone already, and then there is nothing to end.
        let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
    }
    if let Some(stream) = socket.stream() {
        stream.end();
    }
}

/// Ends both directions: whoever waits for the peer sees its end.
pub fn shut_down(socket: &Socket) {
    match socket.fd() {
        Ok(fd) => {
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Both); // or the peer was faster
        }
        Err(_) => cut(socket),
    }
}

/// Makes the kernel reset the connection when it is closed, so that the peer cannot take a
/// truncated message for a complete one.
pub fn reset_on_close(socket: &Socket) {
    match socket.fd() {
        Ok(fd) => {
            let _ = socket2::SockRef::from(&fd).set_linger(Some(std::time::Duration::ZERO));
        }
        Err(_) => cut(socket),
    }
}

/// The failure of a stream whose peer says that it has not looked at what was sent.
pub fn untouched(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, error)
}

/// Tells whether a failure is of that kind.
pub fn is_untouched(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotConnected
}

fn cut(socket: &Socket) {
    if let Some(stream) = socket.stream() {
        stream.cut();
    }
}
