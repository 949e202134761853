//! What stands in a route: the one thing it does.

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::pool::hash_key;
use crate::directives::tcp;
use crate::draft::{ActionDraft, Scope};
use crate::model::{HashKey, Stage, Template};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "proxy",
        within: &[Context::Route, Context::Tcp, Context::Udp],
        usage: "proxy POOL|HOST:PORT",
        default: "none: a route has exactly one action",
        doc: "Sends the request to a server of the pool, or to this one server; in a `tcp` or `udp` block, the connection or the flow. The path is sent as it \
              was matched; a trailing slash carries no meaning here.",
        words: (1, 1),
        variables: false,
        block: None,
        set: proxy,
    },
    Directive {
        name: "respond",
        within: &[Context::Route],
        usage: "respond STATUS [TEXT]",
        default: "none: a route has exactly one action",
        doc: "Answers the request at once with this status, and with TEXT as `text/plain`, which may hold variables. No server \
              is asked.",
        words: (1, 2),
        variables: true,
        block: None,
        set: respond,
    },
    Directive {
        name: "redirect",
        within: &[Context::Route],
        usage: "redirect TARGET [permanent|301|302|303|307|308]",
        default: "none: a route has exactly one action; the status is 302",
        doc: "Sends the client to TARGET, a path or a whole URI with variables: `redirect https://${request.host}${request.uri} \
              permanent` is what every site does that has moved to https. `permanent` is 301, or 308 where the method is to stay: \
              write the number. Of what clients sent, only bytes that a URI may hold reach `Location`; all others are escaped.",
        words: (1, 2),
        variables: true,
        block: None,
        set: redirect,
    },
    Directive {
        name: "split",
        within: &[Context::Route],
        usage: "split SHARE POOL|HOST:PORT [sticky[=KEY]]",
        default: "none: a route has exactly one action",
        doc: "Sends SHARE of the requests to this pool; the other shares are written as further `split` lines of the route, and all \
              of them together are the whole. With `sticky` on one of them, a client keeps its pool: shares are given out by \
              hashing KEY, which is as in `balance` and `client-ip` by default. A share that grows at the cost of the one above it keeps \
              the clients that it has. That is what a canary needs.",
        words: (2, 3),
        variables: false,
        block: None,
        set: split,
    },
];

/// Pools of one route.
const SHARES_MAX: usize = 32;

fn proxy(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some(target) = stmt.words.first() else {
        return;
    };
    match scope {
        Scope::Tcp(service) => tcp::proxy(reader, stmt, service, target),
        Scope::Udp(service) => tcp::proxy(reader, stmt, &mut service.relay, target),
        scope => act(reader, stmt, scope, ActionDraft::Proxy(target.clone())),
    }
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
                body: Template::default(),
            },
        );
    };
    let body = stmt
        .words
        .get(1)
        .map(|word| reader.template(word, Stage::Request))
        .unwrap_or_default();
    act(reader, stmt, scope, ActionDraft::Respond { status, body });
}

fn redirect(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Some(word) = stmt.words.first() else {
        return;
    };
    let is_target = word.text.starts_with(['/', '$']) || word.text.contains("://");
    if !is_target || word.text.starts_with("//") {
        let message = format!("`{}` is no place to send a client to", word.text);
        let problem = Diagnostic::new(&codes::VALUE, word.span, message);
        reader.problem(
            problem.help("write a path, or a URI like `https://${request.host}${request.uri}`"),
        );
    }
    let to = reader.field_template(word, Stage::Request);
    let status = match stmt.words.get(1) {
        None => 302,
        Some(word) => match word.text.as_str() {
            "permanent" => 301,
            "temporary" => 302,
            "301" | "302" | "303" | "307" | "308" => word.text.parse().unwrap_or(302),
            other => {
                let message = format!("`{other}` is not a status of a redirect");
                let problem = Diagnostic::new(&codes::STATUS, word.span, message);
                reader.problem(problem.help("known: permanent, 301, 302, 303, 307, 308"));
                302
            }
        },
    };
    act(reader, stmt, scope, ActionDraft::Redirect { status, to });
}

fn split(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let [share, target, options @ ..] = stmt.words.as_slice() else {
        return;
    };
    let Some(share) = reader.number(share.into(), 0, 1_000_000) else {
        return;
    };
    let mut sticky = None;
    reader.options(options, &["sticky"], |reader, _, value| {
        sticky = match value.text {
            "" => Some(HashKey::ClientIp),
            _ => hash_key(reader, value),
        };
    });
    let Scope::Route(route) = scope else { return };
    let mine = sticky;
    match &mut route.action {
        Some((ActionDraft::Split { shares, sticky }, first)) => {
            if shares.len() >= SHARES_MAX {
                let message = format!("the route has more than {SHARES_MAX} shares");
                return reader.problem(Diagnostic::new(&codes::RANGE, stmt.span, message));
            }
            if mine.is_some() && sticky.is_some() && mine != *sticky {
                let message = "the shares of a route are given out by one key";
                let problem = Diagnostic::new(&codes::REPEATED, stmt.span, message);
                return reader.problem(problem.related(*first, "another one here"));
            }
            shares.push((share, target.clone()));
            *sticky = mine.or_else(|| sticky.take());
        }
        _ => act(
            reader,
            stmt,
            Scope::Route(route),
            ActionDraft::Split {
                shares: vec![(share, target.clone())],
                sticky: mine,
            },
        ),
    }
}

/// Notes what the route does.
pub(crate) fn act(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>, action: ActionDraft) {
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
