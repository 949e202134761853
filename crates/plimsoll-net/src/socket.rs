//! A TCP connection that asks the reactor for help only when it must wait.
//!
//! Registering a socket costs an allocation and two system calls. A client that sends its request
//! with its handshake and leaves after the answer never makes us wait, so it need not pay them.

use std::cell::{OnceCell, RefCell, RefMut};
use std::fmt;
use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use rustix::net::sockopt;
use rustls::ServerConnection;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::coop;

use crate::tls::{Choose, Session};

/// A connection without the reactor of its worker, on its way to another one.
#[derive(Debug)]
pub struct Detached {
    stream: TcpStream,
    session: Option<Box<RefCell<Session>>>,
}

/// A connected, non-blocking socket.
#[derive(Debug)]
pub struct Socket {
    /// The registration, from the first wait on. Above `end`, so that it is dropped first.
    watch: OnceCell<AsyncFd<RawFd>>,
    end: End,
    /// What the two ends speak with each other, if that is TLS.
    session: Option<Box<RefCell<Session>>>,
}

/// What a socket stands for.
#[derive(Debug)]
enum End {
    /// A connection of its own.
    Tcp(TcpStream),
    /// One of many streams on a connection.
    Stream(Box<dyn Stream>),
}

/// One of many streams on a connection, which is read and written as if it were a connection of its
/// own: it carries messages of HTTP/1.1.
pub trait Stream: fmt::Debug {
    /// Reads into `room`; 0 is the end of what the peer sends.
    fn poll_read(&self, context: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes a part of `parts`, one after the other. A caller that has to wait comes back with the
    /// same.
    fn poll_write(
        &self,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Ready when the peer has reset it.
    fn poll_broken(&self, context: &mut Context<'_>) -> Poll<()>;

    /// Ends what is written, where that is not messages that know their own end.
    fn end(&self);

    /// Ends it; a message that was not written to its end is not to look complete.
    fn cut(&self);

    /// Tells whether the connection below is secure.
    fn is_secure(&self) -> bool;

    /// Where the connection below ends on this side.
    ///
    /// # Errors
    /// It has none any more.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Tells `look` what was agreed with the client of the connection below.
    fn look_at_tls(&self, look: &mut dyn FnMut(Option<&ServerConnection>));
}

/// What a call on a socket needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Something to read, or the end of it.
    Read,
    /// Room to write.
    Write,
}

impl AsRef<Self> for Socket {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl Socket {
    /// Takes a socket that is non-blocking already.
    pub fn new(socket: OwnedFd) -> Self {
        Self {
            watch: OnceCell::new(),
            end: End::Tcp(socket.into()),
            session: None,
        }
    }

    /// One stream of a connection.
    pub fn of_stream(stream: Box<dyn Stream>) -> Self {
        Self {
            watch: OnceCell::new(),
            end: End::Stream(stream),
            session: None,
        }
    }

    /// The same socket, on which a client comes with TLS; `choose` finds out who serves it.
    pub fn with_tls(self, choose: Arc<dyn Choose>) -> Self {
        self.with_session(Session::with_client(choose))
    }

    pub(crate) fn with_session(mut self, session: Session) -> Self {
        self.session = Some(Box::new(RefCell::new(session)));
        self
    }

    /// Tells whether the network does not see what is read and written.
    pub fn is_secure(&self) -> bool {
        match &self.end {
            End::Tcp(_) => self.session.is_some(),
            End::Stream(stream) => stream.is_secure(),
        }
    }

    /// Tells whether what is read and written is what the network sees, so that the kernel can move it.
    pub fn is_direct(&self) -> bool {
        matches!(self.end, End::Tcp(_)) && self.session.is_none()
    }

    /// Tells whether it is one of many streams on a connection.
    pub fn is_stream(&self) -> bool {
        self.stream().is_some()
    }

    /// The stream, if it is one.
    pub(crate) fn stream(&self) -> Option<&dyn Stream> {
        match &self.end {
            End::Tcp(_) => None,
            End::Stream(stream) => Some(&**stream),
        }
    }

    /// Where it ends on this side.
    ///
    /// # Errors
    /// It has none any more.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match &self.end {
            End::Tcp(stream) => stream.local_addr(),
            End::Stream(stream) => stream.local_address(),
        }
    }

    /// Looks at what was agreed with a client that comes with TLS, as far as it has come.
    pub fn with_tls_connection<T>(
        &self,
        look: impl FnOnce(Option<&ServerConnection>) -> T,
    ) -> Option<T> {
        let (mut look, mut seen) = (Some(look), None);
        self.look_at_tls(&mut |connection| seen = look.take().map(|look| look(connection)));
        seen
    }

    /// What is to be known of what the client of a connection with TLS said first; once.
    pub fn take_tls_note(&self) -> Option<Box<str>> {
        self.session.as_ref()?.borrow_mut().take_note()
    }

    /// The same, for a stream to ask its connection.
    pub fn look_at_tls(&self, look: &mut dyn FnMut(Option<&ServerConnection>)) {
        match (&self.end, &self.session) {
            (End::Stream(stream), _) => stream.look_at_tls(look),
            (End::Tcp(_), Some(session)) => look(session.borrow().connection()),
            (End::Tcp(_), None) => look(None),
        }
    }

    /// Tells whether a session has begun whose two ends have not agreed yet.
    pub fn is_handshaking(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.borrow().is_handshaking())
    }

    /// Tells whether the two ends of a session knew each other from before.
    pub fn is_resumed(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.borrow().is_resumed() == Some(true))
    }

    /// Tells whether the two ends of a session have agreed to speak `protocol` (RFC 7301).
    pub fn has_agreed_on(&self, protocol: &[u8]) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(|session| session.borrow().protocol() == Some(protocol))
    }

    pub(crate) fn session(&self) -> Option<RefMut<'_, Session>> {
        Some(self.session.as_ref()?.borrow_mut())
    }

    /// The descriptor.
    ///
    /// # Errors
    /// It has none: it is a part of a connection.
    pub(crate) fn fd(&self) -> rustix::io::Result<BorrowedFd<'_>> {
        match &self.end {
            End::Tcp(stream) => Ok(stream.as_fd()),
            End::Stream(_) => Err(Errno::NOTSOCK),
        }
    }

    /// The connection for another worker, with its session; nothing if it is a part of one.
    pub fn detach(self) -> Option<Detached> {
        drop(self.watch);
        match self.end {
            End::Tcp(stream) => Some(Detached {
                stream,
                session: self.session,
            }),
            End::Stream(_) => None,
        }
    }

    /// Another descriptor of it, for another process; nothing if it is a part of a connection, or has a session.
    pub fn share(&self) -> Option<OwnedFd> {
        match (&self.end, &self.session) {
            (End::Tcp(stream), None) => stream.as_fd().try_clone_to_owned().ok(),
            _ => None,
        }
    }

    /// A connection that comes from another worker.
    pub fn attach(detached: Detached) -> Self {
        Self {
            watch: OnceCell::new(),
            end: End::Tcp(detached.stream),
            session: detached.session,
        }
    }

    /// Tells whether the reactor knows this socket.
    pub(crate) fn is_watched(&self) -> bool {
        self.watch.get().is_some()
    }

    /// Ready when there is something to read, or the end of it.
    pub fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch()?.poll_read_ready(context).map_ok(drop)
    }

    /// Tells whether the reactor has heard that the peer sends no more, or is gone: one more read says which,
    /// without a wait. Nothing is known of what the network does not see.
    pub fn has_news_of_end(&self, context: &mut Context<'_>) -> bool {
        let watch = self.watch.get().filter(|_| self.session.is_none());
        let news = watch.map(|watch| watch.poll_read_ready(context));
        matches!(news, Some(Poll::Ready(Ok(ready))) if ready.ready().is_read_closed())
    }

    /// Ready when a new socket is connected, or has failed.
    pub(crate) fn poll_connected(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let news = ready!(self.watch()?.poll_write_ready(context))?.ready();
        // What failed cannot be written either; then it is worth a call to ask why.
        Poll::Ready(match news.is_write_closed() {
            true => sockopt::socket_error(self.fd()?)?.map_err(io::Error::from),
            false => Ok(()),
        })
    }

    /// Ready when there is room to write.
    pub fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.watch()?.poll_write_ready(context).map_ok(drop)
    }

    /// Ready when the peer has reset the connection, whatever it sent or ended before. Where that
    /// cannot be watched it is never ready.
    pub async fn broken(&self) {
        if let Some(stream) = self.stream() {
            return poll_fn(|context| stream.poll_broken(context)).await;
        }
        if let Ok(watch) = self.watch()
            && watch.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        pending().await
    }

    /// Ready when the peer has reset it, if it is one of many streams; nothing is known of others.
    pub fn poll_reset(&self, context: &mut Context<'_>) -> Poll<()> {
        let stream = self.stream();
        stream.map_or(Poll::Pending, |stream| stream.poll_broken(context))
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
        let fd = self.fd()?;
        if self.watch.get().is_none() {
            // The reactor would count this against the task's share of the worker; so do we.
            let share = ready!(coop::poll_proceed(context));
            share.made_progress();
            match call(fd) {
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
            match call(fd) {
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
        let fd = self.fd()?.as_raw_fd();
        // SAFETY: the descriptor belongs to `end`, which outlives the registration: it is moved
        // out only by `detach`, after the registration is gone, and dropped after it otherwise.
        #[expect(unsafe_code, reason = "Tokio registers descriptors it does not own")]
        let watch = unsafe { AsyncFd::register(fd) }?;
        Ok(self.watch.get_or_init(|| watch))
    }
}
