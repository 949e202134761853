//! What issuers of tokens have: keys, tokens that they sign, and certificates for where the keys are.
//! OpenSSL makes all of it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// An RSA key, for RS256.
pub struct Key {
    id: String,
    directory: TempDir,
}

impl Key {
    /// Makes a key with this id.
    ///
    /// # Panics
    /// If OpenSSL is not installed.
    #[must_use]
    pub fn make(id: &str) -> Self {
        let key = Self {
            id: id.to_owned(),
            directory: tempfile::tempdir().expect("the temporary directory is writable"),
        };
        let bits = "rsa_keygen_bits:2048";
        let arguments = ["genpkey", "-algorithm", "RSA", "-pkeyopt", bits, "-out"];
        openssl(&arguments, &[&key.file()], b"");
        key
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }

    /// Returns a set with this key, for those who verify.
    #[must_use]
    pub fn set(&self) -> String {
        let modulus = openssl(&["rsa", "-noout", "-modulus", "-in"], &[&self.file()], b"");
        let modulus = String::from_utf8_lossy(&modulus);
        let digits = modulus.trim().trim_start_matches("Modulus=");
        let (id, modulus) = (&self.id, base64url(&unhex(digits)));
        format!(
            r#"{{"keys":[{{"kty":"RSA","kid":"{id}","use":"sig","n":"{modulus}","e":"AQAB"}}]}}"#
        )
    }

    /// Returns a token for Ada that ends in the year 2096.
    #[must_use]
    pub fn token(&self) -> String {
        let head = format!(r#"{{"alg":"RS256","kid":"{}"}}"#, self.id);
        let claims = r#"{"sub":"ada","exp":4000000000}"#;
        let signed = format!(
            "{}.{}",
            base64url(head.as_bytes()),
            base64url(claims.as_bytes())
        );
        let arguments = ["dgst", "-sha256", "-sign"];
        let signature = openssl(&arguments, &[&self.file()], signed.as_bytes());
        format!("{signed}.{}", base64url(&signature))
    }
}

/// An authority that certifies one host, and its files.
pub struct Authority(TempDir);

impl Authority {
    /// Makes an authority, and a certificate of it for these names, as `DNS:id.example`.
    ///
    /// # Panics
    /// If OpenSSL is not installed.
    #[must_use]
    pub fn make(names: &str) -> Self {
        Self::make_with(names, "ec -pkeyopt ec_paramgen_curve:P-256")
    }

    /// The same, with RSA keys.
    ///
    /// # Panics
    /// If OpenSSL is not installed.
    #[must_use]
    pub fn make_rsa(names: &str) -> Self {
        Self::make_with(names, "rsa:2048")
    }

    /// The same, with RSA keys that take whoever signs some milliseconds.
    ///
    /// # Panics
    /// If OpenSSL is not installed.
    #[must_use]
    pub fn make_slow(names: &str) -> Self {
        Self::make_with(names, "rsa:4096")
    }

    /// The same as [`Authority::make`]; the host's certificate has expired years ago.
    ///
    /// # Panics
    /// If OpenSSL is not installed.
    #[must_use]
    pub fn make_expired(names: &str) -> Self {
        let made = Self::make(names);
        let policy = "[ca]\ndefault_ca = d\n[d]\ndatabase = index\nnew_certs_dir = .\nrand_serial = yes\n\
                      default_md = sha256\npolicy = p\ncopy_extensions = copy\n[p]\ncommonName = supplied\n";
        fs::write(made.file("policy"), policy).expect("an own directory is writable");
        fs::write(made.file("index"), "").expect("an own directory is writable");
        let run = |arguments: &str| {
            let mut command = Command::new("openssl");
            command
                .current_dir(made.0.path())
                .args(arguments.split(' '));
            finish(command, b"");
        };
        // With all that its certificate says.
        run("x509 -x509toreq -copy_extensions copy -in host.pem -signkey host.key -out host.csr");
        run(
            "ca -batch -notext -config policy -cert ca.pem -keyfile ca.key -in host.csr -out host.pem \
             -startdate 20200101000000Z -enddate 20210101000000Z",
        );
        made
    }

    fn make_with(names: &str, key: &str) -> Self {
        let made = Self(tempfile::tempdir().expect("the temporary directory is writable"));
        let new = format!("req -x509 -newkey {key} -nodes -days 30");
        let new: Vec<&str> = new.split(' ').collect();
        let run = |rest: &[&str], out: (&str, &str), by: Option<(&Path, &Path)>| {
            let (certificate, key) = (made.file(out.0), made.file(out.1));
            let mut command = Command::new("openssl");
            command.args(&new).args(rest);
            command.arg("-out").arg(certificate).arg("-keyout").arg(key);
            if let Some((certificate, key)) = by {
                command.arg("-CA").arg(certificate).arg("-CAkey").arg(key);
            }
            finish(command, b"");
        };
        run(&["-subj", "/CN=authority"], ("ca.pem", "ca.key"), None);
        let names = format!("subjectAltName={names}");
        let end = "basicConstraints=critical,CA:FALSE";
        run(
            &["-subj", "/CN=issuer", "-addext", &names, "-addext", end],
            ("host.pem", "host.key"),
            Some((&made.file("ca.pem"), &made.file("ca.key"))),
        );
        made
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Returns the file with the certificate of the authority.
    #[must_use]
    pub fn trusted(&self) -> String {
        self.file("ca.pem").display().to_string()
    }

    /// Returns the file with the certificate of the host.
    #[must_use]
    pub fn certificate(&self) -> String {
        self.file("host.pem").display().to_string()
    }

    /// Returns the file with the key of the host.
    #[must_use]
    pub fn key(&self) -> String {
        self.file("host.key").display().to_string()
    }

    /// Returns directives for NGINX that show the host's certificate on `port`.
    #[must_use]
    pub fn listen(&self, port: u16) -> String {
        format!(
            "listen 127.0.0.1:{port} ssl; ssl_certificate {}; ssl_certificate_key {};\n",
            self.file("host.pem").display(),
            self.file("host.key").display()
        )
    }
}

fn openssl(arguments: &[&str], files: &[&Path], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).args(files);
    finish(command, input)
}

pub(crate) fn finish(mut command: Command, input: &[u8]) -> Vec<u8> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("install the Debian package openssl");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input).ok(); // what does not read it says so itself
    drop(stdin);
    let output = child.wait_with_output().expect("it was started");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl: {said}");
    output.stdout
}

/// Reads Base64 for URLs, without padding (RFC 4648 §5).
pub(crate) fn from_base64url(text: &str) -> Vec<u8> {
    let padding = "=".repeat((4 - text.len() % 4) % 4);
    let text = text.replace('-', "+").replace('_', "/") + &padding;
    openssl(&["base64", "-d", "-A"], &[], text.as_bytes())
}

/// Returns by what the issuer knows the first certificate of a file in PEM: the key of the issuer, and a
/// number (RFC 9773 §4.1).
///
/// # Panics
/// If OpenSSL cannot read it.
#[must_use]
pub fn identifier(file: &Path) -> String {
    let extension = "authorityKeyIdentifier";
    let said = openssl(
        &["x509", "-noout", "-serial", "-ext", extension, "-in"],
        &[file],
        b"",
    );
    let said = String::from_utf8_lossy(&said).replace(':', "");
    let lines = said.lines();
    let mut serial = unhex(
        lines
            .clone()
            .find_map(|line| line.strip_prefix("serial="))
            .unwrap_or_default(),
    );
    // A number that begins with a one would be negative.
    if serial.first().is_some_and(|byte| *byte > 127) {
        serial.insert(0, 0);
    }
    let issuer = unhex(lines.last().unwrap_or_default().trim());
    format!("{}.{}", base64url(&issuer), base64url(&serial))
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

/// Base64 for URLs, without padding (RFC 4648 §5).
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let at = |place: usize| u32::from(part.get(place).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..=part.len() {
            let six = bits >> (18 - 6 * digit) & 63;
            let six = DIGITS.get(six as usize).copied().unwrap_or_default();
            text.push(char::from(six));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in [
            (&b""[..], ""),
            (b"f", "Zg"),
            (b"fo", "Zm8"),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg"),
            (&[0xff, 0xef, 0xfe], "_-_-"),
        ] {
            assert_eq!(base64url(bytes), text);
            assert_eq!(from_base64url(text), bytes);
        }
    }

    #[test]
    fn a_key_has_a_set_and_signs_a_token() {
        let key = Key::make("one");
        assert!(key.set().contains(r#""kid":"one""#) && key.set().len() > 400);
        let token = key.token();
        assert_eq!(token.split('.').count(), 3);
        assert_eq!(token.rsplit('.').next().map(str::len), Some(342));
    }

    #[test]
    fn an_authority_certifies_a_host() {
        let authority = Authority::make("DNS:id.example,IP:127.0.0.1");
        let certificate = authority.file("host.pem");
        let trusted = authority.file("ca.pem");
        let text = openssl(
            &["x509", "-noout", "-ext", "subjectAltName", "-in"],
            &[&certificate],
            b"",
        );
        assert!(String::from_utf8_lossy(&text).contains("DNS:id.example"));
        openssl(&["verify", "-CAfile"], &[&trusted, &certificate], b"");
        assert!(fs::read_to_string(authority.trusted()).is_ok());
    }
}
