//! A connection to a server: a kept one of this worker, one of another worker, or a new one.

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::task::Poll;

use plimsoll_config::model::Protocol;
use plimsoll_http::reason::Reason;
use plimsoll_net::socket::Socket;
use plimsoll_net::{announce, clock, stream};
use plimsoll_observe::metrics::PoolMetrics;

use crate::generation::{Pool, Server};
use crate::http::exchange::Exchange;
use crate::http::failure::{Failure, Sent, Side};
use crate::http::h2::Place;
use crate::http::line::Seeker;
use crate::plane::Plane;
use crate::proxy_protocol::{self, For};
use crate::server_tls::ServerTls;

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) socket: Socket,
    /// Whether it has carried a request before.
    pub(crate) is_reused: bool,
    /// What it is put back with.
    pub(crate) epoch: u32,
}

impl Upstream {
    /// A stream of a connection that was there.
    fn on_stream(socket: Socket, metrics: Option<&PoolMetrics>) -> Self {
        if let Some(metrics) = metrics {
            metrics.connections_reused.add(1);
        }
        Self {
            socket,
            is_reused: true,
            epoch: 0,
        }
    }

    /// Ends it: the server is told, where that can be told.
    pub(crate) fn end(self) {
        stream::close(&self.socket);
    }

    /// Keeps it for the next request to its server, if the pool keeps any.
    pub(crate) fn put_back(self, plane: &Plane, pool: &Pool, server: &Server) {
        if pool.keep_max > 0 && !self.socket.is_stream() {
            let until = clock::now() + pool.keep_for;
            let idle = &plane.worker.idle;
            idle.put(
                &server.berth,
                (self.socket, self.epoch),
                until,
                pool.keep_max,
            );
        } else {
            self.end();
        }
    }
}

/// Whether a kept connection will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Welcome,
    Unwelcome,
}

/// Finds or makes a connection to `server`: of this worker, of another worker, or a new one.
pub(crate) async fn acquire(
    exchange: &mut Exchange<'_>,
    pool: &Pool,
    server: &Server,
    kept: Kept,
) -> Result<Upstream, Failure> {
    let plane = exchange.plane;
    let metrics = plane.metrics.pool(pool.index);
    let epoch = server.berth.epoch();
    if pool.protocol == Protocol::Http2 {
        if let Some(socket) = plane.station.links.stream(&server.berth) {
            return Ok(Upstream::on_stream(socket, metrics));
        }
        return Box::pin(acquire_stream(exchange, pool, server)).await;
    }
    if kept == Kept::Welcome && pool.keep_max > 0 {
        let idempotent = exchange.scratch.head.method.is_idempotent();
        while let Some(socket) = take_kept(exchange, server).await {
            // A request that must not be sent twice deserves a question to the kernel first.
            if idempotent || stream::is_quiet_now(&socket) {
                if let Some(metrics) = metrics {
                    metrics.connections_reused.add(1);
                }
                return Ok(Upstream {
                    socket,
                    is_reused: true,
                    epoch,
                });
            }
        }
    }
    // Boxed, as the one above: an exchange moves its future, and most find a kept connection.
    let socket = Box::pin(open_new(exchange, pool, server)).await?;
    Ok(Upstream {
        socket,
        is_reused: false,
        epoch,
    })
}

/// Opens a connection to `server`.
pub(crate) async fn open_new<'a>(
    seeker: &mut impl Seeker<'a>,
    pool: &Pool,
    server: &Server,
) -> Result<Socket, Failure> {
    let first_words = first_words(&seeker.whom(), pool)?;
    let from = seeker.whom().peer.ip().to_canonical();
    let dialling = dial(pool, server, Some(from), &first_words);
    let client = seeker.client();
    let opening = async { while_there(client, dialling).await? };
    in_time(seeker, pool, opening).await
}

/// Opens a connection within the time that there is for it, and counts it.
async fn in_time<'a>(
    seeker: &mut impl Seeker<'a>,
    pool: &Pool,
    opening: impl Future<Output = Result<Socket, Failure>>,
) -> Result<Socket, Failure> {
    let began = clock::now();
    let deadline = seeker.soonest(began + pool.timeouts.connect);
    seeker.timer().set(deadline);
    let opened = seeker.timer().limit(opening).await;
    let took = clock::now().duration_since(began);
    seeker.facts().note_connect(took);
    let opened = opened.unwrap_or_else(|_| Err(too_late(seeker)));
    let metrics = seeker.plane().metrics.pools.get(pool.index);
    if let (Some(metrics), Err(failed)) = (metrics, &opened)
        && failed.blame == Side::Plimsoll
    {
        metrics.connections_wanting.add(1);
    }
    let socket = opened?;
    if let Some(metrics) = metrics {
        metrics.connections_new.add(1);
        metrics.connect.record(took);
        if socket.is_secure() {
            match socket.is_resumed() {
                true => metrics.tls_resumed.add(1),
                false => metrics.tls_new.add(1),
            }
        }
    }
    Ok(socket)
}

/// Finds a connection to `server` that has room for one more stream, or makes one.
async fn acquire_stream(
    exchange: &mut Exchange<'_>,
    pool: &Pool,
    server: &Server,
) -> Result<Upstream, Failure> {
    let (plane, client) = (exchange.plane, exchange.client);
    let deadline = exchange.soonest(clock::now() + pool.timeouts.connect);
    exchange.timer.set(deadline);
    let place = while_there(client, plane.station.links.place(&server.berth));
    let place = exchange.timer.limit(place).await;
    let opening = match place.unwrap_or_else(|_| Err(too_late(exchange)))? {
        Place::Stream(socket) => {
            let metrics = plane.metrics.pool(pool.index);
            return Ok(Upstream::on_stream(socket, metrics));
        }
        Place::Opening(opening) => opening,
    };
    let opening = async {
        // Many clients have requests on it, so that it is told of none.
        let socket = while_there(client, dial(pool, server, None, &[])).await??;
        let spoken = opening.open(&plane.worker, socket, pool.keep_for).await;
        spoken.map_err(|error| {
            tracing::debug!(server = %server.name, %error, "no HTTP/2");
            let detail = "the server does not speak HTTP/2";
            Failure::upstream(Reason::HttpProtocolError, detail, Sent::Nothing)
        })
    };
    Ok(Upstream {
        socket: in_time(exchange, pool, opening).await?,
        is_reused: false,
        epoch: 0,
    })
}

/// The server was not reached in the time that there was for it.
fn too_late<'a>(seeker: &impl Seeker<'a>) -> Failure {
    match seeker.is_overdue() {
        true => Failure::overdue(),
        false => Failure::upstream(Reason::ConnectionTimeout, "", Sent::Nothing),
    }
}

/// Waits for as long as the client is there, which is looked at only when there is something to wait for.
async fn while_there<T>(client: &Socket, wait: impl Future<Output = T>) -> Result<T, Failure> {
    let (mut wait, mut left) = (pin!(wait), pin!(client.broken()));
    poll_fn(|context| match wait.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Ok(value)),
        Poll::Pending => left.as_mut().poll(context).map(|()| {
            let detail = "while connecting to the server";
            Err(Failure::downstream(Reason::ClientAborted, detail))
        }),
    })
    .await
}

/// What the server is told of the connection; nearly always nothing.
fn first_words(whom: &For<'_>, pool: &Pool) -> Result<Vec<u8>, Failure> {
    let Some(version) = pool.proxy_protocol else {
        return Ok(Vec::new());
    };
    proxy_protocol::tell(whom, version).map_err(|_| {
        let (reason, detail) = (Reason::ProxyInternalError, "too much to tell of the client");
        Failure::upstream(reason, detail, Sent::Answered)
    })
}

/// Connects to `server` on behalf of a client, over TLS if it is spoken with over that, which `first_words`
/// go before.
pub(crate) async fn dial(
    pool: &Pool,
    server: &Server,
    client: Option<IpAddr>,
    first_words: &[u8],
) -> Result<Socket, Failure> {
    let known = server.addresses.now();
    let addresses = match &*known {
        Ok(addresses) => addresses,
        Err(reason) => return Err(Failure::upstream(*reason, "", Sent::Nothing)),
    };
    let connected = pool.connector.connect(addresses, client).await;
    let socket = connected.map_err(|error| connect_failure(&error))?;
    if !first_words.is_empty() {
        let sent = announce::send(&socket, first_words).await;
        sent.map_err(|error| connect_failure(&error))?;
    }
    match &server.tls {
        // Boxed: few servers need it, and each exchange has room for it.
        Some(tls) => Box::pin(secure(socket, tls)).await,
        None => Ok(socket),
    }
}

async fn secure(socket: Socket, tls: &ServerTls) -> Result<Socket, Failure> {
    let Some(config) = tls.config() else {
        let detail = "nobody's word on it counts";
        return Err(Failure::upstream(
            Reason::TlsCertificateError,
            detail,
            Sent::Nothing,
        ));
    };
    let secured = plimsoll_net::tls::secure(socket, config, tls.name()).await;
    secured.map_err(|error| {
        tracing::debug!(%error, name = ?tls.name(), "TLS with a server failed");
        match plimsoll_net::tls::fault(&error) {
            Some(fault) => Failure::tls(fault, Sent::Nothing),
            None => {
                let (reason, detail) = (
                    Reason::ConnectionTerminated,
                    "while it was to prove who it is",
                );
                Failure::upstream(reason, detail, Sent::Nothing)
            }
        }
    })
}

async fn take_kept(exchange: &Exchange<'_>, server: &Server) -> Option<Socket> {
    let worker = &exchange.plane.worker;
    if let Some(socket) = worker.idle.take(&server.berth, exchange.facts.started) {
        return Some(socket);
    }
    let socket = worker.borrow_idle(&server.berth).await?;
    stream::is_quiet(&socket).then_some(socket)
}

/// Why a server could not be reached.
pub(crate) fn connect_failure(error: &io::Error) -> Failure {
    use io::ErrorKind as E;
    let (reason, detail) = match error.kind() {
        E::ConnectionRefused => (Reason::ConnectionRefused, ""),
        E::HostUnreachable | E::NetworkUnreachable | E::NetworkDown => {
            (Reason::DestinationIpUnroutable, "")
        }
        E::TimedOut => (Reason::ConnectionTimeout, ""),
        E::ConnectionReset | E::ConnectionAborted => {
            (Reason::ConnectionTerminated, "reset while connecting")
        }
        E::Unsupported => {
            return Failure::plimsoll("the client's address is of another kind than the server's");
        }
        E::PermissionDenied => return Failure::plimsoll("the system forbids the connection"),
        E::AddrNotAvailable => return Failure::plimsoll("no local port or address is free"),
        _ if matches!(error.raw_os_error(), Some(23 | 24)) => {
            return Failure::plimsoll("the process is out of descriptors");
        }
        _ => (Reason::ConnectionRefused, "cannot connect"),
    };
    Failure::upstream(reason, detail, Sent::Nothing)
}
