//! A certificate with its key as an issuer gave it and as it is kept: one text in PEM.

use plimsoll_proxy::tls;
use rustls::pki_types::CertificateDer;
use x509_cert::certificate::{CertificateInner, Rfc5280};
use x509_cert::der::Decode;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, SubjectAltName};

use super::schedule::Span;

/// What the line that names the issuer begins with.
const FROM: &str = "# from ";

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) holds: Span,
    pub(super) names: Vec<String>,
    /// The directory of its issuer.
    pub(super) issuer: Option<String>,
    /// By what its issuer knows it: the key of the issuer, and a number (RFC 9773 §4.1).
    pub(super) id: Option<(Vec<u8>, Vec<u8>)>,
}

impl Kept {
    /// Reads what is kept.
    ///
    /// # Errors
    /// Why it cannot be used; never what stands in the key.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let pair = tls::read(text.as_bytes())?;
        let certificate = pair.end_entity_cert().map_err(|error| error.to_string())?;
        let (holds, names, id) = facts(certificate)?;
        let from = text.lines().find_map(|line| line.strip_prefix(FROM));
        Ok(Self {
            holds,
            names,
            issuer: from.map(str::to_owned),
            id,
        })
    }

    /// The same, which was got at this time: issuers date certificates back, and what is over before
    /// it is there tells nothing of when to ask for the next.
    pub(super) fn since(mut self, got: u64) -> Self {
        let Span { from, until } = self.holds;
        self.holds.from = from.max(got.min(until));
        self
    }
}

/// The text that is kept.
pub(super) fn text(issuer: &str, key: &str, chain: &str) -> String {
    format!("{FROM}{issuer}\n{key}\n{chain}\n")
}

type Facts = (Span, Vec<String>, Option<(Vec<u8>, Vec<u8>)>);

fn facts(certificate: &CertificateDer<'_>) -> Result<Facts, String> {
    let broken = |error: x509_cert::der::Error| format!("the certificate: {error}");
    let read = CertificateInner::<Rfc5280>::from_der(certificate).map_err(broken)?;
    let tbs = &read.tbs_certificate;
    let names = tbs.get::<SubjectAltName>().map_err(broken)?;
    let names = names.into_iter().flat_map(|(_, names)| names.0);
    let names = names.filter_map(|name| match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        _ => None,
    });
    let issuer = tbs.get::<AuthorityKeyIdentifier>().map_err(broken)?;
    let issuer = issuer.and_then(|(_, issuer)| issuer.key_identifier);
    let id = issuer.map(|issuer| {
        let serial = tbs.serial_number.as_bytes();
        (issuer.as_bytes().to_vec(), serial.to_vec())
    });
    let seconds = |time: x509_cert::time::Time| time.to_unix_duration().as_secs();
    let holds = Span {
        from: seconds(tbs.validity.not_before),
        until: seconds(tbs.validity.not_after),
    };
    Ok((holds, names.collect(), id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    fn made() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names = vec!["a.example".to_owned(), "*.b.example".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let chain = params.self_signed(&key).unwrap().pem();
        (key.serialize_pem(), chain)
    }

    #[test]
    fn what_is_kept_tells_all_that_has_to_be_known() {
        let (key, chain) = made();
        let kept = Kept::read(&text("https://ca.example/directory", &key, &chain)).unwrap();
        assert_eq!(kept.names, ["a.example", "*.b.example"]);
        assert_eq!(kept.issuer.unwrap(), "https://ca.example/directory");
        assert!(kept.holds.from < kept.holds.until);
        assert_eq!(kept.id, None);
    }

    #[test]
    fn what_does_not_fit_together_is_refused_and_no_key_is_told() {
        let ((key, chain), (other, _)) = (made(), made());
        let half = chain.get(..chain.len() / 2).unwrap_or_default();
        for (key, chain) in [
            (&*other, &*chain),
            (&*key, ""),
            ("", &*chain),
            (&*key, half),
        ] {
            let problem = Kept::read(&text("x", key, chain)).unwrap_err();
            let secret = key.lines().nth(1).unwrap_or("nothing");
            assert!(!problem.contains(secret), "{problem}");
        }
    }
}
