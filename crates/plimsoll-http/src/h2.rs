//! HTTP/2, as messages of HTTP/1.1.
//!
//! All of the proxy sees one form of message, so there is one set of rules for what is sound, where a message ends,
//! and what is passed on. A stream of HTTP/2 is read as the text that HTTP/1.1 would have for it, and what is written
//! to it is such a text.

pub mod connection;
mod fields;
pub mod frame;
pub mod hpack;
mod inbound;
mod meter;
mod outbound;
pub mod request;
mod response;
mod settings;
mod stream;
pub mod text;
mod window;

pub use settings::Limits;
pub use stream::Fault;
