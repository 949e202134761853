//! Who may come in. What is refused is answered; what is not goes on to the next step.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use plimsoll_access::basic::Credentials;
use plimsoll_access::cors;
use plimsoll_access::password::Passwords;
use plimsoll_access::signed_url;
use plimsoll_access::token::{Claims, Refused};
use plimsoll_config::model::Bearer;
use plimsoll_http::field::Name;
use plimsoll_http::method::Method;
use plimsoll_http::reason::Reason;
use plimsoll_http::request;
use plimsoll_net::clock;

use crate::http::exchange::Exchange;
use crate::http::respond::Answer;
use crate::seen::Seen;
use crate::steps::{Access, KeyAuth, Maintenance, PasswordAuth, Signature, TokenAuth};

/// Who came in.
#[derive(Debug, Default)]
pub(crate) struct Auth {
    pub(crate) user: Box<str>,
    pub(crate) claims: Claims,
}

/// How long a password that was found good is not hashed again.
const VERIFIED_SECONDS: u64 = 300;

/// How long a client waits for its password to be hashed.
const HASHING: Duration = Duration::from_secs(5);

/// What a rule says of a client; nothing where it is about others.
pub(crate) fn judge(access: &Access, seen: &Seen<'_>) -> Option<bool> {
    let client = seen.origin.client;
    let is_it = access.all
        || access.networks.contains(client)
        || access.files.iter().any(|file| file.load().contains(client))
        || access.geo.as_ref().is_some_and(|geo| {
            let geo = geo.load();
            let country = geo.as_ref().and_then(|geo| geo.country(client));
            country.is_some_and(|country| access.countries.contains(&country))
        });
    is_it.then_some(access.allows)
}

/// Refuses a client, and counts it for the rule.
pub(crate) fn deny(exchange: &Exchange<'_>, access: &Access) -> Answer<'static> {
    if let Some(counter) = exchange.plane.metrics.denied.get(access.rule) {
        counter.add(1);
    }
    Answer::to(Reason::HttpRequestDenied, "")
}

/// Tells whether nobody is served now, but for those who are excepted.
pub(crate) fn is_closed(maintenance: &Maintenance, seen: &Seen<'_>) -> bool {
    let is_on = maintenance
        .switch
        .as_ref()
        .is_none_or(|switch| switch.load(Relaxed));
    let client = seen.origin.client.to_canonical();
    is_on && !maintenance.except.iter().any(|net| net.contains(&client))
}

/// What a client is told while nobody is served.
pub(crate) fn closed(maintenance: &Maintenance) -> Answer<'static> {
    Answer {
        status: 503,
        retry_after: Some(maintenance.retry_after.max(1)),
        ..Answer::to(Reason::ProxyInternalResponse, "closed for maintenance")
    }
}

fn unauthorized(
    exchange: &mut Exchange<'_>,
    challenge: &str,
    detail: &'static str,
) -> Answer<'static> {
    exchange
        .scratch
        .fields
        .extend_from_slice(challenge.as_bytes());
    Answer {
        status: 401,
        ..Answer::to(Reason::HttpRequestDenied, detail)
    }
}

/// Asks for a password.
pub(crate) async fn password(
    exchange: &mut Exchange<'_>,
    auth: &PasswordAuth,
) -> Result<(), Answer<'static>> {
    let field = field(exchange, Name::Authorization);
    let Some(Credentials { user, password }) = field.and_then(Credentials::read) else {
        return Err(unauthorized(exchange, &auth.challenge, "no password"));
    };
    let Some(users) = auth.users.load_full() else {
        return Err(Answer::to(Reason::ProxyInternalError, "no passwords yet"));
    };
    let plane = exchange.plane;
    let now = exchange.facts.at.as_secs();
    let mark = plane
        .hashing
        .verified
        .borrow()
        .mark(users.digest(), &user, &password);
    let is_known = plane.hashing.verified.borrow().holds(&mark, now);
    if !is_known {
        match hash(exchange, users, user.clone(), password).await {
            Some(true) => {}
            Some(false) => return Err(unauthorized(exchange, &auth.challenge, "wrong password")),
            None => {
                let detail = "too many passwords are being checked";
                return Err(Answer {
                    status: 503,
                    retry_after: Some(1),
                    ..Answer::to(Reason::ConnectionLimitReached, detail)
                });
            }
        }
        let mut verified = plane.hashing.verified.borrow_mut();
        verified.remember(mark, now + VERIFIED_SECONDS);
    }
    exchange.facts.auth = Some(Box::new(Auth {
        user: user.into(),
        claims: Claims::default(),
    }));
    Ok(())
}

/// Hashes a password beside the worker, which serves others meanwhile; nothing when too many wait, or
/// one for too long.
async fn hash(
    exchange: &Exchange<'_>,
    users: Arc<Passwords>,
    user: String,
    password: Vec<u8>,
) -> Option<bool> {
    let verify = move || users.verify(&user, &password);
    exchange.timer.set(clock::now() + HASHING);
    let verified = exchange.plane.hashing.in_turn(verify);
    exchange.timer.limit(verified).await.ok()?
}

/// Asks for a token.
pub(crate) fn token(exchange: &mut Exchange<'_>, auth: &TokenAuth) -> Result<(), Answer<'static>> {
    let Some(token) = bearer(exchange, &auth.from) else {
        let challenge = "WWW-Authenticate: Bearer\r\n";
        return Err(unauthorized(exchange, challenge, "no token"));
    };
    // The token may be good: that nobody can tell is not the client's fault.
    let Some(keys) = auth.keys.load_full() else {
        return Err(Answer {
            status: 503,
            retry_after: Some(1),
            ..Answer::to(Reason::ProxyInternalError, "no keys yet")
        });
    };
    let now = exchange.facts.at.as_secs();
    match keys.verify(&token, &auth.rule, now) {
        Ok(claims) => {
            exchange.facts.auth = Some(Box::new(Auth {
                user: claims.text("sub").into(),
                claims,
            }));
            Ok(())
        }
        Err(refused) => {
            if let (Refused::UnknownKey, Some(wish)) = (refused, &auth.wish) {
                wish.make();
            }
            let challenge = format!(
                "WWW-Authenticate: Bearer error=\"invalid_token\", error_description=\"{}\"\r\n",
                refused.text()
            );
            Err(unauthorized(exchange, &challenge, refused.text()))
        }
    }
}

/// Asks for a key.
pub(crate) fn key(exchange: &mut Exchange<'_>, auth: &KeyAuth) -> Result<(), Answer<'static>> {
    let keys = auth.keys.load();
    let key = bearer(exchange, &auth.from);
    let name = key.as_ref().and_then(|key| keys.find(key)).map(Box::from);
    match name {
        Some(user) => {
            exchange.facts.auth = Some(Box::new(Auth {
                user,
                claims: Claims::default(),
            }));
            Ok(())
        }
        None => {
            let detail = if key.is_some() {
                "unknown key"
            } else {
                "no key"
            };
            Err(unauthorized(
                exchange,
                "WWW-Authenticate: ApiKey\r\n",
                detail,
            ))
        }
    }
}

/// Asks for a signature.
pub(crate) fn signature(exchange: &Exchange<'_>, rule: &Signature) -> Result<(), Answer<'static>> {
    let seen = exchange.seen();
    let query = seen.query().unwrap_or_default();
    let parameter = |name| request::query_parameter(query, name);
    let client = rule.by_client.then(|| seen.origin.client_text.as_bytes());
    let parts = (parameter(b"expires"), parameter(b"signature"));
    let now = exchange.facts.at.as_secs();
    let whole = rule
        .with_query
        .then(|| signed_url::with_query(seen.path(), query));
    let text = whole.as_deref().unwrap_or_else(|| seen.path());
    let verdict = signed_url::verify(&rule.secrets, text, parts, client, now);
    verdict.map_err(|refused| {
        let detail = match refused {
            signed_url::Refused::Unsigned => "the link is not signed",
            signed_url::Refused::Expired => "the link has expired",
            signed_url::Refused::Forged => "the link's signature is wrong",
        };
        Answer::to(Reason::HttpRequestDenied, detail)
    })
}

/// Answers browsers that ask first, and notes what is told to all others.
pub(crate) fn cors(exchange: &mut Exchange<'_>, rule: &cors::Rule) -> Result<(), Answer<'static>> {
    let mut lines = std::mem::take(&mut exchange.scratch.fields);
    let verdict = {
        let (head, bytes) = (&exchange.scratch.head, exchange.bytes());
        let text = |name: &[u8]| {
            let line = head.fields.by_text(bytes, name);
            line.map(|line| line.value.of(bytes))
        };
        let asks_first = head.method == Method::Options;
        let asked = cors::Asked {
            origin: text(b"origin"),
            method: text(b"access-control-request-method").filter(|_| asks_first),
            headers: text(b"access-control-request-headers"),
        };
        cors::decide(rule, &asked, &mut lines)
    };
    exchange.scratch.fields = lines;
    match verdict {
        cors::Verdict::Serve => Ok(()),
        cors::Verdict::Answer => Err(Answer {
            status: 204,
            ..Answer::to(Reason::ProxyInternalResponse, "")
        }),
        cors::Verdict::Refuse => Err(Answer::to(
            Reason::HttpRequestDenied,
            "pages of this origin may not do this",
        )),
    }
}

/// The value of a field that stands there once.
fn field<'a>(exchange: &'a Exchange<'_>, name: Name) -> Option<&'a [u8]> {
    let bytes = exchange.bytes();
    let lines = exchange.scratch.head.fields.all(name);
    Some(only(lines)?.value.of(bytes))
}

/// What is there once.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

/// A token or a key, where it is to be; nothing where there are two of it, of which a server could
/// take the other one.
fn bearer(exchange: &Exchange<'_>, from: &Bearer) -> Option<Vec<u8>> {
    let seen = exchange.seen();
    let value = match from {
        Bearer::Authorization => {
            let value = field(exchange, Name::Authorization)?;
            let (scheme, rest) = value.split_at_checked(7)?;
            scheme
                .eq_ignore_ascii_case(b"bearer ")
                .then(|| rest.trim_ascii().to_vec())?
        }
        Bearer::Header(name) => {
            let lines = seen.head.fields.all_by_text(seen.bytes, name.as_bytes());
            only(lines)?.value.of(seen.bytes).to_vec()
        }
        Bearer::Cookie(name) => {
            only(request::cookies(seen.head, seen.bytes, name.as_bytes()))?.to_vec()
        }
        Bearer::Query(name) => {
            let values = request::query_parameters(seen.query()?, name.as_bytes());
            request::unescaped(only(values)?).collect()
        }
    };
    Some(value)
}
