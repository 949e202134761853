//! Which server a client belongs to, and how it comes to know.

use hashbrown::HashMap;
use hmac::{Hmac, Mac};
use plimsoll_balance::bonds::Bonds;
use plimsoll_balance::{ServerIndex, hash};
use plimsoll_config::model::{self, HashKey, SameSite, StickyBy, StickyCookie};
use plimsoll_http::cookie::{self, Hide, Mark};
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
    /// Whether a client stays on a server that is down by its checks.
    pub(crate) force: bool,
}

#[derive(Debug)]
enum By {
    Cookie {
        name: Box<[u8]>,
        /// By server: the whole `Set-Cookie` field.
        fields: Vec<Box<[u8]>>,
        visible: bool,
    },
    Rewrite(Box<[u8]>),
    Prefix(Box<[u8]>),
    Key(HashKey, Bonds),
    Learn(HashKey, Bonds),
}

impl Sticky {
    pub(crate) fn new(sticky: &model::Sticky, pool: &str, servers: &[Server]) -> Self {
        let token = |server: &Server| token(&sticky.key, pool, &server.name);
        let tokens: Vec<Box<[u8]>> = servers.iter().map(token).collect();
        let by = match &sticky.by {
            StickyBy::Cookie(cookie) => By::Cookie {
                name: cookie.name.as_bytes().into(),
                fields: tokens
                    .iter()
                    .map(|token| set_cookie(cookie, token))
                    .collect(),
                visible: cookie.visible,
            },
            StickyBy::Rewrite(name) => By::Rewrite(name.as_bytes().into()),
            StickyBy::Prefix(name) => By::Prefix(name.as_bytes().into()),
            StickyBy::Key { key, idle, entries } => {
                By::Key(key.clone(), Bonds::new(*idle, *entries as usize))
            }
            StickyBy::Learn { key, idle, entries } => {
                By::Learn(key.clone(), Bonds::new(*idle, *entries as usize))
            }
        };
        let numbered = (0..).map(ServerIndex::new);
        Self {
            by,
            servers: tokens.iter().cloned().zip(numbered).collect(),
            tokens,
            force: sticky.force,
        }
    }

    /// The server that the client of this request belongs to.
    pub(crate) fn server(&self, exchange: &Exchange<'_>) -> Option<ServerIndex> {
        let cookie = |name: &[u8]| request::cookie(&exchange.scratch.head, exchange.bytes(), name);
        match &self.by {
            By::Cookie { name, .. } | By::Rewrite(name) => self.servers.get(cookie(name)?).copied(),
            By::Prefix(name) => {
                let (token, _) = cookie::split_token(cookie(name)?)?;
                self.servers.get(token).copied()
            }
            By::Key(key, bonds) | By::Learn(key, bonds) => {
                let now = exchange.plane.since_start(exchange.facts.started);
                bonds.find(key::hash_of(exchange, key, hash::SEED), now)
            }
        }
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
            By::Cookie { fields, .. } if self.server(exchange) != Some(server) => {
                fields.get(at).map(|field| Mark::Add(field))
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
            bonds.tie(key::hash_of(exchange, key, hash::SEED), server, now);
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
        now: std::time::Duration,
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
            bonds.tie(hash::of(value), server, now);
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

fn set_cookie(cookie: &StickyCookie, token: &[u8]) -> Box<[u8]> {
    let token = String::from_utf8_lossy(token);
    let mut field = format!("{}={token}; Path={}", cookie.name, cookie.path);
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
    field.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

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
