//! Which certificates clients show, and who checks them.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use plimsoll_config::model::{self, Pass, Verify};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use sha2::{Digest, Sha256};

use super::certificate::Certificate;
use crate::server_tls::read_roots;

/// Who may issue certificates, and what they revoked, as it was read last; nothing before that.
pub(crate) type Issuers = Arc<ArcSwapOption<Known>>;

/// Who may issue certificates, and what they revoked.
#[derive(Debug)]
pub(crate) struct Known {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Tells it from what the files held before.
    digest: [u8; 32],
}

/// Reads the certificates of issuers, and what they revoked if that is asked for, from PEM.
///
/// # Errors
/// Why they cannot be used, for people.
pub(crate) fn read(issuers: &[u8], revoked: Option<&[u8]>) -> Result<Known, String> {
    let roots = read_roots(issuers)?;
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(revoked.unwrap_or_default()) {
        lists.push(list.map_err(|error| format!("what was revoked: {error}"))?);
    }
    if revoked.is_some() && lists.is_empty() {
        return Err("no list of what was revoked stands in the file for it".to_owned());
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), super::provider());
    // A list that is out of date says nothing of what was revoked since.
    let builder = builder.with_crls(lists).enforce_revocation_expiration();
    // The certificates have been taken already.
    let verifier = builder.build();
    let verifier = verifier.map_err(|error| format!("what was revoked: {error}"))?;
    let mut digest = Sha256::new();
    digest.update(
        u64::try_from(issuers.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    digest.update(issuers);
    digest.update(revoked.unwrap_or_default());
    Ok(Known {
        verifier,
        digest: digest.finalize().into(),
    })
}

/// Which certificates the clients of a site show.
#[derive(Debug)]
pub(crate) struct Policy {
    pub(crate) issuers: Issuers,
    verify: Verify,
    pub(crate) pass: Pass,
}

impl Policy {
    pub(crate) fn new(asked: &model::ClientCertificate, issuers: Issuers) -> Self {
        Self {
            issuers,
            verify: asked.verify,
            pass: asked.pass,
        }
    }

    /// Who checks certificates now.
    pub(crate) fn verifier(&self, known: &Known) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Verifier {
            inner: Arc::clone(&known.verifier),
            verify: self.verify,
        })
    }

    /// Tells it, and what its files hold, from all others.
    pub(crate) fn digest(&self, known: &Known) -> [u8; 32] {
        let is_required = self.verify == Verify::Required;
        let digest = Sha256::new().chain_update([u8::from(is_required)]);
        digest.chain_update(known.digest).finalize().into()
    }
}

/// Checks as webpki does, and takes no certificate that rules could not read.
#[derive(Debug)]
struct Verifier {
    inner: Arc<dyn ClientCertVerifier>,
    verify: Verify,
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.verify == Verify::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        match Certificate::read(std::slice::from_ref(end_entity), Pass::Off) {
            Some(_) => Ok(verified),
            None => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
