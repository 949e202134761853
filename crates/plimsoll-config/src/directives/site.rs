//! What stands in a site.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::condition;
use crate::draft::{RouteDraft, Scope};
use crate::model::PathPattern;
use crate::read::Reader;
use crate::syntax::Stmt;

/// Addresses of one site, on one line or on many.
const LISTEN_MAX: usize = 64;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "listen",
        within: &[Context::Site],
        usage: "listen ADDRESS...",
        default: ":80",
        doc: "Where the site listens: `:8080` is every address of the machine, IPv4 and IPv6; `127.0.0.1:8080` and \
              `[::1]:8080` are one address. Sites may share a listener; the host of a request decides between them.",
        words: (1, LISTEN_MAX),
        variables: false,
        block: None,
        set: listen,
    },
    Directive {
        name: "route",
        within: &[Context::Site],
        usage: "route [PATH] [method=METHOD,...] [[not:]CONDITION...] { ... }",
        default: "404 for what no route takes",
        doc: "What is done with the requests that match. Routes are tried in written order and the first match wins. \
              A path is exact (`/about`) or takes everything below (`/static/*`, which takes `/static` too); without \
              one, or with `*`, a route takes every path. Paths are compared in canonical form: `..`, `//` and \
              needless escapes are resolved before, and the server receives the same form. A CONDITION is `path~REGEX`; `header:NAME`, `query:NAME` or \
              `cookie:NAME`, which the request must have, with `=VALUE,...` to be one of these values or `~REGEX` to match an \
              expression; `client=NETWORK,...`; or `port=N,...`, on which it came. All must hold, and `not:` turns one round. Of a field that stands on several lines, one \
              line must hold; values of the query are compared without their escapes. Expressions are searched for, in linear time: `^` and \
              `$` tie them to the ends.",
        words: (0, 32),
        variables: false,
        block: Some(Context::Route),
        set: route,
    },
];

fn listen(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Site(site) = scope else { return };
    for word in &stmt.words {
        let Some(address) = reader.listen_address(word.into()) else {
            continue;
        };
        match site.listen.iter().find(|(known, _)| *known == address) {
            Some((_, first)) => {
                let message = format!("the site listens on `{}` twice", word.text);
                let problem = Diagnostic::new(&codes::REPEATED, word.span, message);
                reader.problem(problem.related(*first, "first here"));
            }
            None if site.listen.len() >= LISTEN_MAX => {
                let message = format!("the site listens on more than {LISTEN_MAX} addresses");
                let problem = Diagnostic::new(&codes::ARGUMENTS, word.span, message);
                let help = "`listen :80` listens on every address of the machine";
                return reader.problem(problem.help(help));
            }
            None => site.listen.push((address, word.span)),
        }
    }
}

fn route(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Site(site) = scope else { return };
    let (path, options) = match stmt.words.split_first() {
        Some((word, rest)) if word.text.starts_with(['/', '*']) => (reader.path(word.into()), rest),
        _ => (Some(PathPattern::Any), stmt.words.as_slice()),
    };
    let mut route = RouteDraft {
        path: path.unwrap_or(PathPattern::Any),
        methods: Vec::new(),
        conditions: Vec::new(),
        is_narrow: !options.is_empty(),
        steps: Vec::new(),
        priority: None,
        action: None,
        span: stmt.span,
    };
    for word in options {
        match word.text.split_once('=') {
            Some(("method", list)) => methods(reader, &mut route, list, word.span),
            _ => route.conditions.extend(condition::condition(reader, word)),
        }
    }
    reader.apply(
        stmt.block.as_deref().unwrap_or_default(),
        Context::Route,
        &mut Scope::Route(&mut route),
    );
    if route.action.is_none() {
        let problem = Diagnostic::new(
            &codes::NO_ACTION,
            stmt.span,
            "the route does nothing with a request",
        );
        reader.problem(problem.help("end it with `proxy POOL` or `respond STATUS`"));
    }
    site.routes.push(route);
}

fn methods(reader: &mut Reader<'_>, route: &mut RouteDraft, list: &str, span: crate::source::Span) {
    for method in list.split(',') {
        let known_shape = !method.is_empty()
            && method
                .chars()
                .all(|c| c.is_ascii_uppercase() || "-_".contains(c));
        if known_shape && !matches!(method, "CONNECT" | "TRACE") {
            route.methods.push(method.into());
            continue;
        }
        let problem = Diagnostic::new(
            &codes::METHOD,
            span,
            format!("`{method}` is not a method that can be matched"),
        );
        let upper = method.to_ascii_uppercase();
        reader.problem(match upper != method && !upper.is_empty() {
            true => problem.help(format!("methods are written in capitals: `{upper}`")),
            false => problem.help("write it like `method=GET,HEAD`"),
        });
    }
}
