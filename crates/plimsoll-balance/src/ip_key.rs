//! The key under which a client's address is counted.

use std::net::IpAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Returns the key of `address`, a different one for every `seed`.
///
/// An IPv6 address counts by its first 64 bits, because a client is given at least that many
/// addresses (RFC 6177) and may use all of them; an IPv4 address mapped into IPv6 counts as the
/// IPv4 address it is. The `seed` is secret and random, so that nobody can choose addresses
/// whose keys meet in one place of a table.
#[must_use]
pub fn key_of_ip(address: IpAddr, seed: u64) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => xxh3_64_with_seed(&address.octets(), seed),
        IpAddr::V6(address) => {
            let prefix = (address.to_bits() >> 64) as u64; // the cast keeps all 64 bits
            xxh3_64_with_seed(&prefix.to_be_bytes(), seed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str) -> u64 {
        key_of_ip(address.parse().unwrap(), 7)
    }

    #[test]
    fn ipv6_counts_by_its_network() {
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }

    #[test]
    fn ipv4_counts_by_the_whole_address_in_either_form() {
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_ne!(key("::ffff:192.0.2.1"), key("::ffff:192.0.2.2"));
    }

    #[test]
    fn another_seed_gives_another_key() {
        let address = "192.0.2.1".parse().unwrap();
        assert_ne!(key_of_ip(address, 1), key_of_ip(address, 2));
    }
}
