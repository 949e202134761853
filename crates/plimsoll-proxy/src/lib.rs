//! The data plane: moves bytes, never blocks, parses no configuration.
//!
//! Read [`connection`] first, then [`http::walk`]: the life of a request in order.
#![forbid(unsafe_code)]

pub mod acme;
pub mod addresses;
mod adopted;
mod arrivals;
pub mod caching;
pub mod changeover;
pub(crate) mod coder;
pub mod compile;
pub mod condition;
pub mod connection;
pub(crate) mod datagrams;
pub(crate) mod door;
pub(crate) mod edits;
pub mod events;
pub mod files;
pub mod fuzz;
pub mod gate;
pub mod generation;
pub mod handing;
pub(crate) mod hashing;
pub mod http;
pub mod key_set;
pub(crate) mod listeners;
pub(crate) mod look;
pub mod material;
pub(crate) mod opening;
pub(crate) mod page;
pub mod plane;
pub(crate) mod pools;
pub mod proxy_protocol;
pub(crate) mod relay;
pub mod routes;
pub mod seen;
pub mod server_tls;
pub mod serving;
pub mod sessions;
pub(crate) mod shelf;
pub mod spool;
pub(crate) mod station;
pub(crate) mod steps;
pub(crate) mod sticky;
pub mod stock;
pub mod strain;
mod succession;
pub mod tail;
pub(crate) mod template;
pub mod tls;
pub mod trace;
pub(crate) mod tunnel;
