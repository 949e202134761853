use super::*;
use crate::material::Materials;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use plimsoll_config::model::{self, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use x509_cert::TbsCertificate;
use x509_cert::certificate::Version as CertificateVersion;
use x509_cert::der::asn1::{GeneralizedTime, Ia5String};
use x509_cert::der::oid::AssociatedOid;
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::AccessDescription;
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::SubjectPublicKeyInfoOwned;
use x509_cert::time::{Time, Validity};
use x509_ocsp::{
    CertStatus, OcspGeneralizedTime, OcspResponse, OcspResponseStatus, ResponderId, ResponseBytes,
    ResponseData, RevokedInfo, SingleResponse,
};

const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const BASIC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.1");
const URL: &str = "http://responder.example/";

/// One who can sign, and has a name.
struct Signer {
    name: &'static str,
    key: EcdsaKeyPair,
}

impl Signer {
    fn new(name: &'static str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING);
        Self {
            name,
            key: key.unwrap(),
        }
    }

    fn sign(&self, text: &[u8]) -> BitString {
        let signature = self.key.sign(&SystemRandom::new(), text).unwrap();
        BitString::from_bytes(signature.as_ref()).unwrap()
    }

    /// Certifies `subject` from 100 to 900.
    fn certify(&self, subject: &Self, serial: u8, extensions: Vec<Extension>) -> Certificate {
        let time = |seconds| {
            let time = GeneralizedTime::from_unix_duration(Duration::from_secs(seconds));
            Time::GeneralTime(time.unwrap())
        };
        let name = |signer: &Self| Name::from_str(&format!("CN={}", signer.name)).unwrap();
        let tbs_certificate = TbsCertificate {
            version: CertificateVersion::V3,
            serial_number: SerialNumber::new(&[serial]).unwrap(),
            signature: ecdsa(),
            issuer: name(self),
            validity: Validity {
                not_before: time(100),
                not_after: time(900),
            },
            subject: name(subject),
            subject_public_key_info: SubjectPublicKeyInfoOwned {
                algorithm: AlgorithmIdentifierOwned {
                    oid: EC,
                    parameters: Some(Any::from(&P256)),
                },
                subject_public_key: BitString::from_bytes(subject.key.public_key().as_ref())
                    .unwrap(),
            },
            issuer_unique_id: None,
            subject_unique_id: None,
            extensions: Some(extensions),
        };
        Certificate {
            signature: self.sign(&tbs_certificate.to_der().unwrap()),
            signature_algorithm: ecdsa(),
            tbs_certificate,
        }
    }

    /// An answer with these words, and with certificates of whoever signs it.
    fn answer(&self, responses: Vec<SingleResponse>, certs: Vec<Certificate>) -> Vec<u8> {
        let tbs_response_data = ResponseData {
            version: Version::V1,
            responder_id: ResponderId::ByName(Name::default()),
            produced_at: time(0),
            responses,
            response_extensions: None,
        };
        let basic = BasicOcspResponse {
            signature: self.sign(&tbs_response_data.to_der().unwrap()),
            signature_algorithm: ecdsa(),
            tbs_response_data,
            certs: (!certs.is_empty()).then_some(certs),
        };
        let response = OcspResponse {
            response_status: OcspResponseStatus::Successful,
            response_bytes: Some(ResponseBytes {
                response_type: BASIC,
                response: OctetString::new(basic.to_der().unwrap()).unwrap(),
            }),
        };
        response.to_der().unwrap()
    }
}

fn ecdsa() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned {
        oid: ECDSA_SHA256,
        parameters: None,
    }
}

fn time(seconds: u64) -> OcspGeneralizedTime {
    let time = GeneralizedTime::from_unix_duration(Duration::from_secs(seconds));
    OcspGeneralizedTime(time.unwrap())
}

fn extension(id: ObjectIdentifier, value: Vec<u8>) -> Extension {
    Extension {
        extn_id: id,
        critical: false,
        extn_value: OctetString::new(value).unwrap(),
    }
}

fn names_responder() -> Extension {
    let way = AccessDescription {
        access_method: OCSP,
        access_location: GeneralName::UniformResourceIdentifier(Ia5String::new(URL).unwrap()),
    };
    let ways = AuthorityInfoAccessSyntax(vec![way]);
    extension(AuthorityInfoAccessSyntax::OID, ways.to_der().unwrap())
}

fn may_sign() -> Extension {
    let usage = ExtendedKeyUsage(vec![OCSP_SIGNING]);
    extension(ExtendedKeyUsage::OID, usage.to_der().unwrap())
}

fn chain(certificates: &[&Certificate]) -> Vec<CertificateDer<'static>> {
    let der = certificates.iter().map(|one| one.to_der().unwrap().into());
    der.collect()
}

/// An issuer, and what is asked about its certificate with the number 7.
fn issuer() -> (Signer, Question) {
    let (issuer, host) = (Signer::new("issuer"), Signer::new("host"));
    let own = issuer.certify(&issuer, 1, Vec::new());
    let certificate = issuer.certify(&host, 7, vec![names_responder()]);
    let question = Question::about(&chain(&[&certificate, &own])).unwrap();
    (issuer, question)
}

/// That the certificate is good from 200 to 300.
fn good(question: &Question) -> SingleResponse {
    SingleResponse {
        cert_id: question.about.clone(),
        cert_status: CertStatus::good(),
        this_update: time(200),
        next_update: Some(time(300)),
        single_extensions: None,
    }
}

/// That it has been revoked.
fn revoked(question: &Question) -> SingleResponse {
    let info = RevokedInfo {
        revocation_time: time(150),
        revocation_reason: None,
    };
    SingleResponse {
        cert_status: CertStatus::revoked(info),
        ..good(question)
    }
}

#[test]
fn whom_to_ask_stands_in_the_certificate_and_the_issuer_behind_it() {
    let (issuer, host) = (Signer::new("issuer"), Signer::new("host"));
    let own = issuer.certify(&issuer, 1, Vec::new());
    let other = host.certify(&host, 1, Vec::new());
    let certificate = issuer.certify(&host, 7, vec![names_responder()]);
    let question = Question::about(&chain(&[&certificate, &other, &own])).unwrap();
    assert_eq!(question.url, URL);
    let request = OcspRequest::from_der(&question.request).unwrap();
    let [asked] = &*request.tbs_request.request_list else {
        unreachable!("one is asked about");
    };
    assert_eq!(asked.req_cert, question.about);
    assert_eq!(asked.req_cert.serial_number.as_bytes(), [7]);
    let why = |certificates: &[&Certificate]| Question::about(&chain(certificates)).unwrap_err();
    assert_eq!(why(&[&certificate, &other]), NoQuestion::NoIssuer);
    assert_eq!(why(&[&certificate]), NoQuestion::NoIssuer);
    assert_eq!(why(&[&own, &own]), NoQuestion::NoResponder);
    assert_eq!(why(&[]), NoQuestion::NoResponder);
}

#[test]
fn an_answer_is_of_its_time_and_about_the_certificate() {
    let (issuer, question) = issuer();
    let answer = issuer.answer(vec![good(&question)], Vec::new());
    for (now, counts) in [(199, false), (200, true), (299, true), (300, false)] {
        let judged = question.judge(answer.clone(), now);
        let until = judged.map(|response| response.until());
        let due = if counts {
            Ok(300)
        } else {
            Err(Refused::Untimely)
        };
        assert_eq!(until, due, "{now}");
    }
    let mut foreign = good(&question);
    foreign.cert_id.serial_number = SerialNumber::new(&[8]).unwrap();
    let mut elsewhere = good(&question);
    elsewhere.cert_id.issuer_key_hash = OctetString::new([0; 20]).unwrap();
    let mut strange = good(&question);
    strange.cert_id.hash_algorithm.oid = EC;
    let mut unknown = good(&question);
    unknown.cert_status = CertStatus::unknown();
    let mut endless = good(&question);
    endless.next_update = None;
    let mut bare = good(&question);
    bare.cert_id.hash_algorithm.parameters = None;
    for (said, due) in [
        (vec![], Some(Refused::Foreign)),
        (vec![foreign.clone()], Some(Refused::Foreign)),
        (vec![elsewhere], Some(Refused::Foreign)),
        (vec![strange], Some(Refused::Foreign)),
        (vec![foreign, good(&question)], None),
        (vec![bare], None),
        (vec![revoked(&question)], Some(Refused::Revoked)),
        (vec![unknown], Some(Refused::Unknown)),
        (vec![endless], Some(Refused::Endless)),
    ] {
        let judged = question.judge(issuer.answer(said, Vec::new()), 250);
        assert_eq!(judged.err(), due);
    }
    for (der, due) in [
        (&b""[..], Refused::Malformed),
        (b"nonsense", Refused::Malformed),
        (&[0x30, 3, 0x0a, 1, 6], Refused::Silent),
        (&answer[..answer.len() - 1], Refused::Malformed),
    ] {
        assert_eq!(question.judge(der.to_vec(), 250).unwrap_err(), due);
    }
}

#[test]
fn an_answer_is_signed_by_the_issuer_or_by_whom_it_lets_sign() {
    let (issuer, question) = issuer();
    let (delegate, stranger) = (Signer::new("delegate"), Signer::new("issuer"));
    let said = || vec![good(&question)];
    let judge = |by: &Signer, certs, now| question.judge(by.answer(said(), certs), now).err();
    let may = issuer.certify(&delegate, 2, vec![may_sign()]);
    assert_eq!(judge(&delegate, vec![may.clone()], 250), None);
    let may_not = issuer.certify(&delegate, 2, Vec::new());
    let by_stranger = stranger.certify(&delegate, 2, vec![may_sign()]);
    let own = stranger.certify(&stranger, 2, vec![may_sign()]);
    for (by, certs) in [
        (&delegate, vec![]),
        (&delegate, vec![may_not]),
        (&delegate, vec![by_stranger]),
        (&stranger, vec![own]),
        (&stranger, vec![may.clone()]),
    ] {
        assert_eq!(judge(by, certs, 250), Some(Refused::Unsigned));
    }
    // The time of the delegate's certificate is over before that of its words.
    let mut late = good(&question);
    late.next_update = Some(time(2000));
    let answer = delegate.answer(vec![late], vec![may]);
    assert!(question.judge(answer.clone(), 900).is_ok());
    assert_eq!(question.judge(answer, 901).unwrap_err(), Refused::Unsigned);
    // Nothing that is signed can be changed.
    let mut changed = issuer.answer(said(), Vec::new());
    let at = changed.windows(4).position(|four| four == b"1970").unwrap();
    changed[at] = b'2';
    assert_eq!(question.judge(changed, 250).unwrap_err(), Refused::Unsigned);
}

#[test]
fn what_was_answered_counts_until_its_time_is_over_or_the_certificate_is_revoked() {
    let (issuer, host) = (Signer::new("issuer"), Signer::new("host"));
    let own = issuer.certify(&issuer, 1, Vec::new());
    let certificate = issuer.certify(&host, 7, vec![names_responder()]);
    let pair = KeyPair {
        certificate: "a.pem".into(),
        key: "a.key".into(),
        staple: model::Staple::Responder,
        names: Vec::new(),
    };
    let mut materials = Materials::default();
    let (proof, again) = (materials.proof(&pair), materials.proof(&pair));
    assert!(Arc::ptr_eq(&proof.pair, &again.pair));
    let [stapled] = &*materials.finish().stapled else {
        unreachable!("it is one certificate");
    };
    assert!(!stapled.has_responder() && stapled.question().is_err());
    let key = host.key.to_pkcs8v1().unwrap().as_ref().to_vec();
    let key = any_supported_type(&PrivateKeyDer::Pkcs8(key.into())).unwrap();
    let shown = Arc::new(CertifiedKey::new(chain(&[&certificate, &own]), key));
    proof.pair.store(Some(Arc::clone(&shown)));
    assert!(stapled.has_responder());
    let question = stapled.question().unwrap();
    let is_shown = |now| {
        let staple = proof.shown(Arc::clone(&shown), now).ocsp.is_some();
        assert_eq!(stapled.has_staple(now), staple);
        staple
    };
    let take = |by: &Signer, said, now| stapled.take(&question, by.answer(vec![said], vec![]), now);
    assert!(!is_shown(250));
    assert_eq!(take(&issuer, good(&question), 250), Ok(300));
    assert!(is_shown(250) && is_shown(299) && !is_shown(300));
    assert_eq!(take(&host, good(&question), 260), Err(Refused::Unsigned));
    assert!(is_shown(260));
    assert_eq!(take(&host, revoked(&question), 260), Err(Refused::Unsigned));
    assert!(is_shown(260), "nobody else says what was revoked");
    assert_eq!(
        take(&issuer, revoked(&question), 260),
        Err(Refused::Revoked)
    );
    assert!(!is_shown(260));
}

#[test]
fn clients_insist_where_the_certificate_says_so() {
    let (issuer, host) = (Signer::new("issuer"), Signer::new("host"));
    let insists = |extensions| {
        let certificate = issuer.certify(&host, 7, extensions);
        is_insisted_on(&chain(&[&certificate])[0])
    };
    let features = |list: Vec<u16>| extension(TLS_FEATURE, list.to_der().unwrap());
    assert!(insists(vec![features(vec![5])]));
    assert!(insists(vec![may_sign(), features(vec![17, 5])]));
    assert!(!insists(vec![features(vec![17])]));
    assert!(!insists(vec![extension(TLS_FEATURE, vec![0])]));
    assert!(!insists(vec![]));
    assert!(!is_insisted_on(&CertificateDer::from(vec![0x30])));
}
