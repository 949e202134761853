//! What is shown to an issuer until an attempt is over.

use std::sync::Arc;

use instant_acme::{ChallengeHandle, ChallengeType, KeyAuthorization};
use plimsoll_config::model::Challenge;
use plimsoll_proxy::acme::Challenges;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;

use super::dns_update::{Updaters, Written};
use super::name_servers;
use crate::fetch::Fetcher;

/// Shows issuers what they want to see, and hides it again when this is dropped; records of the domain
/// name system have to be withdrawn before.
pub(super) struct Answers {
    kind: Challenge,
    challenges: Arc<Challenges>,
    updaters: Updaters,
    fetcher: Fetcher,
    shown: Vec<Shown>,
}

enum Shown {
    Token(String),
    Name(String),
    Record(Written),
}

impl Answers {
    pub(super) fn new(
        kind: Challenge,
        challenges: &Arc<Challenges>,
        updaters: Updaters,
        fetcher: Fetcher,
    ) -> Self {
        Self {
            kind,
            challenges: Arc::clone(challenges),
            updaters,
            fetcher,
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
                let record = format!("_acme-challenge.{name}");
                let written = self.updaters.add(&record, &proof.dns_value()).await?;
                self.shown.push(Shown::Record(written));
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

    /// Waits until whoever asks for it sees what is shown.
    pub(super) async fn spread(&self) {
        let records: Vec<&Written> = self.records().collect();
        name_servers::wait(&records, &self.fetcher).await;
    }

    /// Takes the records away again.
    pub(super) async fn withdraw(&self) {
        for record in self.records() {
            if let Err(problem) = self.updaters.remove(record).await {
                let record = record.name.to_string();
                tracing::warn!(record, problem, "the record of a challenge is still there");
            }
        }
    }

    fn records(&self) -> impl Iterator<Item = &Written> {
        self.shown.iter().filter_map(|shown| match shown {
            Shown::Record(written) => Some(written),
            Shown::Token(_) | Shown::Name(_) => None,
        })
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        for shown in &self.shown {
            match shown {
                Shown::Token(token) => self.challenges.forget_token(token),
                Shown::Name(name) => self.challenges.forget_name(name),
                Shown::Record(_) => {}
            }
        }
    }
}
