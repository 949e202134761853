//! What is shown to an issuer until an attempt is over.

use std::sync::Arc;

use instant_acme::{ChallengeHandle, ChallengeType, KeyAuthorization};
use plimsoll_config::model::Challenge;
use plimsoll_proxy::acme::Challenges;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::dns_update::Updater;

/// Shows issuers what they want to see, and hides it again when this is dropped; records of the domain
/// name system have to be withdrawn before.
pub(super) struct Answers {
    kind: Challenge,
    challenges: Arc<Challenges>,
    updater: Option<Updater>,
    shown: Vec<Shown>,
}

enum Shown {
    Token(String),
    Name(String),
    Record(String, String),
}

impl Answers {
    pub(super) fn new(
        kind: Challenge,
        challenges: &Arc<Challenges>,
        updater: Option<Updater>,
    ) -> Self {
        Self {
            kind,
            challenges: Arc::clone(challenges),
            updater,
            shown: Vec::new(),
        }
    }

    /// Which way a name is shown to be ours.
    pub(super) fn kind(&self) -> ChallengeType {
        match self.kind {
            Challenge::Http => ChallengeType::Http01,
            Challenge::TlsAlpn => ChallengeType::TlsAlpn01,
            Challenge::Dns => ChallengeType::Dns01,
        }
    }

    /// How that is called.
    pub(super) fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Shows what this challenge for `name` asks for.
    ///
    /// # Errors
    /// Why it cannot be shown.
    pub(super) async fn show(
        &mut self,
        name: &str,
        challenge: &ChallengeHandle<'_>,
    ) -> Result<(), String> {
        let proof = challenge.key_authorization();
        match self.kind {
            Challenge::Http => {
                self.shown.push(Shown::Token(challenge.token.clone()));
                let text = proof.as_str();
                self.challenges.tell(name, &challenge.token, text);
            }
            Challenge::TlsAlpn => {
                self.shown.push(Shown::Name(name.to_owned()));
                self.show_certificate(name, &proof)?;
            }
            Challenge::Dns => {
                let updater = self.updater.as_ref().ok_or("nobody takes records")?;
                let record = format!("_acme-challenge.{name}");
                let value = proof.dns_value();
                updater.add(&record, &value).await?;
                self.shown.push(Shown::Record(record, value));
            }
        }
        Ok(())
    }

    /// RFC 8737 §3.
    fn show_certificate(&self, name: &str, proof: &KeyAuthorization) -> Result<(), String> {
        let failed = |error: rcgen::Error| error.to_string();
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(failed)?;
        let digest = proof.digest();
        let digest = digest.as_ref();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let shown = self.challenges.show(name, certificate.der().clone(), &key);
        shown.map_err(|error| error.to_string())
    }

    /// Takes the records away again.
    pub(super) async fn withdraw(&mut self) {
        let Some(updater) = &self.updater else { return };
        for shown in &self.shown {
            if let Shown::Record(record, value) = shown
                && let Err(problem) = updater.remove(record, value).await
            {
                tracing::warn!(record, problem, "the record of a challenge is still there");
            }
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for shown in &self.shown {
            match shown {
                Shown::Token(token) => self.challenges.forget_token(token),
                Shown::Name(name) => self.challenges.forget_name(name),
                Shown::Record(..) => {}
            }
        }
    }
}
