//! Who serves a client that comes with TLS, and with which certificate.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use plimsoll_net::tls::Choose;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureAlgorithm};

use crate::generation::Hosts;

/// A certificate with its key, as it was read last; nothing before that.
pub(crate) type Pair = Arc<ArcSwapOption<CertifiedKey>>;

/// Reads a certificate, those that lead to its issuer, and the key, from PEM.
///
/// # Errors
/// Why they cannot be used, for people; never what stands in the key.
pub(crate) fn read(pem: &[u8]) -> Result<CertifiedKey, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| format!("the certificate: {error}"))?;
    if certificates.is_empty() {
        return Err("no certificate stands in it".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(pem)
        .map_err(|_| "no private key that can be read stands in the key's file".to_owned())?;
    let key = any_supported_type(&key).map_err(|_| "the key is of a kind that is not known")?;
    let pair = CertifiedKey::new(certificates, key);
    match pair.keys_match() {
        Ok(()) => Ok(pair),
        Err(_) => Err("the key is not that of the certificate".to_owned()),
    }
}

/// What all sites have in common.
pub(crate) struct Common {
    provider: Arc<CryptoProvider>,
    /// Makes tickets with which clients come back sooner. Nothing where there is no randomness.
    tickets: Option<Arc<dyn ProducesTickets>>,
}

impl Common {
    pub(crate) fn new() -> Self {
        Self {
            provider: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
            tickets: rustls::crypto::aws_lc_rs::Ticketer::new().ok(),
        }
    }

    /// How a site with these certificates talks with its clients.
    pub(crate) fn config(&self, pairs: Vec<Pair>) -> Option<Arc<ServerConfig>> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        // The provider has suites for both versions, so this does not fail.
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        let resolver = Arc::new(Certificates(pairs));
        let mut config = builder.with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if let Some(tickets) = &self.tickets {
            config.ticketer = Arc::clone(tickets);
        }
        Some(Arc::new(config))
    }
}

/// The certificates of one site.
struct Certificates(Vec<Pair>);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.0.len()).finish()
    }
}

impl ResolvesServerCert for Certificates {
    /// The first that the client can check; those that are cheap to prove go before RSA.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let known = self.0.iter().filter_map(|pair| pair.load_full());
        let fits = |pair: &Arc<CertifiedKey>| {
            let schemes = hello.signature_schemes();
            pair.key.choose_scheme(schemes).is_some()
        };
        known
            .filter(fits)
            .min_by_key(|pair| pair.key.algorithm() == SignatureAlgorithm::RSA)
    }
}

/// The sites of one address, as TLS sees them.
#[derive(Debug)]
pub(crate) struct Secure {
    pub(crate) hosts: Arc<Hosts>,
    /// The first site.
    pub(crate) first: usize,
    /// How each site of any address is served, in their order.
    pub(crate) configs: Arc<[(usize, Arc<ServerConfig>)]>,
}

impl Secure {
    /// How a client is served that asks for this name, or for none.
    fn config(&self, name: Option<&str>) -> Option<&Arc<ServerConfig>> {
        match name {
            Some(name) => self.of(self.hosts.site(name.as_bytes())?),
            None => self.of(self.hosts.any.unwrap_or(self.first)),
        }
    }

    fn of(&self, site: usize) -> Option<&Arc<ServerConfig>> {
        let at = self.configs.binary_search_by_key(&site, |(site, _)| *site);
        Some(&self.configs.get(at.ok()?)?.1)
    }

    /// Tells whether a client that asked for this name may ask for this site as well: it has the same
    /// certificates, so whatever decides about the one decides about the other.
    pub(crate) fn serves(&self, name: Option<&str>, site: usize) -> bool {
        match (self.config(name), self.of(site)) {
            (Some(asked), Some(wanted)) => Arc::ptr_eq(asked, wanted),
            _ => false,
        }
    }
}

impl Choose for Secure {
    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        self.config(hello.server_name()).cloned()
    }
}
