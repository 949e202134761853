//! The rules of a shared cache (RFC 9111): what may be stored, for how long it answers, and whom.
//!
//! Nothing here keeps anything or asks what time it is. Times are seconds: those of dates count from 1970,
//! those of lifetimes and ages end at [`SECONDS_MAX`].

mod directives;
mod freshness;
pub mod key;
mod merge;
mod parts;
mod status;
mod storing;
mod vary;

pub use directives::{Directives, SECONDS_MAX};
pub use freshness::{State, Terms};
pub use merge::{merged, stored};
pub use parts::{Parameters, Parts};
pub use status::{Forwarded, Told};
pub use storing::{Asked, Policy, Refusal, judge};
pub use vary::Selection;

#[cfg(test)]
mod tests {
    use crate::h1::parse::{self, HeadLimits, Parsed};
    use crate::head::{RequestHead, ResponseHead};

    /// An answer, and the bytes that it is in.
    pub(super) fn answer(text: &str) -> (ResponseHead, Vec<u8>) {
        let mut head = ResponseHead::default();
        let parsed = parse::response(text.as_bytes(), &mut head);
        assert_eq!(parsed, Ok(Parsed::Complete), "{text}");
        (head, text.as_bytes().to_vec())
    }

    /// A request, and the bytes that it is in.
    pub(super) fn request(text: &str) -> (RequestHead, Vec<u8>) {
        let mut head = RequestHead::default();
        let parsed = parse::request(text.as_bytes(), &HeadLimits::default(), &mut head);
        assert_eq!(parsed, Ok(Parsed::Complete), "{text}");
        (head, text.as_bytes().to_vec())
    }
}
