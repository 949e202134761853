//! Tools for tests on the real binary.
//!
//! | tool | is |
//! |---|---|
//! | [`raw::Raw`] | a client that sends exactly these bytes and reports all that comes back |
//! | [`recorder::Recorder`] | an upstream that records what reaches it and answers by script |
//! | [`h2raw::Peer`] | one end of an HTTP/2 connection, which sends any frames and keeps what comes back |
//! | [`h2server::H2Server`] | an HTTP/2 server that does what a test says, frame by frame |
//! | [`fault::Fault`] | an upstream that fails in one named way |
//! | [`bind::Bind`] | a name server that takes changes |
//! | [`between::NoGoodbye`] | sits between two ends with TLS and keeps their last words |
//! | [`front::Front`] | stands before an issuer, and answers in its place what a test likes |
//! | [`stand::Stand`] | Plimsoll in front of a recorder, and what must hold for every message |
//! | [`load::Load`] | a closed-loop client that accounts for every request |
//! | [`names::NameServer`] | a name server that says what it is told, rightly or wrongly |
//! | [`acme::Stand`] | Plimsoll that asks for certificates |
//! | [`pebble::Pebble`] | an issuer of certificates |
//! | [`postgres::Postgres`], [`redis::start`] | databases, and copies of them |
//! | [`network::isolated`] | a network of its own for a test that changes routes or ports |
//! | [`greeted::Greeted`] | a server that keeps what connections begin with |
//! | [`plimsoll::Plimsoll`], [`nginx::Nginx`], [`haproxy::Haproxy`] | the real programs, started and stopped |
//!
//! Nothing here shares code with Plimsoll: a fault in its parser must not hide behind the same
//! fault in the test. All threads block and all waits have a deadline. A tool that cannot do its
//! work panics, because the test it serves has failed.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a tool that cannot work fails its test"
)]
#![allow(
    clippy::result_large_err,
    reason = "errors are what tests look at, and none is hot"
)]

pub mod acme;
pub mod between;
pub mod bind;
pub mod body;
pub mod browser;
pub mod cache_disk;
pub mod cached;
pub mod certifier;
pub mod daemon;
pub mod echo;
pub mod fault;
pub mod frame;
pub mod front;
pub mod greeted;
pub mod h2raw;
pub mod h2server;
pub mod haproxy;
pub mod head;
pub mod hpack;
pub mod huffman;
pub mod issuer;
pub mod load;
pub mod mariadb;
pub mod names;
pub mod network;
pub mod nginx;
pub mod pebble;
pub mod plimsoll;
pub mod ports;
pub mod postgres;
pub mod raw;
pub mod recorder;
pub mod redis;
pub mod script;
pub mod stand;
pub mod tls;
pub mod unbound;
pub mod wait;
pub mod web;
pub mod wire;
