//! `tls` of a pool: how its servers prove who they are, and we to them.

use crate::arguments::{Value, is_name};
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::{is_off, on_off};
use crate::draft::Scope;
use crate::model::{KeyPair, ServerTls, Staple};
use crate::read::Reader;
use crate::source::Span;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "tls",
    within: &[Context::Pool],
    usage: "tls [verify=on|off] [sni=NAME] [ca=FILE] [certificate=FILE key=FILE], or: tls off",
    default: "off",
    doc: "Requests go to the servers over TLS 1.2 or 1.3, and so do checks. A server has to show a certificate for its host name \
          or, where it is written as an address, for that; `sni` says another name, which it is asked for as well. It must come from an \
          issuer that the system trusts, or from one in the file `ca` (PEM). `verify=off` takes any certificate. `certificate` and `key` are \
          what servers are shown that ask who we are. The files are read again when they change, and one that cannot be used changes \
          nothing. The handshake is part of `timeout connect`. A server that does not prove who it is is treated as one that cannot \
          be reached: another one is asked, and the answer is 502 when there is none.",
    words: (0, 5),
    variables: false,
    block: None,
    set: tls,
}];

fn tls(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Pool(pool) = scope else { return };
    let mut tls = ServerTls::default();
    let (mut certificate, mut key) = (None, None);
    let mut ca: Option<Span> = None;
    let known = ["verify", "sni", "ca", "certificate", "key"];
    let options = if is_off(stmt) { &[] } else { &*stmt.words };
    reader.options(options, &known, |reader, name, value| match name {
        "verify" => tls.verify = on_off(reader, value),
        "sni" => tls.sni = server_name(reader, value),
        "ca" => {
            tls.ca = file(reader, name, value);
            ca = Some(value.span);
        }
        "certificate" => certificate = Some((file(reader, name, value), value.span)),
        _ => key = Some((file(reader, name, value), value.span)),
    });
    match (certificate, key) {
        (Some((certificate, _)), Some((key, _))) => {
            let pair = certificate.zip(key);
            tls.identity = pair.map(|(certificate, key)| KeyPair {
                certificate,
                key,
                staple: Staple::Off,
                names: Vec::new(),
            });
        }
        (Some((_, span)), None) => half(reader, span, "the certificate has no key"),
        (None, Some((_, span))) => half(reader, span, "the key has no certificate"),
        (None, None) => {}
    }
    if let (false, Some(span)) = (tls.verify, ca) {
        let message = "`ca` says whom to trust, and `verify=off` asks for nobody's word";
        let problem = Diagnostic::new(&codes::OPTION, span, message);
        reader.problem(problem.help("leave one of them out"));
    }
    if !tls.verify {
        let message = "whoever sits in between can pass for any of these servers";
        let problem = Diagnostic::new(&codes::NOT_VERIFIED, stmt.span, message);
        reader.problem(problem.help("name the issuer with `ca=FILE`"));
    }
    let place = &mut pool.tls;
    reader.once(stmt, place, (!is_off(stmt)).then_some(tls));
}

fn half(reader: &mut Reader<'_>, span: Span, message: &str) {
    let problem = Diagnostic::new(&codes::HALF_IDENTITY, span, message);
    reader.problem(problem.help("write `certificate=FILE key=FILE`"));
}

fn server_name(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<str>> {
    let is_address = value.text.parse::<std::net::IpAddr>().is_ok();
    if is_name(value.text) && !is_address {
        return Some(value.text.to_ascii_lowercase().into());
    }
    let message = format!("`{}` is no name of a host", value.text);
    let problem = Diagnostic::new(&codes::VALUE, value.span, message);
    reader.problem(problem.help("a server that has only an address is asked for that by itself"));
    None
}

fn file(reader: &mut Reader<'_>, name: &str, value: Value<'_>) -> Option<Box<str>> {
    if value.text.is_empty() {
        let problem = Diagnostic::new(&codes::VALUE, value.span, format!("`{name}` names no file"));
        reader.problem(problem.help(format!("write `{name}=/etc/plimsoll/{name}.pem`")));
        return None;
    }
    Some(value.text.into())
}
