//! What people and machines ask of a running Plimsoll.
#![forbid(unsafe_code)]

pub mod process;
pub mod server;
pub mod servers;
pub(crate) mod tls;
