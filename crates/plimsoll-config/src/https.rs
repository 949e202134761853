//! Clients that come to a site with TLS and do not know that yet: they are sent on from port 80.

use std::net::SocketAddr;

use crate::draft::{ActionDraft, RouteDraft, Settings, SiteDraft};
use crate::model::{self, Host, PathPattern, Piece, Template, Variable};
use crate::resolve;
use crate::source::Span;

/// The port of plain HTTP.
const PORT: u16 = 80;

/// The sites that send clients on: one for each site with TLS that does not say where it listens, for
/// those of its hosts that nobody answers for on port 80.
pub(crate) fn redirects(sites: &[SiteDraft], defaults: &Settings) -> Vec<SiteDraft> {
    let listens = |site: &SiteDraft, port| {
        let addresses: Vec<SocketAddr> = resolve::listen(site, defaults);
        addresses.iter().any(|address| address.port() == port)
    };
    let on_plain_port = || sites.iter().filter(|site| listens(site, PORT));
    // All sites of an address speak TLS, or none does.
    if on_plain_port().any(|site| !resolve::tls(site, defaults).is_empty()) {
        return Vec::new();
    }
    let claimed: Vec<&Host> = on_plain_port()
        .flat_map(|site| site.hosts.iter().map(|(host, _)| host))
        .collect();
    let is_asked = |site: &&SiteDraft| {
        let wish = site.settings.https_redirect.or(defaults.https_redirect);
        site.listen.is_empty() && !resolve::tls(site, defaults).is_empty() && wish != Some(false)
    };
    let asked = sites.iter().filter(is_asked);
    asked.filter_map(|site| redirect(site, &claimed)).collect()
}

fn redirect(site: &SiteDraft, claimed: &[&Host]) -> Option<SiteDraft> {
    let is_free = |host: &Host| !claimed.iter().any(|other| covers(other, host));
    let hosts = site.hosts.iter().filter(|(host, _)| is_free(host));
    let hosts: Vec<(Host, Span)> = hosts.cloned().collect();
    (!hosts.is_empty()).then(|| SiteDraft {
        name: site.name.clone(),
        hosts,
        listen: Vec::new(),
        settings: Settings {
            tls: Some(Vec::new()),
            client_certificate: Some(None),
            ..site.settings.clone()
        },
        steps: Vec::new(),
        step_spans: Vec::new(),
        step_pools: Vec::new(),
        max_requests: None,
        priority: None,
        monitor: None,
        routes: vec![route(site.span)],
        span: site.span,
    })
}

fn route(span: Span) -> RouteDraft {
    let to = Template {
        text: "https://${request.host}${request.uri}".into(),
        pieces: vec![
            Piece::Text("https://".into()),
            Piece::Variable(Variable::Host),
            Piece::Variable(Variable::Uri),
        ],
    };
    RouteDraft {
        path: PathPattern::Any,
        methods: Vec::new(),
        conditions: Vec::new(),
        buffer: None,
        response_buffer: None,
        compress: None,
        internal: None,
        cache: None,
        errors: Vec::new(),
        is_narrow: false,
        steps: Vec::new(),
        step_spans: Vec::new(),
        step_pools: Vec::new(),
        priority: None,
        action: Some((ActionDraft::Redirect { status: 308, to }, span)),
        span,
    }
}

/// Tells whether requests for a host go to a site with this other one, as long as no site has it.
fn covers(other: &Host, host: &Host) -> bool {
    match (other, host) {
        (Host::Any, _) => true,
        (other, host) if other == host => true,
        (Host::Suffix(suffix), Host::Exact(name) | Host::Suffix(name)) => name.ends_with(&**suffix),
        (Host::Expression(text), Host::Exact(name)) => {
            model::expression(text).is_ok_and(|found| found.is_match(name.as_bytes()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_covered_by_what_would_answer_for_it() {
        let exact = |name: &str| Host::Exact(name.into());
        let suffix = |name: &str| Host::Suffix(name.into());
        let expression = |text: &str| Host::Expression(text.into());
        for (other, host, covered) in [
            (Host::Any, exact("a.example"), true),
            (Host::Any, suffix(".example"), true),
            (exact("a.example"), exact("a.example"), true),
            (exact("b.example"), exact("a.example"), false),
            (exact("a.example"), Host::Any, false),
            (suffix(".example"), exact("a.example"), true),
            (suffix(".example"), exact("example"), false),
            (suffix(".example"), suffix(".a.example"), true),
            (suffix(".a.example"), suffix(".example"), false),
            (suffix(".example"), Host::Any, false),
            (expression("^a[.]"), exact("a.example"), true),
            (expression("^a[.]"), exact("b.example"), false),
            (expression("^a[.]"), expression("^a[.]"), true),
        ] {
            assert_eq!(covers(&other, &host), covered, "{other:?} {host:?}");
        }
    }
}
