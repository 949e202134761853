//! HTTP. [`walk`] is the life of a request, each step in a file of its own.

pub(crate) mod access;
pub(crate) mod acquire;
pub(crate) mod answer;
pub(crate) mod attempt;
pub(crate) mod errors;
pub(crate) mod exchange;
pub(crate) mod finish;
pub(crate) mod flow;
pub(crate) mod forward_auth;
pub(crate) mod hedge;
pub(crate) mod hold;
pub(crate) mod key;
pub(crate) mod limit;
pub mod line;
pub(crate) mod pace;
pub(crate) mod respond;
pub(crate) mod rewrite;
pub(crate) mod select;
pub(crate) mod server_h1;
pub(crate) mod subrequest;
pub(crate) mod throttle;
pub(crate) mod trust;
pub(crate) mod upload;
pub(crate) mod upstream_h1;
pub mod walk;
