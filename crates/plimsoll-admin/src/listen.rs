//! Where the admin listeners are: addresses, and Unix sockets.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use plimsoll_config::model::AdminAddress;
use plimsoll_control::upgrade::{Inherited, Use};
use rustix::fs::{FlockOperation, flock};
use tokio::net::{TcpListener, UnixListener};

/// The address of `admin auto`.
pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9900);

/// The sockets of `admin auto`: the first one that can be made is the one.
pub fn sockets() -> Vec<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    let directories = [Some("/run".into()), own.map(PathBuf::from)];
    let directories = directories.into_iter().flatten();
    directories
        .map(|directory| directory.join("plimsoll/admin.sock"))
        .collect()
}

/// An admin listener.
#[derive(Debug)]
pub enum Listener {
    /// On an address.
    Ip(TcpListener),
    /// On a Unix socket.
    Socket(Socket),
}

/// A Unix socket that is listened on. It goes with this, unless it is another process's by then.
#[derive(Debug)]
pub struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Held as long as the socket is ours; nothing when it is of whoever started the process.
    lock: Option<File>,
    is_given: AtomicBool,
}

impl Listener {
    /// What another process needs to listen here, `place` being where that is.
    pub(crate) fn show(&self, place: &str) -> io::Result<Vec<(Use, OwnedFd)>> {
        let place = || place.to_owned();
        Ok(match self {
            Self::Ip(listener) => {
                vec![(Use::Admin(place()), listener.as_fd().try_clone_to_owned()?)]
            }
            Self::Socket(socket) => {
                let listener = socket.listener.as_fd().try_clone_to_owned()?;
                let mut shown = vec![(Use::Admin(place()), listener)];
                if let Some(lock) = &socket.lock {
                    shown.push((Use::Lock(place()), lock.as_fd().try_clone_to_owned()?));
                }
                shown
            }
        })
    }

    /// Leaves it to another process.
    pub(crate) fn give(&self) {
        if let Self::Socket(socket) = self {
            socket.is_given.store(true, Relaxed);
        }
    }

    /// What the process before had at `place`, if it had a listener there, or what whoever started this one has opened.
    ///
    /// # Errors
    /// It cannot be listened on.
    pub fn inherited(place: &AdminAddress, from: &Inherited) -> io::Result<Option<Self>> {
        let text = place.to_string();
        let listener = from.take_all(|of| *of == Use::Admin(text.clone())).pop();
        let lock = from.take_all(|of| *of == Use::Lock(text.clone())).pop();
        let Some(listener) = listener.map_or_else(|| from.passed(place), |own| Ok(Some(own)))?
        else {
            return Ok(None);
        };
        Ok(Some(match place {
            AdminAddress::Ip(_) => Self::Ip(TcpListener::from_std(listener.into())?),
            AdminAddress::Socket(path) => Self::Socket(Socket {
                listener: UnixListener::from_std(listener.into())?,
                path: path.clone(),
                // Who has made it removes it.
                is_given: AtomicBool::new(lock.is_none()),
                lock: lock.map(File::from),
            }),
        }))
    }
}

/// Listens on `address`.
///
/// # Errors
/// The address cannot be listened on.
pub async fn on_address(address: SocketAddr) -> io::Result<Listener> {
    TcpListener::bind(address).await.map(Listener::Ip)
}

/// Listens on a socket at `path`, for its owner and group. What a process has left there that is gone is removed.
///
/// # Errors
/// The socket cannot be made; of kind `AddrInUse` when another process listens there.
pub fn on_socket(path: &Path) -> io::Result<Listener> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        DirBuilder::new().mode(0o755).create(directory)?;
    }
    let lock = lock(path)?;
    // Whoever holds the lock owns the name; what is there has nobody behind it.
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o660))?;
    Ok(Listener::Socket(Socket {
        listener,
        path: path.to_owned(),
        lock: Some(lock),
        is_given: AtomicBool::new(false),
    }))
}

/// Takes the lock beside a socket, which ends with the process whatever becomes of it.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(name)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(ErrorKind::AddrInUse.into()),
        Err(error) => Err(error.into()),
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.is_given.load(Relaxed) {
            // Someone may have removed it already.
            let _ = fs::remove_file(&self.path);
        }
    }
}
