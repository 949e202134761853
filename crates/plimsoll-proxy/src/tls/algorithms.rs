//! How a certificate was signed, and what its key is, under the names that OpenSSL and HAProxy have for
//! that.

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::Uint;
use x509_cert::der::oid::ObjectIdentifier as Oid;
use x509_cert::spki::SubjectPublicKeyInfoOwned;

const RSA: Oid = Oid::new_unwrap("1.2.840.113549.1.1.1");
const EC: Oid = Oid::new_unwrap("1.2.840.10045.2.1");

static SIGNATURES: [(Oid, &str); 8] = [
    (Oid::new_unwrap("1.2.840.113549.1.1.10"), "RSASSA-PSS"),
    (Oid::new_unwrap("1.2.840.113549.1.1.11"), "RSA-SHA256"),
    (Oid::new_unwrap("1.2.840.113549.1.1.12"), "RSA-SHA384"),
    (Oid::new_unwrap("1.2.840.113549.1.1.13"), "RSA-SHA512"),
    (Oid::new_unwrap("1.2.840.10045.4.3.2"), "ecdsa-with-SHA256"),
    (Oid::new_unwrap("1.2.840.10045.4.3.3"), "ecdsa-with-SHA384"),
    (Oid::new_unwrap("1.2.840.10045.4.3.4"), "ecdsa-with-SHA512"),
    (Oid::new_unwrap("1.3.101.112"), "ED25519"),
];

static CURVES: [(Oid, &str); 3] = [
    (Oid::new_unwrap("1.2.840.10045.3.1.7"), "EC256"),
    (Oid::new_unwrap("1.3.132.0.34"), "EC384"),
    (Oid::new_unwrap("1.3.132.0.35"), "EC521"),
];

/// The algorithms of a certificate, as far as they have names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Algorithms {
    /// With what it was signed.
    pub(crate) signature: Option<&'static str>,
    /// What its key is for, with the length of that.
    pub(crate) key: Option<String>,
}

impl Algorithms {
    /// Those of this certificate.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        Some(Self {
            signature: name(&SIGNATURES, certificate.signature_algorithm.oid),
            key: key(&certificate.tbs_certificate.subject_public_key_info),
        })
    }
}

fn key(key: &SubjectPublicKeyInfoOwned) -> Option<String> {
    match key.algorithm.oid {
        RSA => {
            // The modulus, and the exponent behind it (RFC 8017 §A.1.1).
            let numbers = Vec::<Uint>::from_der(key.subject_public_key.raw_bytes()).ok()?;
            let modulus = numbers.first()?.as_bytes();
            let zeros = modulus.first()?.leading_zeros() as usize;
            Some(format!("RSA{}", modulus.len() * 8 - zeros))
        }
        EC => {
            let curve = key.algorithm.parameters.as_ref()?.decode_as().ok()?;
            name(&CURVES, curve).map(str::to_owned)
        }
        _ => None,
    }
}

fn name(known: &[(Oid, &'static str)], sought: Oid) -> Option<&'static str> {
    let found = known.iter().find(|(oid, _)| *oid == sought);
    found.map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_cert::der::Encode;
    use x509_cert::der::asn1::{Any, BitString, Null};
    use x509_cert::spki::AlgorithmIdentifierOwned;

    fn name_of(oid: Oid, parameters: Any, bytes: &[u8]) -> Option<String> {
        key(&SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned {
                oid,
                parameters: Some(parameters),
            },
            subject_public_key: BitString::from_bytes(bytes).unwrap(),
        })
    }

    #[test]
    fn keys_are_called_by_their_kind_and_length() {
        for (modulus, due) in [
            ([0x80; 256].to_vec(), "RSA2048"),
            ([0x01; 256].to_vec(), "RSA2041"),
            ([0xff; 512].to_vec(), "RSA4096"),
        ] {
            let numbers = [modulus, vec![1, 0, 1]].map(|bytes| Uint::new(&bytes).unwrap());
            let bytes = numbers.to_vec().to_der().unwrap();
            let name = name_of(RSA, Any::from(Null), &bytes);
            assert_eq!(name.as_deref(), Some(due));
        }
        for (curve, due) in CURVES {
            let name = name_of(EC, Any::from(&curve), b"point");
            assert_eq!(name.as_deref(), Some(due));
        }
        assert_eq!(name_of(RSA, Any::from(Null), b"nonsense"), None);
        assert_eq!(name_of(RSA, Any::from(Null), &[0x30, 0]), None);
        assert_eq!(name_of(EC, Any::from(&EC), b"point"), None);
        assert_eq!(name_of(EC, Any::from(Null), b"point"), None);
        assert_eq!(Algorithms::of(&CertificateDer::from(vec![0x30])), None);
    }
}
