//! What people and machines ask of a running Plimsoll, and change.
#![forbid(unsafe_code)]

pub(crate) mod acme;
pub(crate) mod answer;
pub(crate) mod caches;
pub(crate) mod calls;
pub mod canary;
pub mod change;
pub(crate) mod configuration;
pub(crate) mod disks;
pub mod guard;
pub mod handover;
pub mod listen;
pub(crate) mod logs;
pub mod metrics;
pub(crate) mod openapi;
pub(crate) mod page;
pub mod process;
pub(crate) mod reloads;
pub mod sampler;
pub mod server;
pub mod servers;
pub(crate) mod sessions;
pub(crate) mod snapshot;
pub(crate) mod tls;
pub mod view;
