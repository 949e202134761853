//! An authority that certifies clients, and revokes what it certified.

use crate::daemon::Daemon;
use crate::issuer::finish;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// An authority, and its files.
pub struct Certifier {
    directory: TempDir,
    name: String,
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The file with the certificate.
    pub certificate: String,
    /// The file with the key.
    pub key: String,
}

impl Certifier {
    /// Makes an authority with this name.
    ///
    /// # Panics
    /// If OpenSSL is not installed.
    #[must_use]
    pub fn make(name: &str) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let made = Self {
            directory,
            name: name.to_owned(),
        };
        let text = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={0}/index\ncrlnumber={0}/number\nserial={0}/serial\ndefault_md=sha256\n\
             default_crl_days=30\ncrl_extensions=crl\npolicy=p\nunique_subject=no\ncopy_extensions=copy\n\
             [p]\ncommonName=supplied\n[crl]\nauthorityKeyIdentifier=keyid:always\n",
            made.directory.path().display()
        );
        made.write("ca.conf", &text);
        made.write("index", "");
        made.write("number", "01");
        made.write("serial", "01");
        made.run(&["-subj", &format!("/CN={name}")], "ca", None);
        made
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.file(file), text).expect("the directory is writable");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }

    fn run(&self, rest: &[&str], out: &str, by: Option<(&Path, &Path)>) {
        let mut command = Command::new("openssl");
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30";
        command.args(new.split(' ')).args(rest);
        command.arg("-out").arg(self.file(&format!("{out}.pem")));
        command.arg("-keyout").arg(self.file(&format!("{out}.key")));
        if let Some((certificate, key)) = by {
            command.arg("-CA").arg(certificate).arg("-CAkey").arg(key);
        }
        finish(command, b"");
    }

    /// Returns the file with the certificate of the authority.
    #[must_use]
    pub fn trusted(&self) -> String {
        self.path("ca.pem")
    }

    /// Certifies a client; `names` are those besides its subject, as OpenSSL writes them.
    #[must_use]
    pub fn certify(&self, file: &str, subject: &str, names: &str) -> Shown {
        self.certify_by("ca", file, subject, names, "CA:FALSE")
    }

    /// Certifies a host whose certificate ends at this time, as `30000101000000Z`.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn certify_until(&self, file: &str, host: &str, end: &str) -> Shown {
        self.certify_by_request(file, host, end, &[])
    }

    /// Certifies a host with these extensions, as OpenSSL writes them. The certificate of the authority
    /// stands behind that of the host.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn certify_with(&self, file: &str, host: &str, extensions: &[&str]) -> Shown {
        let shown = self.certify_by_request(file, host, "20990101000000Z", extensions);
        let read = |path: &str| fs::read_to_string(path).expect("OpenSSL wrote it");
        let chain = read(&shown.certificate) + &read(&self.trusted());
        fs::write(&shown.certificate, chain).expect("the directory is writable");
        shown
    }

    fn certify_by_request(&self, file: &str, host: &str, end: &str, extensions: &[&str]) -> Shown {
        let shown = self.certify(file, "/CN=request", &format!("DNS:{host}"));
        let mut command = Command::new("openssl");
        command.args(["req", "-new", "-subj", &format!("/CN={host}")]);
        command.args(["-addext", &format!("subjectAltName=DNS:{host}")]);
        for extension in extensions {
            command.args(["-addext", extension]);
        }
        command.args(["-key", &shown.key, "-out", &self.path("request")]);
        finish(command, b"");
        let request = self.path("request");
        self.ca(&[
            "-batch",
            "-in",
            &request,
            "-out",
            &shown.certificate,
            "-startdate",
            "20200101000000Z",
            "-enddate",
            end,
            "-notext",
            "-outdir",
            &self.path(""),
        ]);
        shown
    }

    /// Certifies an authority below this one, and by it a client, whose file leads to this one.
    ///
    /// # Panics
    /// If a file cannot be written.
    #[must_use]
    pub fn certify_below(&self, file: &str, subject: &str) -> Shown {
        let below = format!("{file}-ca");
        let _ = self.certify_by("ca", &below, "/CN=below", "DNS:below", "CA:TRUE");
        let shown = self.certify_by(&below, file, subject, "DNS:client", "CA:FALSE");
        let read = |path| fs::read_to_string(path).expect("OpenSSL wrote it");
        let chain =
            read(self.file(&format!("{file}.pem"))) + &read(self.file(&format!("{below}.pem")));
        self.write(&format!("{file}-chain.pem"), &chain);
        Shown {
            certificate: self.path(&format!("{file}-chain.pem")),
            ..shown
        }
    }

    fn certify_by(&self, by: &str, file: &str, subject: &str, names: &str, ca: &str) -> Shown {
        let (names, ca) = (
            format!("subjectAltName={names}"),
            format!("basicConstraints=critical,{ca}"),
        );
        let by = (
            self.file(&format!("{by}.pem")),
            self.file(&format!("{by}.key")),
        );
        let rest = ["-subj", subject, "-addext", &names, "-addext", &ca];
        self.run(&rest, file, Some((&by.0, &by.1)));
        Shown {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        }
    }

    fn ca(&self, rest: &[&str]) {
        let mut command = Command::new("openssl");
        command.arg("ca").arg("-config").arg(self.file("ca.conf"));
        command.arg("-cert").arg(self.file("ca.pem"));
        command.arg("-keyfile").arg(self.file("ca.key")).args(rest);
        finish(command, b"");
    }

    /// Revokes a certificate of this authority.
    pub fn revoke(&self, shown: &Shown) {
        self.ca(&["-revoke", &shown.certificate]);
    }

    /// Writes what is revoked to `to`, in one step.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn list_revoked(&self, to: &Path) {
        let next = self.path("next");
        self.ca(&["-gencrl", "-out", &next]);
        put(&next, to);
    }

    /// Writes what a responder says of a certificate that [`Self::certify_until`] made, and that is good
    /// for so many days.
    pub fn respond(&self, shown: &Shown, days: &str, to: &Path) {
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-index", &self.path("index")]);
        command.args(["-CA", &self.trusted(), "-rsigner", &self.trusted()]);
        command.args(["-rkey", &self.path("ca.key"), "-issuer", &self.trusted()]);
        command.args(["-cert", &shown.certificate, "-ndays", days, "-noverify"]);
        command.arg("-respout").arg(to);
        finish(command, b"");
    }

    /// Writes what a responder would have said in the year 2020, for so many days from this one on.
    ///
    /// # Panics
    /// If what OpenSSL wrote is not as it was expected.
    pub fn respond_late(&self, shown: &Shown, days: &str, to: &Path) {
        self.respond(shown, days, to);
        let mut der = fs::read(to).expect("OpenSSL wrote it");
        let times = positions(&der, b"\x18\x0f20");
        for at in times {
            let year = der.get_mut(at + 2..at + 6).expect("a time is longer");
            year.copy_from_slice(b"2020");
        }
        // What is signed stands behind the type of the answer, and the length of two things around it.
        const BASIC: &[u8] = b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01";
        const ECDSA: &[u8] = b"\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02";
        let first = |what| *positions(&der, what).first().expect("it stands there");
        let (begin, end) = (first(BASIC) + BASIC.len() + 8, first(ECDSA));
        let signed = der.get(begin..end).expect("they stand in this order");
        let at = end + ECDSA.len() + 3;
        let length = usize::from(*der.get(at - 2).expect("it is signed")) - 1;
        // One of a few signatures is as long as the one before.
        let signature = (0..200).map(|_| self.sign(signed));
        let mut fitting = signature.filter(|signature| signature.len() == length);
        let signature = fitting.next().expect("a few have this length");
        let place = der.get_mut(at..at + length).expect("it is signed");
        place.copy_from_slice(&signature);
        fs::write(to, der).expect("the directory is writable");
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let mut command = Command::new("openssl");
        command.args(["dgst", "-sha256", "-sign", &self.path("ca.key")]);
        finish(command, text)
    }

    /// Starts a responder that says of certificates what is known of them now, for so many days; it signs by
    /// itself, or with a certificate of that name that lets it.
    ///
    /// # Panics
    /// If OpenSSL is not installed.
    #[must_use]
    pub fn responder(&self, port: u16, delegate: Option<&str>, days: &str) -> Daemon {
        let (certificate, key) = match delegate {
            Some(name) => {
                let may = ["extendedKeyUsage=OCSPSigning"];
                let shown = self.certify_with(name, name, &may);
                (shown.certificate, shown.key)
            }
            None => (self.trusted(), self.path("ca.key")),
        };
        let mut command = Command::new("openssl");
        command.args(["ocsp", "-port", &port.to_string(), "-ndays", days]);
        command.args(["-index", &self.path("index"), "-CA", &self.trusted()]);
        command.args(["-rsigner", &certificate, "-rkey", &key]);
        let mut daemon = Daemon::spawn("openssl", "install the Debian package openssl", command);
        daemon.wait_listening(&[port]);
        daemon
    }

    /// Returns the name of the authority as logs write it.
    #[must_use]
    pub fn subject(&self) -> String {
        format!("CN={}", self.name)
    }
}

/// Where `what` stands in `bytes`.
fn positions(bytes: &[u8], what: &[u8]) -> Vec<usize> {
    let windows = bytes.windows(what.len()).enumerate();
    windows
        .filter(|(_, window)| *window == what)
        .map(|(at, _)| at)
        .collect()
}

/// Puts a copy of a file in place of another one, in one step, for its owner alone.
///
/// # Panics
/// If it cannot be written.
pub fn put(from: impl AsRef<Path>, to: &Path) {
    let next = to.with_extension("next");
    fs::copy(from, &next).expect("both are files");
    let owner = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&next, owner).expect("it is ours");
    fs::rename(&next, to).expect("they stand in one directory");
}

impl Shown {
    /// Returns the options for curl to show it.
    #[must_use]
    pub fn curl(&self) -> [&str; 4] {
        ["--cert", &self.certificate, "--key", &self.key]
    }

    /// Returns the options for OpenSSL to show it.
    #[must_use]
    pub fn s_client(&self) -> String {
        format!("-cert {} -key {}", self.certificate, self.key)
    }
}
