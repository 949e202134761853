//! Certificates of sites, each with what its issuer says of it, and how that is heard.

use std::sync::Arc;

use plimsoll_config::model;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

use super::Pair;
use super::certificate;
use super::responder::{self, NoQuestion, Question};
use super::staple::{Proof, Refused, Staple};
use crate::material::Material;

/// A certificate of a site.
#[derive(Debug)]
pub struct Stapled {
    /// How asking a responder goes, under the name of the certificate.
    pub material: Material,
    pair: Pair,
    staple: Option<Staple>,
    source: model::Staple,
}

impl Stapled {
    pub(crate) fn new(
        material: Material,
        pair: Pair,
        staple: Option<Staple>,
        source: model::Staple,
    ) -> Self {
        Self {
            material,
            pair,
            staple,
            source,
        }
    }

    /// Tells whether it is this certificate, and what its issuer says comes from there.
    pub(crate) fn is_of(&self, pair: &Pair, source: &model::Staple) -> bool {
        Arc::ptr_eq(&self.pair, pair) && self.source == *source
    }

    /// What clients are shown.
    pub(crate) fn proof(&self) -> Proof {
        Proof::new(Arc::clone(&self.pair), self.staple.clone())
    }

    /// The certificate as it was read last.
    pub fn pair(&self) -> Option<Arc<CertifiedKey>> {
        self.pair.load_full()
    }

    /// Tells whether the responder that the certificate may name is asked, and not a file read.
    pub fn is_asked_for(&self) -> bool {
        self.source == model::Staple::Responder
    }

    /// What is to be asked about the certificate as it is now.
    ///
    /// # Errors
    /// Why nobody is asked.
    pub fn question(&self) -> Result<Question, NoQuestion> {
        let pair = self.pair().filter(|_| self.is_asked_for());
        Question::about(pair.as_ref().map_or(&[], |pair| &pair.cert))
    }

    /// Tells whether there is somebody who is to be asked about the certificate as it is now.
    pub fn has_responder(&self) -> bool {
        self.is_asked_for() && self.is_first(responder::is_named)
    }

    /// Takes over what was answered, at `now` in seconds since 1970; returns until when that is in force.
    ///
    /// # Errors
    /// Why it does not count. What was answered before still does, unless the certificate was revoked.
    pub fn take(&self, question: &Question, der: Vec<u8>, now: u64) -> Result<u64, Refused> {
        let judged = question.judge(der, now).map(Arc::new);
        let counts = matches!(judged, Ok(_) | Err(Refused::Revoked));
        if let (true, Some(place)) = (counts, &self.staple) {
            place.store(judged.as_ref().ok().cloned());
        }
        judged.map(|response| response.until())
    }

    /// Tells whether clients insist on what the issuer says of the certificate.
    pub fn is_insisted_on(&self) -> bool {
        self.is_first(responder::is_insisted_on)
    }

    /// Tells whether the certificate itself, without those behind it, is so.
    fn is_first(&self, is: impl FnOnce(&CertificateDer<'_>) -> bool) -> bool {
        let pair = self.pair();
        let first = pair.as_ref().and_then(|pair| pair.cert.first());
        first.is_some_and(is)
    }

    /// Tells whether the certificate is shown at `now` with what its issuer says of it.
    pub fn has_staple(&self, now: u64) -> bool {
        let (pair, staple) = (self.pair(), self.staple.as_ref());
        let serial = pair.and_then(|pair| certificate::serial(pair.cert.first()?));
        let response = staple.and_then(|staple| staple.load_full());
        response.is_some_and(|response| response.holds(serial.as_deref(), now))
    }
}
