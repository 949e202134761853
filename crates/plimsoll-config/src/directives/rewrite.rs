//! Changing where a request goes: `rewrite`, `strip-prefix`, `query`.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::header::replacement;
use crate::draft::Scope;
use crate::model::{PathPattern, QueryEdit, Stage, Step};
use crate::read::Reader;
use crate::syntax::{Stmt, Word};

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "strip-prefix",
        within: &[Context::Route],
        usage: "strip-prefix PATH",
        default: "none: the server receives the path that was matched",
        doc: "Takes PATH off the start of the path that the server receives: with `strip-prefix /api`, `/api/users` becomes \
              `/users` and `/api` becomes `/`. What does not begin with PATH, or goes on without a slash (`/apis`), stays.",
        words: (1, 1),
        variables: false,
        block: None,
        set: strip_prefix,
    },
    Directive {
        name: "rewrite",
        within: &[Context::Route],
        usage: "rewrite REGEX TEXT",
        default: "none: the server receives the path that was matched",
        doc: "Replaces what REGEX finds in the path by TEXT, in which `$1` is the first group; `^` and `$` tie REGEX to the ends. \
              What follows a `?` in TEXT is put in front of the query. Several are done in written order, each on what the one before \
              has made. The result is brought into canonical form and refused with 400 if it has none, so that no rewrite leads where \
              routes and access rules would not have let a request. Routes are not tried again, and logs keep the path that was asked for.",
        words: (2, 2),
        variables: false,
        block: None,
        set: rewrite,
    },
    Directive {
        name: "query",
        within: &[Context::Route],
        usage: "query set|add NAME VALUE, or: query remove NAME",
        default: "none: the server receives the query as it came",
        doc: "Changes a parameter of the query that the server receives: `set` gives it this value alone, `add` this value too, \
              `remove` takes it out. VALUE may hold variables and is escaped as a query needs it.",
        words: (2, 3),
        variables: true,
        block: None,
        set: query,
    },
];

fn strip_prefix(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(word) = stmt.words.first() else {
        return;
    };
    // `/api`, `/api/` and `/api/*` mean the same: a trailing slash carries no meaning.
    let path = word.text.trim_end_matches('*');
    let path = Value {
        text: if path.is_empty() { &word.text } else { path },
        span: word.span,
    };
    let Some(PathPattern::Exact(path)) = reader.path(path) else {
        return;
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() {
        let problem = Diagnostic::new(&codes::PATH, word.span, "there is nothing to take off");
        return reader.problem(problem.help("write the path to take off: `strip-prefix /api`"));
    }
    if let Some(steps) = scope.steps() {
        steps.push(Step::StripPrefix(path.into()));
    }
}

fn rewrite(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let [pattern, with] = stmt.words.as_slice() else {
        return;
    };
    if let (Some(rewrite), Some(steps)) = (replacement(reader, pattern, with), scope.steps()) {
        steps.push(Step::Rewrite(rewrite));
    }
}

fn query(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let name = |word: &Word| word.text.as_str().into();
    let edit = match stmt.words.as_slice() {
        [verb, parameter, value] if verb.text == "set" => {
            QueryEdit::Set(name(parameter), reader.template(value, Stage::Request))
        }
        [verb, parameter, value] if verb.text == "add" => {
            QueryEdit::Add(name(parameter), reader.template(value, Stage::Request))
        }
        [verb, parameter] if verb.text == "remove" => QueryEdit::Remove(name(parameter)),
        _ => {
            return reader.usage(
                stmt,
                "query set NAME VALUE`, `query add NAME VALUE` or `query remove NAME",
            );
        }
    };
    if let Some(steps) = scope.steps() {
        steps.push(Step::Query(edit));
    }
}
