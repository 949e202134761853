//! Which pool a relayed connection goes to, by what its client says first.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive, find};
use crate::draft::{Scope, TcpRuleDraft};
use crate::model::{Host, Opening, Spoken};
use crate::read::Reader;
use crate::suggest::nearest;
use crate::syntax::{Stmt, Word};

/// Words of a rule: what it asks for, the arrow and the pool.
const WORDS: (usize, usize) = (3, 66);

/// The longest name of a protocol (RFC 7301 §3.1).
const PROTOCOL_BYTES_MAX: usize = 255;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "sni",
        within: &[Context::Tcp],
        usage: "sni HOST... -> POOL|HOST:PORT",
        default: "none",
        doc: "Connections whose client begins TLS and asks for one of these names go to this pool, and nothing is decrypted. Names are as those of a \
              `site`: `mail.example.com`, `*.example.com`, an expression, or `*` for any name; a client that asks for an address, or for nothing, has none. Rules are tried in \
              written order, with those of `alpn` and `protocol`, and the first match wins; `default` has what none takes. Bytes are only looked at, so that the server gets \
              all of them, and as many as a rule needs are waited for: see `detect` of `timeout`. A ClientHello that is malformed, or longer than 16 KiB, is refused by the first \
              `sni` or `alpn`.",
        words: WORDS,
        variables: false,
        block: None,
        set: sni,
    },
    Directive {
        name: "alpn",
        within: &[Context::Tcp],
        usage: "alpn PROTOCOL... -> POOL|HOST:PORT",
        default: "none",
        doc: "Connections whose client begins TLS and offers one of these protocols (RFC 7301) go to this pool: `h2`, `postgresql`. \
              Otherwise as `sni`.",
        words: WORDS,
        variables: false,
        block: None,
        set: alpn,
    },
    Directive {
        name: "protocol",
        within: &[Context::Tcp],
        usage: "protocol http|tls|ssh|postgres|mysql|redis... -> POOL|HOST:PORT",
        default: "none",
        doc: "Connections whose client begins to speak one of these protocols go to this pool. `http` is HTTP/1 and HTTP/2 without TLS; `postgres` begins itself, with or without \
              asking for TLS. Clients of MySQL wait for their server to speak first, so `mysql` is whoever has said nothing when `detect` of `timeout` is over. Otherwise as `sni`.",
        words: WORDS,
        variables: false,
        block: None,
        set: protocol,
    },
    Directive {
        name: "default",
        within: &[Context::Tcp],
        usage: "default POOL|HOST:PORT",
        default: "connections that no rule takes are closed and counted",
        doc: "Where connections go that no `sni`, `alpn` or `protocol` of the block takes, and those of clients that say nothing.",
        words: (1, 1),
        variables: false,
        block: None,
        set: default,
    },
];

fn sni(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    rule(reader, stmt, scope, |reader, value| {
        let host = reader.host(value)?;
        let is_address = matches!(&host, Host::Exact(name) if name.starts_with('[') || is_ip(name));
        if is_address {
            let message = format!("`{}` is an address, and clients ask for names", value.text);
            let problem = Diagnostic::new(&codes::HOST, value.span, message);
            reader.problem(problem.help("those that are sent to an address go to `default`"));
        }
        Some(Opening::Name(host))
    });
}

fn is_ip(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

fn alpn(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    rule(reader, stmt, scope, |reader, value| {
        if value.text.is_empty() || value.text.len() > PROTOCOL_BYTES_MAX {
            let message = "a protocol has 1 to 255 bytes";
            reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
        }
        Some(Opening::Offer(value.text.into()))
    });
}

fn protocol(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    rule(reader, stmt, scope, |reader, value| {
        let all = Spoken::ALL.iter();
        let known = all.copied().find(|spoken| spoken.name() == value.text);
        if known.is_none() {
            let message = format!(
                "`{}` is no protocol that is told by its first bytes",
                value.text
            );
            let mut problem = Diagnostic::new(&codes::VALUE, value.span, message);
            let names = || Spoken::ALL.iter().map(|spoken| spoken.name());
            if let Some(near) = nearest(value.text, names()) {
                problem = problem.label(format!("did you mean `{near}`?"));
            }
            let known = names().collect::<Vec<_>>().join(", ");
            reader.problem(problem.help(format!("known: {known}")));
        }
        known.map(Opening::Speech)
    });
}

/// Reads what stands before the arrow, each word by `read`, and the pool behind it.
fn rule(
    reader: &mut Reader<'_>,
    stmt: &Stmt,
    scope: Scope<'_>,
    read: impl Fn(&mut Reader<'_>, Value<'_>) -> Option<Opening>,
) {
    let Scope::Tcp(service) = scope else { return };
    let [asked @ .., arrow, pool] = stmt.words.as_slice() else {
        return;
    };
    let is_arrow = |word: &Word| word.text == "->";
    if !is_arrow(arrow) || asked.iter().any(is_arrow) {
        let usage = find(&stmt.name.text, Context::Tcp).map_or("", |row| row.usage);
        return reader.usage(stmt, usage);
    }
    let read = |word: &Word| Some((read(reader, word.into())?, word.span));
    service.rules.push(TcpRuleDraft {
        openings: asked.iter().filter_map(read).collect(),
        pool: pool.clone(),
        span: stmt.span,
    });
}

fn default(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    if let (Scope::Tcp(service), [pool]) = (scope, stmt.words.as_slice()) {
        reader.once(stmt, &mut service.default, pool.clone());
    }
}
