//! `trust-proxy`: whose word on clients counts.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::condition::network;
use crate::directives::policy::{is_off, once};
use crate::draft::Scope;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "trust-proxy",
    within: &[Context::Defaults, Context::Site],
    usage: "trust-proxy NETWORK..., or: trust-proxy off",
    default: "off: what clients say of themselves is dropped",
    doc: "Whose `X-Forwarded-For`, `X-Forwarded-Proto`, `X-Forwarded-Host`, `Forwarded` and `X-Request-ID` count. When a \
          request comes from one of these networks, its client is the last address in `X-Forwarded-For` that is in none of them; \
          without that field, `Forwarded` is read the same way. An address that cannot be read ends the search at the proxy \
          that named it. The client found counts for `client=`, limits, balancing, variables and logs, and `X-Forwarded-Proto` for \
          `scheme=`; servers are told the whole list. A request from such a peer with the field `X-Plimsoll-Trace` is told in fields of that name what each rule did with it. From anyone else all of these are dropped, and what Plimsoll saw is written instead; dropped are also `True-Client-IP`, `Client-Cert`, `X-Client-Cert` and `X-SSL-` fields, which a trusted peer may say.",
    words: (1, 256),
    variables: false,
    block: None,
    set: trust_proxy,
}];

fn trust_proxy(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    if !once(reader, stmt, settings.trust.is_some()) {
        return;
    }
    let mut networks = Vec::new();
    let words = if is_off(stmt) { &[][..] } else { &stmt.words };
    for word in words {
        let Some(network) = network(reader, word.into()) else {
            continue;
        };
        if network.prefix_len() == 0 {
            let message = format!("`{}` trusts everybody", word.text);
            let problem = Diagnostic::new(&codes::TRUST_ALL, word.span, message);
            reader.problem(problem.help(
                "name the networks of the proxies in front; anyone else can claim to be any client",
            ));
        }
        networks.push(network);
    }
    settings.trust = Some(networks);
}
