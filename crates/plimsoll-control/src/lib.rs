//! Everything that runs beside the traffic: the only builder of generations.
#![forbid(unsafe_code)]

pub mod acme;
mod beside;
pub mod care;
pub mod checks;
pub mod configuration_file;
mod crew;
pub mod difference;
pub mod discovery;
pub mod engine;
pub(crate) mod expiry;
pub mod explain;
pub(crate) mod fetch;
pub mod files;
mod former;
pub mod heir;
mod internal;
pub(crate) mod key_sets;
pub mod launch;
pub mod log_file;
pub mod materials;
pub mod memory;
pub mod passed;
mod private;
pub mod reload;
pub mod secrets;
pub mod sessions;
pub mod stalls;
mod stapling;
pub mod tail;
pub mod upgrade;
pub mod verdict;
mod watches;
pub mod watching;
