//! Host names of servers, resolved when the configuration is loaded.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use plimsoll_config::model::ServerAddress;

/// The addresses of a server; IPv4 first, as a name may have an IPv6 address that leads nowhere.
///
/// # Errors
/// The name does not resolve.
pub fn resolve(address: &ServerAddress) -> io::Result<Vec<SocketAddr>> {
    match address {
        ServerAddress::Ip(ip, port) => Ok(vec![SocketAddr::from((*ip, *port))]),
        ServerAddress::Name(name, port) => {
            let mut addresses: Vec<_> = (&**name, *port).to_socket_addrs()?.collect();
            addresses.sort_by_key(SocketAddr::is_ipv6);
            addresses.dedup();
            Ok(addresses)
        }
    }
}
