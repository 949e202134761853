//! TLS to the servers of a pool: whom to trust, who they have to be, and what they are shown.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use plimsoll_config::model::{self, Protocol, ServerAddress};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::material::Materials;
use crate::tls::{self, Pair};

/// Those whose word on servers counts, as they were read last; nobody before that.
pub(crate) type Roots = Arc<ArcSwapOption<RootCertStore>>;

/// What is spoken within TLS with servers that speak this version (RFC 7301).
pub(crate) fn spoken(protocol: Protocol) -> &'static [&'static [u8]] {
    match protocol {
        Protocol::Http1 => &[b"http/1.1"],
        Protocol::Http2 => &[b"h2"],
    }
}

/// How many sessions with one server are remembered: as many as it takes for one name.
const SESSIONS: usize = 8;

/// Reads those whose word counts, from PEM.
///
/// # Errors
/// Why they cannot be used, for people.
pub fn read_roots(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| format!("a certificate: {error}"))?;
        let added = roots.add(certificate);
        added.map_err(|error| format!("a certificate in it is that of no issuer: {error}"))?;
    }
    match roots.is_empty() {
        true => Err("no certificate stands in it".to_owned()),
        false => Ok(roots),
    }
}

/// What the servers of a pool have in common.
#[derive(Debug)]
pub(crate) struct Terms {
    trust: Trust,
    /// The name that all have.
    sni: Option<Box<str>>,
    /// What servers are shown that ask who we are.
    identity: Option<Pair>,
    provider: Arc<CryptoProvider>,
}

/// Whose word on servers counts.
#[derive(Debug)]
enum Trust {
    /// Their own.
    Themselves,
    /// That of these.
    Of(Roots),
}

impl Terms {
    /// How the servers of a pool are spoken with.
    pub(crate) fn new(asked: &model::ServerTls, materials: &mut Materials) -> Arc<Self> {
        Arc::new(Self {
            trust: match (asked.verify, &asked.ca) {
                (false, _) => Trust::Themselves,
                (true, Some(ca)) => Trust::Of(materials.roots(ca)),
                (true, None) => Trust::Of(materials.system_roots()),
            },
            sni: asked.sni.clone(),
            identity: asked.identity.as_ref().map(|pair| materials.pair(pair)),
            provider: tls::provider(),
        })
    }

    /// How the server at `address` is spoken with, about what `protocols` name.
    pub(crate) fn server(
        self: &Arc<Self>,
        address: &ServerAddress,
        protocols: &'static [&'static [u8]],
    ) -> ServerTls {
        ServerTls {
            terms: Arc::clone(self),
            name: name(self.sni.as_deref(), address),
            protocols,
            current: ArcSwapOption::empty(),
        }
    }

    /// What the files hold now.
    fn now(&self) -> Held {
        Held {
            roots: match &self.trust {
                Trust::Themselves => None,
                Trust::Of(roots) => roots.load_full(),
            },
            identity: self.identity.as_ref().and_then(|pair| pair.load_full()),
        }
    }

    fn build(&self, held: &Held) -> Option<ClientConfig> {
        let provider = Arc::clone(&self.provider);
        let verifier: Arc<dyn ServerCertVerifier> = match (&self.trust, &held.roots) {
            (Trust::Themselves, _) => Arc::new(Unverified(Arc::clone(&provider))),
            (Trust::Of(_), roots) => {
                let roots = Arc::clone(roots.as_ref()?);
                let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
                builder.build().ok()?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider);
        // The provider has suites for both versions, so this does not fail.
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        let builder = builder.dangerous();
        let builder = builder.with_custom_certificate_verifier(verifier);
        let mut config = match &held.identity {
            Some(pair) => {
                let pair = SingleCertAndKey::from((**pair).clone());
                builder.with_client_cert_resolver(Arc::new(pair) as Arc<dyn ResolvesClientCert>)
            }
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        Some(config)
    }
}

/// What the files of a pool hold, at one time.
#[derive(Debug)]
struct Held {
    roots: Option<Arc<RootCertStore>>,
    identity: Option<Arc<CertifiedKey>>,
}

impl Held {
    fn is(&self, other: &Self) -> bool {
        is_same(self.roots.as_ref(), other.roots.as_ref())
            && is_same(self.identity.as_ref(), other.identity.as_ref())
    }
}

fn is_same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    one.map(Arc::as_ptr) == other.map(Arc::as_ptr)
}

/// How one server is spoken with. Each remembers its own sessions: one server cannot take up those of
/// another.
pub struct ServerTls {
    terms: Arc<Terms>,
    name: ServerName<'static>,
    protocols: &'static [&'static [u8]],
    current: ArcSwapOption<(Held, Arc<ClientConfig>)>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.name).finish()
    }
}

impl ServerTls {
    /// Who the server has to be.
    pub fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }

    /// How to speak with it, as the files want it now. With others, no session from before counts:
    /// who was trusted then may not be any more. Nothing while no file has been read.
    pub(crate) fn config(&self) -> Option<Arc<ClientConfig>> {
        let held = self.terms.now();
        if let Some(current) = &*self.current.load()
            && current.0.is(&held)
        {
            return Some(Arc::clone(&current.1));
        }
        let mut config = self.terms.build(&held)?;
        config.alpn_protocols = self.protocols.iter().map(|name| name.to_vec()).collect();
        let config = Arc::new(config);
        let current = (held, Arc::clone(&config));
        self.current.store(Some(Arc::new(current)));
        Some(config)
    }

    /// How a check speaks with it, about what `protocols` name: each proves anew who the server is.
    pub fn for_check(&self, protocols: &[&[u8]]) -> Option<Arc<ClientConfig>> {
        let mut config = (*self.config()?).clone();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::disabled();
        Some(Arc::new(config))
    }
}

/// The name that a server has to prove: that of all, its own, or its address.
fn name(sni: Option<&str>, address: &ServerAddress) -> ServerName<'static> {
    let name = match (sni, address) {
        (Some(name), _) => name,
        (None, ServerAddress::Name(name, _)) => name,
        (None, ServerAddress::Ip(ip, _)) => return ServerName::from(*ip),
    };
    let name = ServerName::try_from(name.to_owned());
    // A name that no certificate can hold is proven by none.
    name.unwrap_or_else(|_| ServerName::from(std::net::Ipv4Addr::UNSPECIFIED))
}

/// Takes any certificate, as long as the server has its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
