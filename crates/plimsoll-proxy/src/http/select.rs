//! Picking a server.

use std::net::IpAddr;

use plimsoll_balance::{Ask, Refusal, Slot, Tried, hash};
use plimsoll_config::model::HashKey;
use plimsoll_http::reason::Reason;
use plimsoll_http::request;

use crate::generation::Pool;
use crate::http::exchange::Exchange;

/// Picks a server that was not tried yet, and takes a slot on it.
pub(crate) fn select<'pool>(
    exchange: &Exchange<'_>,
    pool: &'pool Pool,
    tried: &Tried,
) -> Result<Slot<'pool>, Reason> {
    let ask = Ask {
        key: pool.key.as_ref().map_or(0, |key| key_hash(exchange, key)),
        random: exchange.plane.worker.random(),
        now: exchange.plane.since_start(exchange.facts.started),
        tried,
    };
    let mut pickers = exchange.plane.pickers.borrow_mut();
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

/// Hashes what the pool balances by. A key that the request lacks hashes like an empty one, so that
/// such requests stay together.
fn key_hash(exchange: &Exchange<'_>, key: &HashKey) -> u64 {
    let bytes = exchange.bytes();
    let (head, target) = (&exchange.scratch.head, &exchange.scratch.target);
    match key {
        HashKey::ClientIp => match exchange.peer.ip().to_canonical() {
            IpAddr::V4(v4) => hash::of(&v4.octets()),
            IpAddr::V6(v6) => hash::of(&v6.octets()),
        },
        HashKey::Host => hash::of(exchange.authority.of(bytes)),
        HashKey::Path => hash::of(target.path(bytes)),
        HashKey::Uri => {
            let path = hash::of(target.path(bytes));
            match target.query {
                Some(query) => path.rotate_left(1) ^ hash::of(query.of(bytes)),
                None => path,
            }
        }
        HashKey::Query(name) => {
            let query = target
                .query
                .map(|query| query.of(bytes))
                .unwrap_or_default();
            hash::of(request::query_parameter(query, name.as_bytes()).unwrap_or_default())
        }
        HashKey::Header(name) => {
            let field = head.fields.by_text(bytes, name.as_bytes());
            hash::of(field.map(|field| field.value.of(bytes)).unwrap_or_default())
        }
        HashKey::Cookie(name) => {
            hash::of(request::cookie(head, bytes, name.as_bytes()).unwrap_or_default())
        }
    }
}
