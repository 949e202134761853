//! Looking at what comes first on a connection, and leaving it there for whoever reads it.

use std::future::poll_fn;
use std::io;
use std::task::{Poll, ready};
use std::time::Instant;

use plimsoll_net::announce;

use crate::connection::Connection;
use crate::plane::Plane;

/// What a look has shown.
pub(crate) enum Found<T> {
    /// All that was asked for.
    Enough(T),
    /// Not yet; before there are so many bytes, there is no need to look again.
    TooLittle(usize),
}

/// Why what was waited for never came.
#[derive(Debug)]
pub(crate) enum Unseen {
    /// It was not there in time.
    Late,
    /// The client sends no more.
    Ended,
    Broken(io::Error),
}

/// Looks at the first bytes of a connection, `most` of them at most, until `judge` has seen enough or it is
/// too late. `judge` is told as well whether these are all that will come.
pub(crate) async fn look<T>(
    plane: &Plane,
    connection: &Connection,
    (until, most): (Instant, usize),
    mut judge: impl FnMut(&[u8], bool) -> Found<T>,
) -> Result<T, Unseen> {
    let socket = &connection.socket;
    connection.timer.set(until);
    let (mut least, mut wakes_at) = (1, 1);
    let outcome = poll_fn(|context| {
        // Lent for a look: a connection that waits holds no buffer.
        let mut buffer = plane.worker.buffers.lend();
        let room = buffer.room();
        let most = room.len().min(most);
        let room = room.get_mut(..most).unwrap_or_default();
        loop {
            let Poll::Ready(there) = announce::poll_peek(socket, context, room, least - 1) else {
                ready!(connection.timer.poll(context));
                return Poll::Ready(Err(Unseen::Late));
            };
            let there = there.map_err(Unseen::Broken)?;
            let has_ended = there < least;
            match judge(room.get(..there).unwrap_or_default(), has_ended) {
                Found::Enough(found) => return Poll::Ready(Ok(found)),
                Found::TooLittle(_) if has_ended => return Poll::Ready(Err(Unseen::Ended)),
                Found::TooLittle(bytes) => least = bytes.max(there + 1),
            }
            if least > there + 1 || wakes_at > 1 {
                announce::wake_at(socket, least);
                wakes_at = least;
            }
        }
    });
    let outcome = outcome.await;
    if wakes_at > 1 {
        announce::wake_at(socket, 1);
    }
    outcome
}
