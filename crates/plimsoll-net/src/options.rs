//! What the system does for a connection.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::net::sockopt;

/// Questions without an answer until a silent peer counts as gone, and the time between them.
const KEEPALIVE_COUNT: u32 = 3;
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// How many clients may have sent with their first packet and be on their way to be accepted.
const FAST_OPEN_QUEUE: libc::c_int = 1024;

/// What is asked of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// How long a connection is silent before its peer is asked whether it is there.
    pub keepalive: Option<Duration>,
    /// How long what was sent may stay unacknowledged.
    pub user_timeout: Option<Duration>,
    /// Whether clients may send with their first packet (RFC 7413).
    pub fast_open: bool,
    /// Whether it may use several paths (RFC 8684).
    pub multipath: bool,
}

impl Options {
    /// Sets them on a socket that is about to connect, or to listen: what it accepts inherits them. What the
    /// system does not know of is left out: it makes a connection better, and none impossible.
    pub(crate) fn set(&self, socket: impl AsFd) {
        if let Some(silent) = self.keepalive {
            note("keepalive", set_keepalive(&socket, silent));
        }
        if let Some(time) = self.user_timeout {
            let millis = u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
            let set = sockopt::set_tcp_user_timeout(&socket, millis);
            note("user-timeout", set.map_err(io::Error::from));
        }
    }

    /// Sets what holds for listening sockets alone.
    pub(crate) fn set_listening(&self, socket: impl AsFd) {
        if self.fast_open {
            let name = libc::TCP_FASTOPEN;
            note(
                "fast-open",
                set_number(&socket, libc::IPPROTO_TCP, name, FAST_OPEN_QUEUE),
            );
        }
        self.set(socket);
    }

    /// Sets all of them on a socket that listens already, whatever was set before.
    pub(crate) fn set_again(&self, socket: impl AsFd) {
        if self.keepalive.is_none() {
            let off = sockopt::set_socket_keepalive(&socket, false);
            note("keepalive", off.map_err(io::Error::from));
        }
        if self.user_timeout.is_none() {
            let off = sockopt::set_tcp_user_timeout(&socket, 0);
            note("user-timeout", off.map_err(io::Error::from));
        }
        if !self.fast_open {
            let off = set_number(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 0);
            note("fast-open", off);
        }
        self.set_listening(socket);
    }
}

fn set_keepalive(socket: impl AsFd, silent: Duration) -> io::Result<()> {
    sockopt::set_tcp_keepidle(&socket, silent)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE_EVERY.min(silent))?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_COUNT)?;
    Ok(sockopt::set_socket_keepalive(&socket, true)?)
}

fn note(option: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(option, %error, "the system does not know a socket option");
    }
}

/// Sets an option whose value is a number, for those that no library knows.
pub(crate) fn set_number(
    socket: impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "the size is four")]
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads one integer, of the size that is given, and keeps nothing.
    #[expect(unsafe_code, reason = "no safe wrapper knows these options")]
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size,
        )
    };
    match outcome {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
