//! `tls`: what a site shows its clients to prove that it is who they asked for.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::is_off;
use crate::draft::Scope;
use crate::model::KeyPair;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "tls",
    within: &[Context::Defaults, Context::Site],
    usage: "tls CERTIFICATE KEY, or: tls off",
    default: "off",
    doc: "Clients of the site come with TLS 1.2 or 1.3, on port 443 unless `listen` says otherwise. CERTIFICATE is a file with the \
          certificate and those that lead to its issuer, KEY one with its private key, both in PEM. With several lines, each client gets \
          the first kind of certificate that it can check: ECDSA, then RSA. The files are read again when they change, and a pair that \
          cannot be used changes nothing. A key that everybody on the machine could read is refused. Clients say which site they want \
          before they get a certificate: a name that no site on the listener has is refused unless there is a site `*`, and a client that \
          says none gets the site `*` or the first. A request for a site with other certificates than the connection was opened for is \
          answered 421. All sites on one address speak TLS, or none does.",
    words: (1, 2),
    variables: false,
    block: None,
    set: tls,
}];

fn tls(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    if is_off(stmt) {
        settings.tls.get_or_insert_default();
        return;
    }
    let [certificate, key] = &*stmt.words else {
        let problem = match stmt.words.first().map(|word| &*word.text) {
            Some(kind @ ("auto" | "internal")) => {
                let message = format!("`tls {kind}` is not in this version");
                Diagnostic::new(&codes::NOT_YET, stmt.span, message)
            }
            _ => Diagnostic::new(&codes::ARGUMENTS, stmt.span, "the certificate has no key"),
        };
        let help = "write `tls /etc/ssl/example.pem /etc/ssl/example.key`";
        return reader.problem(problem.help(help));
    };
    settings.tls.get_or_insert_default().push(KeyPair {
        certificate: certificate.text.as_str().into(),
        key: key.text.as_str().into(),
    });
}
