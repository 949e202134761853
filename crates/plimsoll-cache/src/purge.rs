//! Which answers are meant, where many are at once.

use crate::object::Object;

/// What one URL, the beginning of URLs, or a word of servers stands for. None of them is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selector<'a> {
    /// What is stored for a URL, in all its forms, as its key begins.
    Url(&'a [u8]),
    /// What is stored for keys that begin like this.
    Prefix(&'a [u8]),
    /// What its server has given this word.
    Tag(&'a [u8]),
}

impl Selector<'_> {
    /// Tells whether it takes what is stored by this key, as far as keys say: of a word nobody knows.
    pub fn takes_key(&self, key: &[u8]) -> bool {
        match self {
            // The URL ends where what else belongs to the key begins.
            Self::Url(url) => key.split(|byte| *byte == 0).next() == Some(*url),
            Self::Prefix(start) => key.starts_with(start),
            Self::Tag(_) => true,
        }
    }

    /// Tells whether it takes an object.
    pub fn takes(&self, key: &[u8], object: &Object) -> bool {
        match self {
            Self::Tag(tag) => object.tags.iter().any(|own| **own == **tag),
            of_keys => of_keys.takes_key(key),
        }
    }
}
