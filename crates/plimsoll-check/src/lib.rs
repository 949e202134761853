//! Asking a server whether it works. One file a protocol; nothing here knows of pools.
#![forbid(unsafe_code)]

mod datagram;
mod exec;
mod grpc;
mod http;
mod lines;
mod mysql;
mod postgres;
mod talk;
mod tls;

pub use datagram::UdpProbe;
pub use exec::ExecProbe;
pub use http::HttpProbe;
pub use lines::Step;
pub use mysql::MysqlProbe;
pub use postgres::PostgresProbe;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// What is asked of a server.
#[derive(Clone, Debug)]
pub enum Probe {
    /// A connection is enough.
    Tcp,
    /// An HTTP request, and what its answer must be.
    Http(HttpProbe),
    /// A TLS handshake that is answered; the name of the server, or nothing.
    Tls(String),
    /// The gRPC health service.
    Grpc {
        /// A service; empty means the whole server.
        service: String,
        /// Host and port.
        authority: String,
    },
    /// PostgreSQL's startup.
    Postgres(PostgresProbe),
    /// MySQL's greeting, or what it has to be.
    Mysql(MysqlProbe),
    /// Redis's `PING`, or what it has to be.
    Redis(Option<Role>),
    /// SMTP's greeting.
    Smtp,
    /// Texts to send and to wait for.
    Script(Vec<Step>),
    /// A datagram, and what has to be in the answer.
    Udp(UdpProbe),
    /// A question to a name server, for this name.
    Dns(String),
    /// A program.
    Exec(ExecProbe),
    /// An agent beside the server.
    Agent,
}

/// What a database is among its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It follows another one.
    Replica,
}

impl Role {
    /// Judges what a server is.
    fn judge(self, is: Self) -> Result<(), Failure> {
        let what = match is {
            Self::Primary => "it is a primary",
            Self::Replica => "it is a replica",
        };
        match self == is {
            true => Ok(()),
            false => Err(Failure::Answer(what.to_owned())),
        }
    }
}

impl Probe {
    /// What is spoken within TLS (RFC 7301), where a probe speaks what has a name there.
    pub fn protocols(&self) -> &'static [&'static [u8]] {
        match self {
            Self::Http(_) => &[b"http/1.1"],
            Self::Grpc { .. } => &[b"h2"],
            _ => &[],
        }
    }

    /// Tells whether somebody else is asked than the server.
    pub fn is_beside(&self) -> bool {
        matches!(self, Self::Exec(_) | Self::Agent)
    }

    /// Tells whether it is never wrapped in TLS: it makes its own handshake or connection, or asks
    /// somebody else.
    pub fn is_bare(&self) -> bool {
        matches!(
            self,
            Self::Tls(_) | Self::Udp(_) | Self::Dns(_) | Self::Exec(_) | Self::Agent
        )
    }
}

/// Whom to trust, and who the server has to be.
#[derive(Clone, Debug)]
pub struct Tls {
    /// How a session begins.
    pub config: Arc<ClientConfig>,
    /// The name that the server has to prove.
    pub name: ServerName<'static>,
}

/// How a probe goes to a server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way<'a> {
    /// Within this, if it does.
    pub tls: Option<&'a Tls>,
    /// What goes before everything else.
    pub first_words: &'a [u8],
    /// From this address.
    pub source: Option<IpAddr>,
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What it says of the server.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
    /// Why, for people: short, and without control characters.
    pub detail: String,
    /// What an agent said.
    pub advice: Advice,
}

/// What an agent says of the server beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// How much of its weight it can take.
    pub weight_percent: Option<u8>,
    /// Whether it wants new clients.
    pub takes_new: Option<bool>,
}

/// What a probe says of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Passed,
    /// It answers, and not as it should, or too late.
    Unfit,
    /// Nothing listens there, or it cannot be reached.
    Unreachable,
    /// Nothing: it was not asked, for want of a local port, an address or a descriptor.
    Skipped,
}

/// A connection to a server, with TLS or without.
pub(crate) type Wire = Box<dyn Stream>;

/// What can be read and written.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why a probe did not pass.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection could be opened.
    Unreachable(io::Error),
    /// The connection broke.
    Io(io::Error),
    /// The answer is not what it should be.
    Answer(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Asks the server at `address`, in this way; the whole probe has `timeout`.
pub async fn run(probe: &Probe, way: Way<'_>, address: SocketAddr, timeout: Duration) -> Report {
    let began = Instant::now();
    let deadline = began + timeout;
    let asked = timeout_at(deadline, ask(probe, way, address, deadline));
    let (verdict, detail, advice) = match asked.await {
        Err(_) => (
            Verdict::Unfit,
            "no answer in time".to_owned(),
            Advice::default(),
        ),
        Ok(Ok(advice)) => (Verdict::Passed, String::new(), advice),
        Ok(Err(failure)) => {
            let (verdict, why) = match failure {
                Failure::Unreachable(error) | Failure::Io(error) if is_want(&error) => {
                    (Verdict::Skipped, error.to_string())
                }
                Failure::Unreachable(error) => (Verdict::Unreachable, error.to_string()),
                Failure::Io(error) => (Verdict::Unfit, error.to_string()),
                Failure::Answer(why) => (Verdict::Unfit, why),
            };
            (verdict, printable(&why), Advice::default())
        }
    };
    Report {
        verdict,
        took: began.elapsed(),
        detail,
        advice,
    }
}

/// Tells whether something ran out on this side.
fn is_want(error: &io::Error) -> bool {
    const TOO_MANY_FILES: [i32; 2] = [23, 24]; // ENFILE, EMFILE
    let is_known = |code| TOO_MANY_FILES.contains(&code);
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error().is_some_and(is_known)
}

async fn ask(
    probe: &Probe,
    way: Way<'_>,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Advice, Failure> {
    match probe {
        Probe::Exec(probe) => exec::run(probe, address).await?,
        Probe::Udp(probe) => datagram::ask(probe, way.first_words, address).await?,
        Probe::Dns(name) => datagram::dns(name, way.first_words, address).await?,
        _ => return converse(probe, way, address, deadline).await,
    }
    Ok(Advice::default())
}

/// Asks on a connection.
async fn converse(
    probe: &Probe,
    way: Way<'_>,
    address: SocketAddr,
    deadline: Instant,
) -> Result<Advice, Failure> {
    let connected = timeout_at(deadline, connect(probe, way, address)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut stream = connected.map_err(Failure::Unreachable)?;
    let scheme = if way.tls.is_some() { "https" } else { "http" };
    match probe {
        Probe::Tcp | Probe::Udp(_) | Probe::Dns(_) | Probe::Exec(_) => {}
        Probe::Http(probe) => http::ask(probe, &mut stream).await?,
        Probe::Tls(name) => tls::hello(name, &mut stream).await?,
        Probe::Grpc { service, authority } => {
            grpc::health(service, authority, (scheme, stream)).await?
        }
        Probe::Postgres(probe) => postgres::ask(probe, &mut stream).await?,
        Probe::Mysql(probe) => mysql::ask(probe, &mut stream).await?,
        Probe::Redis(role) => lines::redis(*role, &mut stream).await?,
        Probe::Smtp => lines::smtp(&mut stream).await?,
        Probe::Script(steps) => lines::script(steps, &mut stream).await?,
        Probe::Agent => return lines::agent(&mut stream).await,
    }
    Ok(Advice::default())
}

/// Connects, and has the server prove who it is if it is asked within TLS.
async fn connect(probe: &Probe, way: Way<'_>, address: SocketAddr) -> io::Result<Wire> {
    let mut stream = match way.source {
        None => TcpStream::connect(address).await?,
        Some(source) => connect_from(source, address).await?,
    };
    if matches!(probe, Probe::Tcp) {
        // Reset, so that thousands of checks leave no connections in TIME_WAIT.
        stream.set_zero_linger()?;
    }
    stream.write_all(way.first_words).await?;
    let Some(tls) = way.tls else {
        return Ok(Box::new(stream));
    };
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    let stream = connector.connect(tls.name.clone(), stream).await?;
    Ok(Box::new(stream))
}

async fn connect_from(source: IpAddr, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match source {
        IpAddr::V4(_) => TcpSocket::new_v4(),
        IpAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.bind(SocketAddr::new(source, 0))?;
    socket.connect(address).await
}

/// Text of a server's, made fit for a log.
fn printable(text: &str) -> String {
    let clean = |c: char| if c.is_control() { '?' } else { c };
    text.chars().take(200).map(clean).collect()
}
