//! HTTP/2. Each stream is served as if it were a connection of its own that speaks HTTP/1.1, so there
//! is nothing here about sites, servers or logs.

use std::time::Duration;

mod client_stream;
mod server;
mod server_stream;
mod upstream;
mod wire;

pub(crate) use server::{hear, is_spoken, may_be_spoken, serve};
pub(crate) use upstream::{Links, Place};

/// How long a peer may take to hear that we leave, and why.
const LAST_WORDS: Duration = Duration::from_secs(1);
