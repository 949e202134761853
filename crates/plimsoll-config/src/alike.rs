//! What sites on one address have to say alike: it holds before anybody knows which of them is meant.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::codes::{self, Code};
use crate::diagnostic::Diagnostic;
use crate::draft::{Settings, SiteDraft};
use crate::model::Host;
use crate::read::Reader;
use crate::resolve::{accepts, listen, socket, tls};
use crate::source::Span;
use crate::text;

/// Refuses addresses on which sites contradict each other.
pub(crate) fn check(reader: &mut Reader<'_>, sites: &[SiteDraft], defaults: &Settings) {
    check_hosts(reader, sites, defaults);
    let problem = Problem {
        code: &codes::TLS_MIXED,
        message: "one site speaks TLS and another does not",
        help: "give both certificates with `tls`, or have one `listen` elsewhere",
    };
    let speaks_tls = |site| !tls(site, defaults).is_empty();
    check_each(reader, sites, defaults, speaks_tls, &problem);
    let problem = Problem {
        code: &codes::PROXY_MIXED,
        message: "two sites accept the PROXY protocol differently",
        help: "say the same `proxy-protocol` in both, or in `defaults`",
    };
    let accepts = |site| accepts(site, defaults);
    check_each(reader, sites, defaults, accepts, &problem);
    let problem = Problem {
        code: &codes::SOCKET_MIXED,
        message: "two sites treat connections differently",
        help: "say the same `socket` in both, or in `defaults`",
    };
    let socket = |site: &SiteDraft| socket(&site.settings, defaults);
    check_each(reader, sites, defaults, socket, &problem);
}

/// What is said where two sites differ.
struct Problem {
    code: &'static Code,
    message: &'static str,
    help: &'static str,
}

/// Refuses an address on which `of` two sites differs.
fn check_each<'a, T: PartialEq + Copy>(
    reader: &mut Reader<'_>,
    sites: &'a [SiteDraft],
    defaults: &Settings,
    of: impl Fn(&'a SiteDraft) -> T,
    problem: &Problem,
) {
    let mut seen: BTreeMap<SocketAddr, (T, Span)> = BTreeMap::new();
    for site in sites {
        let own = of(site);
        for address in listen(site, defaults) {
            let (first, span) = *seen.entry(address).or_insert((own, site.span));
            if first != own {
                let message = format!("on {address} {}", problem.message);
                let told = Diagnostic::new(problem.code, site.span, message);
                reader.problem(told.related(span, "the other site").help(problem.help));
            }
        }
    }
}

/// Refuses a host that two sites of one listener answer for. Nearly every host is written once,
/// and then it does not matter where its site listens.
fn check_hosts(reader: &mut Reader<'_>, sites: &[SiteDraft], defaults: &Settings) {
    let mut hosts: BTreeMap<&Host, Vec<(&SiteDraft, Span)>> = BTreeMap::new();
    for site in sites {
        for (host, span) in &site.hosts {
            hosts.entry(host).or_default().push((site, *span));
        }
    }
    for (host, places) in hosts.iter().filter(|(_, places)| places.len() > 1) {
        let name = text::host(host);
        let mut seen: BTreeMap<SocketAddr, Span> = BTreeMap::new();
        for (site, span) in places {
            for address in listen(site, defaults) {
                if let Some(first) = seen.insert(address, *span) {
                    let message = format!("two sites answer for `{name}` on {address}");
                    let problem = Diagnostic::new(&codes::HOST_TWICE, *span, message);
                    reader.problem(
                        problem
                            .related(first, "first here")
                            .help("merge them, or `listen` elsewhere"),
                    );
                }
            }
        }
    }
}
