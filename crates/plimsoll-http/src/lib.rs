//! HTTP without I/O: heads, framing, the HTTP/1 codec, targets and forwarded fields.
//!
//! Bytes come in, verdicts and bytes go out. Nothing here waits, and the same bytes give the same
//! verdict however they were cut into pieces.
#![forbid(unsafe_code)]

pub mod accept;
pub mod caching;
pub mod chunked;
pub mod coding;
pub mod compress;
pub mod conditional;
pub mod cookie;
pub mod date;
pub mod deadline;
pub mod edit;
pub mod field;
pub mod file_path;
pub mod forwarded;
pub mod framing;
pub mod fuzz;
pub mod grpc;
pub mod h1;
pub mod h2;
pub mod head;
pub mod host;
pub mod listing;
pub mod media;
pub mod method;
pub mod proxy_protocol;
pub mod quic;
pub mod range;
pub mod reason;
pub mod request;
pub mod rewrite;
pub mod target;
pub mod trust;
pub mod upgrade;
