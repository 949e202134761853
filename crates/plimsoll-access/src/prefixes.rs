//! A set of networks: immutable, compact, and found in with two looks.
//!
//! Networks become ranges, merged where they meet, in one sorted list for each family. For IPv4 the
//! upper half of an address says where in the list to look, so that the search that is left is short.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::lines::{self, BadFile, shown};

/// A set of networks.
#[derive(Debug, Default)]
pub struct Prefixes {
    // invariant: sorted, and no range meets the next
    v4: Vec<(u32, u32)>,
    /// For each upper half of an address, the first range that does not end before it; one more at
    /// the end. Nothing when there are few ranges.
    steps: Vec<u32>,
    v6: Vec<(u128, u128)>,
}

/// Up to this many ranges, a plain search is as fast.
const PLAIN_MAX: usize = 64;

impl Prefixes {
    /// Reads a list: an address or a network a line.
    ///
    /// # Errors
    /// The lines that are neither.
    pub fn read(text: &[u8]) -> Result<Self, BadFile> {
        let networks = lines::read(text, |line| {
            let word = line.split([' ', '\t', '#', ';', ',']).next();
            let word = word.unwrap_or_default();
            let network = word.parse::<IpNet>();
            let network = network.or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("{} is neither an address nor a network", shown(word)))
        })?;
        Ok(networks.into_iter().collect())
    }

    /// Tells whether an address is in one of the networks.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(v4) => self.contains_v4(v4.into()),
            IpAddr::V6(v6) => find(&self.v6, v6.into()),
        }
    }

    fn contains_v4(&self, ip: u32) -> bool {
        let half = (ip >> 16) as usize;
        let (Some(from), Some(to)) = (self.steps.get(half), self.steps.get(half + 1)) else {
            return find(&self.v4, ip);
        };
        // The range that begins in this half or before, and the ones up to where the next begins.
        let part = self.v4.get(*from as usize..=*to as usize);
        find(
            part.unwrap_or_else(|| self.v4.get(*from as usize..).unwrap_or_default()),
            ip,
        )
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Tells whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Tells whether one of the sorted ranges holds `ip`.
fn find<T: Copy + Ord>(ranges: &[(T, T)], ip: T) -> bool {
    let at = ranges.partition_point(|(_, end)| *end < ip);
    ranges.get(at).is_some_and(|(begin, _)| *begin <= ip)
}

impl FromIterator<IpNet> for Prefixes {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((net.network().into(), net.broadcast().into())),
                IpNet::V6(net) => {
                    // A mapped network is one of IPv4.
                    let mapped = net.network().to_ipv4_mapped();
                    match (mapped, net.prefix_len().checked_sub(96)) {
                        (Some(begin), Some(length)) => {
                            let begin = u32::from(begin);
                            let rest = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                            v4.push((begin, begin | rest));
                        }
                        _ => v6.push((net.network().into(), net.broadcast().into())),
                    }
                }
            }
        }
        let v4: Vec<(u32, u32)> = merge(v4, |end| end.checked_add(1));
        let v6: Vec<(u128, u128)> = merge(v6, |end| end.checked_add(1));
        let steps = match v4.len() {
            ..=PLAIN_MAX => Vec::new(),
            _ => steps(&v4),
        };
        Self { v4, steps, v6 }
    }
}

/// Sorts ranges and joins those that meet.
fn merge<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    let mut out: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (begin, end) in ranges {
        match out.last_mut() {
            Some((_, last)) if next(*last).is_none_or(|next| begin <= next) => {
                *last = (*last).max(end);
            }
            _ => out.push((begin, end)),
        }
    }
    out.shrink_to_fit();
    out
}

fn steps(ranges: &[(u32, u32)]) -> Vec<u32> {
    let mut at = 0_u32;
    let mut rest = ranges.iter().peekable();
    let halves = 0..=u32::from(u16::MAX);
    let mut out: Vec<u32> = halves
        .map(|half| {
            while rest.next_if(|(_, end)| *end < half << 16).is_some() {
                at += 1;
            }
            at
        })
        .collect();
    out.push(u32::try_from(ranges.len()).unwrap_or(u32::MAX));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_are_read_line_by_line() {
        let text = b"# a comment\n10.0.0.0/8 # ours\r\n\n; another\n192.0.2.1\n2001:db8::/32\n::ffff:198.51.100.0/120\n";
        let set = Prefixes::read(text).unwrap();
        for (ip, is_in) in [
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("192.0.2.1", true),
            ("192.0.2.2", false),
            ("2001:db8:1::", true),
            ("2001:db9::", false),
            ("::ffff:10.0.0.1", true),
            ("198.51.100.255", true),
            ("198.51.101.0", false),
        ] {
            assert_eq!(set.contains(ip.parse().unwrap()), is_in, "{ip}");
        }
        let bad = Prefixes::read(b"10.0.0.0/33\n1.1.1.1\nexample.com\n\xff\n").unwrap_err();
        assert_eq!(
            bad.to_string(),
            "line 1: `10.0.0.0/33` is neither an address nor a network; line 3: `example.com` is neither an \
             address nor a network; line 4: `\u{fffd}` is neither an address nor a network"
        );
        let many = "x\n".repeat(1000);
        let bad = Prefixes::read(many.as_bytes()).unwrap_err();
        assert!(bad.to_string().ends_with("; and 995 more"));
        assert!(Prefixes::read(b"").unwrap().is_empty());
    }

    #[test]
    fn everything_is_a_network_too() {
        let all: Prefixes = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]
            .into_iter()
            .collect();
        for ip in ["0.0.0.0", "255.255.255.255", "::", "ffff::"] {
            assert!(all.contains(ip.parse().unwrap()));
        }
        assert_eq!(all.len(), 2);
    }

    proptest! {
        #[test]
        fn a_set_holds_what_its_networks_hold(
            networks in proptest::collection::vec((any::<u32>(), 8_u8..=32), 0..300),
            ips in proptest::collection::vec(any::<u32>(), 50),
        ) {
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(ip, length)| IpNet::new(IpAddr::V4(ip.into()), length).unwrap())
                .collect();
            let set: Prefixes = networks.iter().copied().collect();
            let edges = networks.iter().flat_map(|net| {
                let (IpAddr::V4(from), IpAddr::V4(to)) = (net.network(), net.broadcast()) else { unreachable!() };
                let (from, to) = (u32::from(from), u32::from(to));
                [from, to, from.wrapping_sub(1), to.wrapping_add(1)]
            });
            for ip in edges.chain(ips) {
                let ip = IpAddr::V4(ip.into());
                let expected = networks.iter().any(|net| net.contains(&ip));
                prop_assert_eq!(set.contains(ip), expected, "{}", ip);
            }
        }
    }
}
