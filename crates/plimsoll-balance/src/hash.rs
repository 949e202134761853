//! Hashing on which every node must agree.
//!
//! Two nodes with the same configuration send a key to the same server. That holds only as long
//! as the function and the seed below stay what they are: changing either moves nearly every
//! key in every deployment at its upgrade.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The seed of [`of`]: the ASCII bytes of `plimsoll`.
pub const SEED: u64 = 0x706c_696d_736f_6c6c;

/// Returns the 64-bit XXH3 hash of `bytes` with [`SEED`].
///
/// It spreads keys and resists no attacker: a client that chooses its key chooses its server.
#[must_use]
pub fn of(bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, SEED)
}

/// Returns the same hash with another seed: a secret one, where a client must not choose what its
/// key meets with.
#[must_use]
pub fn with_seed(bytes: &[u8], seed: u64) -> u64 {
    xxh3_64_with_seed(bytes, seed)
}

/// Scrambles `value` (the finalizer of SplitMix64): a bijection whose output bits all depend on
/// all input bits.
#[must_use]
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Maps `random`, uniform over all 64-bit values, to `0..bound` without a division.
#[must_use]
pub(crate) fn scale(random: u64, bound: u64) -> u64 {
    let product = (u128::from(random) * u128::from(bound)) >> 64;
    u64::try_from(product).unwrap_or(u64::MAX) // invariant: below 2^64 after the shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_documented_one() {
        // These values are the contract between nodes and versions.
        assert_eq!(SEED.to_be_bytes(), *b"plimsoll");
        assert_eq!(
            xxh3_64_with_seed(b"", 0),
            0x2d06_8005_38d3_94c2,
            "XXH3 as published"
        );
        assert_eq!(of(b""), 0x5447_d28b_5023_4059);
        assert_eq!(of(b"10.0.0.11:8080"), 0x9487_57c0_0328_6281);
    }

    #[test]
    fn scale_covers_its_range_evenly() {
        assert_eq!(scale(0, 10), 0);
        assert_eq!(scale(u64::MAX, 10), 9);
        assert_eq!(scale(u64::MAX / 2, 10), 4);
        assert_eq!(scale(u64::MAX, 0), 0);
    }
}
