//! One GET over HTTP/1.1: how the control plane reads what stands on another machine. The other end is
//! not trusted: there is one deadline for all of it, and a bound to all that comes.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use http_body_util::{BodyExt, Empty, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use hyper::http::request::Builder;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use plimsoll_config::model::{Resolver, ServerAddress, Url};
use plimsoll_config::{LoadError, Loader};
use plimsoll_net::clock;
use plimsoll_proxy::server_tls::read_roots;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::discovery;
use crate::files::Files;

/// How long all of a fetch may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long an answer may be.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How much is told of a problem: it may quote the other end, which may say anything.
const PROBLEM_CHARS_MAX: usize = 300;

/// How long the head of an answer may be.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Asks where hosts are, and fetches from there.
#[derive(Clone)]
pub(crate) struct Fetcher {
    resolver: Result<TokioResolver, String>,
}

/// A connection, over TLS or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Fetcher {
    /// Asks those name servers that servers of pools are looked up with.
    pub(crate) fn new(settings: &Resolver) -> Self {
        let resolver = discovery::resolver(settings);
        Self {
            resolver: resolver.map_err(|error| format!("no name server is known: {error}")),
        }
    }

    /// What stands at `url`; its host must be certified by `ca`, or by one whom the system trusts.
    ///
    /// # Errors
    /// Why nothing came that could be used, for people.
    pub(crate) async fn get(&self, url: &Url, ca: Option<&str>) -> Result<Vec<u8>, String> {
        let accept = "application/jwk-set+json, application/json";
        let request = Request::get(&*url.target).header(ACCEPT, accept);
        self.fetch(url, ca, request, Empty::new()).await
    }

    /// What is answered to `body`, which is of this type, at `url`.
    ///
    /// # Errors
    /// Why nothing came that could be used, for people.
    pub(crate) async fn post(
        &self,
        url: &Url,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, String> {
        let request = Request::post(&*url.target).header(CONTENT_TYPE, kind);
        let body = Full::new(Bytes::from(body));
        self.fetch(url, None, request, body).await
    }

    /// The answer to a request for `url`, whatever its status. The caller limits the time.
    ///
    /// # Errors
    /// Why no whole answer came, for people.
    pub(crate) async fn ask<B>(
        &self,
        url: &Url,
        ca: Option<&str>,
        request: Request<B>,
    ) -> Result<Response<Bytes>, String>
    where
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let stream = self.open(url, ca).await?;
        send(stream, request).await
    }

    /// What is answered to a request that nothing else is asked on its connection.
    async fn fetch<B>(
        &self,
        url: &Url,
        ca: Option<&str>,
        request: Builder,
        body: B,
    ) -> Result<Vec<u8>, String>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let request = request
            .header(HOST, &*url.authority)
            .header(USER_AGENT, "plimsoll")
            .header(CONNECTION, "close")
            .body(body);
        let request = request.map_err(|error| chain(&error))?;
        let asked = tokio::time::timeout(DEADLINE, self.ask(url, ca, request)).await;
        let response = asked.map_err(|_| "it took longer than 10 seconds".to_owned())??;
        accept(&response)?;
        Ok(response.into_body().into())
    }

    async fn open(&self, url: &Url, ca: Option<&str>) -> Result<Box<dyn Stream>, String> {
        let end = clock::now() + DEADLINE;
        let tls = match url.is_tls {
            true => Some(Tls::new(url, ca).await?),
            false => None,
        };
        let addresses = self.addresses(&url.address).await?;
        connect(&addresses, tls.as_ref(), end).await
    }

    /// Where a host is.
    ///
    /// # Errors
    /// Why that is not known.
    pub(crate) async fn addresses(
        &self,
        address: &ServerAddress,
    ) -> Result<Vec<SocketAddr>, String> {
        match address {
            ServerAddress::Ip(ip, port) => Ok(vec![SocketAddr::from((*ip, *port))]),
            ServerAddress::Name(name, port) => {
                let resolver = self.resolver.as_ref().map_err(String::clone)?;
                let found = discovery::ask(resolver, name).await;
                let (ips, _) =
                    found.map_err(|error| format!("`{name}`: {}", discovery::why(&error)))?;
                Ok(ips
                    .into_iter()
                    .map(|ip| SocketAddr::from((ip, *port)))
                    .collect())
            }
        }
    }
}

/// Whom to trust, and who the other end has to be.
struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Reads the certificates to trust anew: they may have changed since the last fetch.
    async fn new(url: &Url, ca: Option<&str>) -> Result<Self, String> {
        let name = match &url.address {
            ServerAddress::Ip(ip, _) => ServerName::from(*ip),
            ServerAddress::Name(name, _) => ServerName::try_from(name.to_string())
                .map_err(|_| format!("no certificate can name `{name}`"))?,
        };
        let ca = ca.map(str::to_owned);
        let roots = tokio::task::spawn_blocking(move || match ca {
            Some(ca) => roots(&ca),
            None => system_roots(),
        });
        let roots = roots.await.map_err(|error| error.to_string())??;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        Ok(Self { connector, name })
    }
}

/// The certificates in a PEM file.
///
/// # Errors
/// Why they cannot be used, with the name of the file.
pub(crate) fn roots(path: &str) -> Result<RootCertStore, String> {
    let problem = |why: String| format!("cannot use `{path}`: {why}");
    // Opening a pipe would hold us up for ever.
    let metadata = fs::metadata(path).map_err(|error| problem(error.to_string()))?;
    if !metadata.is_file() {
        return Err(problem("it is not a file".to_owned()));
    }
    let bytes = Files.read(path).map_err(|error| match error {
        LoadError::Failed(why) => problem(why),
        LoadError::TooLarge => problem("the file is larger than 16 MiB".to_owned()),
    })?;
    read_roots(&bytes).map_err(problem)
}

/// Those whom the system trusts.
///
/// # Errors
/// It trusts nobody.
pub(crate) fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => {
            Err("the system trusts nobody: install ca-certificates, or use `ca=FILE`".to_owned())
        }
        false => Ok(roots),
    }
}

/// Connects to the first of `addresses` that can be connected to.
async fn connect(
    addresses: &[SocketAddr],
    tls: Option<&Tls>,
    end: Instant,
) -> Result<Box<dyn Stream>, String> {
    let mut problem = "its host has no address".to_owned();
    for (tried, &address) in addresses.iter().enumerate() {
        let share = share(
            end.saturating_duration_since(clock::now()),
            addresses.len() - tried,
        );
        let why = match tokio::time::timeout(share, connect_to(address, tls)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(why)) => why,
            Err(_) => "no connection in time".to_owned(),
        };
        problem = format!("{address}: {why}");
    }
    Err(problem)
}

/// How long one of so many addresses may take to connect to, so that each gets its turn and there is
/// time left for the answer.
fn share(left: Duration, addresses: usize) -> Duration {
    let shares = u32::try_from(addresses)
        .unwrap_or(u32::MAX)
        .saturating_add(1);
    left / shares
}

async fn connect_to(address: SocketAddr, tls: Option<&Tls>) -> Result<Box<dyn Stream>, String> {
    let stream = TcpStream::connect(address).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let Some(tls) = tls else {
        return Ok(Box::new(stream));
    };
    let secured = tls.connector.connect(tls.name.clone(), stream).await;
    Ok(Box::new(secured.map_err(|error| error.to_string())?))
}

/// Sends a request, and reads the answer to its end.
async fn send<B>(stream: Box<dyn Stream>, request: Request<B>) -> Result<Response<Bytes>, String>
where
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let broken = |error: hyper::Error| chain(&error);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    // It ends with this exchange, however that ends.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let response = sender.send_request(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => {
            Err("the answer is larger than 1 MiB".to_owned())
        }
        Err(error) => Err(chain(&*error)),
    }
}

/// Takes no answer but a plain 200.
fn accept(response: &Response<Bytes>) -> Result<(), String> {
    let status = response.status();
    let place = response
        .headers()
        .get(LOCATION)
        .and_then(|place| place.to_str().ok());
    match place {
        _ if status == 200 => Ok(()),
        Some(place) if status.is_redirection() => Err(format!(
            "the answer is {}, and redirects are not followed: it leads to `{place}`",
            status.as_str()
        )),
        _ => Err(format!("the answer has status {}", status.as_str())),
    }
}

/// How long to wait after so many attempts in a row have failed: twice as long as before each time, and
/// at most so long.
pub(crate) fn pause(failures: u32, (first, most): (Duration, Duration), random: u64) -> Duration {
    let doubled = first * (1 << failures.saturating_sub(1).min(16));
    sooner(doubled.min(most), 2, random)
}

/// A pause that is shorter by up to one `part`th, so that many nodes do not ask at the same time.
pub(crate) fn sooner(pause: Duration, part: u32, random: u64) -> Duration {
    let thousandths = u32::try_from(random % 1001).unwrap_or_default();
    pause - pause / part * thousandths / 1000
}

/// A problem as it is told.
pub(crate) fn bounded(problem: String) -> String {
    problem.chars().take(PROBLEM_CHARS_MAX).collect()
}

/// What went wrong, and what that came from.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_gets_its_turn_and_the_answer_its_time() {
        let seconds = Duration::from_secs;
        assert_eq!(share(seconds(10), 1), seconds(5));
        // Each takes all of its time.
        let mut left = seconds(10);
        for addresses in (1..=4).rev() {
            left -= share(left, addresses);
        }
        assert_eq!(left, seconds(2));
        assert_eq!(share(Duration::ZERO, 3), Duration::ZERO);
        assert!(share(seconds(10), usize::MAX) < Duration::from_millis(1));
    }

    #[test]
    fn a_problem_is_told_in_a_line_that_ends() {
        assert_eq!(bounded("no keys".to_owned()), "no keys");
        assert_eq!(bounded("\u{e4}".repeat(1_000_000)).chars().count(), 300);
    }

    #[test]
    fn any_random_number_makes_a_pause_that_is_a_little_shorter() {
        let seconds = Duration::from_secs;
        for random in [0, 1, 999, 1000, 1001, u64::MAX] {
            let pause = sooner(seconds(100), 10, random);
            assert!((seconds(90)..=seconds(100)).contains(&pause), "{random}");
        }
        assert_eq!(pause(u32::MAX, (seconds(1), seconds(60)), 0), seconds(60));
    }

    #[test]
    fn certificates_to_trust_are_there_or_the_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let why = |content: Option<&str>| {
            match content {
                Some(content) => fs::write(&path, content).unwrap(),
                None => fs::create_dir(&path).unwrap(),
            }
            roots(&path.display().to_string()).unwrap_err()
        };
        let begin = format!("cannot use `{}`: ", path.display());
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in [
            "",
            "no certificate",
            broken,
            "-----BEGIN CERTIFICATE-----\n",
        ] {
            assert!(why(Some(content)).starts_with(&begin), "{content}");
        }
        assert_eq!(why(Some("")), format!("{begin}no certificate stands in it"));
        fs::remove_file(&path).unwrap();
        assert_eq!(why(None), format!("{begin}it is not a file"));
        assert!(
            roots("/nowhere/ca.pem")
                .unwrap_err()
                .contains("No such file")
        );
    }
}
