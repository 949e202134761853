//! What a set of a million networks costs: `cargo bench -p plimsoll-access`.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    reason = "a program that measures and prints"
)]

use ipnet::IpNet;
use plimsoll_access::prefixes::Prefixes;
use std::fmt::Write;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::Instant;

const NETWORKS: usize = 1_000_000;
const LOOKUPS: usize = 2_000_000;

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn v4(numbers: &mut Numbers) -> IpAddr {
    IpAddr::V4((numbers.next() as u32).into())
}

/// Addresses of one /16, where the index helps least.
fn dense(numbers: &mut Numbers) -> IpAddr {
    IpAddr::V4((0x0a00_0000 | (numbers.next() as u32 & 0x1f_ffff)).into())
}

fn v6(numbers: &mut Numbers) -> IpAddr {
    let low = u128::from(numbers.next()) << 64 | u128::from(numbers.next());
    IpAddr::V6((u128::from(0x2001_u32) << 112 | low >> 16).into())
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

fn main() {
    for (name, ip, length) in [
        ("IPv4, anywhere", v4 as fn(&mut Numbers) -> IpAddr, 32),
        ("IPv4, in one /11", dense, 32),
        ("IPv6, anywhere", v6, 64),
    ] {
        let mut numbers = Numbers(1);
        let networks: Vec<IpNet> = (0..NETWORKS)
            .map(|_| IpNet::new(ip(&mut numbers), length).unwrap())
            .collect();
        let mut text = String::new();
        for network in &networks {
            let _ = writeln!(text, "{network}");
        }
        let began = Instant::now();
        let read = Prefixes::read(text.as_bytes()).unwrap();
        let read_took = began.elapsed();
        drop((read, text));
        let before = resident();
        let began = Instant::now();
        let set: Prefixes = networks.iter().copied().collect();
        let took = began.elapsed();
        let memory = resident().saturating_sub(before);
        let ips: Vec<IpAddr> = (0..LOOKUPS).map(|_| ip(&mut numbers)).collect();
        let began = Instant::now();
        let found = ips
            .iter()
            .filter(|ip| black_box(&set).contains(**ip))
            .count();
        let each = began.elapsed().as_nanos() / LOOKUPS as u128;
        println!(
            "{name}: {} ranges, read {read_took:.0?}, built {took:.0?}, {} bytes held, {memory} more resident, look-up {each} ns, {found} found",
            set.len(),
            set.bytes()
        );
    }
}
