//! `tls internal`: an issuer of our own, for development. It is made once, and its key never leaves this
//! machine; certificates of sites are good for days, and are kept in memory alone.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plimsoll_proxy::generation::Generation;
use plimsoll_proxy::material::Material;
use plimsoll_proxy::tls::certificate;
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::materials::{Secret, read_file};
use crate::private;

const DAY: u64 = 24 * 60 * 60;

/// How long the issuer's own certificate is good, in seconds.
const ROOT_LIFE: u64 = 10 * 365 * DAY;

/// With less than this left, another issuer is made.
const ROOT_SPARE: u64 = 30 * DAY;

/// How long a site's certificate is good, in seconds. It is renewed at half of that.
const LIFE: u64 = 7 * DAY;

/// Clocks of clients may be late by as much.
const SKEW: u64 = 60 * 60;

/// The files of the issuer.
const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root.key";

/// The issuer.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Until when its certificate is good, in seconds since 1970.
    until: u64,
}

/// A certificate of a site, and its key, in PEM.
struct Leaf {
    certificate: String,
    key: String,
}

/// Tells whether a certificate that is good until `end` is to be renewed at `now`: half of its life is
/// over, or the clock was set back so far that it is not good yet.
pub(crate) fn is_due(end: Option<u64>, now: u64) -> bool {
    let left = end.map(|end| end.saturating_sub(now));
    left.is_none_or(|left| left <= LIFE / 2 || left > LIFE + SKEW)
}

/// Issues what `material` is to hold at `now`.
///
/// # Errors
/// Why there is none, for people.
pub(crate) fn renew(material: &Material, now: u64) -> Result<(), String> {
    let Some(wanted) = &material.issued else {
        return Ok(());
    };
    let directory = Path::new(&*wanted.issuer);
    let authority = open(directory, now)
        .map_err(|problem| format!("the issuer in `{}`: {problem}", directory.display()))?;
    let leaf = authority.certify(&wanted.names, now);
    let leaf = leaf.map_err(|error| error.to_string())?;
    material.take(leaf.certificate.into(), Some(leaf.key.as_bytes()))
}

/// Says where the certificate is that clients have to trust.
pub(crate) fn announce(generation: &Generation) {
    let mut all = generation.materials.iter();
    if let Some(wanted) = all.find_map(|material| material.issued.as_ref()) {
        let root = Path::new(&*wanted.issuer).join(ROOT);
        let root = root.display();
        tracing::info!(
            "clients of sites with `tls internal` have to trust {root}: \
             `curl --cacert {root}`, or import it as an authority into the browser or the system"
        );
    }
}

/// The issuer in a directory, made now if there is none.
fn open(directory: &Path, now: u64) -> Result<Authority, String> {
    if !directory.exists() {
        make(directory, now)?;
    }
    let authority = read(directory)?;
    if authority.until.saturating_sub(now) > ROOT_SPARE {
        return Ok(authority);
    }
    let text = |error: io::Error| error.to_string();
    let old = directory.with_extension(format!("until-{}", authority.until));
    fs::rename(directory, old).map_err(text)?;
    make(directory, now)?;
    read(directory)
}

fn read(directory: &Path) -> Result<Authority, String> {
    let file = |name: &str, secret| {
        let path = directory.join(name);
        let read = read_file(&path.to_string_lossy(), secret);
        let (_, bytes) = read.map_err(|fault| format!("`{name}`: {fault}"))?;
        Ok::<_, String>(bytes)
    };
    let root = file(ROOT, Secret::No)?;
    let root = CertificateDer::from_pem_slice(&root);
    let root = root.map_err(|error| format!("`{ROOT}`: {error}"))?;
    let key = String::from_utf8(file(ROOT_KEY, Secret::Yes)?);
    let key = key.ok().and_then(|key| KeyPair::from_pem(&key).ok());
    let key = key.ok_or_else(|| format!("`{ROOT_KEY}` holds no private key that can be read"))?;
    let until = certificate::not_after(&root);
    Ok(Authority {
        until: until.ok_or_else(|| format!("`{ROOT}` holds no certificate that can be read"))?,
        issuer: Issuer::new(root_params(&key, 0), key),
    })
}

/// Makes an issuer. Its files come to be together, and another process that makes one at the same time
/// finds it made.
fn make(directory: &Path, now: u64) -> Result<(), String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let root = root_params(&key, now).self_signed(&key);
    let root = root.map_err(|error| error.to_string())?.pem();
    let made = put(directory, &root, &key.serialize_pem()).map_err(|error| error.to_string())?;
    if made {
        let directory = directory.display();
        tracing::info!(%directory, "an issuer for `tls internal` was made");
    }
    Ok(())
}

/// Writes the files of an issuer; tells whether there was none.
fn put(directory: &Path, root: &str, key: &str) -> io::Result<bool> {
    let parent = directory.parent().unwrap_or_else(|| Path::new("/"));
    private::directories().create(parent)?;
    let made: PathBuf = directory.with_extension(format!("new-{}", std::process::id()));
    // From a process with the same number, that ended half-way.
    let _absent = fs::remove_dir_all(&made);
    private::directories().recursive(false).create(&made)?;
    private::write_new(&made.join(ROOT_KEY), key)?;
    private::write_new(&made.join(ROOT), root)?;
    File::open(&made)?.sync_all()?;
    // A directory takes no place where one with files is.
    if let Err(error) = fs::rename(&made, directory) {
        fs::remove_dir_all(&made)?;
        return if directory.exists() {
            Ok(false)
        } else {
            Err(error)
        };
    }
    File::open(parent)?.sync_all()?;
    Ok(true)
}

/// What the issuer says of itself. Its name tells it from those of other machines.
fn root_params(key: &KeyPair, now: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let id = params.key_identifier(key);
    let id: String = id
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    params.distinguished_name = name(&format!("Plimsoll development issuer {id}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    during(&mut params, now, ROOT_LIFE);
    params
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Makes it good for `life` seconds after `now`.
fn during(params: &mut CertificateParams, now: u64, life: u64) {
    let at = |seconds| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(now.saturating_sub(SKEW));
    params.not_after = at(now.saturating_add(life));
}

impl Authority {
    /// Certifies `names`, from `now` on.
    fn certify(&self, names: &[Box<str>], now: u64) -> Result<Leaf, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name("Plimsoll development certificate");
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(Ia5String::try_from(&**name)?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        during(&mut params, now, LIFE);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Leaf {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    const NOW: u64 = 1_800_000_000;

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("state/plimsoll/internal");
        (outer, inner)
    }

    /// Who trusts the issuer in a directory.
    fn verifier(directory: &Path) -> Arc<WebPkiServerVerifier> {
        let root = CertificateDer::from_pem_file(directory.join(ROOT)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.build().unwrap()
    }

    fn der(leaf: &Leaf) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()
    }

    #[test]
    fn a_certificate_is_renewed_at_half_of_its_life_and_before_its_end() {
        let (_outer, directory) = directory();
        let authority = open(&directory, NOW).unwrap();
        let leaf = authority.certify(&["a.example".into()], NOW).unwrap();
        let end = certificate::not_after(&der(&leaf));
        assert_eq!(end, Some(NOW + LIFE));
        for (now, due) in [
            (NOW, false),
            (NOW + LIFE / 2 - 1, false),
            (NOW + LIFE / 2, true),
            (NOW + LIFE + 1, true),
            // Before it was made, as far as clients may be late.
            (NOW - SKEW, false),
            (NOW - SKEW - 1, true),
        ] {
            assert_eq!(is_due(end, now), due, "{now}");
        }
        assert!(is_due(None, NOW));
        let later = NOW + LIFE / 2;
        let next = authority.certify(&["a.example".into()], later).unwrap();
        assert_eq!(certificate::not_after(&der(&next)), Some(later + LIFE));
        assert_ne!(leaf.key, next.key);
    }

    #[test]
    fn certificates_are_for_their_names_and_their_time() {
        let (_outer, directory) = directory();
        let authority = open(&directory, NOW).unwrap();
        let names = ["a.example", "*.b.example", "127.0.0.1", "::1"].map(Box::from);
        let leaf = der(&authority.certify(&names, NOW).unwrap());
        let verifier = verifier(&directory);
        let holds = |name: &'static str, now: u64| {
            let name = ServerName::try_from(name).unwrap();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            verifier
                .verify_server_cert(&leaf, &[], &name, &[], now)
                .is_ok()
        };
        for (name, is_named) in [
            ("a.example", true),
            ("x.b.example", true),
            ("127.0.0.1", true),
            ("::1", true),
            ("x.a.example", false),
            ("b.example", false),
            ("127.0.0.2", false),
        ] {
            assert_eq!(holds(name, NOW), is_named, "{name}");
        }
        assert!(holds("a.example", NOW - SKEW) && holds("a.example", NOW + LIFE - 1));
        assert!(!holds("a.example", NOW - SKEW - 1) && !holds("a.example", NOW + LIFE + 1));
    }

    #[test]
    fn an_issuer_is_made_once_and_again_before_its_end() {
        let (_outer, directory) = directory();
        let root = || fs::read(directory.join(ROOT)).unwrap();
        open(&directory, NOW).unwrap();
        let first = root();
        open(&directory, NOW + ROOT_LIFE - ROOT_SPARE - 1).unwrap();
        assert_eq!(root(), first);
        // One that comes too late with its own leaves it alone.
        make(&directory, NOW).unwrap();
        assert_eq!(root(), first);
        open(&directory, NOW + ROOT_LIFE - ROOT_SPARE).unwrap();
        assert_ne!(root(), first);
        let parent = directory.parent().unwrap();
        let mut there: Vec<_> = fs::read_dir(parent)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        there.sort();
        let kept = format!("internal.until-{}", NOW + ROOT_LIFE);
        assert_eq!(there, ["internal", &*kept]);
    }

    #[test]
    fn nobody_else_can_read_the_key_and_a_broken_one_is_not_replaced() {
        let (_outer, directory) = directory();
        open(&directory, NOW).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        let key = directory.join(ROOT_KEY);
        assert_eq!(mode(&key), 0o600);
        let problem = || open(&directory, NOW).err().unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(problem().contains("everybody on the machine may use it"));
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&key, "nonsense").unwrap();
        assert_eq!(
            problem(),
            "`root.key` holds no private key that can be read"
        );
        fs::remove_file(&key).unwrap();
        assert!(problem().starts_with("`root.key`: No such file"));
    }
}
