//! `tcp`: connections that are relayed as they are.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::site::LISTEN_MAX;
use crate::draft::{RelayDraft, Scope, Settings, TcpRuleDraft};
use crate::lint;
use crate::model::Opening;
use crate::read::Reader;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "tcp",
    within: &[Context::Root],
    usage: "tcp ADDRESS... { ... }",
    default: "none",
    doc: "Connections to these addresses go to a server of the pool that `proxy` names, or that `sni`, `alpn`, `protocol` and `default` choose, and all bytes pass as they are, either way, \
          whoever speaks first. An end that says no more may still listen, and a reset is passed on. A server that cannot be reached costs the client nothing: \
          another one is tried before any byte has passed. Servers, checks, limits of connections and the PROXY protocol are as for sites.",
    words: (1, LISTEN_MAX),
    variables: false,
    block: Some(Context::Tcp),
    set: tcp,
}];

fn tcp(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let mut service = begin(reader, stmt);
    let block = stmt.block.as_deref().unwrap_or_default();
    reader.apply(block, Context::Tcp, &mut Scope::Tcp(&mut service));
    check_ways(reader, &service);
    check_inside(reader, &service);
    lint::unreachable_rules(reader, &service.rules);
    draft.tcp.push(service);
}

/// A service with its addresses, of which its block has not been read.
pub(super) fn begin(reader: &mut Reader<'_>, stmt: &Stmt) -> RelayDraft {
    let addresses = stmt.words.iter();
    let listen: Vec<_> = addresses
        .filter_map(|word| Some((reader.listen_address(word.into())?, word.span)))
        .collect();
    let name = stmt.words.first().map(|word| word.text.clone());
    RelayDraft {
        name: name.unwrap_or_default(),
        listen,
        hosts: Vec::new(),
        settings: Settings::default(),
        rules: Vec::new(),
        pool: None,
        default: None,
        span: stmt.span,
    }
}

/// Refuses a service that does not say where what it relays goes.
pub(super) fn check_target(reader: &mut Reader<'_>, service: &RelayDraft, what: &str) {
    if service.pool.is_none() {
        let message = format!("nothing says where {what} go");
        let problem = Diagnostic::new(&codes::NOWHERE, service.span, message);
        reader.problem(problem.help("write `proxy POOL` in the block"));
    }
}

/// All connections of a service go one way, or rules say which.
fn check_ways(reader: &mut Reader<'_>, service: &RelayDraft) {
    let rules = service.rules.iter().map(|rule| rule.span);
    let chosen = rules
        .chain(service.default.iter().map(|(_, span)| *span))
        .next();
    match (&service.pool, chosen) {
        (None, None) => check_target(reader, service, "the connections"),
        (Some((_, all)), Some(chosen)) => {
            let message = "`proxy` takes every connection, so that rules decide nothing";
            let problem = Diagnostic::new(&codes::TCP_TWO_WAYS, *all, message);
            let problem = problem.related(chosen, "rules begin here");
            reader.problem(problem.help("write `default POOL` for what no rule takes"));
        }
        _ => {}
    }
}

/// Behind TLS that ends here nothing is looked at.
fn check_inside(reader: &mut Reader<'_>, service: &RelayDraft) {
    let is_plain = service.settings.tls.as_ref().is_none_or(Vec::is_empty);
    let is_speech = |rule: &&TcpRuleDraft| {
        let mut openings = rule.openings.iter();
        openings.any(|(said, _)| matches!(said, Opening::Speech(_)))
    };
    let mut rules = service.rules.iter().filter(|_| !is_plain);
    if let Some(rule) = rules.find(is_speech) {
        let message = "`protocol` looks at what clients say first, and that is inside of TLS here";
        let problem = Diagnostic::new(&codes::TCP_INSIDE, rule.span, message);
        reader.problem(problem.help("choose by `sni` or `alpn`, or take `tls` out"));
    }
}

/// Where the connections of a service go.
pub(crate) fn proxy(reader: &mut Reader<'_>, stmt: &Stmt, service: &mut RelayDraft, target: &Word) {
    reader.once(stmt, &mut service.pool, target.clone());
}
