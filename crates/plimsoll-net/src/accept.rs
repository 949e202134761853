//! Accepting connections, and handing them to the worker with the fewest.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

/// How long to wait when the process is out of descriptors: long enough not to spin, short enough
/// not to be noticed once there are some.
const OUT_OF_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(50);

/// A connection on its way from one worker to another.
#[derive(Debug)]
pub struct Accepted {
    /// The socket; non-blocking.
    pub socket: std::net::TcpStream,
    /// Where the client is.
    pub peer: SocketAddr,
    /// Which listener took it, by its number in the generation.
    pub listener: usize,
}

/// Accepts the next connection.
pub fn poll_accept(
    listener: &TcpListener,
    context: &mut Context<'_>,
) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
    listener.poll_accept(context)
}

/// Waits as long as it makes sense after accepting has failed.
pub async fn recover(error: &io::Error) {
    if is_out_of_descriptors(error) {
        tracing::warn!(%error, "cannot accept: the process is out of descriptors");
        tokio::time::sleep(OUT_OF_DESCRIPTORS_PAUSE).await;
    } else {
        // A client that gave up before it was accepted is not our failure.
        tracing::debug!(%error, "a connection failed before it was accepted");
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
