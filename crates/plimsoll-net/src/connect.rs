//! Opening a connection to a server.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::socket::Socket;

/// Connects to the first of `addresses` that answers.
///
/// # Errors
/// What the last address said.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<Socket> {
    let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
    for &address in addresses {
        outcome = connect_one(address).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

async fn connect_one(address: SocketAddr) -> io::Result<Socket> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A head and its body leave in one write; what follows must not wait for an acknowledgement.
    sockopt::set_tcp_nodelay(&socket, true)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) => Ok(Socket::new(socket)),
        Err(rustix::io::Errno::INPROGRESS) => {
            let socket = Socket::new(socket);
            poll_fn(|context| socket.poll_writable(context)).await?;
            sockopt::socket_error(socket.fd()?)??;
            Ok(socket)
        }
        Err(error) => Err(error.into()),
    }
}
