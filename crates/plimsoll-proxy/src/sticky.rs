//! Which server a client belongs to, and how it comes to know.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use hmac::{Hmac, Mac};
use plimsoll_balance::bonds::{Bonds, Numbering};
use plimsoll_balance::{ServerIndex, hash};
use plimsoll_config::model::{self, HashKey, SameSite, StickyBy, StickyCookie};
use plimsoll_http::cookie::{self, Hide, Mark, OwnCookie, Stamp};
use plimsoll_http::field::Name;
use plimsoll_http::head::ResponseHead;
use plimsoll_http::request;
use sha2::Sha256;

use crate::generation::Server;
use crate::http::exchange::Exchange;
use crate::http::key;

/// What tokens are made with when no key is configured: then they hide names from whoever does not
/// guess them, and nodes understand each other all the same.
const NO_KEY: &str = "plimsoll";

/// How clients of a pool are kept on their servers.
#[derive(Debug)]
pub(crate) struct Sticky {
    by: By,
    /// By server.
    tokens: Vec<Box<[u8]>>,
    servers: HashMap<Box<[u8]>, ServerIndex>,
    /// By which numbers servers are remembered.
    numbering: Numbering,
    /// Whether a client stays on a server that is down by its checks.
    pub(crate) force: bool,
}

#[derive(Debug)]
enum By {
    Cookie {
        name: Box<[u8]>,
        /// By server: the cookie's name and value.
        pairs: Vec<Box<[u8]>>,
        attributes: Box<[u8]>,
        terms: Terms,
        visible: bool,
    },
    Rewrite(Box<[u8]>),
    Prefix(Box<[u8]>),
    Key(HashKey, Arc<Bonds>),
    Learn(HashKey, Arc<Bonds>),
}

impl Sticky {
    /// Who belongs to which server is known from the configuration `before`, where it is remembered by the same.
    pub(crate) fn new(
        sticky: &model::Sticky,
        pool: &str,
        servers: &[Server],
        before: Option<(&model::Sticky, &Self)>,
    ) -> Self {
        let before = before.filter(|(old, _)| old.by == sticky.by);
        let known = before.and_then(|(_, old)| old.bonds());
        let bonds = |idle: Duration, entries: u32| match known {
            Some(known) => Arc::clone(known),
            None => Arc::new(Bonds::new(idle, entries as usize)),
        };
        let names: Vec<_> = servers
            .iter()
            .map(|server| Arc::clone(&server.name))
            .collect();
        let numbering = before.map(|(_, old)| old.numbering.succeed(&names));
        let token = |server: &Server| token(&sticky.key, pool, &server.name);
        let tokens: Vec<Box<[u8]>> = servers.iter().map(token).collect();
        let by = match &sticky.by {
            StickyBy::Cookie(cookie) => By::Cookie {
                name: cookie.name.as_bytes().into(),
                pairs: tokens
                    .iter()
                    .map(|token| [cookie.name.as_bytes(), token].join(&b'=').into())
                    .collect(),
                attributes: attributes(cookie).into_bytes().into(),
                terms: Terms {
                    idle: cookie.max_idle.map(|idle| idle.as_secs()),
                    life: cookie.max_life.map(|life| life.as_secs()),
                },
                visible: cookie.visible,
            },
            StickyBy::Rewrite(name) => By::Rewrite(name.as_bytes().into()),
            StickyBy::Prefix(name) => By::Prefix(name.as_bytes().into()),
            StickyBy::Key { key, idle, entries } => By::Key(key.clone(), bonds(*idle, *entries)),
            StickyBy::Learn { key, idle, entries } => {
                By::Learn(key.clone(), bonds(*idle, *entries))
            }
        };
        let numbered = (0..).map(ServerIndex::new);
        Self {
            by,
            servers: tokens.iter().cloned().zip(numbered).collect(),
            tokens,
            numbering: numbering.unwrap_or_else(|| Numbering::default().succeed(&names)),
            force: sticky.force,
        }
    }

    fn bonds(&self) -> Option<&Arc<Bonds>> {
        match &self.by {
            By::Key(_, bonds) | By::Learn(_, bonds) => Some(bonds),
            By::Cookie { .. } | By::Rewrite(_) | By::Prefix(_) => None,
        }
    }

    /// The server that `bonds` remember.
    fn find(&self, bonds: &Bonds, key: u64, now: Duration) -> Option<ServerIndex> {
        self.numbering.place(bonds.find(key, now)?)
    }

    fn tie(&self, bonds: &Bonds, key: u64, server: ServerIndex, now: Duration) {
        if let Some(number) = self.numbering.number(server) {
            bonds.tie(key, number, now);
        }
    }

    /// The server that the client of this request belongs to.
    pub(crate) fn server(&self, exchange: &Exchange<'_>) -> Option<ServerIndex> {
        let cookie = |name: &[u8]| request::cookie(&exchange.scratch.head, exchange.bytes(), name);
        match &self.by {
            By::Cookie { name, terms, .. } => self.stamped(exchange, name, *terms)?.0,
            By::Rewrite(name) => self.servers.get(cookie(name)?).copied(),
            By::Prefix(name) => {
                let (token, _) = cookie::split_token(cookie(name)?)?;
                self.servers.get(token).copied()
            }
            By::Key(key, bonds) | By::Learn(key, bonds) => {
                let now = exchange.plane.since_start(exchange.facts.started);
                self.find(bonds, key::hash_of(exchange, key, hash::SEED), now)
            }
        }
    }

    /// The server that a client belongs to of whom the address is known alone.
    pub(crate) fn server_of(&self, client: IpAddr, now: Duration) -> Option<ServerIndex> {
        let bonds = self.bonds_of_addresses()?;
        self.find(bonds, key::of_address(client, hash::SEED), now)
    }

    /// Remembers that a client is at `server`, of whom the address is known alone.
    pub(crate) fn remember_address(&self, client: IpAddr, server: ServerIndex, now: Duration) {
        if let Some(bonds) = self.bonds_of_addresses() {
            self.tie(bonds, key::of_address(client, hash::SEED), server, now);
        }
    }

    fn bonds_of_addresses(&self) -> Option<&Bonds> {
        match &self.by {
            By::Key(HashKey::ClientIp, bonds) => Some(bonds),
            _ => None,
        }
    }

    /// The server that our cookie names, if it still holds, and the stamp of it.
    fn stamped(
        &self,
        exchange: &Exchange<'_>,
        name: &[u8],
        terms: Terms,
    ) -> Option<(Option<ServerIndex>, Option<Stamp>)> {
        let value = request::cookie(&exchange.scratch.head, exchange.bytes(), name)?;
        let (token, stamp) = cookie::split_stamp(value);
        let server = self.servers.get(token).copied();
        let holds = terms.hold(stamp, exchange.facts.at.as_secs());
        Some((server.filter(|_| holds), stamp))
    }

    /// What servers do not see.
    pub(crate) fn hide(&self) -> Option<Hide<'_>> {
        match &self.by {
            By::Cookie {
                name,
                visible: false,
                ..
            } => Some(Hide::Whole(name)),
            By::Prefix(name) => Some(Hide::Prefix(name)),
            _ => None,
        }
    }

    /// What tells the client that it belongs to `server`; nothing when it knows.
    pub(crate) fn mark(&self, exchange: &Exchange<'_>, server: ServerIndex) -> Option<Mark<'_>> {
        let at = server.position();
        match &self.by {
            By::Cookie {
                name,
                pairs,
                attributes,
                terms,
                ..
            } => {
                let (known, stamp) = self.stamped(exchange, name, *terms).unwrap_or_default();
                let stays = known == Some(server);
                let now = exchange.facts.at.as_secs();
                if stays && !terms.are_to_be_renewed(stamp, now) {
                    return None;
                }
                pairs.get(at).map(|pair| {
                    Mark::Add(OwnCookie {
                        pair,
                        stamp: terms.stamp(stamp.filter(|_| stays), now),
                        attributes,
                    })
                })
            }
            By::Rewrite(name) => self.tokens.get(at).map(|token| Mark::Replace(name, token)),
            By::Prefix(name) => self.tokens.get(at).map(|token| Mark::Prefix(name, token)),
            _ => None,
        }
    }

    /// Remembers that the client of this request is at `server`, where that is remembered.
    pub(crate) fn remember(&self, exchange: &Exchange<'_>, server: ServerIndex) {
        let now = exchange.plane.since_start(exchange.facts.started);
        if let By::Key(key, bonds) = &self.by {
            self.tie(bonds, key::hash_of(exchange, key, hash::SEED), server, now);
        }
    }

    /// Whether an answer may bring what is remembered.
    pub(crate) fn learns(&self) -> bool {
        matches!(self.by, By::Learn(..))
    }

    /// Remembers what an answer of `server` brings.
    pub(crate) fn learn(
        &self,
        response: &ResponseHead,
        bytes: &[u8],
        server: ServerIndex,
        now: Duration,
    ) {
        let By::Learn(key, bonds) = &self.by else {
            return;
        };
        let found = match key {
            HashKey::Cookie(name) => response
                .fields
                .all(Name::SetCookie)
                .find_map(|line| cookie::set_value(line.value.of(bytes), name.as_bytes())),
            HashKey::Header(name) => response
                .fields
                .by_text(bytes, name.as_bytes())
                .map(|line| line.value.of(bytes)),
            _ => None,
        };
        if let Some(value) = found.filter(|value| !value.is_empty()) {
            self.tie(bonds, hash::of(value), server, now);
        }
    }
}

/// Names a server to those who have the key, and to nobody else.
fn token(key: &str, pool: &str, server: &str) -> Box<[u8]> {
    let key = if key.is_empty() { NO_KEY } else { key };
    // A key may be of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key.as_bytes()) else {
        return Box::default();
    };
    for part in ["sticky", pool, server] {
        mac.update(part.as_bytes());
        mac.update(&[0]);
    }
    let digest = mac.finalize().into_bytes();
    let hex = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
    hex.collect::<String>().into_bytes().into()
}

fn attributes(cookie: &StickyCookie) -> String {
    let mut field = format!("; Path={}", cookie.path);
    if let Some(domain) = &cookie.domain {
        field.push_str("; Domain=");
        field.push_str(domain);
    }
    if let Some(age) = cookie.max_age {
        field.push_str("; Max-Age=");
        field.push_str(&age.as_secs().to_string());
    }
    if cookie.secure {
        field.push_str("; Secure");
    }
    if cookie.http_only {
        field.push_str("; HttpOnly");
    }
    field.push_str(match cookie.same_site {
        SameSite::Strict => "; SameSite=Strict",
        SameSite::Lax => "; SameSite=Lax",
        SameSite::None => "; SameSite=None",
    });
    field
}

/// How long a cookie holds, in seconds, whatever its client says of its age.
#[derive(Clone, Copy, Debug, Default)]
struct Terms {
    /// Since its client was last seen.
    idle: Option<u64>,
    /// Since it was set first.
    life: Option<u64>,
}

impl Terms {
    /// Tells whether a cookie still holds at `now`. One without a stamp is from a time without terms.
    fn hold(self, stamp: Option<Stamp>, now: u64) -> bool {
        let within =
            |from: u64, most: Option<u64>| most.is_none_or(|most| now.saturating_sub(from) <= most);
        stamp.is_none_or(|stamp| within(stamp.seen, self.idle) && within(stamp.first, self.life))
    }

    /// Tells whether a client that stays is told anew. When it was seen need not be known to the
    /// second: an eighth of the time that it may stay away will do.
    fn are_to_be_renewed(self, stamp: Option<Stamp>, now: u64) -> bool {
        match (stamp, self.idle) {
            (None, _) => self.idle.is_some() || self.life.is_some(),
            (Some(_), None) => false,
            (Some(stamp), Some(idle)) => now.saturating_sub(stamp.seen) > idle / 8,
        }
    }

    /// The stamp of a cookie that is set at `now`, after one with `before`.
    fn stamp(self, before: Option<Stamp>, now: u64) -> Option<Stamp> {
        let is_needed = self.idle.is_some() || self.life.is_some();
        is_needed.then(|| Stamp {
            seen: now,
            first: before.map_or(now, |before| before.first),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_holds_while_its_client_comes_back_and_never_too_long() {
        let terms = Terms {
            idle: Some(80),
            life: Some(1000),
        };
        let stamp = |seen, first| Some(Stamp { seen, first });
        assert!(terms.hold(stamp(920, 500), 1000) && !terms.hold(stamp(919, 500), 1000));
        assert!(terms.hold(stamp(1000, 0), 1000) && !terms.hold(stamp(1000, 0), 1001));
        assert!(
            terms.hold(stamp(2000, 2000), 1000),
            "clocks of nodes differ"
        );
        assert!(terms.hold(None, 1000));
        assert!(!terms.are_to_be_renewed(stamp(990, 0), 1000));
        assert!(terms.are_to_be_renewed(stamp(989, 0), 1000));
        assert!(terms.are_to_be_renewed(None, 1000));
        assert_eq!(terms.stamp(stamp(989, 7), 1000), stamp(1000, 7));
        assert_eq!(terms.stamp(None, 1000), stamp(1000, 1000));
        let none = Terms::default();
        assert!(none.hold(stamp(0, 0), u64::MAX) && !none.are_to_be_renewed(None, 5));
        assert_eq!(none.stamp(None, 5), None);
    }

    #[test]
    fn tokens_are_the_same_on_every_node_and_differ_by_key_pool_and_server() {
        let one = token("k", "app", "10.0.0.1:80");
        assert_eq!(&*one, &*token("k", "app", "10.0.0.1:80"));
        assert_eq!(one.len(), 16);
        for other in [
            token("l", "app", "10.0.0.1:80"),
            token("k", "web", "10.0.0.1:80"),
            token("k", "app", "10.0.0.2:80"),
        ] {
            assert_ne!(one, other);
        }
    }
}
