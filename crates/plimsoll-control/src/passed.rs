//! The sockets that whoever started this process has opened for it. They stay open as long as the process lives: what
//! listens there now may do so again after a reload that has left it out.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use plimsoll_net::listener::{self, TooLong};
use plimsoll_net::passed::{self, Passed, Place};
use serde::{Deserialize, Serialize};

/// All of them.
#[derive(Debug, Default)]
pub struct Sockets(Vec<(Passed, AtomicBool)>);

/// Takes them; none when there are none. This has to be the first thing that the process does.
///
/// # Errors
/// One of them is nothing that can be listened on.
pub fn take() -> io::Result<Sockets> {
    passed::take().map(Sockets::new)
}

/// What another process is told of one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    name: String,
    place: Named,
}

/// Where it listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Named {
    Connections(SocketAddr),
    Datagrams(SocketAddr),
    Local(Box<Path>),
}

impl Sockets {
    fn new(all: Vec<Passed>) -> Self {
        let unused = |passed| (passed, AtomicBool::new(false));
        Self(all.into_iter().map(unused).collect())
    }

    /// Those that another process passes on.
    pub(crate) fn passed_on(told: Vec<Told>, sockets: impl Iterator<Item = OwnedFd>) -> Self {
        let passed = told.into_iter().zip(sockets).map(|(told, socket)| Passed {
            name: told.name,
            place: match told.place {
                Named::Connections(address) => Place::Connections(address),
                Named::Datagrams(address) => Place::Datagrams(address),
                Named::Local(path) => Place::Local(path.into()),
            },
            socket,
        });
        Self::new(passed.collect())
    }

    /// All of them, for another process.
    pub(crate) fn pass_on(&self) -> Vec<(Told, OwnedFd)> {
        let all = self.0.iter().filter_map(|(passed, _)| {
            let place = match &passed.place {
                Place::Connections(address) => Named::Connections(*address),
                Place::Datagrams(address) => Named::Datagrams(*address),
                Place::Local(path) => Named::Local(path.as_path().into()),
            };
            let name = passed.name.clone();
            Some((Told { name, place }, passed.socket.try_clone().ok()?))
        });
        all.collect()
    }

    /// The sockets at a place.
    fn at(&self, place: &Place) -> io::Result<Vec<OwnedFd>> {
        let mine = self.0.iter().filter(|(passed, _)| passed.place == *place);
        mine.map(|(passed, is_used)| {
            is_used.store(true, Relaxed);
            passed.socket.try_clone()
        })
        .collect()
    }

    /// The listeners at an address.
    pub(crate) fn listeners(&self, address: SocketAddr) -> io::Result<Vec<TcpListener>> {
        let all = self.at(&Place::Connections(address))?;
        all.into_iter().map(listener::adopt).collect()
    }

    /// So many more for workers that have none: the same ones again. Another one would have a queue of its own, and who
    /// waits there would be lost when this process ends.
    pub(crate) fn more(&self, address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
        let all = self.listeners(address)?;
        let again = all.iter().cycle().take(count);
        again.map(TcpListener::try_clone).collect()
    }

    /// The sockets that datagrams come to.
    pub(crate) fn datagrams(
        &self,
        address: SocketAddr,
        too_long: TooLong,
    ) -> io::Result<Vec<UdpSocket>> {
        let all = self.at(&Place::Datagrams(address))?.into_iter();
        all.map(|socket| listener::adopt_datagrams(socket, address, too_long))
            .collect()
    }

    /// The first one at a place of the admin listeners.
    pub(crate) fn first(&self, place: &Place) -> io::Result<Option<OwnedFd>> {
        Ok(self.at(place)?.into_iter().next())
    }

    /// Says which of them nothing listens on.
    pub(crate) fn tell_unused(&self) {
        let unused = self.0.iter().filter(|(_, is_used)| !is_used.load(Relaxed));
        for (Passed { name, place, .. }, _) in unused {
            tracing::warn!(name, %place, "a socket was passed that no listener names; whoever connects there waits");
        }
    }
}
