//! What is read of certificates: who they are for, and until when.

use std::fmt::Write;
use std::net::IpAddr;

use base64::prelude::{BASE64_STANDARD, Engine};
use plimsoll_config::model::{CertificatePart, Pass};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_cert::certificate::{CertificateInner, Rfc5280};
use x509_cert::der::asn1::Ia5String;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// The certificate that a client has shown, and that was verified.
#[derive(Debug, Default)]
pub struct Certificate {
    subject: String,
    /// The first common name in it, as it stands there.
    pub(crate) common_name: Option<Vec<u8>>,
    issuer: String,
    /// `DNS:a.example` and the like.
    names: Vec<String>,
    /// The same with commas between.
    san: String,
    serial: String,
    fingerprint: String,
    /// Until when it is good, in seconds since 1970.
    pub(crate) not_after: u64,
    /// What servers are told of it: whole lines.
    pub(crate) lines: Vec<u8>,
}

impl Certificate {
    /// Reads the first of these, which lead to its issuer. A name that holds what no name does, and that
    /// could be read as another one, makes it unreadable.
    pub(crate) fn read(chain: &[CertificateDer<'_>], pass: Pass) -> Option<Self> {
        let (first, rest) = chain.split_first()?;
        let read = CertificateInner::<Rfc5280>::from_der(first).ok()?;
        let tbs = &read.tbs_certificate;
        let names = names(&tbs.get::<SubjectAltName>().ok()?)?;
        let escaped = names.iter().map(|name| name.replace(',', "%2C"));
        let mut lines = Vec::new();
        if pass != Pass::Off {
            write_line("Client-Cert", std::slice::from_ref(first), &mut lines);
        }
        if pass == Pass::Chain && !rest.is_empty() {
            write_line("Client-Cert-Chain", rest, &mut lines);
        }
        Some(Self {
            subject: name(&tbs.subject)?,
            common_name: common_name(&tbs.subject),
            issuer: name(&tbs.issuer)?,
            san: escaped.collect::<Vec<_>>().join(","),
            names,
            serial: hex(tbs.serial_number.as_bytes()),
            fingerprint: hex(&Sha256::digest(first)),
            not_after: tbs.validity.not_after.to_unix_duration().as_secs(),
            lines,
        })
    }

    /// A part of it as one text.
    pub(crate) fn text(&self, part: CertificatePart) -> &str {
        match part {
            CertificatePart::Verified => "yes",
            CertificatePart::Subject => &self.subject,
            CertificatePart::Issuer => &self.issuer,
            CertificatePart::Names => &self.san,
            CertificatePart::Serial => &self.serial,
            CertificatePart::Fingerprint => &self.fingerprint,
        }
    }

    /// A part of it, each name for itself.
    pub(crate) fn values(&self, part: CertificatePart) -> impl Iterator<Item = &str> {
        let is_names = part == CertificatePart::Names;
        let names = self.names.iter().filter(move |_| is_names);
        let one = (!is_names).then(|| self.text(part));
        names.map(String::as_str).chain(one)
    }
}

/// Until when a certificate is good, in seconds since 1970.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<u64> {
    let read = CertificateInner::<Rfc5280>::from_der(certificate).ok()?;
    Some(
        read.tbs_certificate
            .validity
            .not_after
            .to_unix_duration()
            .as_secs(),
    )
}

/// The number of a certificate.
pub(crate) fn serial(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let read = CertificateInner::<Rfc5280>::from_der(certificate).ok()?;
    Some(read.tbs_certificate.serial_number.as_bytes().to_vec())
}

/// RFC 9440 §2: certificates as byte sequences of structured fields.
fn write_line(name: &str, certificates: &[CertificateDer<'_>], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    for (at, certificate) in certificates.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        out.push(b':');
        out.extend_from_slice(BASE64_STANDARD.encode(certificate).as_bytes());
        out.push(b':');
    }
    out.extend_from_slice(b"\r\n");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // a text takes all
        text
    })
}

/// A distinguished name as RFC 4514 writes it.
fn name(name: &Name) -> Option<String> {
    let mut values = name.0.iter().flat_map(|rdn| rdn.0.iter());
    let is_text = |tag| {
        matches!(
            tag,
            Tag::PrintableString | Tag::Utf8String | Tag::Ia5String | Tag::TeletexString
        )
    };
    let is_false = values.any(|value| {
        let value = &value.value;
        is_text(value.tag()) && value.value().iter().any(u8::is_ascii_control)
    });
    (!is_false).then(|| name.to_string())
}

fn common_name(name: &Name) -> Option<Vec<u8>> {
    let mut values = name.0.iter().flat_map(|rdn| rdn.0.iter());
    let value = values.find(|value| value.oid == COMMON_NAME)?;
    Some(value.value.value().to_vec())
}

fn names(extension: &Option<(bool, SubjectAltName)>) -> Option<Vec<String>> {
    let all = extension.iter().flat_map(|(_, names)| &names.0);
    let text = |kind, text: &Ia5String| {
        let text = text.as_str();
        (!text.bytes().any(|byte| byte.is_ascii_control())).then(|| format!("{kind}:{text}"))
    };
    let mut names = Vec::new();
    for name in all {
        names.push(match name {
            GeneralName::DnsName(name) => text("DNS", name)?,
            GeneralName::Rfc822Name(name) => text("email", name)?,
            GeneralName::UniformResourceIdentifier(name) => text("URI", name)?,
            GeneralName::IpAddress(bytes) => format!("IP:{}", address(bytes.as_bytes())?),
            _ => continue,
        });
    }
    Some(names)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4.or(v6).ok()
}
