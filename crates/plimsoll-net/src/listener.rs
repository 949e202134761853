//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use crate::options::{Options, set_number};

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

/// How an address is listened on.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Who speaks first there.
    pub first: First,
    /// What the system does for its connections.
    pub options: Options,
}

/// Opens one listening socket a worker for `address`; the kernel spreads connections over them.
///
/// # Errors
/// The address cannot be listened on.
pub fn bind(address: SocketAddr, terms: Terms, workers: usize) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::with_capacity(workers);
    let mut presence = Presence::Here;
    for _ in 0..workers {
        let socket = match bind_one(address, terms, presence) {
            Err(error) if is(&error, Errno::ADDRNOTAVAIL) && presence == Presence::Here => {
                tracing::warn!(%address, "the address is not on this machine; listening in case it comes");
                presence = Presence::ToCome;
                bind_one(address, terms, presence)
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

fn bind_one(address: SocketAddr, terms: Terms, presence: Presence) -> io::Result<TcpListener> {
    match open(address, terms, presence) {
        // `:80` means every address; on a machine without IPv6 that is every IPv4 address.
        Err(error) if address.ip().is_unspecified() && address.is_ipv6() && is_no_ipv6(&error) => {
            let all = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
            open(all, terms, presence)
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
