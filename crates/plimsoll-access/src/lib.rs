//! Who may come in: lists of networks, countries, passwords, keys, tokens, signatures, origins.
//!
//! It computes and knows no files, no clock and no randomness: contents, times and seeds are
//! arguments. The heavy part of it, cryptography, stays out of the other crates' builds.
#![forbid(unsafe_code)]

pub mod api_key;
pub mod basic;
pub mod client_hello;
pub mod cors;
pub mod geo;
pub mod ja4;
pub mod lines;
pub mod opening;
pub mod password;
pub mod prefixes;
pub mod signed_url;
pub mod token;
pub mod verified;
