//! What an issuer says of its certificate, to be shown beside it: that it was not revoked (RFC 6066 §8,
//! RFC 6960).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspGeneralizedTime, OcspResponse, SingleResponse};

use super::Pair;
use super::certificate;

/// What the issuer said, as it was read last; nothing before that.
pub(crate) type Staple = Arc<ArcSwapOption<Response>>;

const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");

/// What an issuer says of one certificate.
#[derive(Debug)]
pub(crate) struct Response {
    der: Vec<u8>,
    serial: Vec<u8>,
    /// From when, and until when it says so, in seconds since 1970.
    from: u64,
    until: u64,
}

/// Why what a responder answered is not shown to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error("it is no answer of a responder, or is not in DER")]
    Malformed,
    /// It says that there is no answer.
    #[error("the responder gave no answer")]
    Silent,
    /// It is about more than the one certificate.
    #[error("it is about several certificates")]
    Several,
    /// It is about another certificate.
    #[error("it is about another certificate")]
    Foreign,
    /// Somebody else has signed it.
    #[error("it is not signed by the issuer, or by whom the issuer lets sign")]
    Unsigned,
    /// The certificate does not hold any more.
    #[error("the certificate was revoked")]
    Revoked,
    /// Nothing is known of the certificate.
    #[error("the responder does not know it")]
    Unknown,
    /// It might be shown for ever.
    #[error("it does not say until when it is good")]
    Endless,
    /// It does not hold now.
    #[error("its time is over, or has not come")]
    Untimely,
}

/// Reads what an issuer said, in DER, and that somebody else has looked at before.
pub(crate) fn read(der: Vec<u8>) -> Result<Response, Refused> {
    let basic = basic(&der)?;
    match &*basic.tbs_response_data.responses {
        [single] => Response::new(single, der),
        _ => Err(Refused::Several),
    }
}

/// What stands in an answer, if it is one.
pub(super) fn basic(der: &[u8]) -> Result<BasicOcspResponse, Refused> {
    let response = OcspResponse::from_der(der).map_err(|_| Refused::Malformed)?;
    let inner = response.response_bytes;
    let inner = inner.filter(|inner| inner.response_type == BASIC);
    let inner = inner.ok_or(Refused::Silent)?;
    BasicOcspResponse::from_der(inner.response.as_bytes()).map_err(|_| Refused::Malformed)
}

impl Response {
    /// What the answer `der` says in one part of it.
    pub(super) fn new(single: &SingleResponse, der: Vec<u8>) -> Result<Self, Refused> {
        match single.cert_status {
            CertStatus::Good(_) => {}
            CertStatus::Revoked(_) => return Err(Refused::Revoked),
            CertStatus::Unknown(_) => return Err(Refused::Unknown),
        }
        let seconds = |time: &OcspGeneralizedTime| time.0.to_unix_duration().as_secs();
        let until = single.next_update.as_ref().map(seconds);
        Ok(Self {
            serial: single.cert_id.serial_number.as_bytes().to_vec(),
            from: seconds(&single.this_update),
            until: until.ok_or(Refused::Endless)?,
            der,
        })
    }

    /// Until when it holds, in seconds since 1970.
    pub(super) fn until(&self) -> u64 {
        self.until
    }

    /// Tells whether its time is over at `now`.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.until <= now
    }

    /// Tells whether it says something at `now`.
    pub(super) fn is_in_force(&self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
    }

    /// Tells whether it says something at `now` of the certificate with this number.
    pub(super) fn holds(&self, serial: Option<&[u8]>, now: u64) -> bool {
        self.is_in_force(now) && serial == Some(&self.serial)
    }
}

/// A certificate with its key, and what its issuer says of it.
#[derive(Debug)]
pub(crate) struct Proof {
    pub(crate) pair: Pair,
    staple: Option<Staple>,
    /// Both together; nothing before they are shown first.
    both: ArcSwapOption<Both>,
}

#[derive(Debug)]
struct Both {
    pair: Arc<CertifiedKey>,
    response: Arc<Response>,
    /// What is shown.
    shown: Arc<CertifiedKey>,
}

impl Proof {
    pub(crate) fn new(pair: Pair, staple: Option<Staple>) -> Self {
        Self {
            pair,
            staple,
            both: ArcSwapOption::empty(),
        }
    }

    /// The pair as it is shown at `now`: with what the issuer says, as long as that is in force and about
    /// this certificate.
    pub(crate) fn shown(&self, pair: Arc<CertifiedKey>, now: u64) -> Arc<CertifiedKey> {
        let response = self.staple.as_ref().and_then(|staple| staple.load_full());
        let Some(response) = response.filter(|response| response.is_in_force(now)) else {
            return pair;
        };
        if let Some(both) = &*self.both.load()
            && Arc::ptr_eq(&both.pair, &pair)
            && Arc::ptr_eq(&both.response, &response)
        {
            return Arc::clone(&both.shown);
        }
        let serial = pair.cert.first().and_then(certificate::serial);
        let shown = match serial == Some(response.serial.clone()) {
            true => Arc::new(CertifiedKey {
                ocsp: Some(response.der.clone()),
                ..CertifiedKey::clone(&pair)
            }),
            // That of the certificate before, which has been renewed.
            false => Arc::clone(&pair),
        };
        self.both.store(Some(Arc::new(Both {
            pair,
            response,
            shown: Arc::clone(&shown),
        })));
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_issuer_says_has_its_time() {
        let response = Response {
            der: Vec::new(),
            serial: Vec::new(),
            from: 100,
            until: 200,
        };
        for (now, holds) in [(99, false), (100, true), (199, true), (200, false)] {
            assert_eq!(response.is_in_force(now), holds, "{now}");
            assert_eq!(response.is_over(now), now >= 200, "{now}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for der in [
            &b""[..],
            b"nonsense",
            &[0x30],
            &[0x30, 3, 0x0a, 1, 0],
            &[0x30, 3, 0x0a, 1, 6],
        ] {
            assert!(read(der.to_vec()).is_err(), "{der:?}");
        }
    }
}
