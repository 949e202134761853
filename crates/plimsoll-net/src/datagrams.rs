//! Datagrams: from clients in batches, to servers on a connected socket for each flow.
//!
//! A flow has no task and no registration with the reactor of its own. The sockets of all flows of a
//! [`Port`] are watched by one [`Watch`], which the reactor watches.

mod batch;
mod name;

pub use batch::{Batch, Datagram, SLOTS};

use std::fmt;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll, ready};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;

use crate::accept::watch_reads;
use crate::listener::{TooLong, keep_whole};

/// A socket that clients send to.
#[derive(Debug)]
pub struct Port(AsyncFd<OwnedFd>);

impl Port {
    /// Watches a socket.
    ///
    /// # Errors
    /// The reactor cannot watch it.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        Ok(Self(watch_reads(socket.into())?))
    }

    /// Fills `batch` with what has come.
    pub fn poll_receive(
        &self,
        context: &mut Context<'_>,
        batch: &mut Batch,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(context))?;
            match batch.receive(self.0.get_ref().as_fd()) {
                Ok(received) => {
                    if received < SLOTS {
                        ready.clear_ready(); // there was no more
                    }
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::AGAIN) => ready.clear_ready(),
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    /// Sends what was put into `batch`, and empties it; returns how many of the datagrams went, and how many bytes
    /// they have.
    pub fn send(&self, batch: &mut Batch) -> (usize, u64) {
        batch.send(self.0.get_ref().as_fd())
    }
}

/// A socket that is connected to a server, for one flow.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Connects to `address`, which sends nothing.
    ///
    /// # Errors
    /// There is no way to it, or no descriptor or port left.
    pub fn open(address: &SocketAddr, too_long: TooLong) -> io::Result<Self> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
        if too_long == TooLong::Lost {
            keep_whole(&socket, address.is_ipv6())?;
        }
        rustix::net::connect(&socket, address)?;
        Ok(Self(socket))
    }

    /// Sends one datagram: `header`, where there is one, and `bytes`.
    ///
    /// # Errors
    /// It did not go; [`ConnectionRefused`](io::ErrorKind::ConnectionRefused) is about an earlier one.
    pub fn send(&self, header: &[u8], bytes: &[u8]) -> io::Result<()> {
        if header.is_empty() {
            rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?;
        } else {
            let parts = [IoSlice::new(header), IoSlice::new(bytes)];
            let mut nothing = SendAncillaryBuffer::default();
            rustix::net::sendmsg(&self.0, &parts, &mut nothing, SendFlags::NOSIGNAL)?;
        }
        Ok(())
    }

    /// Puts up to `most` datagrams that have come behind those in `batch`, as far as there is room, to go to
    /// `peer` from `local`; returns how many.
    ///
    /// # Errors
    /// None has come, or an earlier one that was sent has not arrived.
    pub fn receive(
        &self,
        batch: &mut Batch,
        most: usize,
        to: (SocketAddr, Option<IpAddr>),
    ) -> io::Result<usize> {
        Ok(batch.append(self.0.as_fd(), most, to)?)
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How many links are looked at in one turn.
const EVENTS: usize = 64;

/// Tells which links have something to read.
pub struct Watch {
    epoll: AsyncFd<OwnedFd>,
    events: Vec<Event>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.epoll).finish()
    }
}

impl Watch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// There is no descriptor left, or the reactor cannot watch it.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self {
            epoll: watch_reads(epoll)?,
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Watches `link` under `name`, until it is closed.
    ///
    /// # Errors
    /// The kernel has no memory for it.
    pub fn add(&self, link: &Link, name: u64) -> io::Result<()> {
        // For as long as there is something: most links have one answer, and need not be asked whether that was all.
        let flags = EventFlags::IN;
        Ok(epoll::add(
            self.epoll.get_ref(),
            link,
            EventData::new_u64(name),
            flags,
        )?)
    }

    /// Ready when links have something to read; puts their names into `names`. It is to be asked again until it
    /// is not.
    pub fn poll(
        &mut self,
        context: &mut Context<'_>,
        names: &mut Vec<u64>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.epoll.poll_read_ready(context))?;
            self.events.clear();
            let room = spare_capacity(&mut self.events);
            let at_once = Timespec::default();
            match epoll::wait(self.epoll.get_ref(), room, Some(&at_once)) {
                Ok(0) => ready.clear_ready(),
                Ok(_) => {
                    names.extend(self.events.iter().map(|event| event.data.u64()));
                    return Poll::Ready(Ok(()));
                }
                Err(Errno::INTR) => {}
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }
}
