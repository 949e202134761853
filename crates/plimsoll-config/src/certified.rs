//! Where the certificates of sites and services come from.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::{Certified, RelayDraft, Settings, SiteDraft};
use crate::model::{Host, Internal};
use crate::read::Reader;
use crate::resolve;
use crate::source::Span;
use crate::text;

/// Whom a site is for that takes any host, and a service that names none: those who try it out on their own machine.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// What somebody wants certificates for, and from where.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) hosts: &'a [(Host, Span)],
    pub(crate) from: &'a [Certified],
    /// Where the site or service is written.
    pub(crate) span: Span,
}

impl<'a> Wanted<'a> {
    /// What a site wants.
    pub(crate) fn by_site(site: &'a SiteDraft, defaults: &'a Settings) -> Self {
        Self {
            hosts: &site.hosts,
            from: resolve::tls(site, defaults),
            span: site.span,
        }
    }

    /// What a service wants. What `defaults` says is for sites.
    pub(crate) fn by_service(service: &'a RelayDraft) -> Self {
        Self {
            hosts: &service.hosts,
            from: service.settings.tls.as_deref().unwrap_or_default(),
            span: service.span,
        }
    }

    /// Where it is said that an issuer is asked.
    pub(crate) fn auto(&self) -> Option<Span> {
        self.from.iter().find_map(|certified| match certified {
            Certified::Auto(span) => Some(*span),
            Certified::Files(_) | Certified::Internal(_) => None,
        })
    }
}

/// The one that we issue ourselves.
pub(crate) fn internal(reader: &mut Reader<'_>, wanted: Wanted<'_>) -> Option<Internal> {
    let said = wanted.from.iter().find_map(|certified| match certified {
        Certified::Internal(span) => Some(*span),
        Certified::Files(_) | Certified::Auto(_) => None,
    })?;
    let mut names = Vec::new();
    if wanted.hosts.is_empty() {
        names.extend(HERE.map(Box::from));
    }
    for (host, span) in wanted.hosts {
        match host {
            Host::Any => names.extend(HERE.map(Box::from)),
            Host::Exact(name) => names.push(address(name).into()),
            Host::Suffix(_) => names.push(text::host(host).into()),
            Host::Expression(_) => refuse(reader, host, *span, said),
        }
    }
    names.sort_unstable();
    names.dedup();
    let state = reader.loader.state_directory();
    Some(Internal {
        names,
        issuer: format!("{state}/internal").into(),
    })
}

/// A host without what stands around addresses of version 6.
fn address(host: &str) -> &str {
    let inner = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.unwrap_or(host)
}

fn refuse(reader: &mut Reader<'_>, host: &Host, span: Span, said: Span) {
    let message = format!("`{}` says no names for a certificate", text::host(host));
    let problem = Diagnostic::new(&codes::UNCERTIFIABLE, span, message);
    let problem = problem.related(said, "it is asked for here");
    reader.problem(problem.help("write the hosts, like `site a.localhost b.localhost`"));
}
