//! Ports for programs that cannot take one from the system.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixDatagram};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::wait;

/// Below the range from which Linux takes the ports of outgoing connections, so that none of
/// those is in the way between the choice of a port and its use.
const RANGE: std::ops::Range<u16> = 10_240..32_000;

/// What this process reserved: a name in the abstract Unix space for each port, which the kernel
/// frees when the process ends, however it ends.
static RESERVED: Mutex<Vec<UnixDatagram>> = Mutex::new(Vec::new());

/// Returns a port that nobody listens on and no other test process has been given.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free() -> u16 {
    // Processes start at different places, so that they seldom try the same ports.
    let start = std::process::id().wrapping_mul(7_919) % u32::from(RANGE.end - RANGE.start);
    let ports = RANGE.cycle().skip(start as usize).take(RANGE.len());
    let mut reserved = RESERVED.lock().unwrap_or_else(PoisonError::into_inner);
    for port in ports {
        let Ok(name) = UnixAddress::from_abstract_name(format!("plimsoll-e2e-port-{port}")) else {
            continue;
        };
        let Ok(lock) = UnixDatagram::bind_addr(&name) else {
            continue;
        };
        let place = (Ipv4Addr::LOCALHOST, port);
        if TcpListener::bind(place).is_ok() && UdpSocket::bind(place).is_ok() {
            reserved.push(lock);
            return port;
        }
    }
    panic!("no port is free in {RANGE:?}")
}

/// Returns the loopback address with this port.
#[must_use]
pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Tells whether somebody listens on `port`, without connecting: a test counts connections.
#[must_use]
pub fn is_listening(port: u16) -> bool {
    lists("tcp", port, "0A")
}

/// Tells whether somebody takes datagrams on `port` from everybody.
#[must_use]
pub fn is_receiving(port: u16) -> bool {
    lists("udp", port, "07")
}

/// Waits until somebody listens on `port`; tells whether that came true.
#[must_use]
pub fn wait_listening(port: u16, within: Duration) -> bool {
    wait::until(within, || is_listening(port).then_some(())).is_some()
}

/// Returns how many bytes wait to be read on the connection from `port` to `to`, on this machine.
#[must_use]
pub fn unread(port: u16, to: u16) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let (local, remote) = (format!(":{port:04X}"), format!(":{to:04X}"));
    let found = table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let ours = columns.next()?.ends_with(&local) && columns.next()?.ends_with(&remote);
        let (_, waiting) = columns.nth(1)?.split_once(':')?;
        ours.then(|| usize::from_str_radix(waiting, 16).unwrap_or(0))
    });
    found.unwrap_or(0)
}

/// Returns the addresses of this machine from which connections to `to` are being opened, as the
/// kernel writes them.
#[must_use]
pub fn opening(to: u16) -> BTreeSet<String> {
    connections("tcp", to, "02")
}

/// Returns the addresses of this machine from which connections to `to` are open.
#[must_use]
pub fn open(to: u16) -> BTreeSet<String> {
    connections("tcp", to, "01")
}

/// Returns the addresses of this machine whose sockets for datagrams are connected to `to`.
#[must_use]
pub fn linked(to: u16) -> BTreeSet<String> {
    connections("udp", to, "01")
}

fn connections(protocol: &str, to: u16, wanted: &str) -> BTreeSet<String> {
    let table = fs::read_to_string(format!("/proc/net/{protocol}")).unwrap_or_default();
    let to = format!(":{to:04X}");
    let local = |line: &str| {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (columns.next()?, columns.next()?, columns.next()?);
        (remote.ends_with(&to) && state == wanted).then(|| local.to_owned())
    };
    table.lines().filter_map(local).collect()
}

/// Reads the kernel's tables: `sl local_address rem_address st …`, address and port in
/// hexadecimal, state 0A for a listening socket of TCP and 07 for one of UDP that is not connected.
fn lists(protocol: &str, port: u16, wanted: &str) -> bool {
    let port = format!(":{port:04X}");
    let tables = ["", "6"].map(|version| format!("/proc/net/{protocol}{version}"));
    let tables = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok());
    tables.into_iter().any(|table| {
        table.lines().any(|line| {
            let mut columns = line.split_ascii_whitespace().skip(1);
            let (local, state) = (columns.next(), columns.nth(1));
            local.is_some_and(|local| local.ends_with(&port)) && state == Some(wanted)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_can_be_bound() {
        let ports: Vec<_> = (0..20).map(|_| free()).collect();
        let listeners: Vec<_> = ports
            .iter()
            .map(|&port| TcpListener::bind(local(port)).unwrap())
            .collect();
        assert_eq!(listeners.len(), 20);
    }

    #[test]
    fn sees_a_listener_come_and_go() {
        let port = free();
        assert!(!is_listening(port));
        let listener = TcpListener::bind(local(port)).unwrap();
        assert!(wait_listening(port, Duration::from_secs(5)));
        drop(listener);
        assert!(!is_listening(port));
    }
}
