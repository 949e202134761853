//! HTTP/2. Each stream is served as if it were a connection of its own that speaks HTTP/1.1, so there
//! is nothing here about sites, servers or logs.

mod client_stream;
mod inbound;
mod outbound;
mod server;
mod server_stream;
mod upstream;
mod wire;

pub(crate) use server::{hear, is_spoken, may_be_spoken, serve};
pub(crate) use upstream::{Links, Place};
