//! Why a request got no answer from a server, or none that is passed on.

use plimsoll_http::reason::Reason;
use rustls::{AlertDescription, CertificateError};

use crate::http::answer::Keep;
use crate::http::line;

/// Why an attempt failed before any of the answer was passed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    /// What the client is told.
    pub(crate) status: u16,
    /// More about it, for people.
    pub(crate) detail: &'static str,
    pub(crate) sent: Sent,
    pub(crate) blame: Side,
    /// Whether the server's connection may be kept all the same.
    pub(crate) keep: Keep,
}

/// How much of the request may have reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Nothing did.
    Nothing,
    /// It was sent, and the server says that it has not looked at it.
    Untouched,
    /// Something may have, and no byte of an answer came back.
    Unanswered,
    /// An answer began.
    Answered,
    /// An answer came, and is to be had from another server.
    PassedOver,
    /// An answer came that no client is to see.
    Hidden,
    /// An answer came that names who answers instead.
    Elsewhere,
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The server's.
    Upstream,
    /// The client's: no other server would do better.
    Downstream,
    /// Ours: something ran out here, and the server may be as well as ever.
    Plimsoll,
}

impl Failure {
    pub(crate) fn upstream(reason: Reason, detail: &'static str, sent: Sent) -> Self {
        Self {
            reason,
            status: reason.status(),
            detail,
            sent,
            blame: Side::Upstream,
            keep: Keep::No,
        }
    }

    /// There is no TLS with the server.
    pub(crate) fn tls(fault: &rustls::Error, sent: Sent) -> Self {
        use rustls::Error as E;
        let (reason, detail) = match fault {
            E::InvalidCertificate(error) => (Reason::TlsCertificateError, certificate(error)),
            E::NoCertificatesPresented => (Reason::TlsCertificateError, "it shows no certificate"),
            E::AlertReceived(alert) => (
                Reason::TlsAlertReceived,
                alert.as_str().unwrap_or("an unknown one"),
            ),
            _ => (Reason::TlsProtocolError, ""),
        };
        Self::upstream(reason, detail, sent)
    }

    /// The client waits no longer.
    pub(crate) fn overdue() -> Self {
        Self::downstream(Reason::HttpResponseTimeout, line::OVERDUE)
    }

    /// No connection could be opened, for want of something on this side.
    pub(crate) fn plimsoll(detail: &'static str) -> Self {
        Self {
            blame: Side::Plimsoll,
            ..Self::upstream(Reason::DestinationUnavailable, detail, Sent::Nothing)
        }
    }

    pub(crate) fn downstream(reason: Reason, detail: &'static str) -> Self {
        Self {
            reason,
            status: reason.status(),
            detail,
            sent: Sent::Answered,
            blame: Side::Downstream,
            keep: Keep::No,
        }
    }
}

/// What is wrong with a server's certificate.
fn certificate(error: &CertificateError) -> &'static str {
    use CertificateError as E;
    match error {
        E::Expired | E::ExpiredContext { .. } => "the server's certificate has expired",
        E::NotValidYet | E::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet"
        }
        E::NotValidForName | E::NotValidForNameContext { .. } => {
            "the server's certificate is for another name"
        }
        E::UnknownIssuer => "nobody who is trusted has issued the server's certificate",
        E::Revoked => "the server's certificate was revoked",
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "the server's certificate is not for servers"
        }
        _ => "the server's certificate cannot be verified",
    }
}

/// Tells whether a server that says this, before it says anything else, has not let us in: it has not
/// looked at a request then.
pub(crate) fn is_turned_away(fault: &rustls::Error) -> bool {
    use AlertDescription as A;
    let rustls::Error::AlertReceived(alert) = fault else {
        return false;
    };
    matches!(
        alert,
        A::AccessDenied
            | A::BadCertificate
            | A::CertificateExpired
            | A::CertificateRequired
            | A::CertificateRevoked
            | A::CertificateUnknown
            | A::UnknownCA
            | A::UnsupportedCertificate
    )
}
