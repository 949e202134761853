//! Whom connections are from: heard from those who pass them on to us, and told to servers.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use ipnet::IpNet;
use plimsoll_config::model::ProxyVersion;
use plimsoll_http::forwarded::AddressText;
use plimsoll_http::proxy_protocol::{
    Addresses, HEADER_BYTES_MAX, Malformed, Parsed, Ssl, Told, TooLong, Transport, parse, write_v1,
    write_v2,
};
use plimsoll_net::announce;
use plimsoll_net::socket::Socket;
use rustls::{HandshakeKind, ServerConnection};

use crate::connection::Connection;
use crate::look::{self, Found, Unseen};
use crate::plane::Plane;
use crate::tls::algorithms::Algorithms;
use crate::tls::certificate::Certificate;
use crate::tls::{self, Secure};

/// Why it is not known whom a connection is from.
#[derive(Debug)]
pub(crate) enum Unknown {
    /// No header came in time.
    Late,
    /// The connection ended before its header did.
    Ended,
    Malformed(Malformed),
    Broken(io::Error),
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late => f.write_str("no header came in time"),
            Self::Ended => f.write_str("the connection ended before its header"),
            Self::Malformed(malformed) => malformed.fmt(f),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl From<Unseen> for Unknown {
    fn from(unseen: Unseen) -> Self {
        match unseen {
            Unseen::Late => Self::Late,
            Unseen::Ended => Self::Ended,
            Unseen::Broken(error) => Self::Broken(error),
        }
    }
}

/// Tells whether `peer` is in one of the networks.
pub(crate) fn is_among(networks: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

/// Takes the header from the beginning of a new connection, and nothing behind it. The client that it
/// names is the peer from then on.
pub(crate) async fn hear(plane: &Plane, connection: &mut Connection) -> Result<(), Unknown> {
    let judge = |bytes: &[u8], _| match parse(bytes) {
        Ok(Parsed::Complete(header)) => {
            // Few say more than the addresses.
            let more = (header.told != Told::default()).then(|| bytes.get(..header.len));
            let more = more.flatten().map(Rc::from);
            Found::Enough(Ok((header.addresses, header.len, more)))
        }
        Ok(Parsed::Partial) => Found::TooLittle(bytes.len() + 1),
        Err(malformed) => Found::Enough(Err(Unknown::Malformed(malformed))),
    };
    let (until, most) = (connection.deadline, HEADER_BYTES_MAX);
    let (addresses, len, more) = look::look(plane, connection, (until, most), judge).await??;
    let mut buffer = plane.worker.buffers.lend();
    announce::take(&connection.socket, buffer.room(), len).map_err(Unknown::Broken)?;
    connection.heard = more;
    if let Some(Addresses { source, .. }) = addresses {
        connection.peer = SocketAddr::new(source.ip().to_canonical(), source.port());
        connection.peer_text = AddressText::new(connection.peer.ip());
        connection.session.is_from(connection.peer);
    }
    Ok(())
}

/// Whom a connection to a server is for.
pub(crate) struct For<'a> {
    pub(crate) client: &'a Socket,
    /// Where the client is.
    pub(crate) peer: SocketAddr,
    /// Who serves it, if it came with TLS.
    pub(crate) secure: Option<&'a Secure>,
    /// The certificate that it has shown.
    pub(crate) certificate: Option<&'a Certificate>,
    /// The header that the client's connection came with, if it said more than the client's address.
    pub(crate) heard: Option<&'a [u8]>,
    /// The name that the client asked for in what was not for us.
    pub(crate) name: Option<&'a str>,
    /// Whether the server speaks with the client itself, byte for byte.
    pub(crate) is_relayed: bool,
    /// By which the log knows what it wants.
    pub(crate) id: &'a [u8],
}

/// What a server is told first on a connection for a client.
///
/// # Errors
/// There is more to tell than fits.
pub(crate) fn tell(whom: &For<'_>, version: ProxyVersion) -> Result<Vec<u8>, TooLong> {
    let Ok(destination) = whom.client.local_address() else {
        return Ok(tell_own(version)); // it has just gone
    };
    let addresses = Addresses {
        source: whom.peer,
        destination,
    };
    let mut out = Vec::new();
    match version {
        ProxyVersion::V1 => write_v1(Some(&addresses), &mut out),
        ProxyVersion::V2 => {
            let write = |connection: Option<&ServerConnection>| {
                let asked = connection.and_then(ServerConnection::server_name);
                let ours = whom.secure.zip(connection);
                let ours = ours.and_then(|(secure, connection)| secure.algorithms(connection));
                let shown = (whom.certificate, ours.as_ref());
                let own = connection.map(|connection| ssl(connection, shown));
                // What we know ourselves comes before what we were told.
                let heard = whom.heard.map(told_in).unwrap_or_default();
                let name = asked.or(whom.name).map(str::as_bytes);
                let agreed = connection.and_then(|connection| connection.alpn_protocol());
                let told = Told {
                    alpn: agreed.or(heard.alpn).filter(|_| whom.is_relayed),
                    authority: name.or(heard.authority),
                    unique_id: Some(whom.id),
                    ssl: own.or(heard.ssl),
                };
                write_v2(Some(&addresses), Transport::Stream, &told, &mut out)
            };
            let written = whom.client.with_tls_connection(write);
            written.unwrap_or(Err(TooLong))?;
        }
    }
    Ok(out)
}

/// What a server is told before each datagram of a client that spoke to `destination`.
pub(crate) fn tell_datagram(client: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let addresses = Addresses {
        source: client,
        destination,
    };
    let mut out = Vec::new();
    let told = Told::default();
    let written = write_v2(Some(&addresses), Transport::Datagram, &told, &mut out);
    debug_assert!(written.is_ok(), "addresses fit");
    out
}

/// What a header that was heard said beside the addresses.
pub(crate) fn told_in(header: &[u8]) -> Told<'_> {
    match parse(header) {
        Ok(Parsed::Complete(header)) => header.told,
        Ok(Parsed::Partial) | Err(_) => Told::default(),
    }
}

/// How a client came that has shown this certificate, if any, and was shown one with these algorithms.
fn ssl<'a>(
    connection: &'a ServerConnection,
    (shown, ours): (Option<&'a Certificate>, Option<&'a Algorithms>),
) -> Ssl<'a> {
    let key = ours.and_then(|ours| ours.key.as_deref());
    let signature = ours.and_then(|ours| ours.signature);
    Ssl {
        is_verified: shown.is_some(),
        is_from_before: connection.handshake_kind() == Some(HandshakeKind::Resumed),
        version: Some(tls::version(connection).as_bytes()),
        common_name: shown.and_then(|shown| shown.common_name.as_deref()),
        cipher: tls::cipher(connection).map(str::as_bytes),
        signature: signature.map(str::as_bytes),
        key: key.map(str::as_bytes),
    }
}

/// What a server is told first on a connection of our own.
pub fn tell_own(version: ProxyVersion) -> Vec<u8> {
    let mut out = Vec::new();
    match version {
        ProxyVersion::V1 => write_v1(None, &mut out),
        ProxyVersion::V2 => {
            let written = write_v2(None, Transport::Stream, &Told::default(), &mut out);
            debug_assert!(written.is_ok(), "it says nothing");
        }
    }
    out
}
