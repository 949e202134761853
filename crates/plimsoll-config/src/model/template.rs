//! Texts with variables, which are filled in for each request.

use serde::{Deserialize, Serialize};

use super::CertificatePart;

/// A text with variables. At least one piece, unless it is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// As written, with `$${` for a `${` that is text.
    pub text: Box<str>,
    /// What it is made of, in order.
    pub pieces: Vec<Piece>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// Text as it is.
    Text(Box<str>),
    /// The value of a variable.
    Variable(Variable),
}

/// Something of a request that has a name. All of them speak of the request as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Variable {
    /// The client's address.
    ClientIp,
    /// The client's port.
    ClientPort,
    /// The fingerprint of how the client begins TLS.
    Fingerprint,
    /// A part of the client's certificate.
    Certificate(CertificatePart),
    /// The id of the request.
    RequestId,
    /// The method.
    Method,
    /// `http` or `https`.
    Scheme,
    /// The host, without its port.
    Host,
    /// The host, with its port if it has one.
    Authority,
    /// The port that the request came on.
    Port,
    /// The path in canonical form.
    Path,
    /// The query, without its question mark.
    Query,
    /// The path, and the query if there is one.
    Uri,
    /// The first line of a field.
    Header(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
    /// A parameter of the query, as it came.
    QueryParameter(Box<str>),
    /// A group of the route's `path~` expression.
    Match(u8),
    /// The name of the site.
    SiteName,
    /// `file:line` of the route.
    RoutePlace,
    /// The name of the pool.
    PoolName,
    /// The name of the server.
    ServerName,
    /// Who came in: a user, the name of a key, or the subject of a token.
    AuthUser,
    /// What a token says.
    AuthClaim(Box<str>),
    /// The status of the answer.
    ResponseStatus,
    /// The first line of a field of the answer.
    ResponseHeader(Box<str>),
}

/// When the value of a variable is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// When the request has its route.
    Request,
    /// When it has its server.
    Server,
    /// When it has its answer.
    Response,
}

/// One row of the table of variables.
pub(crate) struct VariableRow {
    /// The name; with a dot at its end, something of the user's choice follows.
    pub(crate) name: &'static str,
    pub(crate) stage: Stage,
    pub(crate) doc: &'static str,
    /// Makes it, of what follows the name.
    pub(crate) make: fn(&str) -> Variable,
}

macro_rules! variables {
    ($($name:literal $stage:ident $doc:literal = $make:expr;)*) => {
        /// All variables.
        pub(crate) static VARIABLES: &[VariableRow] = &[$(VariableRow {
            name: $name,
            stage: Stage::$stage,
            doc: $doc,
            make: $make,
        },)*];
    };
}

variables! {
    "client.ip" Request "the client's address" = |_| Variable::ClientIp;
    "client.port" Request "the client's port" = |_| Variable::ClientPort;
    "client.ja4" Request "the fingerprint JA4 of how the client begins TLS; empty without TLS" = |_| Variable::Fingerprint;
    "client.certificate.subject" Request "whom the client's certificate is for, as RFC 4514 writes it" = |_| Variable::Certificate(CertificatePart::Subject);
    "client.certificate.issuer" Request "who issued the client's certificate" = |_| Variable::Certificate(CertificatePart::Issuer);
    "client.certificate.san" Request "the other names in it, with commas between: `DNS:a.example,email:b@example.com`"
        = |_| Variable::Certificate(CertificatePart::Names);
    "client.certificate.serial" Request "its number, in hexadecimal digits" = |_| Variable::Certificate(CertificatePart::Serial);
    "client.certificate.fingerprint" Request "its SHA-256, in hexadecimal digits" = |_| Variable::Certificate(CertificatePart::Fingerprint);
    "client.certificate.verified" Request "`yes` when the client has shown a certificate that `client-certificate` takes, else `no`"
        = |_| Variable::Certificate(CertificatePart::Verified);
    "request.id" Request "the id of the request" = |_| Variable::RequestId;
    "request.method" Request "the method" = |_| Variable::Method;
    "request.scheme" Request "`http` or `https`" = |_| Variable::Scheme;
    "request.host" Request "the host, without its port" = |_| Variable::Host;
    "request.authority" Request "the host, with its port if it has one" = |_| Variable::Authority;
    "request.port" Request "the port that the request came on" = |_| Variable::Port;
    "request.path" Request "the path in canonical form" = |_| Variable::Path;
    "request.query" Request "the query, without its question mark" = |_| Variable::Query;
    "request.uri" Request "the path, and the query if there is one" = |_| Variable::Uri;
    "request.header." Request "the first line of a field" = |name| Variable::Header(name.into());
    "request.cookie." Request "a cookie" = |name| Variable::Cookie(name.into());
    "request.query." Request "a parameter of the query, as it came" = |name| Variable::QueryParameter(name.into());
    "match." Request "a group, by number, of the route's `path~` expression; 0 is all that it matched"
        = |number| Variable::Match(number.parse().unwrap_or(u8::MAX));
    "site.name" Request "the name of the site" = |_| Variable::SiteName;
    "route.place" Request "file and line of the route" = |_| Variable::RoutePlace;
    "auth.user" Request "who came in: a user, the name of a key, or the subject of a token" = |_| Variable::AuthUser;
    "auth.claim." Request "what a token says" = |name| Variable::AuthClaim(name.into());
    "pool.name" Server "the name of the pool" = |_| Variable::PoolName;
    "server.name" Server "host and port of the server, as written" = |_| Variable::ServerName;
    "response.status" Response "the status of the answer" = |_| Variable::ResponseStatus;
    "response.header." Response "the first line of a field of the answer"
        = |name| Variable::ResponseHeader(name.into());
}

impl Template {
    /// Tells whether it is the same for all requests.
    pub fn is_plain(&self) -> bool {
        self.pieces
            .iter()
            .all(|piece| matches!(piece, Piece::Text(_)))
    }

    /// The highest group of the path's expression that it speaks of.
    pub(crate) fn highest_group(&self) -> Option<u8> {
        let groups = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Variable(Variable::Match(group)) => Some(*group),
            _ => None,
        });
        groups.max()
    }
}
