//! From text to a checked model; every problem of a file in one run.

pub mod model;
