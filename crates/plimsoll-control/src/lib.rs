//! Everything that runs beside the traffic: the only builder of generations.
#![forbid(unsafe_code)]

pub mod acme;
pub mod care;
pub mod checks;
pub mod discovery;
pub(crate) mod expiry;
pub mod explain;
pub(crate) mod fetch;
pub mod files;
mod internal;
pub(crate) mod key_sets;
pub mod launch;
pub mod log_file;
pub mod materials;
pub mod memory;
mod private;
pub mod secrets;
mod stapling;
