//! Keys that programs send, and whose they are.

use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use crate::lines::{self, BadFile, shown};

/// Names by the hashes of their keys. Looking a hash up tells nothing about a key: whoever can choose
/// what is hashed cannot choose what it hashes to.
#[derive(Debug, Default)]
pub struct ApiKeys(HashMap<[u8; 32], String>);

impl ApiKeys {
    /// Reads `name:HASH` lines; the hash is the SHA-256 of the key in hexadecimal.
    ///
    /// # Errors
    /// The lines that are something else.
    pub fn read(text: &[u8]) -> Result<Self, BadFile> {
        let entries = lines::read(text, |line| {
            let (name, hash) = line
                .split_once(':')
                .ok_or_else(|| format!("{} is not `name:hash`", shown(line)))?;
            let hash = digest(hash.trim()).ok_or_else(|| {
                "the key is not hashed: write `printf %s KEY | sha256sum`".to_owned()
            })?;
            Ok((hash, name.trim().to_owned()))
        })?;
        Ok(Self(entries.into_iter().collect()))
    }

    /// Whose key this is.
    pub fn find(&self, key: &[u8]) -> Option<&str> {
        let hash: [u8; 32] = Sha256::digest(key).into();
        self.0.get(&hash).map(String::as_str)
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, place) in out.iter_mut().enumerate() {
        *place = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_name_and_others_have_none() {
        // SHA-256 of "secret".
        let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let keys = ApiKeys::read(format!("# keys\nci: {hash}\n").as_bytes()).unwrap();
        assert_eq!(keys.find(b"secret"), Some("ci"));
        assert_eq!(keys.find(b"Secret"), None);
        assert_eq!(keys.find(b""), None);
        let bad = ApiKeys::read(b"ci:secret\nx\n").unwrap_err();
        assert_eq!(
            bad.to_string(),
            "line 1: the key is not hashed: write `printf %s KEY | sha256sum`; line 2: `x` is not `name:hash`"
        );
    }
}
