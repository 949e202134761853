//! `tls` and its family: what a site and its clients show each other to prove who they are.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::{is_off, on_off, once};
use crate::draft::{Certified, Scope};
use crate::model::{ClientCertificate, KeyPair, Pass, Staple, Tickets, Verify};
use crate::read::Reader;
use crate::syntax::{Stmt, Word};

/// Hosts that one statement may name.
const HOSTS_MAX: usize = 100;

pub(crate) static ROWS: &[Directive] = &[TLS, HTTPS_REDIRECT, CLIENT_CERTIFICATE, TICKETS];

const TLS: Directive = Directive {
    name: "tls",
    within: &[Context::Defaults, Context::Site, Context::Tcp],
    usage: "tls auto, or: tls CERTIFICATE KEY [staple=FILE|off], or: tls internal, or: tls off; in tcp: tls auto HOST..., tls internal [HOST...]",
    default: "off",
    doc: "Clients of the site come with TLS 1.2 or 1.3, on port 443 unless `listen` says otherwise; see `https-redirect` for those that come without. CERTIFICATE is a file with the \
          certificate and those that lead to its issuer, KEY one with its private key, both in PEM. With several lines, each client gets \
          the first kind of certificate that it can check: ECDSA, then RSA. The files are read again when they change, and a pair that \
          cannot be used changes nothing. A key that everybody on the machine could read is refused. Where a certificate names a responder (OCSP), \
          it is asked what the issuer says of the certificate, and again at half of the time of each answer; for that, the certificate of the issuer has to stand behind it. Clients get what it says \
          beside the certificate as long as that is in force, and nothing when the responder cannot be asked for longer. With `staple` it is read from a file, in DER, or not shown. Clients say which site they want \
          before they get a certificate: a name that no site on the listener has is refused unless there is a site `*`, and a client that \
          says none gets the site `*` or the first. A request for a site with other certificates than the connection was opened for is \
          answered 421. All sites on one address speak TLS, or none does. With `auto` an issuer is asked for the certificate of the site's hosts, and for the next one in time; see `acme`. `internal` is for development: the site gets a certificate for its hosts, and for `localhost` where they are `*`, from an \
          issuer of our own, which is made once and kept with its key in the directory `internal` of `$XDG_STATE_HOME/plimsoll`, of `/var/lib/plimsoll` where that can be written, or else of \
          `~/.local/state/plimsoll`. Certificates are good for a week, and renewed at half of it. Clients have to be told to trust the issuer: the log says where its certificate is. \
          In `tcp`, clients come with TLS and servers get what is inside; a service has no hosts, so that `auto` and `internal` name them. Of several certificates each client gets one for the name that \
          it asks for, or else the first. What `defaults` says is for sites alone.",
    words: (1, 1 + HOSTS_MAX),
    variables: false,
    block: None,
    set: tls,
};

const HTTPS_REDIRECT: Directive = Directive {
    name: "https-redirect",
    within: &[Context::Defaults, Context::Site],
    usage: "https-redirect on|off",
    default: "on",
    doc: "A site with `tls` and without `listen` answers on port 443, and sends clients on to it that come to port 80 without TLS, with status 308. \
          Hosts that another site on port 80 answers for, a wildcard or `*` included, are left to it. With `off`, or where `listen` is \
          written, a site listens on no port that is not said.",
    words: (1, 1),
    variables: false,
    block: None,
    set: https_redirect,
};

const CLIENT_CERTIFICATE: Directive = Directive {
    name: "client-certificate",
    within: &[Context::Defaults, Context::Site, Context::Tcp],
    usage: "client-certificate required|optional ca=FILE [crl=FILE] [pass=certificate|chain|off], or: client-certificate off",
    default: "off; pass=certificate",
    doc: "Clients of a site with `tls` show a certificate that an issuer in the file `ca` has given them. `required` ends the handshake with who \
          has none, `optional` lets them in, for routes to tell apart with the condition `certificate:verified`; who shows one that cannot be verified is \
          refused in both cases. With `crl`, what issuers revoked is refused, and so is every certificate for which the file holds no \
          list that is still in force. The files are in PEM, are read again when they change, and what cannot be used changes nothing; while they \
          cannot be used at the start, nobody is let in. Servers get the certificate in `Client-Cert`, and with `pass=chain` what leads to its issuer in \
          `Client-Cert-Chain` (RFC 9440); clients cannot send these fields. A certificate that expires while its connection is open is not taken any more. \
          A request for a site with another `client-certificate` than its connection was opened for is answered 421, and no session goes on at \
          another site, or after its `ca` or `crl` has changed.",
    words: (1, 4),
    variables: false,
    block: None,
    set: client_certificate,
};

const TICKETS: Directive = Directive {
    name: "tls-tickets",
    within: &[Context::Root],
    usage: "tls-tickets FILE..., or: tls-tickets off",
    default: "keys that no one else has, new ones every 6 hours",
    doc: "With what clients that come back spare themselves and us a whole handshake. Tickets are good for 12 hours after the handshake that began the session, however \
          often it goes on. Several nodes that clients reach by one name take each other's tickets when they share keys: each FILE holds 48 or 80 random \
          bytes, as for NGINX, and only its owner may read it. The first makes new tickets, the others are still taken; the files are read again when they change, and whoever \
          made them must renew them. `off` makes every connection begin anew.",
    words: (1, 8),
    variables: false,
    block: None,
    set: tickets,
};

fn https_redirect(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some(word)) = (scope.settings(), stmt.words.first()) else {
        return;
    };
    if !once(reader, stmt, settings.https_redirect.is_some()) {
        return;
    }
    settings.https_redirect = Some(on_off(reader, word.into()));
}

fn client_certificate(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some((first, options))) = (scope.settings(), stmt.words.split_first())
    else {
        return;
    };
    if !once(reader, stmt, settings.client_certificate.is_some()) {
        return;
    }
    let verify = match first.text.as_str() {
        "off" if options.is_empty() => return settings.client_certificate = Some(None),
        "required" => Verify::Required,
        "optional" => Verify::Optional,
        other => {
            let message = format!("`{other}` does not say whether clients must have a certificate");
            let problem = Diagnostic::new(&codes::VALUE, first.span, message);
            return reader.problem(problem.help("known: required, optional, off"));
        }
    };
    let (mut ca, mut crl, mut pass) = (None, None, Pass::Certificate);
    reader.options(options, &["ca", "crl", "pass"], |reader, name, value| {
        if value.text.is_empty() {
            let message = format!("`{name}` says nothing");
            return reader.problem(Diagnostic::new(&codes::VALUE, value.span, message));
        }
        let known = Pass::NAMES.iter().find(|(known, _)| *known == value.text);
        match (name, known) {
            ("ca", _) => ca = Some(value.text.into()),
            ("crl", _) => crl = Some(value.text.into()),
            (_, Some((_, known))) => pass = *known,
            _ => {
                let message = format!("`{}` is nothing that servers can be told", value.text);
                let problem = Diagnostic::new(&codes::VALUE, value.span, message);
                reader.problem(problem.help("known: certificate, chain, off"));
            }
        }
    });
    let Some(ca) = ca else {
        let message = "nothing says who issues the certificates";
        let problem = Diagnostic::new(&codes::ARGUMENTS, stmt.span, message);
        return reader.problem(problem.help("add `ca=FILE`"));
    };
    settings.client_certificate = Some(Some(ClientCertificate {
        verify,
        ca,
        crl,
        pass,
    }));
}

fn tickets(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let tickets = match is_off(stmt) {
        true => Tickets::Off,
        false => {
            let files = stmt.words.iter().map(|word| word.text.as_str().into());
            Tickets::Files(files.collect())
        }
    };
    reader.once(stmt, &mut draft.tickets, tickets);
}

/// Takes the hosts that a service names behind `auto` or `internal`.
fn hosts(reader: &mut Reader<'_>, stmt: &Stmt, scope: &mut Scope<'_>) {
    let [kind, hosts @ ..] = stmt.words.as_slice() else {
        return;
    };
    let kind = kind.text.as_str();
    match scope {
        Scope::Tcp(_) if hosts.is_empty() && kind == "auto" => {
            let message = "a service has no hosts that its certificate could be for";
            let problem = Diagnostic::new(&codes::ARGUMENTS, stmt.span, message);
            reader.problem(problem.help("name them, like `tls auto mail.example.com`"));
        }
        Scope::Tcp(service) => {
            let hosts = hosts.iter();
            let hosts = hosts.filter_map(|word| Some((reader.host(word.into())?, word.span)));
            service.hosts.extend(hosts);
        }
        _ if hosts.is_empty() => {}
        _ => {
            let message =
                format!("`tls {kind}` takes nothing else: the hosts are those of the site");
            let problem = Diagnostic::new(&codes::ARGUMENTS, stmt.span, message);
            reader.problem(problem.help(format!("write `tls {kind}`, or two files")));
        }
    }
}

fn tls(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let words: Vec<&str> = stmt.words.iter().map(|word| word.text.as_str()).collect();
    let certified = match *words {
        ["off"] => None,
        ["auto", ..] => {
            hosts(reader, stmt, &mut scope);
            Some(Certified::Auto(stmt.span))
        }
        ["internal", ..] => {
            hosts(reader, stmt, &mut scope);
            Some(Certified::Internal(stmt.span))
        }
        _ => match key_pair(reader, stmt) {
            Some(pair) => Some(Certified::Files(pair)),
            None => return,
        },
    };
    if let Some(settings) = scope.settings() {
        settings.tls.get_or_insert_default().extend(certified);
    }
}

/// The files that a statement names.
fn key_pair(reader: &mut Reader<'_>, stmt: &Stmt) -> Option<KeyPair> {
    let words = stmt.words.iter().cloned();
    let (options, files): (Vec<Word>, Vec<Word>) =
        words.partition(|word| word.text.starts_with("staple="));
    let [certificate, key] = &*files else {
        let message = "a certificate and its key are two files";
        let problem = Diagnostic::new(&codes::ARGUMENTS, stmt.span, message);
        let help = "write `tls /etc/ssl/example.pem /etc/ssl/example.key`";
        reader.problem(problem.help(help));
        return None;
    };
    let mut staple = Staple::Responder;
    reader.options(&options, &["staple"], |_, _, value| {
        staple = match value.text {
            "off" => Staple::Off,
            file => Staple::File(file.into()),
        };
    });
    Some(KeyPair {
        staple,
        certificate: certificate.text.as_str().into(),
        key: key.text.as_str().into(),
        names: Vec::new(),
    })
}
