//! `resolver`: who says where the names of servers are.

use std::net::SocketAddr;

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::Resolver;
use crate::read::Reader;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "resolver",
    within: &[Context::Root],
    usage: "resolver system|ADDRESS... [timeout=DURATION] [hold=DURATION]",
    default: "system timeout=2s hold=1d",
    doc: "Who is asked where servers are that have a name: the name servers at ADDRESS, with a port or without, or those of \
          /etc/resolv.conf. /etc/hosts is read in any case. Names are looked up again when their answers expire. While an answer is missing, or \
          empty, or says that there is no such name, the addresses of the last good one are used, for as long as `hold`; \
          a server without any address is passed over. `timeout` is for one question, which is asked twice.",
    words: (1, 8),
    variables: false,
    block: None,
    set: resolver,
}];

const OPTIONS: &[&str] = &["timeout", "hold"];

fn resolver(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let (options, addresses): (Vec<Word>, Vec<Word>) = stmt
        .words
        .iter()
        .cloned()
        .partition(|word| word.text.contains('='));
    let mut resolver = Resolver::default();
    for word in &addresses {
        if word.text != "system" {
            resolver.servers.extend(name_server(reader, word));
        } else if addresses.len() > 1 {
            let message = "`system` and addresses exclude each other";
            reader.problem(Diagnostic::new(&codes::VALUE, word.span, message));
        }
    }
    reader.options(&options, OPTIONS, |reader, name, value| {
        let place = match name {
            "timeout" => &mut resolver.timeout,
            _ => &mut resolver.hold,
        };
        *place = reader.duration(value).unwrap_or(*place);
    });
    reader.once(stmt, &mut draft.resolver, resolver);
}

/// The port of the domain name system.
const PORT: u16 = 53;

fn name_server(reader: &mut Reader<'_>, word: &Word) -> Option<SocketAddr> {
    match word.text.parse() {
        Ok(address) => Some(address),
        Err(_) => reader
            .ip(Value::from(word))
            .map(|ip| SocketAddr::from((ip, PORT))),
    }
}
