//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::options::{Options, set_number};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How many seconds the kernel waits for a client's first bytes before it gives us the connection
/// without them. It rounds to its own schedule: one repeated handshake packet.
pub(crate) const FIRST_BYTES: libc::c_int = 1;

/// Bytes of datagrams that may wait to be read; the kernel caps it at `net.core.rmem_max`.
const DATAGRAM_BYTES_WAITING: usize = 4 * 1024 * 1024;

/// Who speaks first on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The client: until it has, there is nothing to do.
    Client,
    /// Either end.
    Either,
}

/// How an address is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who speaks first there.
    pub first: First,
    /// What the system does for its connections.
    pub options: Options,
}

impl Terms {
    /// Tells whether a socket that was opened on `other` terms can listen on these: all else but several paths can
    /// be said to it later.
    #[must_use]
    pub fn fit(&self, other: &Self) -> bool {
        self.options.multipath == other.options.multipath
    }
}

/// What becomes of datagrams that are too long for the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooLong {
    /// They are sent in pieces, which are put together at the other end.
    Fragmented,
    /// They are lost: whoever sends them wants to know how long they may be (RFC 9000 §14).
    Lost,
}

/// Opens one listening socket a worker for `address`; the kernel spreads connections over them.
///
/// # Errors
/// The address cannot be listened on.
pub fn bind(address: SocketAddr, terms: Terms, workers: usize) -> io::Result<Vec<TcpListener>> {
    bind_all(address, workers, |address, presence| {
        open(address, terms, presence)
    })
}

/// Opens one socket for datagrams a worker for `address`; the kernel has each client's come to one of them.
///
/// # Errors
/// The address cannot be listened on.
pub fn bind_datagrams(
    address: SocketAddr,
    too_long: TooLong,
    workers: usize,
) -> io::Result<Vec<UdpSocket>> {
    bind_all(address, workers, |address, presence| {
        open_datagrams(address, too_long, presence)
    })
}

fn bind_all<T>(
    address: SocketAddr,
    workers: usize,
    open: impl Fn(SocketAddr, Presence) -> io::Result<T>,
) -> io::Result<Vec<T>> {
    let mut sockets = Vec::with_capacity(workers);
    let mut presence = Presence::Here;
    for _ in 0..workers {
        let socket = match bind_one(address, presence, &open) {
            Err(error) if is(&error, Errno::ADDRNOTAVAIL) && presence == Presence::Here => {
                tracing::warn!(%address, "the address is not on this machine; listening in case it comes");
                presence = Presence::ToCome;
                bind_one(address, presence, &open)
            }
            bound => bound,
        };
        sockets.push(socket?);
    }
    Ok(sockets)
}

/// Whether the machine has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Here,
    /// Not yet: another node has it, or its interface is down.
    ToCome,
}

fn bind_one<T>(
    address: SocketAddr,
    presence: Presence,
    open: impl Fn(SocketAddr, Presence) -> io::Result<T>,
) -> io::Result<T> {
    match open(address, presence) {
        // `:80` means every address; on a machine without IPv6 that is every IPv4 address.
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && is_no_ipv6(&error) => {
            let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            open(all, presence)
        }
        outcome => outcome,
    }
}

fn is_no_ipv6(error: &io::Error) -> bool {
    is(error, Errno::AFNOSUPPORT) || is(error, Errno::ADDRNOTAVAIL)
}

fn is(error: &io::Error, what: Errno) -> bool {
    error.raw_os_error() == Some(what.raw_os_error())
}

/// Has as many sockets as there are workers share an address, which need not be there yet.
fn prepare(socket: &Socket, address: SocketAddr, presence: Presence) -> io::Result<()> {
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    if presence == Presence::ToCome {
        match address {
            SocketAddr::V4(_) => socket.set_freebind_v4(true),
            SocketAddr::V6(_) => socket.set_freebind_v6(true),
        }?;
    }
    Ok(())
}

fn open_datagrams(
    address: SocketAddr,
    too_long: TooLong,
    presence: Presence,
) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.cloexec().nonblocking();
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
    prepare(&socket, address, presence)?;
    prepare_for_datagrams(&socket, address, too_long)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn prepare_for_datagrams(
    socket: &Socket,
    address: SocketAddr,
    too_long: TooLong,
) -> io::Result<()> {
    socket.set_recv_buffer_size(DATAGRAM_BYTES_WAITING)?;
    if address.ip().is_unspecified() {
        // Who listens on every address answers from the one that was spoken to.
        match address {
            SocketAddr::V4(_) => set_number(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => {
                set_number(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            }
        }
    }
    if too_long == TooLong::Lost {
        keep_whole(socket, address.is_ipv6())?;
    }
    Ok(())
}

/// Listens by a socket that another program has opened. The terms of the listener are to be set after that.
///
/// # Errors
/// As those of sockets.
pub fn adopt(socket: OwnedFd) -> io::Result<TcpListener> {
    let socket = Socket::from(socket);
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

/// The same for datagrams.
///
/// # Errors
/// As those of sockets.
pub fn adopt_datagrams(
    socket: OwnedFd,
    address: SocketAddr,
    too_long: TooLong,
) -> io::Result<UdpSocket> {
    let socket = Socket::from(socket);
    prepare_for_datagrams(&socket, address, too_long)?;
    Ok(socket.into())
}

fn open(address: SocketAddr, terms: Terms, presence: Presence) -> io::Result<TcpListener> {
    let kind = Type::STREAM.cloexec().nonblocking();
    let domain = Domain::for_address(address);
    let socket = |protocol| Socket::new(domain, kind, Some(protocol));
    let socket = match terms.options.multipath {
        true => socket(Protocol::MPTCP).or_else(|error| {
            tracing::warn!(%address, %error, "the system has no connections of several paths");
            socket(Protocol::TCP)
        }),
        false => socket(Protocol::TCP),
    }?;
    socket.set_reuse_address(true)?;
    prepare(&socket, address, presence)?;
    // Accepted sockets inherit it, which saves a call for each.
    socket.set_tcp_nodelay(true)?;
    terms.options.set_listening(&socket);
    if terms.first == First::Client {
        defer_accept(&socket, FIRST_BYTES);
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Has the kernel wait a while for the first bytes of a client that speaks first: a connection then arrives with its request, and need not be watched to have it read.
pub(crate) fn defer_accept(socket: impl AsFd, seconds: libc::c_int) {
    let name = libc::TCP_DEFER_ACCEPT;
    if let Err(error) = set_number(socket, libc::IPPROTO_TCP, name, seconds) {
        // Without it connections arrive a moment earlier, and cost a little more.
        tracing::debug!(%error, "cannot defer accepting");
    }
}

/// Has datagrams go whole or not at all, whatever is known of the path.
pub(crate) fn keep_whole(socket: impl AsFd, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set_number(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
    }
    // Sockets for both versions send IPv4, too.
    let probe = libc::IP_PMTUDISC_PROBE;
    set_number(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)
}
