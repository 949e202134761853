//! Our account with an issuer: made once, and kept.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use plimsoll_config::model::{ExternalAccount, Url};
use serde::{Deserialize, Serialize};

use super::http::Client;
use super::storage::{self, Storage};

/// What is kept of an account.
#[derive(Serialize, Deserialize)]
struct Kept<C> {
    email: Option<Box<str>>,
    credentials: C,
}

/// Who we are with an issuer.
pub(super) struct Us<'a> {
    pub(super) directory: &'a Url,
    pub(super) email: Option<&'a str>,
    /// What the account is bound to.
    pub(super) elsewhere: Option<&'a ExternalAccount>,
}

impl Us<'_> {
    /// Our account, which is made if it is not kept.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn account(
        &self,
        storage: &Storage,
        client: &Client,
    ) -> Result<Account, String> {
        let plain = storage::plain(&self.directory.text);
        let path = storage.account(&plain);
        // Two that make one at the same time would each have one.
        let _lock = storage.lock(&format!("account-{plain}")).await?;
        match storage::read(&path)? {
            Some(text) => self.known(&path, &text, client).await,
            None => self.made(&path, client).await,
        }
    }

    /// Leaves an account that the issuer does not know any more.
    pub(super) fn leave(&self, storage: &Storage) {
        let path = storage.account(&storage::plain(&self.directory.text));
        // It may be of use to somebody who knows more of it.
        if let Err(error) = std::fs::rename(&path, path.with_extension("lost")) {
            tracing::warn!(%error, path = %path.display(), "cannot put an account aside");
        }
    }

    async fn known(&self, path: &Path, text: &str, client: &Client) -> Result<Account, String> {
        let broken = |error| format!("cannot use `{}`: {error}", path.display());
        let kept: Kept<serde_json::Value> = serde_json::from_str(text).map_err(broken)?;
        let credentials = AccountCredentials::deserialize(&kept.credentials).map_err(broken)?;
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let account = builder.from_credentials(credentials).await;
        let account = account.map_err(explain)?;
        if kept.email.as_deref() != self.email {
            let contact = self.contact();
            let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
            account.update_contacts(&contact).await.map_err(explain)?;
            self.keep(path, kept.credentials)?;
        }
        Ok(account)
    }

    async fn made(&self, path: &Path, client: &Client) -> Result<Account, String> {
        let contact = self.contact();
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let elsewhere = self.elsewhere.map(external).transpose()?;
        let builder = Account::builder_with_http(Box::new(client.clone()));
        let directory = self.directory.text.to_string();
        let made = builder.create(&new, directory, elsewhere.as_ref()).await;
        let (account, credentials) = made.map_err(explain)?;
        self.keep(path, credentials)?;
        tracing::info!(issuer = &*self.directory.text, "an account was made");
        Ok(account)
    }

    fn contact(&self) -> Option<String> {
        self.email.map(|email| format!("mailto:{email}"))
    }

    fn keep(&self, path: &Path, credentials: impl Serialize) -> Result<(), String> {
        let email = self.email.map(Into::into);
        let kept = Kept { email, credentials };
        let text = serde_json::to_string(&kept).map_err(|error| error.to_string())?;
        storage::write(path, &text)
    }
}

/// Reads the key that an issuer has given out elsewhere.
fn external(account: &ExternalAccount) -> Result<ExternalAccountKey, String> {
    let problem = |why: &str| format!("cannot use the key `{}`: {why}", account.key);
    let text = storage::secret(&account.key).map_err(|why| problem(&why))?;
    let text = text.trim().trim_end_matches('=');
    let key = BASE64_URL_SAFE_NO_PAD.decode(text);
    let key = key.map_err(|_| problem("it is not Base64 for URLs"))?;
    Ok(ExternalAccountKey::new(account.kid.to_string(), &key))
}

/// What went wrong, for people.
pub(super) fn explain(error: Error) -> String {
    match error {
        Error::Api(problem) => problem.to_string(),
        other => other.to_string(),
    }
}
