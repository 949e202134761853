//! Fields as HTTP/2 writes them (RFC 7541): each connection has a table of fields for either direction, which both
//! ends change alike.

pub mod decode;
pub mod encode;
mod huffman;
mod static_table;
mod table;

/// What a table may hold where its reader has not said otherwise (RFC 9113 §6.5.2).
const TABLE_BYTES: usize = 4096;
