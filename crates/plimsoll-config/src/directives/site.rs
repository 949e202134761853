//! What stands in a site.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::condition;
use crate::draft::{RouteDraft, Scope};
use crate::model::{self, Asked, Buffer, Condition, PathPattern, Step, Template};
use crate::read::Reader;
use crate::syntax::Stmt;

/// Addresses of one site or service, on one line or on many.
pub(crate) const LISTEN_MAX: usize = 64;

/// How much of a body is looked at unless the route says.
const BODY_BYTES: u32 = 64 * 1024;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "listen",
        within: &[Context::Site],
        usage: "listen ADDRESS...",
        default: ":80, or :443 with `tls`",
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
              A path is exact (`/about`), takes everything below (`/static/*`, which takes `/static` too) or is a pattern \
              (`/users/*/photo.*`), in which `*` is any part of a segment and `**` any part of the path; without \
              one, or with `*`, a route takes every path. Paths are compared in canonical form: `..`, `//` and \
              needless escapes are resolved before, and the server receives the same form; a `;` is a letter like others, so that `/admin;a` is not below `/admin`. A CONDITION is `host=NAME,...` or \
              `host~REGEX`; `path~REGEX`; `header:NAME`, `query:NAME` or \
              `cookie:NAME`, which the request must have, with `=VALUE,...` to be one of these values or `~REGEX` to match an \
              expression; `client=NETWORK,...`; `certificate:PART`, which is `verified`, `subject`, `issuer`, `san`, `serial` or `fingerprint` of the certificate that \
              the client showed, see `client-certificate`, with `=VALUE,...` or `~REGEX`; `port=N,...`, on which it came; `scheme=http|https`; `time=SPAN,...`, which are `08:00-18:00`, `mon-fri` or \
              `2026-12-24..2026-12-26`, all in UTC; `grpc=SERVICE[/METHOD],...`; `is:NAME`, a `match`. Of a body ask `body:NAME` for a \
              field of a form, `body:$.a.b[0]` or `body:$.a[*].b` for a value of a JSON text, and `body~REGEX` for all of it as text; see \
              `buffer`. All must hold, and `not:` turns one round. Of a field that stands on several lines, one \
              line must hold; values of the query and of forms are compared without their escapes. Expressions are searched for, in linear time: `^` and \
              `$` tie them to the ends. They are about bytes: `.` is any byte, and `\\w` or `(?i)` know the letters of ASCII.",
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
        buffer: None,
        response_buffer: None,
        internal: None,
        compress: None,
        cache: None,
        errors: Vec::new(),
        steps: Vec::new(),
        step_spans: Vec::new(),
        step_pools: Vec::new(),
        priority: None,
        action: None,
        span: stmt.span,
    };
    for word in options {
        match condition::condition(reader, word) {
            Some(Condition {
                asked: Asked::Method(methods),
                negated: false,
                ..
            }) => {
                route.methods.extend(methods);
            }
            condition => route.conditions.extend(condition),
        }
    }
    reader.apply(
        stmt.block.as_deref().unwrap_or_default(),
        Context::Route,
        &mut Scope::Route(&mut route),
    );
    if route
        .conditions
        .iter()
        .any(|condition| matches!(condition.asked, Asked::Body(..)))
    {
        let buffer = Buffer {
            memory: BODY_BYTES,
            disk: 0,
        };
        route.buffer.get_or_insert((buffer, stmt.span));
    }
    check_groups(reader, &route);
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

/// Checks that groups of the path's expression exist where texts speak of them.
fn check_groups(reader: &mut Reader<'_>, route: &RouteDraft) {
    let expression = route
        .conditions
        .iter()
        .find_map(|condition| match &condition.asked {
            Asked::Path(expression) if !condition.negated => model::expression(expression).ok(),
            _ => None,
        });
    let groups = expression.map_or(0, |expression| expression.captures_len());
    let action = route
        .action
        .iter()
        .flat_map(|(action, _)| action.templates());
    let all = action.chain(route.steps.iter().flat_map(Step::templates));
    let highest = all.filter_map(Template::highest_group).max();
    let Some(group) = highest.filter(|group| usize::from(*group) >= groups) else {
        return;
    };
    let message = format!("the route has no group {group} for `${{match.{group}}}`");
    let problem = Diagnostic::new(&codes::RUN_TIME_VARIABLE, route.span, message);
    reader.problem(problem.help(match groups {
        0 => "groups are those of the condition `path~REGEX`; this route has none".to_owned(),
        groups => format!("its expression has {}", groups - 1),
    }));
}
