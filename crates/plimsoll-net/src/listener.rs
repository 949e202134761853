//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// How many seconds the kernel waits for a client's first bytes before it gives us the connection
/// without them. It rounds to its own schedule: one repeated handshake packet.
const FIRST_BYTES: libc::c_int = 1;

/// Who speaks first on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The client: until it has, there is nothing to do.
    Client,
    /// Either end.
    Either,
}

/// Opens one listening socket a worker for `address`; the kernel spreads connections over them.
///
/// # Errors
/// The address cannot be listened on.
pub fn bind(address: SocketAddr, first: First, workers: usize) -> io::Result<Vec<TcpListener>> {
    (0..workers).map(|_| bind_one(address, first)).collect()
}

fn bind_one(address: SocketAddr, first: First) -> io::Result<TcpListener> {
    match open(address, first) {
        // `:80` means every address; on a machine without IPv6 that is every IPv4 address.
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && is_no_ipv6(&error) => {
            open(
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())),
                first,
            )
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

fn open(address: SocketAddr, first: First) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec().nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
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
    #[expect(clippy::cast_possible_truncation, reason = "the size is four")]
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads one integer, of the size that is given, and keeps nothing.
    #[expect(unsafe_code, reason = "no safe wrapper knows this option")]
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size,
        )
    };
    if outcome != 0 {
        // Without it connections arrive a moment earlier, and cost a little more.
        tracing::debug!(error = %io::Error::last_os_error(), "cannot defer accepting");
    }
}
