//! Where answers are kept.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where a cache keeps files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheDisk {
    /// The directory.
    pub directory: Box<str>,
    /// Bytes of all files together.
    pub max: u64,
}

/// What of a request tells answers apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheKey {
    /// Which parameters of the query. Default all.
    pub query: Parameters,
    /// Whether the order of those with different names does not matter.
    pub is_sorted: bool,
    /// Fields, in lower case and in order.
    pub headers: Vec<Box<str>>,
    /// Cookies.
    pub cookies: Vec<Box<str>>,
}

/// Parameters of a query. A name that ends in `*` stands for all that begin like it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parameters {
    /// All of it, as it came.
    #[default]
    All,
    /// None.
    None,
    /// These.
    Only(Vec<Box<str>>),
    /// All but these.
    Without(Vec<Box<str>>),
}

/// One `cache`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Bytes of memory that it may take. Default 64 MiB.
    pub memory: u64,
    /// Where it keeps files; `None` means that it keeps none.
    pub disk: Option<CacheDisk>,
    /// What of a request tells its answers apart, beside scheme, host and path.
    pub key: CacheKey,
    /// Bytes of the longest body that it keeps. Default 1 MiB, or an eighth of the memory.
    pub object_max: u64,
    /// Bytes of a slice, where objects are kept in slices; `None` means that they are kept whole.
    pub slice: Option<u64>,
    /// For how long answers with these statuses are fresh that do not say it.
    pub ttl: Vec<(u16, Duration)>,
    /// For what share of the time since their last change answers are fresh that say nothing, in percent; `None`
    /// means that nothing is guessed.
    pub heuristic: Option<u8>,
    /// For how long stale answers serve while the server is asked, where they do not say. Default not at all.
    pub while_revalidate: Duration,
    /// For how long they serve in place of errors, where they do not say. Default not at all.
    pub if_error: Duration,
    /// How long a request waits for the answer to another one. Default 5 s.
    pub wait: Duration,
}
