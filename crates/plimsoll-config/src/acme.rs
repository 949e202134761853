//! Which certificates are asked for: the names of sites and services with `tls auto`, and what is wrong with them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::certified::Wanted;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directives::acme::lets_encrypt;
use crate::draft::{Certified, Draft, RelayDraft, Settings, SiteDraft};
use crate::model::{Acme, Challenge, Host, KeyPair, Staple};
use crate::read::Reader;
use crate::resolve;
use crate::source::Span;
use crate::text;

/// How many names an issuer puts into one certificate.
const NAMES_MAX: usize = 100;

/// How certificates are asked for; nothing where that is not said and no site needs it.
pub(crate) fn settings(
    reader: &mut Reader<'_>,
    draft: &mut Draft,
    redirects: &[SiteDraft],
    defaults: &Settings,
) -> Option<Acme> {
    let mut all = wanted(&draft.sites, &draft.tcp, defaults);
    let asked = all.find_map(|wanted| wanted.auto());
    drop(all);
    let said = draft.acme.take().map(|(said, _)| said);
    let is_said = said.is_some() || !draft.issuers.is_empty() || !draft.dns_updates.is_empty();
    if asked.is_none() && !is_said {
        return None;
    }
    let said = said.unwrap_or_default();
    let issuers = std::mem::take(&mut draft.issuers).into_iter();
    let mut issuers: Vec<_> = issuers.map(|(issuer, _)| issuer).collect();
    if issuers.is_empty() {
        issuers.extend(lets_encrypt());
    }
    let updates = std::mem::take(&mut draft.dns_updates).into_iter();
    let acme = Acme {
        email: said.email,
        storage: said
            .storage
            .unwrap_or_else(|| reader.loader.state_directory().into()),
        challenge: said.challenge.unwrap_or_default(),
        retry: said.retry.unwrap_or(Acme::RETRY),
        issuers,
        dns_updates: updates.map(|(update, _)| update).collect(),
    };
    if let Some(span) = asked {
        let mut sites = draft.sites.iter().chain(redirects);
        let is_plain = sites.any(|site| resolve::tls(site, defaults).is_empty());
        check_way(reader, &acme, is_plain, span);
    }
    Some(acme)
}

/// All that certificates are wanted for.
fn wanted<'a>(
    sites: &'a [SiteDraft],
    services: &'a [RelayDraft],
    defaults: &'a Settings,
) -> impl Iterator<Item = Wanted<'a>> {
    let of_sites = sites.iter().map(|site| Wanted::by_site(site, defaults));
    of_sites.chain(services.iter().map(Wanted::by_service))
}

/// Finds challenges that nobody could answer.
fn check_way(reader: &mut Reader<'_>, acme: &Acme, is_plain: bool, span: Span) {
    if acme.challenge == Challenge::Dns && acme.dns_updates.is_empty() {
        let message = "nothing says who takes the records for `challenge=dns-01`";
        let problem = Diagnostic::new(&codes::NO_DNS_UPDATE, span, message);
        let help = "write `dns-update 10.0.0.2 zone=example.com key=FILE` at the top level";
        reader.problem(problem.help(help));
    }
    if acme.challenge == Challenge::Http && !is_plain {
        let message = "no site listens without TLS, so nobody answers `challenge=http-01`";
        let problem = Diagnostic::new(&codes::NO_PLAIN_LISTENER, span, message);
        let help = "add a site that listens on `:80`, or write `acme challenge=tls-alpn-01`";
        reader.problem(problem.help(help));
    }
}

/// The names that certificates are for, by the first host of their sites: sites with the same first
/// host have one certificate, for all that any of them answers for.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeMap<Box<str>, Vec<Box<str>>>);

impl Names {
    /// Gathers them, and finds hosts that nobody certifies.
    pub(crate) fn gather(
        reader: &mut Reader<'_>,
        (sites, services): (&[SiteDraft], &[RelayDraft]),
        defaults: &Settings,
        acme: Option<&Acme>,
    ) -> Self {
        let mut all = Self::default();
        let Some(acme) = acme else { return all };
        for wanted in wanted(sites, services, defaults) {
            let Some(span) = wanted.auto() else {
                continue;
            };
            let hosts = wanted.hosts.iter();
            let names = hosts.filter_map(|host| certifiable(reader, host, span, acme));
            let names: Vec<Box<str>> = names.collect();
            let Some(first) = names.first() else { continue };
            let known = all.0.entry(first.clone()).or_default();
            known.extend(names);
            known.sort_unstable();
            known.dedup();
            if known.len() > NAMES_MAX {
                let message = format!("the site has more than {NAMES_MAX} hosts");
                let problem = Diagnostic::new(&codes::TOO_MANY_NAMES, wanted.span, message);
                reader.problem(problem.help("write two sites; `snippet` holds what they share"));
            }
        }
        all
    }

    /// The certificates of a site or service.
    pub(crate) fn pairs(&self, wanted: Wanted<'_>, acme: Option<&Acme>) -> Vec<KeyPair> {
        let mut pairs = Vec::new();
        for certified in wanted.from {
            match certified {
                Certified::Files(pair) => pairs.push(pair.clone()),
                Certified::Auto(_) => pairs.extend(self.pair(wanted, acme)),
                Certified::Internal(_) => {}
            }
        }
        pairs.dedup();
        pairs
    }

    fn pair(&self, wanted: Wanted<'_>, acme: Option<&Acme>) -> Option<KeyPair> {
        let (host, _) = wanted.hosts.first()?;
        let first: Box<str> = text::host(host).into();
        let names = self.0.get(&first)?.clone();
        // No file has a star in its name that has to be quoted.
        let file = first.replace('*', "_");
        let path: Box<str> = format!("{}/certificates/{file}.pem", acme?.storage).into();
        Some(KeyPair {
            certificate: path.clone(),
            key: path,
            staple: Staple::Responder,
            names,
        })
    }
}

/// The name of a host that an issuer can certify; nothing when that is a problem.
fn certifiable(
    reader: &mut Reader<'_>,
    (host, span): &(Host, Span),
    auto: Span,
    acme: &Acme,
) -> Option<Box<str>> {
    let name: Box<str> = text::host(host).into();
    let problem = match host {
        Host::Exact(name) if name.starts_with('[') || name.parse::<Ipv4Addr>().is_ok() => {
            let message = format!("`{name}` is an address, and certificates are asked for by name");
            Diagnostic::new(&codes::NOT_CERTIFIABLE, *span, message)
                .help("write a certificate with files for this site, or give it a name")
        }
        Host::Exact(_) | Host::Suffix(_) if !has_zone(&name, acme) => {
            let message = format!("no `dns-update` is for a zone with `{name}`");
            Diagnostic::new(&codes::NO_DNS_UPDATE, *span, message)
                .help("write one for its zone, or one without `zone`, whose server is asked")
        }
        Host::Exact(_) => return Some(name),
        Host::Suffix(_) if acme.challenge == Challenge::Dns => return Some(name),
        Host::Suffix(_) => {
            let message = format!("`{name}` is certified only with `challenge=dns-01`");
            Diagnostic::new(&codes::WILDCARD, *span, message)
                .help("write each host, or `acme challenge=dns-01` with `dns-update`")
        }
        Host::Any | Host::Expression(_) => {
            let message = format!("`{name}` says no names that could be certified");
            Diagnostic::new(&codes::NOT_CERTIFIABLE, *span, message)
                .help("write the hosts of the site, like `site example.com www.example.com`")
        }
    };
    reader.problem(problem.related(auto, "an issuer is asked here"));
    None
}

/// Tells whether somebody may take the record of a name, if there is to be one.
fn has_zone(name: &str, acme: &Acme) -> bool {
    let mut zones = acme.dns_updates.iter().map(|update| update.zone.as_deref());
    let is_in = |zone: &str| {
        let above = name.strip_suffix(zone);
        above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
    };
    // That there is none at all is told once.
    acme.challenge != Challenge::Dns
        || acme.dns_updates.is_empty()
        || zones.any(|zone| zone.is_none_or(is_in))
}
