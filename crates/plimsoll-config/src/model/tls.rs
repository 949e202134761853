//! What is agreed with clients that come with TLS.

use serde::{Deserialize, Serialize};

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyPair {
    /// A file with the certificate and those that lead to its issuer.
    pub certificate: Box<str>,
    /// A file with the private key.
    pub key: Box<str>,
    /// Where what the issuer says of it comes from, for clients.
    pub staple: Staple,
    /// The names that an issuer is asked to certify, with all that is in the two files, which are one;
    /// empty where others bring them.
    pub names: Vec<Box<str>>,
}

/// Where what an issuer says of its certificate comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Staple {
    /// From the responder that the certificate names, if it names one.
    #[default]
    Responder,
    /// From a file that somebody else renews.
    File(Box<str>),
    /// Clients are not shown any.
    Off,
}

/// A certificate that we issue ourselves, for development.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Internal {
    /// Hosts and addresses that it is for.
    pub names: Vec<Box<str>>,
    /// The directory of the issuer.
    pub issuer: Box<str>,
}

/// Which certificates clients show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// Whether they must.
    pub verify: Verify,
    /// A file with the certificates of those who may issue them.
    pub ca: Box<str>,
    /// A file with what they revoked.
    pub crl: Option<Box<str>>,
    /// What servers are told. Default the certificate.
    pub pass: Pass,
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verify {
    /// It must.
    Required,
    /// It may come without.
    Optional,
}

/// What servers are told of the certificate that a client shows (RFC 9440).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Pass {
    /// Nothing.
    Off,
    /// `Client-Cert`.
    Certificate,
    /// `Client-Cert`, and `Client-Cert-Chain` with what leads to the issuer.
    Chain,
}

impl Pass {
    /// All of them, as they are written.
    pub const NAMES: [(&str, Self); 3] = [
        ("off", Self::Off),
        ("certificate", Self::Certificate),
        ("chain", Self::Chain),
    ];
}

/// With what clients come back without a whole handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tickets {
    /// Tickets under keys that nobody else has, and that change. The default.
    #[default]
    Own,
    /// With nothing.
    Off,
    /// Tickets under keys from files: the first makes new ones, the others are still taken.
    Files(Vec<Box<str>>),
}

/// What of a client's certificate rules ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CertificatePart {
    /// Whether there is one, and it was verified: `yes`.
    Verified,
    /// Whom it is for.
    Subject,
    /// Who issued it.
    Issuer,
    /// Each other name of the subject, as `DNS:a.example`.
    Names,
    /// Its number, in hexadecimal digits.
    Serial,
    /// The SHA-256 of it, in hexadecimal digits.
    Fingerprint,
}

impl CertificatePart {
    /// All of them, as they are written.
    pub const NAMES: [(&str, Self); 6] = [
        ("verified", Self::Verified),
        ("subject", Self::Subject),
        ("issuer", Self::Issuer),
        ("san", Self::Names),
        ("serial", Self::Serial),
        ("fingerprint", Self::Fingerprint),
    ];

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, part)| *part)
    }
}
