//! Where the certificates of a site come from.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::draft::{Certified, SiteDraft};
use crate::model::{Host, Internal};
use crate::read::Reader;
use crate::source::Span;
use crate::text;

/// Whom a site is for that takes any host: those who try it out on their own machine.
const HERE: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The one that we issue ourselves.
pub(crate) fn internal(
    reader: &mut Reader<'_>,
    site: &SiteDraft,
    all: &[Certified],
) -> Option<Internal> {
    let said = all.iter().find_map(|certified| match certified {
        Certified::Internal(span) => Some(*span),
        Certified::Files(_) | Certified::Auto(_) => None,
    })?;
    let mut names = Vec::new();
    for (host, span) in &site.hosts {
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
