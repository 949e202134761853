//! Entry points for the fuzzers: the laws of this crate, on any bytes.

use base64::prelude::{BASE64_STANDARD, Engine};
use plimsoll_config::model::Pass;
use rustls::pki_types::CertificateDer;

use crate::server_tls;
use crate::tls::certificate::{self, Certificate};
use crate::tls::{self, clients, staple};

/// An issuer, without which nobody looks at what was revoked.
const ISSUER: &str = "-----BEGIN CERTIFICATE-----\n\
MIIBLDCB36ADAgECAhR0t6gyHzlzV6IbTp/pE7O33YIz5DAFBgMrZXAwDDEKMAgG\n\
A1UEAwwBYTAeFw0yNjExMjgwMDEyMzhaFw0zNjExMjUwMDEyMzhaMAwxCjAIBgNV\n\
BAMMAWEwKjAFBgMrZXADIQB2joo+FcfZZMbqviwuOEnlLw2AoRqpcG+qjjbbL2W6\n\
fqNTMFEwHQYDVR0OBBYEFFKOnizmBf5M/1iOS0Tv+G2o0CfpMB8GA1UdIwQYMBaA\n\
FFKOnizmBf5M/1iOS0Tv+G2o0CfpMA8GA1UdEwEB/wQFMAMBAf8wBQYDK2VwA0EA\n\
W3k3mzu7l80R1Te1UIO3zq2LFj8RyYpuoOoonepRXPmEOTYPu/kFPEqJHz3QtBJA\n\
lBtBgygl0gJfz/h8pnFfAA==\n\
-----END CERTIFICATE-----\n";

/// Whatever stands in the files that TLS is served with, it is taken or refused: as it is, and as what
/// the lines of PEM enclose.
pub fn fuzz_tls_files(bytes: &[u8]) {
    take_pair(bytes);
    take_issuers(bytes);
    let certificate = pem("CERTIFICATE", bytes);
    take_issuers(certificate.as_bytes());
    for kind in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
        take_pair((certificate.clone() + &pem(kind, bytes)).as_bytes());
    }
    for revoked in [bytes, pem("X509 CRL", bytes).as_bytes()] {
        let _read = clients::read(ISSUER.as_bytes(), Some(revoked)); // or it is no list
    }
    take_certificate(&CertificateDer::from(bytes));
    let _read = staple::read(bytes.to_vec()); // or it is no answer
}

fn take_pair(pem: &[u8]) {
    if let Ok(pair) = tls::read(pem) {
        assert!(!pair.cert.is_empty(), "a key comes with its certificate");
    }
}

fn take_issuers(pem: &[u8]) {
    if let Ok(roots) = server_tls::read_roots(pem) {
        assert!(!roots.is_empty(), "who trusts nobody says so");
    }
}

fn take_certificate(shown: &CertificateDer<'_>) {
    let until = certificate::not_after(shown);
    let chain = [shown.clone(), shown.clone()];
    if let Some(read) = Certificate::read(&chain, Pass::Chain) {
        assert_eq!(Some(read.not_after), until, "it ends once");
        let lines = read.lines.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, chain.len(), "no line has become two");
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the fuzzers begin with.
    #[test]
    fn the_laws_hold_for_what_is_in_use() {
        assert!(server_tls::read_roots(ISSUER.as_bytes()).is_ok());
        for bytes in [&b""[..], ISSUER.as_bytes(), &[0x30, 0x80], &[0xff; 64]] {
            fuzz_tls_files(bytes);
        }
    }
}
