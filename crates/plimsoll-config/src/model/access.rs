//! Who may come in, and on what word.

use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::Url;

/// `allow` or `deny`: the first in a block that a client fits decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Whether it lets in.
    pub allows: bool,
    /// Whom it is about: any of these.
    pub whom: Vec<Whom>,
}

/// Whom a rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whom {
    /// Everybody.
    All,
    /// Clients in a network.
    Network(IpNet),
    /// Clients in a network of this file.
    File(Box<str>),
    /// Clients in a country, by two letters.
    Country(Box<str>),
}

/// `basic-auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BasicAuth {
    /// A file of `user:hash` lines.
    pub file: Box<str>,
    /// What the browser shows.
    pub realm: Box<str>,
    /// Whether servers see the credentials.
    pub pass: bool,
}

/// `jwt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwt {
    /// Where the keys come from.
    pub keys: KeySource,
    /// Which algorithms are good.
    pub algorithms: Vec<Box<str>>,
    /// Who must have made the token.
    pub issuer: Option<Box<str>>,
    /// Whom it must be for.
    pub audience: Option<Box<str>>,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// Whether it may say no end.
    pub is_endless: bool,
    /// Claims that it must have, and one of which values; no values mean any.
    pub claims: Vec<(Box<str>, Vec<Box<str>>)>,
    /// Where it is.
    pub from: Bearer,
}

/// Where keys of tokens come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeySource {
    /// A file with a JWK set.
    File(Box<str>),
    /// A JWK set that is fetched.
    Url(KeySet),
}

/// A JWK set that is fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySet {
    /// Where it is.
    pub url: Url,
    /// A file with the certificates to trust; nothing means those that the system trusts.
    pub ca: Option<Box<str>>,
    /// How old it may become before it is fetched again.
    pub refresh: Duration,
}

/// Where a token or a key is in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bearer {
    /// In `Authorization`, behind `Bearer`.
    Authorization,
    /// In this field, all of it.
    Header(Box<str>),
    /// In this cookie.
    Cookie(Box<str>),
    /// In this parameter of the query.
    Query(Box<str>),
}

/// `api-key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// A file of `name:hash` lines.
    pub file: Box<str>,
    /// Where the key is.
    pub from: Bearer,
}

/// `signed-url`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedUrl {
    /// Any of these secrets will do.
    pub secrets: Vec<Box<str>>,
    /// Whether a link is good for one client alone.
    pub by_client: bool,
    /// Whether the rest of the query is signed too.
    pub with_query: bool,
}

/// `cors`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Whose pages: `https://example.com`, `https://*.example.com`, `*`, `null`.
    pub origins: Vec<Box<str>>,
    /// Methods that they may use; empty means those they ask for.
    pub methods: Vec<Box<str>>,
    /// Fields that they may set; empty means those they ask for.
    pub headers: Vec<Box<str>>,
    /// Fields of answers that they may read.
    pub expose: Vec<Box<str>>,
    /// Whether cookies come along.
    pub credentials: bool,
    /// How long a browser need not ask again.
    pub max_age: Option<Duration>,
}

/// `maintenance`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// The file that switches it on by being there; nothing means that it is on.
    pub file: Option<Box<str>>,
    /// Who is served all the same.
    pub except: Vec<IpNet>,
    /// When clients are to come back.
    pub retry_after: Duration,
}

/// `forward-auth`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardAuth {
    /// Who is asked, by index into `Config::pools`.
    pub pool: usize,
    /// At which path.
    pub path: Box<str>,
    /// Fields of the answer that become fields of the request.
    pub copy: Vec<Box<str>>,
}
