//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How many seconds the kernel waits for a client's first bytes before it gives us the connection
/// without them. It rounds to its own schedule: one repeated handshake packet.
const FIRST_BYTES: libc::c_int = 1;

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
pub fn bind(address: SocketAddr, first: First, workers: usize) -> io::Result<Vec<TcpListener>> {
    let open = |address| open(address, first);
    (0..workers).map(|_| bind_one(address, open)).collect()
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
    let open = |address| open_datagrams(address, too_long);
    (0..workers).map(|_| bind_one(address, open)).collect()
}

fn bind_one<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    match open(address) {
        // `:80` means every address; on a machine without IPv6 that is every IPv4 address.
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && is_no_ipv6(&error) => {
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        outcome => outcome,
    }
}

fn is_no_ipv6(error: &io::Error) -> bool {
    let code = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    matches!(
        code,
        Some(rustix::io::Errno::AFNOSUPPORT | rustix::io::Errno::ADDRNOTAVAIL)
    )
}

/// A socket that one a worker may have on the same address.
fn socket(address: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, kind.cloexec().nonblocking(), Some(protocol))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    Ok(socket)
}

fn open_datagrams(address: SocketAddr, too_long: TooLong) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP)?;
    socket.set_recv_buffer_size(DATAGRAM_BYTES_WAITING)?;
    if address.ip().is_unspecified() {
        // Who listens on every address answers from the one that was spoken to.
        match address {
            SocketAddr::V4(_) => set(&socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => set(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
        }
    }
    if too_long == TooLong::Lost {
        keep_whole(&socket, address.is_ipv6())?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn open(address: SocketAddr, first: First) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a call for each.
    socket.set_tcp_nodelay(true)?;
    if first == First::Client {
        defer_accept(&socket, FIRST_BYTES);
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Has the kernel wait a while for the first bytes of a client that speaks first: a connection then arrives with its request, and need not be watched to have it read.
pub(crate) fn defer_accept(socket: impl AsFd, seconds: libc::c_int) {
    if let Err(error) = set(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, seconds) {
        // Without it connections arrive a moment earlier, and cost a little more.
        tracing::debug!(%error, "cannot defer accepting");
    }
}

/// Has datagrams go whole or not at all, whatever is known of the path.
pub(crate) fn keep_whole(socket: impl AsFd, is_ipv6: bool) -> io::Result<()> {
    if is_ipv6 {
        let probe = libc::IPV6_PMTUDISC_PROBE;
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, probe)?;
    }
    // Sockets for both versions send IPv4, too.
    let probe = libc::IP_PMTUDISC_PROBE;
    set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, probe)
}

/// Sets an option that is a number.
fn set(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "the size is four")]
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads one integer, of the size that is given, and keeps nothing.
    #[expect(unsafe_code, reason = "no safe wrapper knows these options")]
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
