//! Picking a server.

use std::net::IpAddr;
use std::time::Instant;

use plimsoll_balance::ceiling::{Ceiling, Seat};
use plimsoll_balance::{Ask, Eligibility, Refusal, ServerIndex, Slot, Tried, hash};
use plimsoll_http::reason::Reason;

use crate::generation::Pool;
use crate::http::exchange::Exchange;
use crate::http::key;
use crate::http::throttle::Pass;
use crate::plane::Plane;
use crate::sticky::Sticky;

/// A slot of a server, and the leave of the limit that follows the times of answers.
#[derive(Debug)]
pub(crate) struct Pick<'a> {
    pub(crate) slot: Slot<'a>,
    pub(crate) pass: Option<Pass<'a>>,
    /// Its place among the requests of the pool, where these are bounded.
    pub(crate) seat: Option<Seat<'a>>,
}

/// Picks a server that was not tried yet.
pub(crate) fn select<'a>(
    exchange: &Exchange<'a>,
    pool: &'a Pool,
    tried: &Tried,
) -> Result<Pick<'a>, Reason> {
    enter(exchange.plane, pool, || take_slot(exchange, pool, tried))
}

/// Takes a slot where the limits of the pool leave room for one.
fn enter<'a>(
    plane: &'a Plane,
    pool: &'a Pool,
    take_slot: impl FnOnce() -> Result<Slot<'a>, Reason>,
) -> Result<Pick<'a>, Reason> {
    let pass = match plane.throttles.get(pool.index) {
        Some(Some(throttle)) => {
            let pass = throttle.enter();
            Some(pass.ok_or(Reason::ConnectionLimitReached)?)
        }
        _ => None,
    };
    let seat = match &pool.ceiling {
        Some(ceiling) => Some(ceiling.enter().ok_or(Reason::ConnectionLimitReached)?),
        None => None,
    };
    let slot = take_slot()?;
    Ok(Pick { slot, pass, seat })
}

/// Picks a server for a client of whom nothing but the address is known.
pub(crate) fn for_client<'a>(
    plane: &'a Plane,
    pool: &'a Pool,
    client: IpAddr,
    at: Instant,
    tried: &Tried,
) -> Result<Pick<'a>, Reason> {
    enter(plane, pool, || {
        pick_for_address(plane, pool, client, at, tried)
    })
}

/// Remembers where a client is, in pools that do.
pub(crate) fn remember(
    plane: &Plane,
    pool: &Pool,
    client: IpAddr,
    server: ServerIndex,
    at: Instant,
) {
    if let Some(sticky) = &pool.sticky {
        sticky.remember_address(client, server, plane.since_start(at));
    }
}

/// Takes a place at a server that something belongs to already, if it may be had.
pub(crate) fn at<'a>(
    plane: &'a Plane,
    pool: &'a Pool,
    server: ServerIndex,
    tried: &Tried,
) -> Result<Pick<'a>, Reason> {
    enter(plane, pool, || {
        let slot = pool.balancer.acquire(server, tried);
        slot.map_err(|_| Reason::DestinationUnavailable)
    })
}

/// The place of what is under way at a server already. Where a limit leaves no room, it goes on without.
pub(crate) fn resume(pool: &Pool, server: ServerIndex) -> Option<Pick<'_>> {
    Some(Pick {
        slot: pool.balancer.resume(server)?,
        pass: None, // how long relayed ones last says nothing
        seat: pool.ceiling.as_ref().and_then(Ceiling::enter),
    })
}

fn take_slot<'pool>(
    exchange: &Exchange<'_>,
    pool: &'pool Pool,
    tried: &Tried,
) -> Result<Slot<'pool>, Reason> {
    if let Some(bond) = bonded(exchange, pool, tried) {
        return bond;
    }
    let key = pool.key.as_ref();
    let key = key.map_or(0, |key| key::hash_of(exchange, key, hash::SEED));
    pick(exchange.plane, pool, key, exchange.facts.started, tried)
}

/// A slot for a client of whom nothing but the address is known.
pub(crate) fn pick_for_address<'pool>(
    plane: &Plane,
    pool: &'pool Pool,
    client: IpAddr,
    at: Instant,
    tried: &Tried,
) -> Result<Slot<'pool>, Reason> {
    if let Some(sticky) = &pool.sticky
        && let Some(index) = sticky.server_of(client, plane.since_start(at))
        && let Some(bond) = take_bonded(pool, sticky, index, tried)
    {
        return bond;
    }
    let key = pool.key.as_ref();
    let key = key.map_or(0, |_| key::of_address(client, hash::SEED));
    pick(plane, pool, key, at, tried)
}

/// The server that the picker chooses.
fn pick<'pool>(
    plane: &Plane,
    pool: &'pool Pool,
    key: u64,
    at: Instant,
    tried: &Tried,
) -> Result<Slot<'pool>, Reason> {
    let ask = Ask {
        key,
        random: plane.worker.random(),
        now: plane.since_start(at),
        tried,
    };
    let mut pickers = plane.pickers.borrow_mut();
    let picker = pickers
        .get_mut(pool.index)
        .ok_or(Reason::ProxyInternalError)?;
    picker
        .pick(&pool.balancer, &ask)
        .map_err(|refusal| match refusal {
            Refusal::AllFull => Reason::ConnectionLimitReached,
            Refusal::NoServers | Refusal::AllDown | Refusal::AllTried => {
                Reason::DestinationUnavailable
            }
        })
}

/// The server that the client belongs to, if there is one and it may be had. When it is full and
/// clients wait in line, so does this one.
fn bonded<'pool>(
    exchange: &Exchange<'_>,
    pool: &'pool Pool,
    tried: &Tried,
) -> Option<Result<Slot<'pool>, Reason>> {
    let sticky = pool.sticky.as_ref()?;
    let index = sticky.server(exchange)?;
    take_bonded(pool, sticky, index, tried)
}

fn take_bonded<'pool>(
    pool: &'pool Pool,
    sticky: &Sticky,
    index: ServerIndex,
    tried: &Tried,
) -> Option<Result<Slot<'pool>, Reason>> {
    let slot = if sticky.force {
        pool.balancer.acquire_anyway(index, tried)
    } else {
        pool.balancer.acquire(index, tried)
    };
    match slot {
        Ok(slot) => Some(Ok(slot)),
        Err(Eligibility::Full) if pool.line.is_some() => Some(Err(Reason::ConnectionLimitReached)),
        Err(_) => None,
    }
}
