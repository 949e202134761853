//! One file a verb.

pub(crate) mod demo;
pub(crate) mod one_line;
pub(crate) mod proxy;
