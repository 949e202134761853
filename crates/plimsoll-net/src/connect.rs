//! Opening a connection to a server.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};

/// Connects to the first of `addresses` that answers.
///
/// # Errors
/// What the last address said.
pub async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
    for &address in addresses {
        outcome = connect_one(address).await;
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

async fn connect_one(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A head and its body leave in one write; what follows must not wait for an acknowledgement.
    socket.set_nodelay(true)?;
    socket.connect(address).await
}
