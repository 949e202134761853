//! Who serves this request, and whether anyone may.
//!
//! The life of a choice: [`Pool::new`] once per configuration, [`Picker::new`] once per worker
//! and pool, [`Picker::pick`] once per attempt, [`Slot::release`] once per pick.
//!
//! The crate knows no protocol, so that HTTP, TCP and UDP share one copy of every algorithm. It
//! has no clock and no randomness: both are fields of [`Ask`]. It takes no lock and allocates
//! nothing after a pool and its pickers are built, except for [`Tried`] past 64 servers.
#![forbid(unsafe_code)]

mod algorithm;
pub mod bonds;
pub mod budget;
pub mod canary;
mod care;
pub mod ceiling;
pub mod concurrency;
mod eligible;
mod ewma;
pub mod flows;
pub mod gradient;
pub mod hash;
mod health;
pub mod ids;
mod ip_key;
mod outlier;
pub mod percentile;
mod pick;
mod pool;
pub mod queue;
pub mod rate;
mod server;
mod slow_start;
mod standing;
pub mod strain;
pub mod subset;
mod tried;

pub use algorithm::Algorithm;
pub use care::{Change, Event, Rules};
pub use eligible::{Eligibility, eligibility};
pub use health::{CheckRule, Checked};
pub use ip_key::key_of_ip;
pub use outlier::{Fault, OutlierRule};
pub use pick::{Ask, Picker, Refusal};
pub use pool::{Pool, ServerIndex};
pub use server::{Outcome, Server, ServerSpec, Slot};
pub use standing::{Health, Standing, Wish};
pub use tried::Tried;
