//! What rules see of a request: conditions ask for it, variables stand for it.

use std::net::{IpAddr, SocketAddr};

use plimsoll_http::forwarded::AddressText;
use plimsoll_http::head::{RequestHead, ResponseHead, Span};
use plimsoll_http::host::Authority;
use plimsoll_http::target::Target;
use plimsoll_http::trust::Told;

use crate::http::exchange::Facts;
use crate::tls::certificate::Certificate;

/// A request as it came.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its head, and the bytes that it is in.
    pub head: &'a RequestHead,
    /// The bytes.
    pub bytes: &'a [u8],
    /// What it asks for.
    pub target: &'a Target,
    /// The authority that rules.
    pub authority: &'a [u8],
    /// Where it came from.
    pub origin: &'a Origin,
    /// The certificate that its client has shown.
    pub certificate: Option<&'a Certificate>,
    /// The fingerprint of how its client began TLS.
    pub fingerprint: Option<&'a str>,
}

/// Where a request came from, how and when.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// The client's address.
    pub client: IpAddr,
    /// The same, as text.
    pub client_text: AddressText,
    /// The client's port.
    pub client_port: u16,
    /// The port that it came on.
    pub port: u16,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// When it came, in seconds since 1970.
    pub unix: u64,
    /// The other end of its connection: the client, or a proxy that is trusted to name it.
    pub peer: SocketAddr,
    /// The same, as text.
    pub peer_text: AddressText,
    /// Whether the peer is trusted.
    pub is_trusted: bool,
    /// Whether a server sent it here.
    pub is_inside: bool,
}

impl Origin {
    /// A request that came from `peer` to `port`.
    pub fn new(peer: SocketAddr, port: u16, unix: u64) -> Self {
        Self::of(peer, AddressText::new(peer.ip()), port, unix)
    }

    /// The same, with the address as text.
    pub(crate) fn of(peer: SocketAddr, text: AddressText, port: u16, unix: u64) -> Self {
        Self {
            client: peer.ip(),
            client_text: text,
            client_port: peer.port(),
            port,
            scheme: "http",
            unix,
            peer,
            peer_text: text,
            is_trusted: false,
            is_inside: false,
        }
    }

    /// Takes over what a trusted peer says of the client.
    pub(crate) fn trust(&mut self, told: &Told<'_>) {
        self.is_trusted = true;
        if told.client != self.client.to_canonical() {
            self.client = told.client;
            self.client_text = AddressText::new(told.client);
            self.client_port = told.port.unwrap_or_default();
        }
        self.scheme = told.scheme.unwrap_or(self.scheme);
    }
}

impl<'a> Seen<'a> {
    /// The request whose head, target and authority are in `bytes`.
    pub fn new(
        (head, target, authority): (&'a RequestHead, &'a Target, Span),
        bytes: &'a [u8],
        origin: &'a Origin,
    ) -> Self {
        Self {
            head,
            bytes,
            target,
            authority: authority.of(bytes),
            origin,
            certificate: None,
            fingerprint: None,
        }
    }

    /// The same, from a client that has shown a certificate and has this fingerprint.
    pub(crate) fn shown(
        self,
        certificate: Option<&'a Certificate>,
        fingerprint: Option<&'a str>,
    ) -> Self {
        Self {
            certificate,
            fingerprint,
            ..self
        }
    }

    /// Its path in canonical form.
    pub fn path(&self) -> &'a [u8] {
        self.target.path(self.bytes)
    }

    /// Its query, without the question mark.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.target.query.map(|query| query.of(self.bytes))
    }

    /// Its host without a port; empty when an HTTP/1.0 request has none.
    pub fn host(&self) -> &'a [u8] {
        let authority = Authority::parse(self.authority);
        authority
            .map(|authority| authority.host)
            .unwrap_or_default()
    }
}

/// What the values of variables come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) seen: Seen<'a>,
    /// What has been found out meanwhile.
    pub(crate) facts: &'a Facts<'a>,
    /// The answer of a server, and the bytes that it is in.
    pub(crate) answer: Option<(&'a ResponseHead, &'a [u8])>,
}
