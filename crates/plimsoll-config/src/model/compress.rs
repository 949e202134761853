//! Answers that are compressed.

use serde::{Deserialize, Serialize};

/// `compress`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compress {
    /// How hard brotli tries, from 0 to 9; nothing means that it is not used. Default 4.
    pub brotli: Option<u8>,
    /// How hard zstd tries, from 1 to 12. Default 3.
    pub zstd: Option<u8>,
    /// How hard gzip tries, from 1 to 9. Default 5.
    pub gzip: Option<u8>,
    /// The least bytes of a body that are worth it. Default 1 KiB.
    pub min: u64,
    /// Media types, in lower case; the last letter may be a `*`.
    pub types: Vec<Box<str>>,
    /// Whether answers that may hold secrets are compressed too. Default no.
    pub secrets: bool,
}

/// Types that are text, by default.
pub(crate) const TYPES: [&str; 13] = [
    "text/*",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/problem+json",
    "application/javascript",
    "application/xml",
    "application/xhtml+xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/wasm",
    "image/svg+xml",
    "font/ttf",
];
