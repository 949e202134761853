//! One file a verb.

pub(crate) mod against;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod fmt;
pub(crate) mod logs;
pub(crate) mod pages;
pub(crate) mod pool;
pub(crate) mod proxy;
pub(crate) mod reload;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod sessions;
pub(crate) mod status;
pub(crate) mod top;
pub(crate) mod trace;
pub(crate) mod upgrade;
