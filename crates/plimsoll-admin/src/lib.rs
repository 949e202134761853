//! What people and machines ask of a running Plimsoll.
#![forbid(unsafe_code)]

pub(crate) mod acme;
pub(crate) mod caches;
mod disks;
pub mod process;
pub mod server;
pub mod servers;
pub(crate) mod tls;
