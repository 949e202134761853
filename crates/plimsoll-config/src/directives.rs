//! The rows of the table, by block.

pub(crate) mod access;
pub(crate) mod answers;
pub(crate) mod auth;
pub(crate) mod buffer;
pub(crate) mod check;
pub(crate) mod condition;
pub(crate) mod cors;
pub(crate) mod header;
pub(crate) mod internal;
pub(crate) mod key_set;
pub(crate) mod limit;
pub(crate) mod max_requests;
pub(crate) mod named_match;
pub(crate) mod overload;
pub(crate) mod policy;
pub(crate) mod pool;
pub(crate) mod priority;
pub(crate) mod resolver;
pub(crate) mod rewrite;
pub(crate) mod root;
pub(crate) mod route;
pub(crate) mod settings;
pub(crate) mod site;
pub(crate) mod sticky;
pub(crate) mod traffic;
pub(crate) mod trust;
