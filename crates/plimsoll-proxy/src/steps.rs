//! Steps, compiled: what is done with a request between its route and its action.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::{ArcSwap, ArcSwapOption};
use ipnet::IpNet;
use plimsoll_access::api_key::ApiKeys;
use plimsoll_access::cors;
use plimsoll_access::geo::Geo;
use plimsoll_access::password::Passwords;
use plimsoll_access::prefixes::Prefixes;
use plimsoll_access::token::{self, Keys};
use plimsoll_config::model::{self, Bearer, KeySource, Place, Whom};
use plimsoll_http::edit::{FieldEdits, Replacement};
use plimsoll_http::rewrite::Rewritten;
use plimsoll_http::target::BadTarget;

use crate::edits;
use crate::generation::Limiter;
use crate::key_set::Wish;
use crate::material::Materials;
use crate::succession::Limits;
use crate::template::Template;

/// A statement that is carried out in its turn.
#[derive(Debug)]
pub(crate) enum Step {
    /// Counts the request, which goes no further when it is above the limit.
    Limit(Arc<Limiter>),
    /// Changes where the request goes.
    Target(TargetStep),
    /// Lets clients in or refuses them.
    Access(Access),
    /// Answers that nobody is served now.
    Maintenance(Maintenance),
    /// Asks for a password.
    Password(PasswordAuth),
    /// Asks for a token.
    Token(TokenAuth),
    /// Asks for a key.
    Key(KeyAuth),
    /// Asks for a signature.
    Signature(Signature),
    /// Asks a server.
    Forward(ForwardAuth),
    /// Answers browsers that ask first.
    Cors(cors::Rule),
    /// Sends a copy elsewhere as well.
    Mirror(model::Mirror),
    /// Has requests fail on purpose.
    Fault(model::Fault),
}

/// A change of the target that a server receives.
#[derive(Debug)]
pub(crate) enum TargetStep {
    StripPrefix(Box<[u8]>),
    Rewrite(Replacement),
    RemoveParameter(Box<[u8]>),
    SetParameter(Box<[u8]>, Template),
    AddParameter(Box<[u8]>, Template),
}

/// Whom a rule lets in, or refuses.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) allows: bool,
    /// The number of the rule, for its counter.
    pub(crate) rule: usize,
    pub(crate) all: bool,
    pub(crate) networks: Prefixes,
    pub(crate) files: Vec<Arc<ArcSwap<Prefixes>>>,
    pub(crate) countries: Vec<[u8; 2]>,
    pub(crate) geo: Option<Arc<ArcSwapOption<Geo>>>,
}

#[derive(Debug)]
pub(crate) struct Maintenance {
    /// Whether it is on; nothing means that it always is.
    pub(crate) switch: Option<Arc<AtomicBool>>,
    pub(crate) except: Vec<IpNet>,
    pub(crate) retry_after: u64,
}

#[derive(Debug)]
pub(crate) struct PasswordAuth {
    pub(crate) users: Arc<ArcSwapOption<Passwords>>,
    /// The line of the answer that asks.
    pub(crate) challenge: Box<str>,
}

#[derive(Debug)]
pub(crate) struct TokenAuth {
    pub(crate) keys: Arc<ArcSwapOption<Keys>>,
    /// The wish for the keys before their time, if they are fetched.
    pub(crate) wish: Option<Arc<Wish>>,
    pub(crate) rule: token::Rule,
    pub(crate) from: Bearer,
}

#[derive(Debug)]
pub(crate) struct KeyAuth {
    pub(crate) keys: Arc<ArcSwap<ApiKeys>>,
    pub(crate) from: Bearer,
}

#[derive(Debug)]
pub(crate) struct Signature {
    pub(crate) secrets: Vec<Box<[u8]>>,
    pub(crate) by_client: bool,
    /// Whether the rest of the query is signed too.
    pub(crate) with_query: bool,
}

#[derive(Debug)]
pub(crate) struct ForwardAuth {
    pub(crate) pool: usize,
    pub(crate) path: Box<str>,
    pub(crate) copy: Vec<Box<str>>,
    /// What of the request the server that is asked does not see.
    pub(crate) hidden: FieldEdits,
}

/// What a client could claim to ask for, where servers believe it of a proxy; and what makes an
/// answer partial or empty, which would not be one to the question.
const HIDDEN: [&str; 12] = [
    "X-Forwarded-Method",
    "X-Forwarded-Uri",
    "X-Original-Method",
    "X-Original-Uri",
    "X-Original-Url",
    "X-Rewrite-Url",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Range",
];

impl Step {
    /// Tells whether a statement is carried out in its turn, and not folded with others.
    pub(crate) fn is_for(step: &model::Step) -> bool {
        !matches!(
            step,
            model::Step::RequestHeader(_)
                | model::Step::ResponseHeader(_)
                | model::Step::Cookie(_)
                | model::Step::SecurityHeaders { .. }
        )
    }
}

impl TargetStep {
    /// Changes a target; `write` fills a text in.
    ///
    /// # Errors
    /// What comes out has no canonical form.
    pub(crate) fn apply(
        &self,
        rewritten: &mut Rewritten,
        write: impl FnOnce(&Template, &mut Vec<u8>),
    ) -> Result<(), BadTarget> {
        match self {
            Self::StripPrefix(prefix) => rewritten.strip_prefix(prefix),
            Self::Rewrite(replacement) => return rewritten.replace(replacement),
            Self::RemoveParameter(name) => rewritten.remove_parameter(name),
            Self::SetParameter(name, value) | Self::AddParameter(name, value) => {
                if matches!(self, Self::SetParameter(..)) {
                    rewritten.remove_parameter(name);
                }
                rewritten.add_parameter(name, |out| write(value, out));
            }
        }
        Ok(())
    }
}

/// What steps are compiled with.
pub(crate) struct Builder<'a> {
    pub(crate) materials: &'a mut Materials,
    /// Where rules that refuse are written, by number.
    pub(crate) rules: &'a mut Vec<String>,
    /// Parameters of queries that hold tokens or keys.
    pub(crate) secret_parameters: &'a mut Vec<Box<[u8]>>,
    pub(crate) geo: Option<&'a str>,
    pub(crate) limits: Limits,
}

impl Builder<'_> {
    /// Compiles the steps that are carried out one by one; edits of fields are folded apart.
    pub(crate) fn steps(&mut self, steps: &[model::Step], places: &[Place]) -> Vec<Step> {
        let placed = steps.iter().zip(places);
        placed
            .filter_map(|(step, place)| self.step(step, place))
            .collect()
    }

    fn step(&mut self, step: &model::Step, place: &Place) -> Option<Step> {
        Some(match step {
            model::Step::Limit(limit) => Step::Limit(self.limits.limiter(limit)),
            model::Step::StripPrefix(prefix) => {
                Step::Target(TargetStep::StripPrefix(bytes(prefix)))
            }
            model::Step::Rewrite(rewrite) => {
                Step::Target(TargetStep::Rewrite(edits::replacement(rewrite)?))
            }
            model::Step::Query(edit) => Step::Target(query(edit)),
            model::Step::Access(access) => Step::Access(self.access(access, place)),
            model::Step::Maintenance(maintenance) => Step::Maintenance(Maintenance {
                switch: maintenance
                    .file
                    .as_ref()
                    .map(|file| self.materials.switch(file)),
                except: maintenance.except.clone(),
                retry_after: maintenance.retry_after.as_secs(),
            }),
            model::Step::BasicAuth(auth) => Step::Password(PasswordAuth {
                users: self.materials.passwords(&auth.file),
                challenge: format!(
                    "WWW-Authenticate: Basic realm=\"{}\", charset=\"UTF-8\"\r\n",
                    auth.realm
                )
                .into(),
            }),
            model::Step::Jwt(jwt) => Step::Token(self.token(jwt)),
            model::Step::ApiKey(key) => Step::Key(KeyAuth {
                keys: self.materials.api_keys(&key.file),
                from: self.bearer(&key.from),
            }),
            model::Step::SignedUrl(signed) => Step::Signature(Signature {
                secrets: signed.secrets.iter().map(|secret| bytes(secret)).collect(),
                by_client: signed.by_client,
                with_query: signed.with_query,
            }),
            model::Step::Mirror(mirror) => Step::Mirror(*mirror),
            model::Step::Fault(fault) => Step::Fault(*fault),
            model::Step::ForwardAuth(auth) => Step::Forward(ForwardAuth {
                pool: auth.pool,
                path: auth.path.clone(),
                copy: auth.copy.clone(),
                hidden: hidden(),
            }),
            model::Step::Cors(rule) => Step::Cors(cors::Rule {
                origins: rule.origins.clone(),
                methods: rule.methods.clone(),
                headers: rule.headers.clone(),
                expose: rule.expose.clone(),
                credentials: rule.credentials,
                max_age: rule
                    .max_age
                    .and_then(|age| u32::try_from(age.as_secs()).ok()),
            }),
            model::Step::RequestHeader(_)
            | model::Step::ResponseHeader(_)
            | model::Step::Cookie(_)
            | model::Step::SecurityHeaders { .. } => return None,
        })
    }

    fn access(&mut self, access: &model::Access, place: &Place) -> Access {
        let place = format!("{}:{}", place.file, place.line);
        let known = self.rules.iter().position(|known| *known == place);
        let rule = known.unwrap_or(self.rules.len());
        if known.is_none() && !access.allows {
            self.rules.push(place);
        }
        let whom = || access.whom.iter();
        let networks = whom().filter_map(|whom| match whom {
            Whom::Network(network) => Some(*network),
            _ => None,
        });
        let files = whom().filter_map(|whom| match whom {
            Whom::File(file) => Some(self.materials.networks(file)),
            _ => None,
        });
        let files = files.collect();
        let countries: Vec<[u8; 2]> = whom()
            .filter_map(|whom| match whom {
                Whom::Country(code) => code.as_bytes().try_into().ok(),
                _ => None,
            })
            .collect();
        let geo = self.geo.filter(|_| !countries.is_empty());
        Access {
            allows: access.allows,
            rule,
            all: access.whom.contains(&Whom::All),
            networks: networks.collect(),
            files,
            geo: geo.map(|geo| self.materials.geo(geo)),
            countries,
        }
    }

    /// Where a token or key is; if that is a place that is logged, it is noted.
    fn bearer(&mut self, from: &Bearer) -> Bearer {
        if let Bearer::Query(name) = from {
            self.secret_parameters.push(bytes(name));
        }
        from.clone()
    }

    fn token(&mut self, jwt: &model::Jwt) -> TokenAuth {
        let known = |name: &str| {
            let mut all = token::ALGORITHMS.iter();
            all.find(|(known, _)| *known == name)
                .map(|(_, algorithm)| *algorithm)
        };
        let (keys, wish) = match &jwt.keys {
            KeySource::File(path) => (self.materials.keys(path), None),
            KeySource::Url(set) => {
                let (keys, wish) = self.materials.fetched_keys(set);
                (keys, Some(wish))
            }
        };
        TokenAuth {
            keys,
            wish,
            rule: token::Rule {
                algorithms: jwt
                    .algorithms
                    .iter()
                    .filter_map(|name| known(name))
                    .collect(),
                issuer: jwt.issuer.clone(),
                audience: jwt.audience.clone(),
                leeway: jwt.leeway.as_secs(),
                is_endless: jwt.is_endless,
                claims: jwt.claims.clone(),
            },
            from: self.bearer(&jwt.from),
        }
    }
}

fn hidden() -> FieldEdits {
    let mut hidden = FieldEdits::default();
    for name in HIDDEN {
        hidden.remove(name.as_bytes());
    }
    hidden
}

fn query(edit: &model::QueryEdit) -> TargetStep {
    match edit {
        model::QueryEdit::Set(name, value) => {
            TargetStep::SetParameter(bytes(name), Template::new(value))
        }
        model::QueryEdit::Add(name, value) => {
            TargetStep::AddParameter(bytes(name), Template::new(value))
        }
        model::QueryEdit::Remove(name) => TargetStep::RemoveParameter(bytes(name)),
    }
}

fn bytes(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}
