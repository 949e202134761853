//! Bytes that are no messages, both ways between a client and a server, until both have ended.
//!
//! While nothing moves, a tunnel holds no buffer. What comes fast goes through a pipe inside the kernel.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use plimsoll_http::reason::Reason;
use plimsoll_net::buffer::{BUFFER_BYTES, Buffer, BufferPool};
use plimsoll_net::deadline::Timer;
use plimsoll_net::socket::Socket;
use plimsoll_net::splice::PipePool;
use plimsoll_net::stream::Then;
use plimsoll_net::{clock, stream};
use plimsoll_observe::counter::Counter;
use tokio::sync::Notify;

use crate::sessions::Session;

/// Two ends between which bytes move.
pub(crate) struct Tunnel<'a> {
    pub(crate) client: &'a Socket,
    pub(crate) server: &'a Socket,
    pub(crate) timer: &'a Timer,
    /// Where it is told when something moved, and whether somebody wants it to end.
    pub(crate) session: &'a Session,
    /// How long neither end may say anything.
    pub(crate) idle: Duration,
    /// When it ends, whatever moves.
    pub(crate) until: Option<Instant>,
    /// Tells that the server is down, where that ends it.
    pub(crate) cut: Option<&'a Notify>,
    /// Tells whether somebody else would go on with it, where that can be.
    pub(crate) may_leave: &'a dyn Fn() -> bool,
    /// Whether nobody does.
    pub(crate) stays: Cell<bool>,
    pub(crate) buffers: &'a Rc<BufferPool>,
    pub(crate) pipes: &'a Rc<PipePool>,
}

/// One way through it.
pub(crate) struct Way<'a> {
    /// What was read already.
    pub(crate) early: &'a [u8],
    /// Counts what has moved.
    pub(crate) moved: &'a Cell<u64>,
    /// Counts it for all to see, while it moves.
    pub(crate) metric: Option<&'a Counter>,
}

/// How a tunnel fares, as one way through it sees it.
#[derive(Clone, Copy)]
struct State<'a> {
    /// When anything moved last.
    touched: &'a Cell<Instant>,
    /// Whether this way holds nothing and waits.
    rests: &'a Cell<bool>,
    /// Whether one of the two ways has come to its end.
    is_one_done: &'a Cell<bool>,
}

/// What one end has sent.
struct Piece {
    buffer: Buffer,
    /// Nothing comes after it: that was all, or it broke.
    end: Option<io::Result<()>>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Both ends have said all that they had to say.
    Both,
    /// Neither has said anything for too long.
    Idle,
    /// It has lasted as long as it may.
    Expired,
    /// The server was found down.
    Cut,
    /// An operator wanted it.
    Closed,
    /// One of them has gone.
    Broken,
    /// It has not ended: somebody else can go on with it, as nothing of it is here.
    Left,
}

impl End {
    /// What it is called where it is not the ends' own.
    pub(crate) fn reason(self) -> Option<(Reason, &'static str)> {
        Some(match self {
            Self::Both | Self::Left => return None,
            Self::Idle => (Reason::ConnectionReadTimeout, "nothing moved for too long"),
            Self::Expired => (Reason::ConnectionTerminated, "it lasted as long as it may"),
            Self::Cut => (Reason::DestinationUnavailable, "found down by its checks"),
            Self::Closed => (Reason::ConnectionTerminated, "closed by an operator"),
            Self::Broken => (Reason::ConnectionTerminated, "one end broke off"),
        })
    }
}

impl Tunnel<'_> {
    /// Moves bytes until it ends. An end that stops sending may still receive.
    pub(crate) async fn run(&self, up: Way<'_>, down: Way<'_>) -> End {
        let touched = &self.session.touched;
        touched.set(clock::now());
        self.timer.set(self.deadline(touched.get()));
        let cut = async {
            match self.cut {
                Some(cut) => cut.notified().await,
                None => pending().await,
            }
        };
        let mut cut = pin!(cut);
        let rests = [Cell::new(false), Cell::new(false)];
        let [up_rests, down_rests] = &rests;
        let is_one_done = &Cell::new(false);
        let state = |rests| State {
            touched,
            rests,
            is_one_done,
        };
        let mut up = pin!(self.pump(self.client, self.server, up, state(up_rests)));
        let mut down = pin!(self.pump(self.server, self.client, down, state(down_rests)));
        let (mut is_up_done, mut is_down_done) = (false, false);
        let end = poll_fn(|context| {
            if !is_up_done && let Poll::Ready(outcome) = up.as_mut().poll(context) {
                is_up_done = true;
                if outcome.is_err() {
                    return Poll::Ready(End::Broken);
                }
            }
            if !is_down_done && let Poll::Ready(outcome) = down.as_mut().poll(context) {
                is_down_done = true;
                if outcome.is_err() {
                    return Poll::Ready(End::Broken);
                }
            }
            if is_up_done && is_down_done {
                return Poll::Ready(End::Both);
            }
            if cut.as_mut().poll(context).is_ready() {
                return Poll::Ready(End::Cut);
            }
            if rests.iter().all(Cell::get) && !self.stays.get() && (self.may_leave)() {
                return Poll::Ready(End::Left);
            }
            if self.session.is_closed() {
                return Poll::Ready(End::Closed);
            }
            loop {
                ready!(self.timer.poll(context));
                let now = clock::now();
                if self.until.is_some_and(|until| until <= now) {
                    return Poll::Ready(End::Expired);
                }
                if touched.get() + self.idle <= now {
                    return Poll::Ready(End::Idle);
                }
                self.timer.set(self.deadline(touched.get()));
            }
        });
        let end = end.await;
        if matches!(end, End::Broken | End::Cut | End::Closed) {
            stream::reset_on_close(self.client);
            stream::reset_on_close(self.server);
        }
        end
    }

    /// The same, but that `hand_on` may leave it to somebody else, who then has it: here, it has not ended.
    pub(crate) async fn run_or_leave<'w>(
        &self,
        (mut up, mut down): (Way<'w>, Way<'w>),
        hand_on: impl AsyncFn() -> bool,
    ) -> End {
        loop {
            let later = (up.later(), down.later());
            let end = self.run(up, down).await;
            // Boxed: it is rare, and a tunnel that lasts must be small.
            if end != End::Left || Box::pin(hand_on()).await {
                return end;
            }
            self.stays.set(true);
            (up, down) = later;
        }
    }

    /// When it ends if nothing moves any more.
    fn deadline(&self, touched: Instant) -> Instant {
        let idle = touched + self.idle;
        self.until.map_or(idle, |until| until.min(idle))
    }

    /// Moves what one end sends to the other, and then its end.
    async fn pump(
        &self,
        from: &Socket,
        to: &Socket,
        way: Way<'_>,
        state: State<'_>,
    ) -> io::Result<()> {
        let State { touched, rests, .. } = state;
        write(to, way.early, Then::Open).await?;
        way.count(way.early.len());
        loop {
            rests.set(true);
            let Piece { buffer, end } = self.read(from).await;
            rests.set(false);
            touched.set(clock::now());
            let bytes = buffer.filled().len();
            let then = match end {
                Some(Ok(())) => Then::End,
                Some(Err(_)) | None => Then::Open,
            };
            write(to, buffer.filled(), then).await?;
            way.count(bytes);
            if let Some(end) = end {
                rests.set(true);
                // Behind the second end both are closed at once, which says the same.
                let is_last = state.is_one_done.replace(true) && to.is_direct();
                return end.map(|()| match is_last {
                    true => {}
                    false => stream::shutdown_write(to),
                });
            }
            let is_fast = bytes == BUFFER_BYTES;
            drop(buffer);
            if is_fast && from.is_direct() && to.is_direct() {
                self.splice(from, to, &way, touched).await?;
            }
        }
    }

    /// What comes next. Where the end is known to have come as well, it is read at once: both then leave
    /// in one packet.
    async fn read(&self, from: &Socket) -> Piece {
        poll_fn(|context| {
            let mut buffer = self.buffers.lend();
            let end = loop {
                match stream::poll_read(from, context, &mut buffer) {
                    Poll::Pending if buffer.is_empty() => return Poll::Pending,
                    Poll::Pending => break None,
                    Poll::Ready(Ok(0)) if stream::was_cut_off(from) => {
                        break Some(Err(io::ErrorKind::UnexpectedEof.into()));
                    }
                    Poll::Ready(Ok(0)) => break Some(Ok(())),
                    Poll::Ready(Ok(_)) if buffer.room().is_empty() => break None,
                    Poll::Ready(Ok(_)) if from.has_news_of_end(context) => {}
                    Poll::Ready(Ok(_)) => break None,
                    Poll::Ready(Err(error)) => break Some(Err(error)),
                }
            };
            Poll::Ready(Piece { buffer, end })
        })
        .await
    }

    /// Moves bytes through a pipe for as long as they keep coming.
    async fn splice(
        &self,
        from: &Socket,
        to: &Socket,
        way: &Way<'_>,
        touched: &Cell<Instant>,
    ) -> io::Result<()> {
        let Ok(mut pipe) = self.pipes.lend() else {
            return Ok(()); // without one it goes on as it did
        };
        loop {
            let taken = poll_fn(|context| Poll::Ready(pipe.poll_fill(from, context, u64::MAX)));
            match taken.await {
                // Who reads next finds the same end.
                Poll::Pending | Poll::Ready(Ok(0)) => return Ok(()),
                Poll::Ready(taken) => way.count(taken?),
            }
            touched.set(clock::now());
            while pipe.held() > 0 {
                poll_fn(|context| pipe.poll_drain(to, context)).await?;
            }
        }
    }
}

impl Way<'_> {
    /// The same, when what was read already has gone.
    fn later(&self) -> Self {
        Self {
            early: &[],
            ..*self
        }
    }

    fn count(&self, bytes: usize) {
        self.moved.set(self.moved.get() + bytes as u64);
        if let Some(metric) = self.metric {
            metric.add(bytes as u64);
        }
    }
}

async fn write(to: &Socket, mut bytes: &[u8], then: Then) -> io::Result<()> {
    while !bytes.is_empty() {
        let write = poll_fn(|context| stream::poll_write(to, context, bytes, then));
        let written = write.await?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
