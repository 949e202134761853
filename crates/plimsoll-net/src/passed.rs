//! Sockets that whoever started this process has opened for it (sd_listen_fds(3)): what waits there is not lost while
//! the process ends and another one is started.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Socket, Type};

/// The number of the first one.
const FIRST: RawFd = 3;

/// The most that are taken.
const MOST: RawFd = 1024;

/// A socket that was passed.
#[derive(Debug)]
pub struct Passed {
    /// What it is called by whoever has opened it.
    pub name: String,
    /// Where it listens.
    pub place: Place,
    /// The socket.
    pub socket: OwnedFd,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Connections come to this address.
    Connections(SocketAddr),
    /// Datagrams come to it.
    Datagrams(SocketAddr),
    /// Connections come to the Unix socket at this path.
    Local(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections(address) => write!(f, "{address}"),
            Self::Datagrams(address) => write!(f, "{address}/udp"),
            Self::Local(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Takes the sockets that were passed to this process; none when none were. They are not passed on to programs that it
/// starts.
///
/// This has to be the first thing that the process does: the numbers of their descriptors are all that is known of
/// them.
///
/// # Errors
/// One of them is nothing that can be listened on.
pub fn take() -> io::Result<Vec<Passed>> {
    let said = |name| std::env::var(name).unwrap_or_default();
    let names = names(
        (&said("LISTEN_PID"), std::process::id()),
        &said("LISTEN_FDS"),
        &said("LISTEN_FDNAMES"),
    );
    let sockets = (FIRST..).zip(names).map(|(number, name)| {
        // SAFETY: whoever started this process has opened it for us, as it says, and nothing has been opened or
        // closed here since.
        #[expect(unsafe_code, reason = "descriptors are passed by number")]
        let socket = unsafe { OwnedFd::from_raw_fd(number) };
        passed(socket, name)
    });
    sockets.collect()
}

/// The names of what was passed to this process, in the order of the descriptors.
fn names((to, own): (&str, u32), count: &str, names: &str) -> Vec<String> {
    if to.parse() != Ok(own) {
        return Vec::new(); // they are not for this process
    }
    let count = count.parse().unwrap_or(0).clamp(0, MOST);
    let mut names = names.split(':');
    let name = |_| match names.next() {
        None | Some("") => "unknown".to_owned(),
        Some(name) => name.to_owned(),
    };
    (0..count).map(name).collect()
}

fn passed(socket: OwnedFd, name: String) -> io::Result<Passed> {
    let wrong = |why: String| {
        let why = format!("the descriptor `{name}` that was passed {why}");
        io::Error::new(io::ErrorKind::InvalidInput, why)
    };
    let socket = Socket::from(socket);
    let place = place(&socket).map_err(|error| wrong(format!("is of no use: {error}")))?;
    let place = place.ok_or_else(|| wrong("does not listen on an address or a path".to_owned()))?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    socket.set_nonblocking(true)?;
    Ok(Passed {
        name,
        place,
        socket: socket.into(),
    })
}

fn place(socket: &Socket) -> io::Result<Option<Place>> {
    let is_datagrams = socket.r#type()? == Type::DGRAM;
    let address = socket.local_addr()?;
    let is_listening = !is_datagrams && socket.is_listener()?;
    let place = match (address.as_socket(), is_datagrams) {
        (Some(address), true) => Some(Place::Datagrams(address)),
        (Some(address), false) => Some(Place::Connections(address)),
        (None, _) => address
            .as_pathname()
            .map(|path| Place::Local(path.to_owned())),
    };
    Ok(place.filter(|place| is_listening || matches!(place, Place::Datagrams(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_what_is_for_this_process_is_taken_and_each_has_a_name() {
        let named = |to, count, said| names((to, 7), count, said);
        assert_eq!(named("7", "3", "web:"), ["web", "unknown", "unknown"]);
        assert_eq!(named("7", "1", "web:more"), ["web"]);
        assert_eq!(named("7", "99999", "").len(), 1024);
        for (to, count) in [
            ("8", "3"),
            ("", "3"),
            ("x", "3"),
            ("7", ""),
            ("7", "-1"),
            ("7", "x"),
        ] {
            assert!(named(to, count, "").is_empty(), "{to} {count}");
        }
    }

    #[test]
    fn what_listens_is_told_by_where_it_does_and_what_does_not_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let stream = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stream.local_addr().unwrap();
        let connected = TcpStream::connect(address).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = datagrams.local_addr().unwrap();
        let local = UnixListener::bind(&path).unwrap();
        let place = |socket: OwnedFd| passed(socket, "a".to_owned()).map(|passed| passed.place);
        assert_eq!(place(stream.into()).unwrap(), Place::Connections(address));
        assert_eq!(place(datagrams.into()).unwrap(), Place::Datagrams(to));
        assert_eq!(place(local.into()).unwrap(), Place::Local(path));
        let why = |socket: OwnedFd| place(socket).unwrap_err().to_string();
        assert!(why(connected.into()).contains("`a` that was passed does not listen"));
        assert!(why(tempfile::tempfile().unwrap().into()).contains("is of no use"));
    }
}
