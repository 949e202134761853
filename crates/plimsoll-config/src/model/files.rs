//! Answers that are files.

use serde::{Deserialize, Serialize};

use super::PathPattern;

/// `files`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Below which they are, as written.
    pub directory: Box<str>,
    /// Names of files that stand for their directory, in order. Default `index.html`.
    pub index: Vec<Box<str>>,
    /// What is tried where there is no file, in order.
    pub tries: Vec<TryFile>,
    /// Paths whose files never change.
    pub immutable: Vec<PathPattern>,
    /// Whether directories are listed.
    pub lists: bool,
    /// Whether files beside others hold the same in a content coding.
    pub is_precompressed: bool,
    /// Whether names that begin with a dot are served.
    pub shows_hidden: bool,
}

/// What is tried where there is no file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TryFile {
    /// The path with this behind it; begins with a dot.
    Suffix(Box<str>),
    /// The file at this path.
    Path(Box<str>),
}
