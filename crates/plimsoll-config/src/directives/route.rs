//! What stands in a route: the one thing it does.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::{ActionDraft, Scope};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "proxy",
        within: &[Context::Route],
        usage: "proxy POOL|HOST:PORT",
        default: "none: a route has exactly one action",
        doc: "Sends the request to a server of the pool, or to this one server. The path is sent as it was matched; a \
              trailing slash carries no meaning here.",
        words: (1, 1),
        block: None,
        set: proxy,
    },
    Directive {
        name: "respond",
        within: &[Context::Route],
        usage: "respond STATUS [TEXT]",
        default: "none: a route has exactly one action",
        doc: "Answers the request at once with this status, and with TEXT as `text/plain`. No server is asked.",
        words: (1, 2),
        block: None,
        set: respond,
    },
];

fn proxy(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some(target) = stmt.words.first() else {
        return;
    };
    act(reader, stmt, scope, ActionDraft::Proxy(target.clone()));
}

fn respond(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some(word) = stmt.words.first() else {
        return;
    };
    let status = word
        .text
        .parse()
        .ok()
        .filter(|status| (200..=599).contains(status));
    let Some(status) = status else {
        let message = format!("`{}` is not a status to answer with", word.text);
        let problem = Diagnostic::new(&codes::STATUS, word.span, message);
        reader.problem(problem.help("a status is from 200 to 599"));
        return act(
            reader,
            stmt,
            scope,
            ActionDraft::Respond {
                status: 500,
                body: "".into(),
            },
        );
    };
    let body = stmt
        .words
        .get(1)
        .map(|word| word.text.as_str().into())
        .unwrap_or_default();
    act(reader, stmt, scope, ActionDraft::Respond { status, body });
}

fn act(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>, action: ActionDraft) {
    let Scope::Route(route) = scope else { return };
    if let Some((_, first)) = &route.action {
        let problem = Diagnostic::new(&codes::TWO_ACTIONS, stmt.span, "the route has two actions");
        return reader.problem(
            problem
                .related(*first, "first here")
                .help("keep one, or make two routes"),
        );
    }
    route.action = Some((action, stmt.span));
}
