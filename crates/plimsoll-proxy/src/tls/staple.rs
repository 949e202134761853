//! What an issuer says of its certificate, to be shown beside it: that it was not revoked (RFC 6066 §8,
//! RFC 6960).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;
use x509_ocsp::{BasicOcspResponse, CertStatus, OcspGeneralizedTime, OcspResponse};

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

/// Reads what an issuer said, in DER.
///
/// # Errors
/// Why it is not shown to anybody, for people.
pub(crate) fn read(der: Vec<u8>) -> Result<Response, String> {
    let malformed = |_| "it is no answer of a responder, or is not in DER".to_owned();
    let response = OcspResponse::from_der(&der).map_err(malformed)?;
    let inner = response.response_bytes;
    let inner = inner.filter(|inner| inner.response_type == BASIC);
    let inner = inner.ok_or("the responder gave no answer")?;
    let basic = BasicOcspResponse::from_der(inner.response.as_bytes()).map_err(malformed)?;
    let [single] = &*basic.tbs_response_data.responses else {
        return Err("it is about several certificates".to_owned());
    };
    match single.cert_status {
        CertStatus::Good(_) => {}
        CertStatus::Revoked(_) => return Err("the certificate was revoked".to_owned()),
        CertStatus::Unknown(_) => return Err("the responder does not know it".to_owned()),
    }
    let seconds = |time: &OcspGeneralizedTime| time.0.to_unix_duration().as_secs();
    let until = single.next_update.as_ref().map(seconds);
    Ok(Response {
        serial: single.cert_id.serial_number.as_bytes().to_vec(),
        from: seconds(&single.this_update),
        until: until.ok_or("it does not say until when it is good")?,
        der,
    })
}

impl Response {
    /// Tells whether its time is over at `now`.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.until <= now
    }

    /// Tells whether it says something at `now`.
    fn is_in_force(&self, now: u64) -> bool {
        (self.from..self.until).contains(&now)
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
