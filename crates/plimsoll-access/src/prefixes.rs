//! A set of networks: immutable and compact.
//!
//! Networks become ranges, merged where they meet, in sorted lists. A look-up searches a short
//! list, which leads to a block of a longer one, and that to a block of ranges: about three cache lines
//! that nobody has looked at for long, where a plain search over a million ranges looks at twenty.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::lines::{self, BadFile, shown};

/// A set of networks.
#[derive(Debug, Default)]
pub struct Prefixes {
    v4: Ranges<u32>,
    /// What of IPv6 is as large as a `/64` or larger, by upper half: nearly everything, in half the
    /// memory.
    v6: Ranges<u64>,
    /// The rest of it.
    v6_fine: Ranges<u128>,
}

/// Ranges of numbers, both ends included.
#[derive(Debug, Default)]
struct Ranges<T> {
    // invariant: sorted, and no range meets the next
    ranges: Vec<(T, T)>,
    /// The last end of each block of ranges.
    fine: Vec<T>,
    /// The last of each block of these: few enough to stay in a cache.
    coarse: Vec<T>,
}

/// So many ranges are one or two cache lines.
const BLOCK: usize = 8;

/// So many ends are one or two cache lines.
const FINE_BLOCK: usize = 16;

impl Prefixes {
    /// Reads a list: an address or a network a line.
    ///
    /// # Errors
    /// The lines that are neither.
    pub fn read(text: &[u8]) -> Result<Self, BadFile> {
        let networks = lines::read(text, |line| {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let word = words.next().unwrap_or_default();
            // What nobody looks at must not look as if it counted.
            if let Some(more) = words.next() {
                return Err(format!(
                    "{} follows the network: one stands in a line",
                    shown(more)
                ));
            }
            let network = word.parse::<IpNet>();
            let network = network.or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
            network.map_err(|_| format!("{} is neither an address nor a network", shown(word)))
        })?;
        Ok(networks.into_iter().collect())
    }

    /// Tells whether an address is in one of the networks.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(v4) => self.v4.contains(v4.into()),
            IpAddr::V6(v6) => {
                let ip = u128::from(v6);
                self.v6.contains(upper(ip)) || self.v6_fine.contains(ip)
            }
        }
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.v4.ranges.len() + self.v6.ranges.len() + self.v6_fine.ranges.len()
    }

    /// What it takes of memory.
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes() + self.v6_fine.bytes()
    }

    /// Tells whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn upper(ip: u128) -> u64 {
    (ip >> 64) as u64
}

impl<T: Copy + Ord> Ranges<T> {
    /// Sorts ranges and joins those that meet; `next` is the number after one.
    fn new(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(T, T)> = Vec::with_capacity(ranges.len());
        for (begin, end) in ranges {
            match joined.last_mut() {
                Some((_, last)) if next(*last).is_none_or(|next| begin <= next) => {
                    *last = (*last).max(end);
                }
                _ => joined.push((begin, end)),
            }
        }
        joined.shrink_to_fit();
        let last = |block: &[(T, T)]| block.last().map(|(_, end)| *end);
        let fine: Vec<T> = joined.chunks(BLOCK).filter_map(last).collect();
        let blocks = fine.chunks(FINE_BLOCK);
        Self {
            coarse: blocks.filter_map(|block| block.last().copied()).collect(),
            fine,
            ranges: joined,
        }
    }

    fn contains(&self, n: T) -> bool {
        let at = self.coarse.partition_point(|end| *end < n);
        let (from, ends) = block(&self.fine, at, FINE_BLOCK);
        let at = from + ends.partition_point(|end| *end < n);
        let (_, ranges) = block(&self.ranges, at, BLOCK);
        let range = ranges.get(ranges.partition_point(|(_, end)| *end < n));
        range.is_some_and(|(begin, _)| *begin <= n)
    }

    fn bytes(&self) -> usize {
        size_of_val(&*self.ranges) + size_of_val(&*self.fine) + size_of_val(&*self.coarse)
    }
}

/// Where a block begins, and what is in it.
fn block<T>(all: &[T], number: usize, size: usize) -> (usize, &[T]) {
    let from = number * size;
    let rest = all.get(from..).unwrap_or_default();
    (from, rest.get(..size).unwrap_or(rest))
}

impl FromIterator<IpNet> for Prefixes {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let (mut v4, mut v6, mut v6_fine) = (Vec::new(), Vec::new(), Vec::new());
        for network in networks {
            let net = match network {
                IpNet::V4(net) => {
                    v4.push((net.network().into(), net.broadcast().into()));
                    continue;
                }
                IpNet::V6(net) => net,
            };
            let (begin, end) = (net.network().into(), net.broadcast().into());
            // A mapped network is one of IPv4.
            let mapped = net.network().to_ipv4_mapped();
            match (mapped, net.prefix_len().checked_sub(96)) {
                (Some(begin), Some(length)) => {
                    let begin = u32::from(begin);
                    let rest = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                    v4.push((begin, begin | rest));
                }
                _ if net.prefix_len() <= 64 => v6.push((upper(begin), upper(end))),
                _ => v6_fine.push((begin, end)),
            }
        }
        Self {
            v4: Ranges::new(v4, |end| end.checked_add(1)),
            v6: Ranges::new(v6, |end| end.checked_add(1)),
            v6_fine: Ranges::new(v6_fine, |end| end.checked_add(1)),
        }
    }
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
        let two = Prefixes::read(b"10.0.0.0/8 192.0.2.1\n").unwrap_err();
        assert_eq!(
            two.to_string(),
            "line 1: `192.0.2.1` follows the network: one stands in a line"
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

    #[test]
    fn networks_that_meet_or_overlap_are_one() {
        let set = |text: &str| Prefixes::read(text.as_bytes()).unwrap();
        assert_eq!(set("10.0.0.0/9\n10.128.0.0/9\n10.1.2.3\n").len(), 1);
        assert_eq!(set("10.0.0.0/32\n10.0.0.2/32\n").len(), 2);
        assert_eq!(set("2001:db8::/33\n2001:db8:8000::/33\n").len(), 1);
    }

    proptest! {
        #[test]
        fn no_file_breaks_it(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Prefixes::read(&text);
        }

        #[test]
        fn long_networks_are_told_from_their_neighbours(
            networks in proptest::collection::vec((any::<u16>(), 96_u8..=128), 0..100),
            ips in proptest::collection::vec(any::<u32>(), 50),
        ) {
            let base = u128::from(0x2001_0db8_u32) << 96;
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(ip, length)| IpNet::new(IpAddr::V6((base | u128::from(ip)).into()), length).unwrap())
                .collect();
            let set: Prefixes = networks.iter().copied().collect();
            for ip in ips {
                let ip = IpAddr::V6((base | u128::from(ip & 0x1_ffff)).into());
                let expected = networks.iter().any(|net| net.contains(&ip));
                prop_assert_eq!(set.contains(ip), expected, "{}", ip);
            }
        }

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
