//! What happened, cheaply: counters, histograms and log lines, all in memory.
#![forbid(unsafe_code)]

pub mod access_log;
pub mod counter;
pub mod format;
pub mod histogram;
pub mod metrics;
pub mod outcomes;
pub mod prometheus;
pub mod redact;
pub mod sink;
pub mod syslog;
