//! What a connection costs that waits for its next request.

use super::case::Carried;
use super::contender::{Contender, Running};
use super::descriptors;
use anyhow::{Context, Result, anyhow, bail};
use plimsoll_e2e::issuer::Authority;
use plimsoll_e2e::raw::Raw;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// How many connections are opened, if the limit of descriptors allows them.
const CONNECTIONS: u64 = 10_000;

/// Descriptors that a proxy and this program need for anything else.
const SPARE: u64 = 300;

/// Time for a proxy to give back what the last requests needed.
const SETTLE: Duration = Duration::from_secs(1);

const REQUEST: &str = "GET /1k HTTP/1.1\r\nHost: bench\r\n\r\n";

/// The same with HTTP/2: what a client begins with, its settings, and a request.
const HTTP2_REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
    \0\0\0\x04\0\0\0\0\0\
    \0\0\x0e\x01\x05\0\0\0\x01\x82\x86\x04\x03/1k\x01\x05bench";

/// What the connections carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Http1,
    Tls,
    Http2,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Http1, Self::Tls, Self::Http2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "idle-10000",
            Self::Tls => "idle-tls-10000",
            Self::Http2 => "idle-h2-10000",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Http1 => "memory of 10,000 connections that made one request each",
            Self::Tls => "the same over TLS",
            Self::Http2 => "the same with HTTP/2",
        }
    }

    pub(crate) fn is_for(self, contender: Contender) -> bool {
        match contender.carries() {
            Carried::Requests | Carried::All | Carried::AllButZstd => true,
            Carried::Bytes => self == Self::Http1,
            Carried::Datagrams | Carried::Stored => false,
        }
    }
}

/// Bytes a connection.
pub(crate) struct Idle {
    pub(crate) case: &'static str,
    pub(crate) proxy: &'static str,
    pub(crate) connections: u32,
    pub(crate) resident: f64,
    pub(crate) proportional: f64,
}

/// Measures a proxy that was just started.
pub(crate) fn measure(
    kind: Kind,
    contender: Contender,
    proxy: &Running,
    authority: &Authority,
) -> Result<Idle> {
    let room = descriptors().saturating_sub(SPARE) / contender.descriptors_per_client();
    let connections = u32::try_from(room.min(CONNECTIONS))?;
    let tls = Arc::new(client(authority)?);
    drop(connect(kind, proxy, &tls)?); // what the first request of all needs is not counted
    thread::sleep(SETTLE);
    let before = proxy.memory()?;
    let held = (0..connections)
        .map(|_| connect(kind, proxy, &tls))
        .collect::<Result<Vec<_>>>()?;
    thread::sleep(SETTLE);
    let after = proxy.memory()?;
    drop(held);
    let each = |before: u64, after: u64| {
        let kibibytes = u32::try_from(after.saturating_sub(before) / 1024).unwrap_or(u32::MAX);
        f64::from(kibibytes) * 1024.0 / f64::from(connections)
    };
    Ok(Idle {
        case: kind.name(),
        proxy: proxy.name(),
        connections,
        resident: each(before.resident, after.resident),
        proportional: each(before.proportional, after.proportional),
    })
}

/// A connection that has carried a request.
enum Held {
    Plain { _connection: Raw },
    Tls { _connection: TcpStream },
}

fn connect(kind: Kind, proxy: &Running, tls: &Arc<ClientConfig>) -> Result<Held> {
    let to = &proxy.addresses;
    match kind {
        Kind::Tls => over_tls(TcpStream::connect(to.tls)?, Arc::clone(tls)),
        Kind::Http1 => {
            let mut client = Raw::try_connect(to.plain)?;
            client.send(REQUEST)?;
            match client.try_response("GET") {
                Ok(response) if response.status() == 200 => Ok(Held::Plain {
                    _connection: client,
                }),
                other => Err(anyhow!("{}: {other:?}", proxy.name())),
            }
        }
        Kind::Http2 => {
            let mut client = Raw::try_connect(to.http2)?;
            client.send(HTTP2_REQUEST)?;
            // The body and more: of heads and settings there are less.
            match client.read_at_least(1024, Duration::from_secs(10)) {
                Ok(_) => Ok(Held::Plain {
                    _connection: client,
                }),
                Err(other) => Err(anyhow!("{}: {other:?}", proxy.name())),
            }
        }
    }
}

/// Makes a request, and keeps of the session only what the other end sees of it.
fn over_tls(stream: TcpStream, tls: Arc<ClientConfig>) -> Result<Held> {
    let kept = stream.try_clone()?;
    let name = ServerName::try_from("bench.test")?;
    let mut session = StreamOwned::new(ClientConnection::new(tls, name)?, stream);
    session.write_all(REQUEST.as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while answer.len() < 1024 {
        match session.read(&mut piece)? {
            0 => bail!("the connection was closed"),
            read => answer.extend_from_slice(piece.get(..read).context("more than there is")?),
        }
    }
    Ok(Held::Tls { _connection: kept })
}

/// A client that trusts this authority.
fn client(authority: &Authority) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.trusted())?)?;
    let config = ClientConfig::builder().with_root_certificates(roots);
    Ok(config.with_no_client_auth())
}
