//! `internal`: routes that only servers send requests to.

use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "internal",
    within: &[Context::Route],
    usage: "internal",
    default: "off: clients reach the route",
    doc: "No client reaches the route: it takes only requests whose first answer came from a server with the field \
          `X-Accel-Redirect: /path?query`. That answer is not passed on. The request goes on from the internal routes of its site with \
          that path as a `GET` without a body (`HEAD` stays), and the client gets the answer of the route that takes it. A server so \
          decides who may have a file, and another one sends it. Where that is a server's, and a success, `Cache-Control`, \
          `Content-Disposition`, `Content-Language`, `Content-Type` and `Expires` of the first answer replace its own, and its cookies are set too. The \
          steps of the site are not carried out again, those of the internal route are. Such an answer may itself lead on, 10 times at \
          most. In a site without internal routes the field is dropped and means nothing.",
    words: (0, 0),
    variables: false,
    block: None,
    set: internal,
}];

fn internal(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    if let Scope::Route(route) = scope {
        reader.once(stmt, &mut route.internal, ());
    }
}
