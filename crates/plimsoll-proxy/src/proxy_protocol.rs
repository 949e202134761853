//! Whom connections are from: heard from those who pass them on to us, and told to servers.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, ready};

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

/// Tells whether `peer` is in one of the networks.
pub(crate) fn is_among(networks: &[IpNet], peer: IpAddr) -> bool {
    let peer = peer.to_canonical();
    networks.iter().any(|network| network.contains(&peer))
}

/// Takes the header from the beginning of a new connection, and nothing behind it. The client that it
/// names is the peer from then on.
pub(crate) async fn hear(plane: &Plane, connection: &mut Connection) -> Result<(), Unknown> {
    let socket = &connection.socket;
    connection.timer.set(connection.deadline);
    let mut known = 0;
    let (addresses, more) = poll_fn(|context| {
        // Lent for a look: a connection that waits holds no buffer.
        let mut buffer = plane.worker.buffers.lend();
        let room = buffer.room();
        let most = room.len().min(HEADER_BYTES_MAX);
        let room = room.get_mut(..most).unwrap_or_default();
        loop {
            let Poll::Ready(there) = announce::poll_peek(socket, context, room, known) else {
                ready!(connection.timer.poll(context));
                return Poll::Ready(Err(Unknown::Late));
            };
            let there = there.map_err(Unknown::Broken)?;
            let header = parse(room.get(..there).unwrap_or_default());
            match header.map_err(Unknown::Malformed)? {
                Parsed::Complete(header) => {
                    let (addresses, len) = (header.addresses, header.len);
                    // Few say more than the addresses.
                    let more = (header.told != Told::default()).then(|| room.get(..len));
                    let more = more.flatten().map(Rc::from);
                    let taken = announce::take(socket, room, len).map_err(Unknown::Broken);
                    return Poll::Ready(taken.map(|()| (addresses, more)));
                }
                Parsed::Partial if there <= known => return Poll::Ready(Err(Unknown::Ended)),
                Parsed::Partial => known = there,
            }
        }
    })
    .await?;
    connection.heard = more;
    if let Some(Addresses { source, .. }) = addresses {
        connection.peer = SocketAddr::new(source.ip().to_canonical(), source.port());
        connection.peer_text = AddressText::new(connection.peer.ip());
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
    /// What client and server speak with each other within TLS, if it is for the server to know.
    pub(crate) alpn: Option<&'a [u8]>,
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
                let told = Told {
                    alpn: whom.alpn,
                    authority: asked.map(str::as_bytes).or(heard.authority),
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
