//! Finding a server for a flow, and a way to it.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use plimsoll_balance::{Outcome, ServerIndex, Tried};
use plimsoll_http::reason::Reason;
use plimsoll_net::datagrams::Link;
use plimsoll_net::listener::TooLong;

use super::flow::Route;
use crate::events;
use crate::generation::{Pool, Server};
use crate::http::acquire::connect_failure;
use crate::http::attempt::CONNECTS_MAX;
use crate::http::failure::{Failure, Sent, Side};
use crate::http::line::Turned;
use crate::http::select;
use crate::plane::Plane;

/// The search for a server.
#[derive(Default)]
pub(super) struct Search<'a> {
    /// The server that is asked first.
    pub(super) known: Option<ServerIndex>,
    pub(super) tried: Tried,
    pub(super) attempts: u32,
    /// The last server to which there was no way, and why.
    pub(super) failed: Option<(&'a str, Reason)>,
    /// Whether it ended because something ran out here.
    pub(super) is_for_want: bool,
}

impl<'a> Search<'a> {
    /// Finds a server that was not tried yet, and a way to it.
    pub(super) fn find(
        &mut self,
        (plane, pool): (&'a Plane, &'a Pool),
        too_long: TooLong,
        client: IpAddr,
        now: Instant,
    ) -> Result<Route<'a>, Turned> {
        let mut last = None;
        for _ in 0..CONNECTS_MAX {
            let known = self.known.take();
            let known = known.and_then(|at| select::at(plane, pool, at, &self.tried).ok());
            let picked = known.map_or_else(
                || select::for_client(plane, pool, client, now, &self.tried),
                Ok,
            );
            let pick = match picked {
                Ok(pick) => pick,
                Err(reason) => return Err(last.unwrap_or(Turned { reason, detail: "" })),
            };
            let index = pick.slot.index();
            let Some(server) = pool.servers.get(index.position()) else {
                break;
            };
            self.attempts += 1;
            let failed = match open(server, too_long) {
                Ok(link) => {
                    select::remember(plane, pool, client, index, now);
                    return Ok(Route { pick, server, link });
                }
                Err(failed) => failed,
            };
            let outcome: Outcome = failed.blame.into();
            events::teach(plane, pool, &pick.slot, (outcome, None), now);
            self.is_for_want = failed.blame == Side::Plimsoll;
            if !self.is_for_want {
                self.tried.insert(index);
                self.failed = Some((&server.name, failed.reason));
                events::count_failure(plane, pool, index, failed.reason);
            }
            last = Some(Turned {
                reason: failed.reason,
                detail: failed.detail,
            });
            if self.is_for_want {
                break; // another server would not help
            }
        }
        Err(last.unwrap_or(Turned {
            reason: Reason::ProxyInternalError,
            detail: "",
        }))
    }
}

/// Opens the way to a server.
fn open(server: &Server, too_long: TooLong) -> Result<Link, Failure> {
    let known = server.addresses.now();
    let addresses = match &*known {
        Ok(addresses) => addresses,
        Err(reason) => return Err(Failure::upstream(*reason, "", Sent::Nothing)),
    };
    let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        outcome = Link::open(address, too_long);
        if outcome.is_ok() {
            break;
        }
    }
    outcome.map_err(|error| connect_failure(&error))
}

/// What an error of a link means.
pub(super) enum Fate {
    /// The datagram did not go, and the next one may.
    Lost,
    /// There is no way to the server, or nobody listens there.
    Gone(Failure),
}

pub(super) fn fate(error: &io::Error) -> Fate {
    use io::ErrorKind as E;
    match error.kind() {
        E::ConnectionRefused | E::HostUnreachable | E::NetworkUnreachable | E::NetworkDown => {
            Fate::Gone(connect_failure(error))
        }
        _ => Fate::Lost,
    }
}
