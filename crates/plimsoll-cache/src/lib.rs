//! What is stored of answers: shared by all workers, bounded, in memory and behind that on disk.
//!
//! Nothing here knows the rules of HTTP caches: those are `plimsoll_http::caching`. Times are arguments, counted
//! from one start for all workers.
#![forbid(unsafe_code)]

pub mod body;
pub mod cache;
pub mod codings;
pub mod disk;
pub mod flight;
pub mod object;
pub mod purge;
