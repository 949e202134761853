//! Sockets, workers and time: the part of the data plane that touches the operating system.

pub mod accept;
pub mod announce;
pub mod buffer;
pub mod clock;
pub mod connect;
pub mod datagrams;
pub mod deadline;
pub mod handover;
pub mod idle_pool;
pub mod listener;
pub mod options;
pub mod passed;
pub mod runners;
pub mod send_file;
pub mod socket;
pub mod splice;
pub mod stream;
pub mod tls;
pub mod tree;
pub mod turns;
pub mod worker;
