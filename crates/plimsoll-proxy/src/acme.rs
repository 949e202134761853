//! What an issuer of certificates is shown that wants to know whether a name is ours (RFC 8555 §8). The
//! control plane says it, from memory to memory: nothing that a client writes leads to a file.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hashbrown::HashMap;
use plimsoll_http::method::Method;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::seen::Seen;
use crate::tls::provider;

/// The protocol in which nothing is said but who we are (RFC 8737).
pub(crate) const PROTOCOL: &[u8] = b"acme-tls/1";

/// Where issuers ask over HTTP; a token follows.
const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// Answers to all that issuers want to know at the moment.
#[derive(Debug, Default)]
pub struct Challenges {
    /// By token.
    http: ArcSwap<HashMap<Box<str>, Told>>,
    /// By the name that is asked for.
    tls: ArcSwap<HashMap<Box<str>, Arc<ServerConfig>>>,
}

/// What is told over HTTP, and of which host.
#[derive(Clone, Debug)]
struct Told {
    host: Box<str>,
    text: Arc<str>,
}

impl Challenges {
    /// From now on, who asks `host` for `token` over HTTP is told `text`.
    pub fn tell(&self, host: &str, token: &str, text: &str) {
        let told = Told {
            host: host.into(),
            text: text.into(),
        };
        change(&self.http, |known| {
            known.insert(token.into(), told.clone());
        });
    }

    /// From now on, nothing is known of this token.
    pub fn forget_token(&self, token: &str) {
        change(&self.http, |known| {
            known.remove(token);
        });
    }

    /// From now on, who asks for this name in the protocol of RFC 8737 is shown this certificate.
    ///
    /// # Errors
    /// The key is none that can sign.
    pub fn show(
        &self,
        name: &str,
        certificate: CertificateDer<'static>,
        key: &PrivateKeyDer<'static>,
    ) -> Result<(), rustls::Error> {
        let pair = CertifiedKey::new(vec![certificate], any_supported_type(key)?);
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions()?;
        let resolver = Arc::new(SingleCertAndKey::from(pair));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let config = Arc::new(config);
        change(&self.tls, |known| {
            known.insert(name.into(), Arc::clone(&config));
        });
        Ok(())
    }

    /// From now on, who asks for this name in the protocol of RFC 8737 is refused.
    pub fn forget_name(&self, name: &str) {
        change(&self.tls, |known| {
            known.remove(name);
        });
    }

    /// What is told who asks for this over HTTP; nothing leaves the request to the routes.
    pub(crate) fn answer(&self, seen: &Seen<'_>) -> Option<Arc<str>> {
        let token = seen.path().strip_prefix(PATH)?;
        if !matches!(seen.head.method, Method::Get | Method::Head) {
            return None;
        }
        let known = self.http.load();
        let told = known.get(std::str::from_utf8(token).ok()?)?;
        let is_same = seen.host().eq_ignore_ascii_case(told.host.as_bytes());
        is_same.then(|| Arc::clone(&told.text))
    }

    /// How a client is served that only wants to know who we are; nothing refuses it.
    pub(crate) fn config(&self, name: Option<&str>) -> Option<Arc<ServerConfig>> {
        let name = name?.to_ascii_lowercase();
        self.tls.load().get(&*name).cloned()
    }
}

/// Changes a copy, and puts it in the place of what is known: who looks something up never waits.
fn change<T: Clone>(
    known: &ArcSwap<HashMap<Box<str>, T>>,
    how: impl Fn(&mut HashMap<Box<str>, T>),
) {
    known.rcu(|known| {
        let mut known = HashMap::clone(known);
        how(&mut known);
        known
    });
}

/// Tells whether a client only wants to know who we are.
pub(crate) fn is_asked(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn().into_iter().flatten();
    offered.any(|protocol| protocol == PROTOCOL)
}
