//! A TCP connection that asks the reactor for help only when it must wait.
//!
//! Registering a socket costs an allocation and two system calls. A client that sends its request
//! with its handshake and leaves after the answer never makes us wait, so it need not pay them.

use std::cell::{OnceCell, RefCell, RefMut};
use std::future::pending;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop;

use crate::tls::{Choose, Session};

/// A connected, non-blocking socket.
#[derive(Debug)]
pub struct Socket {
    /// The registration, from the first wait on. Above `stream`, so that it is dropped first.
    watch: OnceCell<AsyncFd<RawFd>>,
    stream: TcpStream,
    /// What the two ends speak with each other, if that is TLS.
    session: Option<Box<RefCell<Session>>>,
}

/// What a call on a socket needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Something to read, or the end of it.
    Read,
    /// Room to write.
    Write,
}

impl Socket {
    /// Takes a socket that is non-blocking already.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            watch: OnceCell::new(),
            stream: socket.into(),
            session: None,
        }
    }

    /// The same socket, on which a client comes with TLS; `choose` finds out who serves it.
    pub fn with_tls(mut self, choose: Arc<dyn Choose>) -> Self {
        self.session = Some(Box::new(RefCell::new(Session::new(choose))));
        self
    }

    /// Tells whether what is read and written is not what the network sees.
    pub fn is_secure(&self) -> bool {
        self.session.is_some()
    }

    /// The name that a client with TLS asked for.
    pub fn with_server_name<T>(&self, look: impl FnOnce(Option<&str>) -> T) -> T {
        match &self.session {
            Some(session) => look(session.borrow().server_name()),
            None => look(None),
        }
    }

    pub(crate) fn session(&self) -> Option<RefMut<'_, Session>> {
        Some(self.session.as_ref()?.borrow_mut())
    }

    /// The socket alone, for another worker.
    pub fn into_fd(self) -> OwnedFd {
        drop(self.watch);
        self.stream.into()
    }

    /// Tells whether the reactor knows this socket.
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.get().is_some()
    }

    /// Ready when there is something to read, or the end of it.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch()?.poll_read_ready(context).map_ok(drop)
    }

    /// Ready when there is room to write; on a new socket, when it is connected or has failed.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch()?.poll_write_ready(context).map_ok(drop)
    }

    /// Ready when the peer has reset the connection, whatever it sent or ended before. Where that
    /// cannot be watched it is never ready.
    pub async fn broken(&self) {
        if let Ok(watch) = self.watch()
            && watch.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        pending().await
    }

    /// Runs `call` until it does not have to wait. A call that moved less than `whole` has used
    /// the readiness up: noting that saves the call that would only say so.
    pub(crate) fn poll_io(
        &self,
        context: &mut Context<'_>,
        need: Need,
        whole: usize,
        mut call: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        use rustix::io::Errno;
        if self.watch.get().is_none() {
            // The reactor would count this against the task's share of the worker; so do we.
            let share = ready!(coop::poll_proceed(context));
            share.made_progress();
            match call(self.as_fd()) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => return Poll::Ready(outcome.map_err(io::Error::from)),
            }
        }
        let watch = self.watch()?;
        loop {
            let mut ready = ready!(match need {
                Need::Read => watch.poll_read_ready(context),
                Need::Write => watch.poll_write_ready(context),
            })?;
            match call(self.as_fd()) {
                Ok(moved) => {
                    if 0 < moved && moved < whole {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(moved));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn watch(&self) -> io::Result<&AsyncFd<RawFd>> {
        if let Some(watch) = self.watch.get() {
            return Ok(watch);
        }
        // SAFETY: the descriptor belongs to `stream`, which outlives the registration: it is moved
        // out only by `into_fd`, after the registration is gone, and dropped after it otherwise.
        #[expect(unsafe_code, reason = "Tokio registers descriptors it does not own")]
        let watch = unsafe { AsyncFd::register(self.stream.as_raw_fd()) }?;
        Ok(self.watch.get_or_init(|| watch))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
