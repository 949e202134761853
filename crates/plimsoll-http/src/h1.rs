//! The HTTP/1 codec: bytes to heads, heads to bytes.

pub mod encode;
pub mod parse;
