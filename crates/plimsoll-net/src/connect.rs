//! Opening a connection to a server.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use socket2::SockRef;

use crate::options::{Options, set_number};
use crate::socket::Socket;

/// How connections to some servers are opened.
#[derive(Debug, Default)]
pub struct Connector {
    /// From where.
    pub source: Source,
    /// What the system does for them.
    pub options: Options,
}

/// From where connections are made.
#[derive(Debug, Default)]
pub enum Source {
    /// Wherever the system says.
    #[default]
    System,
    /// Addresses of this machine.
    Turns(Turns),
    /// The address of the client.
    Client,
}

/// Addresses of which each has its turn.
#[derive(Debug)]
pub struct Turns {
    v4: Box<[IpAddr]>,
    v6: Box<[IpAddr]>,
    next: AtomicUsize,
}

impl Turns {
    /// These addresses, of either kind.
    pub fn new(addresses: &[IpAddr]) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) = addresses.iter().partition(|ip| ip.is_ipv4());
        Self {
            v4: v4.into(),
            v6: v6.into(),
            next: AtomicUsize::new(0),
        }
    }

    /// All that can reach `server`, beginning with the one whose turn it is.
    pub fn to(&self, server: IpAddr) -> impl Iterator<Item = IpAddr> {
        let of_its_kind = match server {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => &self.v6,
        };
        let turn = match of_its_kind.len() {
            0 | 1 => 0,
            many => self.next.fetch_add(1, Ordering::Relaxed) % many,
        };
        let all = of_its_kind.iter().cycle().skip(turn);
        all.take(of_its_kind.len()).copied()
    }
}

/// Whose address a socket takes.
#[derive(Clone, Copy, Debug)]
enum Local {
    /// What the system says.
    Any,
    /// One of this machine.
    Ours(IpAddr),
    /// One that is not.
    Foreign(IpAddr),
}

impl Connector {
    /// Connects to the first of `addresses` that answers, on behalf of `client`, if there is one.
    ///
    /// # Errors
    /// What the last address said.
    pub async fn connect(
        &self,
        addresses: &[SocketAddr],
        client: Option<IpAddr>,
    ) -> io::Result<Socket> {
        let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
        for &address in addresses {
            outcome = self.connect_to(address, client).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Where a check of `server` comes from: where connections come from that are nobody's.
    pub fn own_source(&self, server: IpAddr) -> Option<IpAddr> {
        match &self.source {
            Source::Turns(turns) => turns.to(server).next(),
            Source::System | Source::Client => None,
        }
    }

    async fn connect_to(&self, server: SocketAddr, client: Option<IpAddr>) -> io::Result<Socket> {
        match (&self.source, client) {
            (Source::Turns(turns), _) => self.connect_in_turn(server, turns).await,
            (Source::Client, Some(client)) if client.is_ipv4() != server.is_ipv4() => {
                Err(io::ErrorKind::Unsupported.into())
            }
            (Source::Client, Some(client)) => {
                self.connect_from(server, Local::Foreign(client)).await
            }
            (Source::System, _) | (Source::Client, None) => {
                self.connect_from(server, Local::Any).await
            }
        }
    }

    /// Connects from the next address that has a port to spare.
    async fn connect_in_turn(&self, server: SocketAddr, turns: &Turns) -> io::Result<Socket> {
        let mut outcome = None;
        for own in turns.to(server.ip()) {
            let connected = self.connect_from(server, Local::Ours(own)).await;
            match connected {
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    outcome = Some(Err(error));
                }
                connected => return connected,
            }
        }
        match outcome {
            Some(outcome) => outcome,
            // There is none of the server's kind.
            None => self.connect_from(server, Local::Any).await,
        }
    }

    async fn connect_from(&self, server: SocketAddr, local: Local) -> io::Result<Socket> {
        let socket = self.open(server)?;
        bind(&socket, local)?;
        match rustix::net::connect(&socket, &server) {
            Ok(()) => Ok(Socket::new(socket)),
            Err(rustix::io::Errno::INPROGRESS) => {
                let socket = Socket::new(socket);
                poll_fn(|context| socket.poll_connected(context)).await?;
                Ok(socket)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self, server: SocketAddr) -> io::Result<OwnedFd> {
        let family = if server.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            |protocol| rustix::net::socket_with(family, SocketType::STREAM, flags, protocol);
        let socket = match self.options.multipath {
            true => socket(Some(ipproto::MPTCP)).or_else(|_| socket(None)),
            false => socket(None),
        }?;
        // A head and its body leave in one write; what follows must not wait for an acknowledgement.
        sockopt::set_tcp_nodelay(&socket, true)?;
        self.options.set(&socket);
        Ok(socket)
    }
}

/// Gives a socket its address. Its port is chosen when it connects: many servers can then be reached from one.
fn bind(socket: &OwnedFd, local: Local) -> io::Result<()> {
    let address = match local {
        Local::Any => return Ok(()),
        Local::Ours(address) => address,
        Local::Foreign(address) => {
            be_transparent(socket, address)?;
            address
        }
    };
    // Without it a port is taken now, and each can be had once only.
    let _ = set_number(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
    Ok(rustix::net::bind(socket, &SocketAddr::new(address, 0))?)
}

fn be_transparent(socket: &OwnedFd, address: IpAddr) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match address {
        IpAddr::V4(_) => socket.set_ip_transparent_v4(true),
        IpAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// Tells whether connections can be made from addresses of others.
///
/// # Errors
/// What the system says against it.
pub fn check_transparent() -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    be_transparent(&socket, IpAddr::from([127, 0, 0, 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_address_of_a_kind_has_its_turn_and_all_are_tried() {
        let turns = Turns::new(&ips(&["10.0.0.1", "::1", "10.0.0.2", "10.0.0.3"]));
        let server = "10.0.0.9".parse().unwrap();
        let order = |from: &Turns| from.to(server).collect::<Vec<_>>();
        assert_eq!(order(&turns), ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3"]));
        assert_eq!(order(&turns), ips(&["10.0.0.2", "10.0.0.3", "10.0.0.1"]));
        let v6 = "2001:db8::1".parse().unwrap();
        assert_eq!(turns.to(v6).collect::<Vec<_>>(), ips(&["::1"]));
        assert_eq!(Turns::new(&ips(&["::1"])).to(server).count(), 0);
    }
}
