//! Accepting connections, and handing them to the worker with the fewest.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::listener::{FIRST_BYTES, First, Terms, defer_accept};
use crate::socket::{Detached, Socket};

/// How long to wait when the process is out of descriptors: long enough not to spin, short enough
/// not to be noticed once there are some.
const OUT_OF_DESCRIPTORS_PAUSE: Duration = Duration::from_millis(50);

/// How long a listener must stay open before all have arrived that are connected when it is told
/// to stop deferring: the kernel asks silent clients again after a second, and they answer.
pub const LATE_ARRIVALS: Duration = Duration::from_millis(1500);

/// A connection on its way from one worker to another.
#[derive(Debug)]
pub struct Accepted {
    /// The connection.
    pub socket: Detached,
    /// Where the client is.
    pub peer: SocketAddr,
    /// Which door it came in by, whatever its number is in a generation.
    pub door: u64,
}

/// A listening socket of this worker.
#[derive(Debug)]
pub struct Listener(AsyncFd<OwnedFd>);

impl Listener {
    /// Watches a listening socket.
    ///
    /// # Errors
    /// The reactor cannot watch it.
    pub fn new(listener: TcpListener) -> io::Result<Self> {
        Ok(Self(watch_reads(listener.into())?))
    }

    /// Listens on these terms from now on.
    pub fn set_terms(&self, terms: &Terms) {
        terms.options.set_again(self.0.get_ref());
        let seconds = match terms.first {
            First::Client => FIRST_BYTES,
            First::Either => 0,
        };
        defer_accept(self.0.get_ref(), seconds);
    }

    /// Accepts from now on what has not sent anything yet, too. What the kernel kept back until
    /// now arrives with its first bytes, or within [`LATE_ARRIVALS`].
    pub fn stop_deferring(&self) {
        defer_accept(self.0.get_ref(), 0);
    }

    /// Accepts the next connection.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            match rustix::net::acceptfrom_with(self.0.get_ref(), flags) {
                Ok((socket, peer)) => {
                    let peer = peer.ok_or(Errno::CONNABORTED)?;
                    return Poll::Ready(Ok((Socket::new(socket), peer.try_into()?)));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}

/// Has the reactor watch for something to read.
///
/// # Errors
/// It cannot.
pub(crate) fn watch_reads(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it is owned, so that it names the same file until it is dropped.
    #[expect(unsafe_code, reason = "Tokio asks for a promise about descriptors")]
    let watch = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    Ok(watch?)
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
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
    )
}
