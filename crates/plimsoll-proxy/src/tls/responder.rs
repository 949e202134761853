//! Whom to ask whether a certificate still holds, what to ask, and whether the answer counts (RFC 6960,
//! RFC 5019).

use rustls::pki_types::CertificateDer;
use sha1::{Digest, Sha1};
use x509_cert::Certificate;
use x509_cert::der::asn1::{Any, BitString, Null, OctetString};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{self, Decode, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityInfoAccessSyntax, ExtendedKeyUsage};
use x509_cert::spki::AlgorithmIdentifierOwned;
use x509_ocsp::{BasicOcspResponse, CertId, OcspRequest, Request, TbsRequest, Version};

use super::provider;
use super::staple::{self, Refused, Response};

const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const OCSP_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.9");
const SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.14.3.2.26");
const TLS_FEATURE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.1.24");

/// The extension of TLS with which clients ask for staples (RFC 6066 §8).
const STATUS_REQUEST: u16 = 5;

/// Of so many certificates in an answer it is found out whether their owners may sign it.
const DELEGATES_MAX: usize = 4;

/// What is to be asked about one certificate.
#[derive(Debug)]
pub struct Question {
    /// Where, as the certificate says.
    pub url: String,
    /// What is asked, in DER.
    pub request: Vec<u8>,
    about: CertId,
    issuer: Certificate,
}

/// Why nobody is asked about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoQuestion {
    /// It names no responder.
    #[error("it names no responder")]
    NoResponder,
    /// Its issuer is not known.
    #[error("the certificate of its issuer does not stand behind it")]
    NoIssuer,
}

impl Question {
    /// About the first of these certificates, which lead to its issuer.
    ///
    /// # Errors
    /// There is nobody to ask, or nothing to check the answer with.
    pub fn about(chain: &[CertificateDer<'_>]) -> Result<Self, NoQuestion> {
        let mut chain = chain.iter().map(|der| Certificate::from_der(der).ok());
        let certificate = chain.next().flatten().ok_or(NoQuestion::NoResponder)?;
        let url = responder(&certificate).ok_or(NoQuestion::NoResponder)?;
        let certificate = certificate.tbs_certificate;
        let is_issuer = |other: &Certificate| other.tbs_certificate.subject == certificate.issuer;
        let issuer = chain.flatten().find(is_issuer);
        let issuer = issuer.ok_or(NoQuestion::NoIssuer)?;
        let key = &issuer.tbs_certificate.subject_public_key_info;
        let hash = |bytes: &[u8]| OctetString::new(Sha1::digest(bytes).as_slice());
        // No responder has to know another hash (RFC 5019 §2.1.1), and nothing rests on its strength.
        let about = || -> der::Result<CertId> {
            Ok(CertId {
                hash_algorithm: AlgorithmIdentifierOwned {
                    oid: SHA1,
                    parameters: Some(Any::from(Null)),
                },
                issuer_name_hash: hash(&certificate.issuer.to_der()?)?,
                issuer_key_hash: hash(key.subject_public_key.raw_bytes())?,
                serial_number: certificate.serial_number.clone(),
            })
        };
        let made = about().and_then(|about| Ok((request(&about)?, about)));
        let (request, about) = made.map_err(|_| NoQuestion::NoIssuer)?;
        Ok(Self {
            url,
            request,
            about,
            issuer,
        })
    }

    /// Reads what was answered, at `now` in seconds since 1970.
    pub(crate) fn judge(&self, der: Vec<u8>, now: u64) -> Result<Response, Refused> {
        let basic = staple::basic(&der)?;
        if !self.is_signed(&basic, now) {
            return Err(Refused::Unsigned);
        }
        let mut all = basic.tbs_response_data.responses.iter();
        let single = all.find(|single| self.is_about(&single.cert_id));
        let response = Response::new(single.ok_or(Refused::Foreign)?, der)?;
        match response.is_in_force(now) {
            true => Ok(response),
            false => Err(Refused::Untimely),
        }
    }

    fn is_about(&self, other: &CertId) -> bool {
        // Parameters of the hash are written in two ways.
        let same = CertId {
            hash_algorithm: self.about.hash_algorithm.clone(),
            ..other.clone()
        };
        other.hash_algorithm.oid == SHA1 && same == self.about
    }

    /// Tells whether the issuer has signed an answer, or who may do that for it.
    fn is_signed(&self, basic: &BasicOcspResponse, now: u64) -> bool {
        let Ok(text) = basic.tbs_response_data.to_der() else {
            return false;
        };
        let is_by = |signer: &Certificate| {
            let (algorithm, signature) = (&basic.signature_algorithm, &basic.signature);
            verify(&text, algorithm, signature, signer)
        };
        let mut delegates = basic.certs.iter().flatten().take(DELEGATES_MAX);
        is_by(&self.issuer)
            || delegates.any(|signer| self.has_delegated(signer, now) && is_by(signer))
    }

    /// Tells whether the issuer lets the owner of a certificate sign answers (RFC 6960 §4.2.2.2).
    fn has_delegated(&self, delegate: &Certificate, now: u64) -> bool {
        let tbs = &delegate.tbs_certificate;
        let usage = tbs.get::<ExtendedKeyUsage>().ok().flatten();
        let from = tbs.validity.not_before.to_unix_duration().as_secs();
        let until = tbs.validity.not_after.to_unix_duration().as_secs();
        let (algorithm, signature) = (&delegate.signature_algorithm, &delegate.signature);
        tbs.issuer == self.issuer.tbs_certificate.subject
            && usage.is_some_and(|(_, usage)| usage.0.contains(&OCSP_SIGNING))
            && (from..=until).contains(&now)
            && tbs
                .to_der()
                .is_ok_and(|text| verify(&text, algorithm, signature, &self.issuer))
    }
}

fn request(about: &CertId) -> der::Result<Vec<u8>> {
    let request = OcspRequest {
        tbs_request: TbsRequest {
            version: Version::V1,
            requestor_name: None,
            request_list: vec![Request {
                req_cert: about.clone(),
                single_request_extensions: None,
            }],
            // No nonce: answers are made once for all who ask.
            request_extensions: None,
        },
        optional_signature: None,
    };
    request.to_der()
}

/// Where the responder is that a certificate names.
fn responder(certificate: &Certificate) -> Option<String> {
    let access = certificate.tbs_certificate.get();
    let (_, AuthorityInfoAccessSyntax(ways)) = access.ok()??;
    ways.into_iter().find_map(|way| match way.access_location {
        GeneralName::UniformResourceIdentifier(url) if way.access_method == OCSP => {
            Some(url.to_string())
        }
        _ => None,
    })
}

/// Tells whether a certificate names a responder.
pub(crate) fn is_named(certificate: &CertificateDer<'_>) -> bool {
    let certificate = Certificate::from_der(certificate);
    certificate.is_ok_and(|certificate| responder(&certificate).is_some())
}

/// Tells whether clients are to insist on a staple for a certificate (RFC 7633).
pub(crate) fn is_insisted_on(certificate: &CertificateDer<'_>) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else {
        return false;
    };
    let extensions = certificate.tbs_certificate.extensions.unwrap_or_default();
    let feature = extensions.iter().find(|one| one.extn_id == TLS_FEATURE);
    let features = feature.map(|one| Vec::<u16>::from_der(one.extn_value.as_bytes()));
    features.is_some_and(|features| features.is_ok_and(|all| all.contains(&STATUS_REQUEST)))
}

/// Tells whether `signer` has signed `text`.
fn verify(
    text: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    signature: &BitString,
    signer: &Certificate,
) -> bool {
    let key = &signer.tbs_certificate.subject_public_key_info;
    let is = |known: &[u8], named: &AlgorithmIdentifierOwned| {
        // Known are what stands in the outermost sequence.
        let der = named.to_der();
        der.is_ok_and(|der| Any::from_der(&der).is_ok_and(|any| any.value() == known))
    };
    let all = provider().signature_verification_algorithms.all;
    let mut fitting = all.iter().filter(|known| {
        is(&known.signature_alg_id(), algorithm) && is(&known.public_key_alg_id(), &key.algorithm)
    });
    let key = key.subject_public_key.raw_bytes();
    fitting.any(|known| {
        let verified = known.verify_signature(key, text, signature.raw_bytes());
        verified.is_ok()
    })
}

#[cfg(test)]
mod tests;
