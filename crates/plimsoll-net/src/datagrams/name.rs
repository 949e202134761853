//! Addresses as the kernel writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for the address of a socket: `sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(4))]
pub(super) struct Name(pub(super) [u8; 28]);

const INET: [u8; 2] = family(libc::AF_INET);
const INET6: [u8; 2] = family(libc::AF_INET6);

#[expect(clippy::cast_possible_truncation, reason = "families are small")]
const fn family(number: libc::c_int) -> [u8; 2] {
    (number as libc::sa_family_t).to_ne_bytes()
}

impl Name {
    /// What it says, if that is the address of a socket of the internet.
    pub(super) fn read(&self) -> Option<SocketAddr> {
        let [f0, f1, p0, p1, rest @ ..] = self.0;
        let port = u16::from_be_bytes([p0, p1]);
        if [f0, f1] == INET {
            let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            return Some(SocketAddrV4::new(ip, port).into());
        }
        let (flow, rest) = rest.split_first_chunk::<4>()?;
        let (ip, rest) = rest.split_first_chunk::<16>()?;
        let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
        let flow = u32::from_be_bytes(*flow);
        let name = SocketAddrV6::new(Ipv6Addr::from(*ip), port, flow, scope);
        ([f0, f1] == INET6).then_some(name.into())
    }

    /// Writes an address; returns how many bytes that takes.
    pub(super) fn write(&mut self, address: &SocketAddr) -> u32 {
        let mut out = Writer {
            out: &mut self.0,
            at: 0,
        };
        match address {
            SocketAddr::V4(v4) => {
                out.put(&INET);
                out.put(&v4.port().to_be_bytes());
                out.put(&v4.ip().octets());
                out.put(&[0; 8]);
            }
            SocketAddr::V6(v6) => {
                out.put(&INET6);
                out.put(&v6.port().to_be_bytes());
                out.put(&v6.flowinfo().to_be_bytes());
                out.put(&v6.ip().octets());
                out.put(&v6.scope_id().to_ne_bytes());
            }
        }
        u32::try_from(out.at).unwrap_or_default()
    }
}

/// Room for what comes beside a datagram.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u64; 8]);

/// Length, level and type of a message, as in `cmsghdr`.
const HEAD_BYTES: usize = 16;

/// What a message about the local address says.
const PKTINFO: (libc::c_int, libc::c_int) = (libc::IPPROTO_IP, libc::IP_PKTINFO);
const PKTINFO6: (libc::c_int, libc::c_int) = (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO);

impl Control {
    /// The bytes of all its words.
    fn bytes(&self) -> [u8; 64] {
        let mut out = [0; 64];
        let words = out.chunks_exact_mut(8).zip(self.0);
        words.for_each(|(bytes, word)| bytes.copy_from_slice(&word.to_ne_bytes()));
        out
    }

    /// The address that a datagram was sent to, if the first `len` bytes say so.
    pub(super) fn read(&self, len: usize) -> Option<IpAddr> {
        if len < HEAD_BYTES {
            return None;
        }
        let bytes = self.bytes();
        let mut left = bytes.get(..len)?;
        while let Some((head, _)) = left.split_first_chunk::<HEAD_BYTES>() {
            let (size, kind) = head.split_first_chunk::<8>()?;
            let size = usize::try_from(u64::from_ne_bytes(*size)).ok()?;
            let (level, kind) = kind.split_first_chunk::<4>()?;
            let level = libc::c_int::from_ne_bytes(*level);
            let kind = libc::c_int::from_ne_bytes(*kind.first_chunk::<4>()?);
            let data = left.get(HEAD_BYTES..size)?;
            match (level, kind) {
                // The index of an interface, the address that was chosen for us, and the one in the packet.
                PKTINFO => return Some(Ipv4Addr::from(*data.get(8..12)?.first_chunk()?).into()),
                PKTINFO6 => return Some(Ipv6Addr::from(*data.first_chunk::<16>()?).into()),
                _ => left = left.get(size.next_multiple_of(8).max(HEAD_BYTES)..)?,
            }
        }
        None
    }

    /// Says from which address a datagram goes; returns how many bytes that takes.
    pub(super) fn write(&mut self, local: IpAddr) -> usize {
        let mut bytes = [0; 64];
        let mut out = Writer {
            out: &mut bytes,
            at: 0,
        };
        let (size, (level, kind)) = match local {
            IpAddr::V4(_) => (12, PKTINFO),
            IpAddr::V6(_) => (20, PKTINFO6),
        };
        out.put(&(HEAD_BYTES as u64 + size).to_ne_bytes());
        out.put(&level.to_ne_bytes());
        out.put(&kind.to_ne_bytes());
        match local {
            IpAddr::V4(ip) => {
                out.put(&[0; 4]);
                out.put(&ip.octets());
                out.put(&[0; 4]);
            }
            IpAddr::V6(ip) => {
                out.put(&ip.octets());
                out.put(&[0; 4]);
            }
        }
        let len = out.at.next_multiple_of(8);
        let words = bytes
            .chunks_exact(8)
            .filter_map(|bytes| bytes.first_chunk());
        let words = self.0.iter_mut().zip(words);
        words.for_each(|(word, bytes)| *word = u64::from_ne_bytes(*bytes));
        len
    }
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.out.get_mut(self.at..self.at + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.at += bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_went() {
        let link = SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0x1234, 3);
        for address in [
            "192.0.2.1:53".parse().unwrap(),
            "[2001:db8::1]:443".parse().unwrap(),
            link.into(),
        ] {
            let mut name = Name::default();
            let len = name.write(&address);
            assert_eq!(len, if address.is_ipv4() { 16 } else { 28 });
            assert_eq!(name.read(), Some(address));
        }
        assert_eq!(Name::default().read(), None);
    }

    #[test]
    fn what_is_beside_a_datagram_names_the_local_address() {
        let mut control = Control::default();
        let v6: IpAddr = "2001:db8::7".parse().unwrap();
        let len = control.write(v6);
        assert_eq!((len, control.read(len)), (40, Some(v6)));
        // The kernel reads an address in the middle and writes one at the end.
        let v4: IpAddr = "192.0.2.7".parse().unwrap();
        let len = control.write(v4);
        assert_eq!(
            (len, control.read(len)),
            (32, Some("0.0.0.0".parse().unwrap()))
        );
        assert_eq!(control.read(8), None);
        assert_eq!(Control::default().read(64), None);
    }
}
