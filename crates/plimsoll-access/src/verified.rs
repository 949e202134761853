//! Credentials that were found good, for a while: hashing a password once for each request would cost
//! more than serving it.

use hashbrown::HashMap;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Credentials that are remembered.
const ENTRIES_MAX: usize = 10_000;

/// What was found good, by a keyed hash: passwords are not kept.
#[derive(Debug)]
pub struct Verified {
    seed: [u8; 32],
    until: HashMap<[u8; 32], u64>,
}

impl Verified {
    /// Nothing yet; `seed` is secret and random.
    pub fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            until: HashMap::new(),
        }
    }

    /// The mark of credentials, as of a file with this digest.
    pub fn mark(&self, digest: &[u8; 32], user: &str, password: &[u8]) -> [u8; 32] {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.seed) else {
            return [0; 32]; // a key of any length is a key
        };
        mac.update(digest);
        mac.update(&(user.len() as u64).to_le_bytes());
        mac.update(user.as_bytes());
        mac.update(password);
        mac.finalize().into_bytes().into()
    }

    /// Tells whether they were found good, at `now` in seconds.
    pub fn holds(&self, mark: &[u8; 32], now: u64) -> bool {
        self.until.get(mark).is_some_and(|until| now < *until)
    }

    /// Remembers that they are good until then. A full memory forgets all: it fills again with those
    /// that come.
    pub fn remember(&mut self, mark: [u8; 32], until: u64) {
        if self.until.len() >= ENTRIES_MAX {
            self.until.clear();
        }
        self.until.insert(mark, until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_credentials_are_good_for_a_while() {
        let mut verified = Verified::new([1; 32]);
        let mark = verified.mark(&[0; 32], "ada", b"secret");
        assert!(!verified.holds(&mark, 0));
        verified.remember(mark, 100);
        assert!(verified.holds(&mark, 99) && !verified.holds(&mark, 100));
        for other in [
            verified.mark(&[1; 32], "ada", b"secret"),
            verified.mark(&[0; 32], "adas", b"ecret"),
            verified.mark(&[0; 32], "ada", b"secret2"),
            Verified::new([2; 32]).mark(&[0; 32], "ada", b"secret"),
        ] {
            assert!(!verified.holds(&other, 0));
        }
        for n in 0..2 * ENTRIES_MAX {
            let mark = verified.mark(&[0; 32], &n.to_string(), b"");
            verified.remember(mark, 1);
        }
        assert!(verified.until.len() <= ENTRIES_MAX);
    }
}
