//! `proxy-protocol`: who may say whom a connection is from, and whom servers are told.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::condition::network;
use crate::directives::policy::{is_off, once};
use crate::draft::Scope;
use crate::model::ProxyVersion;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "proxy-protocol",
    within: &[Context::Defaults, Context::Site, Context::Tcp, Context::Udp],
    usage: "proxy-protocol accept=NETWORK..., or: proxy-protocol off",
    default: "off",
    doc: "Connections to the site or service come from these networks only, and each begins with a header of the PROXY protocol, version 1 or 2, \
              that says who the client is; that is before TLS. It is never guessed: a connection from elsewhere is closed, and so \
              is one on which no sound header has come when `timeout header` is over. The client that it names is the \
              peer from then on, for access rules, limits, conditions, logs and what servers are told. A header of version 2 \
              that says `LOCAL`, or one without addresses, leaves the real ones. All sites on one address accept it alike. In a `udp` block each datagram begins with one of version 2; what does not is dropped.",
    words: (1, 256),
    variables: false,
    block: None,
    set: accept,
}];

/// What pools say of it.
pub(crate) static POOL_ROWS: &[Directive] = &[Directive {
    name: "proxy-protocol",
    within: &[Context::Pool],
    usage: "proxy-protocol v1|v2|off",
    default: "off",
    doc: "Servers are told who the client is in a header of the PROXY protocol, before the request and before TLS. Each request then \
              has a connection of its own, since a connection is told only once; with `http 2`, where many clients share one, that cannot be. Version 2 also tells the request id, and of a client with TLS which name it asked for, the \
              version and the cipher, and whether it has shown a certificate that was verified, with its common name; and of the certificate of the site, where there is one alone, the algorithms of its signature and its key. Checks, copies and questions of our own are told as such (`LOCAL`, `UNKNOWN`). Datagrams of a `udp` service each begin with one of version 2, \
              which says where the client is and where it spoke to.",
    words: (1, 1),
    variables: false,
    block: None,
    set: send,
}];

fn accept(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    if !once(reader, stmt, settings.proxy_protocol.is_some()) {
        return;
    }
    let mut networks = Vec::new();
    if !is_off(stmt) {
        let first = stmt.words.first();
        if !first.is_some_and(|word| word.text.starts_with("accept=")) {
            return reader.usage(stmt, "proxy-protocol accept=10.0.0.0/8");
        }
        for word in &stmt.words {
            let text = word.text.strip_prefix("accept=").unwrap_or(&word.text);
            for text in text.split(',') {
                let span = word.span;
                networks.extend(source(reader, Value { text, span }));
            }
        }
        networks.sort_unstable();
        networks.dedup();
    }
    settings.proxy_protocol = Some(networks);
}

fn source(reader: &mut Reader<'_>, value: Value<'_>) -> Option<ipnet::IpNet> {
    let network = network(reader, value)?;
    if network.prefix_len() == 0 {
        let message = format!("`{}` lets everybody say who he is", value.text);
        let problem = Diagnostic::new(&codes::TRUST_ALL, value.span, message);
        reader.problem(problem.help(
            "name the networks of the proxies in front; anyone else can claim to be any client",
        ));
    }
    Some(network)
}

fn send(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Pool(pool), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    let version = match &*word.text {
        "off" => None,
        "v1" => Some(ProxyVersion::V1),
        "v2" => Some(ProxyVersion::V2),
        other => {
            let message = format!("`{other}` is no version of the PROXY protocol");
            let problem = Diagnostic::new(&codes::VALUE, word.span, message);
            return reader.problem(problem.help("write `v1`, `v2` or `off`"));
        }
    };
    reader.once(stmt, &mut pool.proxy_protocol, version);
}
