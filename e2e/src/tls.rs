//! Clients with TLS: curl, OpenSSL and, for what programs do not do, the library.

use crate::issuer::Authority;
use crate::plimsoll::Plimsoll;
use crate::raw::PATIENCE;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Returns the directive that shows the certificate of this authority's host.
#[must_use]
pub fn pair(authority: &Authority) -> String {
    format!("tls {} {}", authority.certificate(), authority.key())
}

/// A client of the library.
pub type Session = StreamOwned<ClientConnection, TcpStream>;

/// Returns the beginning of a client that trusts this authority, and asks for `a.example`.
///
/// # Panics
/// If it does not fit.
#[must_use]
pub fn beginning(own: &Authority) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    let trusted = CertificateDer::from_pem_file(own.trusted()).expect("it is a certificate");
    roots.add(trusted).expect("it is one of an issuer");
    let config = ClientConfig::builder().with_root_certificates(roots);
    let config = Arc::new(config.with_no_client_auth());
    let name = "a.example".try_into().expect("it is a name");
    ClientConnection::new(config, name).expect("it fits")
}

/// Returns such a client that is connected; the handshake comes with the first bytes.
///
/// # Panics
/// If nobody listens there.
#[must_use]
pub fn session(own: &Authority, address: SocketAddr) -> Session {
    let stream = TcpStream::connect(address).expect("somebody listens");
    let patience = Some(PATIENCE);
    stream.set_read_timeout(patience).expect("it is a duration");
    StreamOwned::new(beginning(own), stream)
}

/// Returns what curl gets, with the status behind it; nothing when it fails.
///
/// # Panics
/// If curl is not installed.
#[must_use]
pub fn curl(
    plimsoll: &Plimsoll,
    authority: &Authority,
    url: &str,
    more: &[&str],
) -> Option<String> {
    let to = format!("::127.0.0.1:{}", plimsoll.address().port());
    let mut command = Command::new("curl");
    command.args(["-sS", "--noproxy", "*", "--max-time", "30"]);
    command.args(["-w", " %{http_code}", "--connect-to", &to]);
    command.args(["--cacert", &authority.trusted()]);
    let output = command.args(more).arg(url).output();
    let output = output.expect("install the Debian package curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let _ = writeln!(std::io::stderr(), "curl: {said}"); // for who reads why a test failed
    }
    output.status.success().then_some(text)
}

/// Returns all that OpenSSL's client says, and what it was answered, when it sends `input`.
///
/// # Panics
/// If OpenSSL is not installed.
#[must_use]
pub fn s_client(plimsoll: &Plimsoll, options: &str, input: &str) -> String {
    s_client_at(plimsoll.address(), options, input)
}

/// The same, at another address.
///
/// # Panics
/// If OpenSSL is not installed.
#[must_use]
pub fn s_client_at(address: SocketAddr, options: &str, input: &str) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string()]);
    command.args(options.split(' ').filter(|option| !option.is_empty()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let child = command.stderr(Stdio::piped()).spawn();
    let mut child = child.expect("install the Debian package openssl");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may have left already, when it was refused.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it was started");
    let all = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}
