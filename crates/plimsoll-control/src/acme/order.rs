//! One order: names are shown to be ours, and a certificate for all of them comes back.

use std::fmt;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeStatus, Error, Identifier,
    NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::Der;

use super::account::explain;
use super::challenge::Answers;

/// How long an issuer may take to look at names, and then to certify.
const PATIENCE: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(120));

/// Why there is no certificate.
#[derive(Debug)]
pub(super) enum Failed {
    /// The issuer does not know our account.
    NoAccount,
    /// It has given a certificate for the one that this was to follow.
    Replaced,
    /// For another reason.
    Otherwise(String),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAccount => "the issuer does not know the account that it has just made",
            Self::Replaced => "the issuer has given a certificate in place of this one",
            Self::Otherwise(problem) => problem,
        })
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Api(problem) => problem.r#type.as_deref(),
            _ => None,
        };
        match kind {
            Some("urn:ietf:params:acme:error:accountDoesNotExist") => Self::NoAccount,
            Some("urn:ietf:params:acme:error:alreadyReplaced") => Self::Replaced,
            _ => Self::Otherwise(explain(error)),
        }
    }
}

impl From<String> for Failed {
    fn from(problem: String) -> Self {
        Self::Otherwise(problem)
    }
}

/// A key and the certificates for it, in PEM.
pub(super) struct Certified {
    pub(super) key: String,
    pub(super) chain: String,
}

/// By what an issuer knows a certificate.
pub(super) fn identifier((issuer, serial): &(Vec<u8>, Vec<u8>)) -> CertificateIdentifier<'static> {
    let (issuer, serial) = (Der::from_slice(issuer), Der::from_slice(serial));
    CertificateIdentifier::new(issuer, serial).into_owned()
}

/// Has `names` certified; the certificate follows the one that is known by `before`.
///
/// # Errors
/// Why that failed.
pub(super) async fn certify(
    account: &Account,
    names: &[Box<str>],
    before: Option<&(Vec<u8>, Vec<u8>)>,
    answers: &mut Answers,
) -> Result<Certified, Failed> {
    let identifiers = names.iter().map(|name| Identifier::Dns(name.to_string()));
    let identifiers: Vec<Identifier> = identifiers.collect();
    let mut wanted = NewOrder::new(&identifiers);
    if let Some(before) = before {
        wanted = wanted.replaces(identifier(before));
    }
    let mut order = account.new_order(&wanted).await?;
    let proven = prove(&mut order, answers).await;
    answers.withdraw().await;
    proven?;
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let names = names.iter().map(ToString::to_string);
    let mut params =
        CertificateParams::new(names.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key);
    let request = request.map_err(|error| error.to_string())?;
    order.finalize_csr(request.der()).await?;
    let chain = order.poll_certificate(&PATIENCE).await?;
    Ok(Certified {
        key: key.serialize_pem(),
        chain,
    })
}

/// Shows that all names are ours.
async fn prove(order: &mut Order, answers: &mut Answers) -> Result<(), Failed> {
    // All is shown before the issuer is told to look at the first.
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let name = match authorization.identifier().identifier {
            Identifier::Dns(name) => name.clone(),
            _ => {
                return Err("the issuer asks for something else than names"
                    .to_owned()
                    .into());
            }
        };
        let challenge = authorization.challenge(answers.kind());
        let Some(challenge) = challenge else {
            return Err(format!("the issuer does not offer `{}`", answers.name()).into());
        };
        answers.show(&name, &challenge).await?;
    }
    answers.spread().await;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if let AuthorizationStatus::Pending = authorization.status
            && let Some(mut challenge) = authorization.challenge(answers.kind())
        {
            challenge.set_ready().await?;
        }
    }
    match order.poll_ready(&PATIENCE).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(_) | Err(Error::Api(_)) => Err(why(order).await.into()),
        Err(error) => Err(error.into()),
    }
}

/// What the issuer does not like.
async fn why(order: &mut Order) -> String {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let Ok(mut authorization) = authorization else {
            continue;
        };
        let Ok(state) = authorization.refresh().await else {
            continue;
        };
        let name = state.identifier().to_string();
        let failed = state
            .challenges
            .iter()
            .filter(|challenge| challenge.status == ChallengeStatus::Invalid);
        let errors = failed.filter_map(|challenge| challenge.error.as_ref());
        reasons.extend(errors.map(|error| format!("`{name}`: {error}")));
    }
    match reasons.is_empty() {
        true => "the issuer does not say why".to_owned(),
        false => reasons.join("; "),
    }
}
