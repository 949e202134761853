//! A file on its way to a socket inside the kernel.

use std::fs::File;
use std::io;
use std::task::{Context, Poll};

use crate::socket::{Need, Socket};

/// Sends up to `most` bytes of `file` from `at` on, which moves along; 0 is the end of the file. The
/// socket must be direct. Pages that are not in memory are waited for.
pub fn poll_send_file(
    socket: &Socket,
    context: &mut Context<'_>,
    file: &File,
    at: &mut u64,
    most: usize,
) -> Poll<io::Result<usize>> {
    socket.poll_io(context, Need::Write, 0, |fd| {
        rustix::fs::sendfile(fd, file, Some(at), most)
    })
}
