//! Who serves a client that comes with TLS, and with which certificate.

pub(crate) mod algorithms;
pub mod certificate;
pub(crate) mod clients;
pub mod responder;
pub mod sessions;
pub mod staple;
pub mod stapled;
pub(crate) mod tickets;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use plimsoll_access::ja4;
use plimsoll_config::model::CertificatePart;
use plimsoll_net::clock;
use plimsoll_net::socket::Socket;
use plimsoll_net::tls::Choose;
use plimsoll_observe::access_log::Secured;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert,
};
use rustls::sign::CertifiedKey;
use rustls::{
    CipherSuite, KeyLog, ProtocolVersion, ServerConfig, ServerConnection, SignatureAlgorithm,
};
use sha2::{Digest, Sha256};

use crate::acme::{self, Challenges};
use crate::generation::Hosts;
use algorithms::Algorithms;
use certificate::Certificate;
use clients::{Known, Policy};
use sessions::{Sessions, Source, Ticketer};
use staple::Proof;
use tickets::Binding;

/// A certificate with its key, as it was read last; nothing before that.
pub(crate) type Pair = Arc<ArcSwapOption<CertifiedKey>>;

/// Reads a certificate, those that lead to its issuer, and the key, from PEM.
///
/// # Errors
/// Why they cannot be used, for people; never what stands in the key.
pub fn read(pem: &[u8]) -> Result<CertifiedKey, String> {
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

/// What all of cryptography comes from.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// What all sites have in common.
#[derive(Debug)]
pub(crate) struct Common {
    provider: Arc<CryptoProvider>,
    /// Where tickets come from, with which clients come back sooner.
    tickets: Source,
    key_log: Arc<dyn KeyLog>,
}

impl Common {
    pub(crate) fn new(tickets: Source, key_log: Arc<dyn KeyLog>) -> Self {
        Self {
            provider: provider(),
            tickets,
            key_log,
        }
    }

    /// How a site with these certificates talks with its clients, whose certificates are checked so.
    fn config(
        &self,
        resolver: Arc<Certificates>,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Option<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        // The provider has suites for both versions, so this does not fail.
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        let builder = builder.with_client_cert_verifier(clients);
        let mut config = builder.with_cert_resolver(resolver);
        config.key_log = Arc::clone(&self.key_log);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Some(config)
    }
}

/// How the sites with the same certificates and the same question for those of clients are served.
#[derive(Debug)]
pub(crate) struct Served {
    common: Arc<Common>,
    resolver: Arc<Certificates>,
    clients: Option<Policy>,
    protocols: Protocols,
    /// What holds now; nothing before the first client.
    current: ArcSwapOption<Current>,
}

/// How sites are served as long as the issuers of clients are these.
#[derive(Debug)]
struct Current {
    issuers: Option<Arc<Known>>,
    config: ServerConfig,
    digest: [u8; 32],
}

impl Served {
    pub(crate) fn new(
        common: Arc<Common>,
        proofs: Vec<Proof>,
        clients: Option<Policy>,
        protocols: Protocols,
    ) -> Self {
        Self {
            common,
            resolver: Arc::new(Certificates(proofs)),
            clients,
            protocols,
            current: ArcSwapOption::empty(),
        }
    }

    /// What holds now; nothing while it is not known which certificates clients may show.
    fn current(&self) -> Option<Arc<Current>> {
        let issuers = match &self.clients {
            Some(policy) => Some(policy.issuers.load_full()?),
            None => None,
        };
        let known = self.current.load_full();
        let address = |issuers: &Option<Arc<Known>>| issuers.as_ref().map(Arc::as_ptr);
        if let Some(known) = known
            && address(&known.issuers) == address(&issuers)
        {
            return Some(known);
        }
        let of_clients = self.clients.as_ref().zip(issuers.as_deref());
        let verifier = match of_clients {
            Some((policy, known)) => policy.verifier(known),
            None => Arc::new(NoClientAuth) as Arc<dyn ClientCertVerifier>,
        };
        let digest = of_clients.map(|(policy, known)| policy.digest(known));
        let made = Arc::new(Current {
            config: self.common.config(Arc::clone(&self.resolver), verifier)?,
            digest: digest.unwrap_or_default(),
            issuers,
        });
        self.current.store(Some(Arc::clone(&made)));
        Some(made)
    }

    /// How a client of the site with this name is served. Its tickets are good for the same again.
    fn config(&self, site: &str, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        let current = self.current()?;
        let binding = Sha256::new().chain_update(current.digest);
        let binding: Binding = binding.chain_update(site).finalize().into();
        let mut config = current.config.clone();
        config.alpn_protocols = self.protocols.offered(hello);
        config.ticketer = Arc::new(Ticketer::new(self.common.tickets.clone(), binding));
        Some(Arc::new(config))
    }
}

/// What is spoken within TLS (RFC 7301).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocols {
    /// HTTP, in the version that client and we agree on.
    Http,
    /// Whatever client and server speak. Some of it is told apart, and agreed on with clients that offer it.
    Any(Vec<Vec<u8>>),
}

impl Protocols {
    /// What is agreed on with a client that says this.
    fn offered(&self, hello: &ClientHello<'_>) -> Vec<Vec<u8>> {
        match self {
            Self::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Any(known) => {
                let known = known.iter().filter(|protocol| {
                    let mut offers = hello.alpn().into_iter().flatten();
                    offers.any(|offered| offered == protocol.as_slice())
                });
                known.cloned().collect()
            }
        }
    }
}

/// The certificates of one site.
struct Certificates(Vec<Proof>);

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificates").field(&self.0.len()).finish()
    }
}

impl ResolvesServerCert for Certificates {
    /// The first that the client can check, of those for the name that it asks for, if there are any; those that
    /// are cheap to prove go before RSA.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let proofs = self.0.iter();
        let known = proofs.filter_map(|proof| Some((proof, proof.pair.load_full()?)));
        let fits = |(_, pair): &(&Proof, Arc<CertifiedKey>)| {
            let schemes = hello.signature_schemes();
            pair.key.choose_scheme(schemes).is_some()
        };
        let (proof, pair) = known.filter(fits).min_by_key(|(_, pair)| {
            let is_for_another = self.0.len() > 1 && !is_for(pair, hello.server_name());
            let is_rsa = pair.key.algorithm() == SignatureAlgorithm::RSA;
            (is_for_another, is_rsa)
        })?;
        Some(proof.shown(pair, clock::unix_time().as_secs()))
    }
}

/// Tells whether a certificate is for the name that a client asks for.
fn is_for(pair: &CertifiedKey, name: Option<&str>) -> bool {
    let certificate = pair.cert.first();
    let certificate = certificate.and_then(|first| ParsedCertificate::try_from(first).ok());
    let name = name.and_then(|name| ServerName::try_from(name).ok());
    let both = certificate.as_ref().zip(name.as_ref());
    both.is_some_and(|(certificate, name)| verify_server_name(certificate, name).is_ok())
}

/// The sites of one address, as TLS sees them.
#[derive(Debug)]
pub(crate) struct Secure {
    pub(crate) hosts: Arc<Hosts>,
    /// The first site.
    pub(crate) first: usize,
    /// How each site of any address is served, in their order.
    pub(crate) sites: Arc<[SecureSite]>,
    pub(crate) sessions: Arc<Sessions>,
    /// Whether anything asks how clients begin.
    pub(crate) is_curious: bool,
    /// How issuers are served that only want to know whether a name is ours.
    pub(crate) challenges: Arc<Challenges>,
}

/// How one site is served.
#[derive(Debug)]
pub(crate) struct SecureSite {
    pub(crate) site: usize,
    pub(crate) name: Arc<str>,
    pub(crate) served: Arc<Served>,
}

impl Secure {
    /// How a client is served that asks for this name, or for none.
    fn site(&self, name: Option<&str>) -> Option<&SecureSite> {
        match name {
            Some(name) => self.of(self.hosts.site(name.as_bytes())?),
            None => self.of(self.hosts.any.unwrap_or(self.first)),
        }
    }

    fn of(&self, site: usize) -> Option<&SecureSite> {
        let at = self.sites.binary_search_by_key(&site, |known| known.site);
        self.sites.get(at.ok()?)
    }

    /// Tells whether a client that asked for this name may ask for this site as well: it has the same
    /// certificates and asks clients for the same, so whatever decides about the one decides about the
    /// other.
    pub(crate) fn serves(&self, name: Option<&str>, site: usize) -> bool {
        match (self.site(name), self.of(site)) {
            (Some(asked), Some(wanted)) => Arc::ptr_eq(&asked.served, &wanted.served),
            _ => false,
        }
    }

    /// The algorithms of the certificate that a client was shown; nothing where it may have been another.
    pub(crate) fn algorithms(&self, client: &ServerConnection) -> Option<Algorithms> {
        match &*self.site(client.server_name())?.served.resolver.0 {
            [proof] => Algorithms::of(proof.pair.load().as_ref()?.cert.first()?),
            _ => None,
        }
    }

    /// The certificate that a client has shown, if it was asked for one.
    pub(crate) fn certificate(&self, client: &Socket) -> Option<Certificate> {
        let certificate = client.with_tls_connection(|connection| {
            let connection = connection?;
            let site = self.site(connection.server_name())?;
            let policy = site.served.clients.as_ref()?;
            Certificate::read(connection.peer_certificates()?, policy.pass)
        });
        certificate.flatten()
    }
}

impl Choose for Secure {
    fn is_curious(&self) -> bool {
        self.is_curious
    }

    fn note(&self, records: &[u8]) -> Option<Box<str>> {
        ja4::of_records(records).map(String::into_boxed_str)
    }

    fn choose(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        if acme::is_asked(hello) {
            return self.challenges.config(hello.server_name());
        }
        let site = self.site(hello.server_name())?;
        site.served.config(&site.name, hello)
    }

    fn opened(&self, connection: &ServerConnection) {
        self.sessions.count(connection);
    }
}

/// The version of TLS that was agreed on.
pub(crate) fn version(connection: &ServerConnection) -> &'static str {
    match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    }
}

/// What was agreed on to encipher with, as OpenSSL calls it.
pub(crate) fn cipher(connection: &ServerConnection) -> Option<&'static str> {
    use CipherSuite as C;
    Some(match connection.negotiated_cipher_suite()?.suite() {
        C::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        C::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        C::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-ECDSA-CHACHA20-POLY1305",
        C::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        C::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        C::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => return None,
    })
}

/// What logs say of a client that came with TLS.
pub(crate) fn secured<'a>(
    connection: &'a ServerConnection,
    shown: Option<&'a Certificate>,
    fingerprint: Option<&'a str>,
) -> Secured<'a> {
    Secured {
        fingerprint: fingerprint.unwrap_or_default(),
        version: version(connection),
        alpn: connection.alpn_protocol().unwrap_or_default(),
        sni: connection.server_name().unwrap_or_default(),
        subject: shown.map_or("", |shown| shown.text(CertificatePart::Subject)),
    }
}
