//! Messages of HTTP/2 in the form of HTTP/1.1, and back.
//!
//! All of the proxy sees one form of message, so there is one set of rules for what is sound, where a
//! message ends, and what is passed on. A stream of HTTP/2 is read as the text that HTTP/1.1 would
//! have for it, and what is written to it is such a text.

pub mod meter;
pub mod request;
pub mod response;
pub mod text;
pub mod trailer;
