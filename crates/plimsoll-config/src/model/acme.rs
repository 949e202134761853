//! Certificates that are asked for while we serve (RFC 8555).

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Url;

/// How certificates are had for sites that say `tls auto`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acme {
    /// Whom issuers write to.
    pub email: Option<Box<str>>,
    /// The directory of accounts, keys and certificates.
    pub storage: Box<str>,
    /// How it is shown that a name is ours. Default `http-01`.
    pub challenge: Challenge,
    /// How long after the first attempt that fails there is another; each later pause is twice as long.
    /// Default a minute.
    pub retry: Duration,
    /// Who is asked, one after the other until one of them certifies.
    pub issuers: Vec<Issuer>,
    /// Where records of challenges are written, for `dns-01`: one for each zone.
    pub dns_updates: Vec<DnsUpdate>,
}

impl Acme {
    /// How long after the first attempt that fails there is another.
    pub(crate) const RETRY: Duration = Duration::from_secs(60);
}

/// How it is shown that a name is ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Challenge {
    /// By an answer over plain HTTP, on port 80.
    #[default]
    Http,
    /// By a certificate for that alone, on port 443 (RFC 8737).
    TlsAlpn,
    /// By a record in the domain name system.
    Dns,
}

impl Challenge {
    /// All of them, as they are written.
    pub const NAMES: [(&str, Self); 3] = [
        ("http-01", Self::Http),
        ("tls-alpn-01", Self::TlsAlpn),
        ("dns-01", Self::Dns),
    ];

    /// How it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::TlsAlpn => "tls-alpn-01",
            Self::Dns => "dns-01",
        }
    }
}

/// Who certifies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// Where everything else is said.
    pub directory: Url,
    /// A file with the certificates to trust when asking; `None` means those of the system.
    pub ca: Option<Box<str>>,
    /// A directory of the same issuer for trials, whose certificates nobody trusts.
    pub staging: Option<Url>,
    /// An account elsewhere that ours is bound to.
    pub account: Option<ExternalAccount>,
}

/// An account that the issuer has given otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalAccount {
    /// Its name.
    pub kid: Box<str>,
    /// A file with its key, in Base64 for URLs.
    pub key: Box<str>,
}

/// Who takes changes of the domain name system (RFC 2136).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsUpdate {
    /// The server.
    pub server: SocketAddr,
    /// The zone that it has; `None` means that it is asked.
    pub zone: Option<Box<str>>,
    /// A file with the key that signs changes (RFC 8945), as BIND writes it.
    pub key: Box<str>,
}
