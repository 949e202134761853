//! `priority`: which requests go first where not all can go.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::Scope;
use crate::model::Priority;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "priority",
    within: &[Context::Site, Context::Route],
    usage: "priority low|normal|high",
    default: "normal, or what the site says",
    doc: "Which requests go first where not all can go: those of higher priority leave a `queue` first, and are refused \
          last when Plimsoll itself runs out of memory or time (`overload`).",
    words: (1, 1),
    variables: false,
    block: None,
    set: priority,
}];

fn priority(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some(word) = stmt.words.first() else {
        return;
    };
    let Some((_, priority)) = Priority::NAMES.iter().find(|(name, _)| *name == word.text) else {
        let message = format!("`{}` is no priority", word.text);
        let problem = Diagnostic::new(&codes::VALUE, word.span, message);
        return reader.problem(problem.help("known: low, normal, high"));
    };
    let place = match scope {
        Scope::Site(site) => &mut site.priority,
        Scope::Route(route) => &mut route.priority,
        Scope::Root(_)
        | Scope::Defaults(_)
        | Scope::Tcp(_)
        | Scope::Udp(_)
        | Scope::Pool(_)
        | Scope::Cache(_) => {
            return;
        }
    };
    reader.once(stmt, place, *priority);
}
