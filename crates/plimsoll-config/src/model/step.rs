//! What is done with a request between its route and its action, in written order.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Access, ApiKey, BasicAuth, Cors, ForwardAuth, Jwt, Limit, Maintenance, SignedUrl, Template,
};

/// A statement of a site or a route that is carried out in written order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// What requests must keep to.
    Limit(Limit),
    /// A field of the request is changed on its way to a server.
    RequestHeader(HeaderEdit),
    /// A field of the answer is changed on its way to the client.
    ResponseHeader(HeaderEdit),
    /// The path is changed on its way to a server.
    Rewrite(Rewrite),
    /// What stands before the rest of the path is taken off; ends in no slash.
    StripPrefix(Box<str>),
    /// The query is changed on its way to a server.
    Query(QueryEdit),
    /// Attributes of cookies that servers set are changed.
    Cookie(CookieEdit),
    /// Who may come in, by address.
    Access(Access),
    /// A password is asked for.
    BasicAuth(BasicAuth),
    /// A token is asked for.
    Jwt(Jwt),
    /// A key is asked for.
    ApiKey(ApiKey),
    /// A signature is asked for.
    SignedUrl(SignedUrl),
    /// A server is asked.
    ForwardAuth(ForwardAuth),
    /// What pages of other origins may do.
    Cors(Cors),
    /// Nobody is served for a while.
    Maintenance(Maintenance),
    /// A copy goes elsewhere as well.
    Mirror(Mirror),
    /// Requests fail on purpose.
    Fault(Fault),
    /// Browsers are told to be careful.
    SecurityHeaders {
        /// As much as can be.
        strict: bool,
    },
}

impl Step {
    /// The number of the pool that it refers to.
    pub(crate) fn pool_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::ForwardAuth(auth) => Some(&mut auth.pool),
            Self::Mirror(mirror) => Some(&mut mirror.pool),
            _ => None,
        }
    }

    /// The texts in it that are filled in for each request.
    pub(crate) fn templates(&self) -> Option<&Template> {
        match self {
            Self::RequestHeader(edit) | Self::ResponseHeader(edit) => match &edit.change {
                Change::Set(text) | Change::Add(text) => Some(text),
                Change::Remove | Change::Replace(_) => None,
            },
            Self::Query(QueryEdit::Set(_, text) | QueryEdit::Add(_, text)) => Some(text),
            _ => None,
        }
    }
}

/// `mirror`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Where copies go, by index into `Config::pools`.
    pub pool: usize,
    /// How many requests are copied, in percent.
    pub percent: u8,
    /// Whether answers are compared.
    pub compare: bool,
}

/// `fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// How long requests are held up.
    pub delay: Option<Duration>,
    /// How they end.
    pub abort: Option<Abort>,
    /// How many of them, in percent.
    pub percent: u8,
}

/// How a request ends that fails on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Abort {
    /// With this status.
    Status(u16),
    /// With a reset of its connection.
    Reset,
}

/// A change of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderEdit {
    /// The name as written.
    pub name: Box<str>,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It has this value and no other.
    Set(Template),
    /// It has this value too.
    Add(Template),
    /// It is taken out.
    Remove,
    /// In each of its values, what the expression finds is replaced.
    Replace(Rewrite),
}

/// What an expression finds is replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewrite {
    /// The expression; it compiles.
    pub pattern: Box<str>,
    /// What takes its place; `$1` is its first group.
    pub with: Box<str>,
}

/// A change of the query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum QueryEdit {
    /// The parameter has this value and no other.
    Set(Box<str>, Template),
    /// The parameter has this value too.
    Add(Box<str>, Template),
    /// The parameter is taken out.
    Remove(Box<str>),
}

/// How attributes of a cookie are changed; what is not said stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CookieEdit {
    /// Its name; `*` is every cookie.
    pub name: Box<str>,
    /// `Secure` is there, or not.
    pub secure: Option<bool>,
    /// `HttpOnly` is there, or not.
    pub http_only: Option<bool>,
    /// What `SameSite` says.
    pub same_site: Option<Box<str>>,
    /// What `Domain` says; an empty one takes it out.
    pub domain: Option<Box<str>>,
    /// What `Path` says.
    pub path: Option<Box<str>>,
}
