//! Keys of requests: what pools balance by and limits count by.

use std::net::IpAddr;

use plimsoll_balance::hash;
use plimsoll_config::model::HashKey;
use plimsoll_http::request;

use crate::http::exchange::Exchange;

/// Hashes the part of the request that `key` names, the same for all its spellings: whoever counts by
/// it is not counted anew for each. What the request lacks hashes like an empty text, so that such
/// requests stay together.
pub(crate) fn hash_of(exchange: &Exchange<'_>, key: &HashKey, seed: u64) -> u64 {
    let of = |text: &[u8]| hash::with_seed(text, seed);
    let bytes = exchange.bytes();
    let (head, target) = (&exchange.scratch.head, &exchange.scratch.target);
    let query = || target.query.map(|query| query.of(bytes));
    match key {
        HashKey::ClientIp => of_address(exchange.origin.client, seed),
        HashKey::Fingerprint => of(exchange.fingerprint.unwrap_or_default().as_bytes()),
        HashKey::Host => match exchange.seen().host() {
            host if host.iter().any(u8::is_ascii_uppercase) => of(&host.to_ascii_lowercase()),
            host => of(host),
        },
        HashKey::Path => of(target.path(bytes)),
        HashKey::Uri => {
            let path = of(target.path(bytes));
            query().map_or(path, |query| path.rotate_left(1) ^ of(query))
        }
        HashKey::Query(name) => {
            let query = query().unwrap_or_default();
            match request::query_parameter(query, name.as_bytes()).unwrap_or_default() {
                value if memchr::memchr2(b'%', b'+', value).is_some() => {
                    of(&request::unescaped(value).collect::<Vec<_>>())
                }
                value => of(value),
            }
        }
        HashKey::Header(name) => {
            let field = head.fields.by_text(bytes, name.as_bytes());
            of(field.map(|field| field.value.of(bytes)).unwrap_or_default())
        }
        HashKey::Cookie(name) => {
            of(request::cookie(head, bytes, name.as_bytes()).unwrap_or_default())
        }
    }
}

/// Hashes an address, the same for both of its spellings.
pub(crate) fn of_address(address: IpAddr, seed: u64) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(v4) => hash::with_seed(&v4.octets(), seed),
        IpAddr::V6(v6) => hash::with_seed(&v6.octets(), seed),
    }
}
