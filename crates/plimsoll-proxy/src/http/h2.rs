//! HTTP/2. Each stream is served as if it were a connection of its own that speaks HTTP/1.1, so there
//! is nothing here about sites, servers or logs.

use std::time::Duration;

mod client_stream;
mod inbound;
mod outbound;
mod server;
mod server_stream;
mod upstream;
mod wire;

pub(crate) use server::{hear, is_spoken, may_be_spoken, serve};
pub(crate) use upstream::{Links, Place};

/// What waits for one slow reader at most, beside what its exchange holds.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// What small pieces of bodies may cost while they wait, each as much as it lacks to 256 bytes. Pieces
/// are put together before.
const PIECES_BUDGET: usize = 2 * 1024 * 1024;

/// Streams of which we know that we have reset them, and for how long: what was on its way is passed
/// over. On one that is forgotten it counts as an error.
const RESETS_KNOWN: usize = 1_000;
const RESET_KNOWN_FOR: Duration = Duration::from_secs(10);

/// How long a peer may take to hear that we leave, and why.
const LAST_WORDS: Duration = Duration::from_secs(1);
