//! What can be asked of the admin listeners: the one table of it.

use hyper::Method;

use crate::guard::Kind;

/// A call: a method, a path, and what it does.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) method: Method,
    /// The path; a part in braces stands for any.
    pub(crate) path: &'static str,
    pub(crate) kind: Kind,
    pub(crate) call: Call,
    /// What it does, for people.
    pub(crate) doc: &'static str,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Page(&'static str),
    Metrics,
    Status,
    Watch,
    History,
    Pools,
    Pool,
    ChangePool,
    Configuration,
    CheckConfiguration,
    PutConfiguration,
    Trace,
    Stock,
    Purge,
    TailLogs,
    Sessions,
    CloseSessions,
    Reload,
    Upgrade,
    Confirm,
    GoBack,
    Calls,
    Description,
}

const fn look(path: &'static str, call: Call, doc: &'static str) -> Row {
    Row {
        method: Method::GET,
        path,
        kind: Kind::Look,
        call,
        doc,
    }
}

const fn change(path: &'static str, call: Call, doc: &'static str) -> Row {
    Row {
        method: Method::POST,
        path,
        kind: Kind::Change,
        call,
        doc,
    }
}

pub(crate) static CALLS: &[Row] = &[
    look("/", Call::Page("index.html"), "The dashboard."),
    look(
        "/dashboard.css",
        Call::Page("dashboard.css"),
        "How it looks.",
    ),
    look("/dashboard.js", Call::Page("dashboard.js"), "How it moves."),
    look(
        "/metrics",
        Call::Metrics,
        "Everything that is counted, in Prometheus' text format.",
    ),
    look("/v1", Call::Calls, "This list."),
    look(
        "/v1/openapi.json",
        Call::Description,
        "This list for programs, as OpenAPI has it.",
    ),
    look(
        "/v1/status",
        Call::Status,
        "Sites, listeners, pools, servers, caches and certificates as they are now, with what goes on in a second.",
    ),
    look(
        "/v1/status/watch",
        Call::Watch,
        "The same each second, as server-sent events.",
    ),
    look(
        "/v1/status/history",
        Call::History,
        "Requests, errors, latency and connections of the last five minutes, by the second.",
    ),
    look("/v1/pools", Call::Pools, "The pools and their servers."),
    look("/v1/pools/{pool}", Call::Pool, "One pool and its servers."),
    change(
        "/v1/pools/{pool}",
        Call::ChangePool,
        "Changes servers: `{\"servers\": [\"a:80\"], \"state\": \"drain\"}`, with `state` one of `ready`, `drain`, `maintenance`, or `share_percent` 0 to 100, or both. \
         What takes more than half of the serving servers away needs `\"force\": true`.",
    ),
    look(
        "/v1/configuration",
        Call::Configuration,
        "What is served, in its JSON form; with `Accept: text/plain` the text of the file, and its `ETag`.",
    ),
    Row {
        method: Method::PUT,
        path: "/v1/configuration",
        kind: Kind::Change,
        call: Call::PutConfiguration,
        doc: "Serves the text of the body and has it stand in the file, or changes nothing: 422 and the problems when it cannot be served, \
              412 when the file is no more what `If-Match` says, 428 without that. With `?confirm_within=60` both go back after so many seconds unless it is confirmed.",
    },
    change(
        "/v1/configuration/check",
        Call::CheckConfiguration,
        "All that is to be said of the text of the body, as `plimsoll check --format json` does. Nothing changes.",
    ),
    Row {
        method: Method::POST,
        path: "/v1/trace",
        kind: Kind::Look,
        call: Call::Trace,
        doc: "What becomes of a request, as `plimsoll trace` asks.",
    },
    Row {
        method: Method::POST,
        path: "/v1/cache/show",
        kind: Kind::Look,
        call: Call::Stock,
        doc: "What is stored: `{\"url\": \"https://example.com/a\"}`, or `prefix`, or `tag`; with `cache` in that cache only, with `limit` so many of it.",
    },
    change(
        "/v1/cache/purge",
        Call::Purge,
        "Forgets stored answers: `{\"tag\": \"product-7\"}`, or `url`, or `prefix`; with `cache` of that cache only, with `\"soft\": true` they count as stale.",
    ),
    Row {
        method: Method::GET,
        path: "/v1/logs/tail",
        kind: Kind::Confide,
        call: Call::TailLogs,
        doc: "Access log lines as they come, as server-sent events, whatever logs there are: those of a `site`, with a `status` such as `404` or `5xx`, that took `slower` seconds \
         or more, in a `format`, where the query says so. Who reads too slowly loses lines; an event `lost` says how many.",
    },
    look(
        "/v1/sessions",
        Call::Sessions,
        "What is open now, the oldest first: connections, their streams, and what is passed on, 100 of them or `?limit=` up to 1000. \
         Only those of a `listener`, `client` (an address or network), `site`, `pool`, `server`, `state` or `id`, where the query names one.",
    ),
    change(
        "/v1/sessions/close",
        Call::CloseSessions,
        "Ends what is open: `{\"server\": \"a:80\"}`, or whatever else can be asked for; with `limit` so many of it. Nothing named is an error.",
    ),
    change(
        "/v1/reload",
        Call::Reload,
        "Serves what the configuration file says now: `{}`, or `{\"confirm_within\": 60}` to go back after so many seconds unless it is confirmed, \
         or `{\"canary\": {\"percent\": 5, \"seconds\": 60}}` to serve only so much of the connections so at first, and to answer when that is decided. \
         Answers with what has changed when that is done; with 422 and the problems when it cannot be, and nothing has changed.",
    ),
    change(
        "/v1/reload/confirm",
        Call::Confirm,
        "Keeps what a reload has changed that is to be confirmed, for all connections: `{}`.",
    ),
    change(
        "/v1/reload/back",
        Call::GoBack,
        "Takes back what a reload has changed that is to be confirmed: `{}`.",
    ),
    change(
        "/v1/upgrade",
        Call::Upgrade,
        "Has another process, of the program as it is on disk now, serve what begins from now on.",
    ),
];

/// Why there is no call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// There is nothing of this path.
    Path,
    /// There is, with these methods.
    Method(String),
}

/// Finds the call for a request, and what stands in the place of its brace.
pub(crate) fn find<'a>(
    method: &Method,
    path: &'a str,
) -> Result<(&'static Row, Option<&'a str>), Miss> {
    let mut others = Vec::new();
    for row in CALLS {
        let Some(part) = matches(row.path, path) else {
            continue;
        };
        if row.method == *method || (row.method == Method::GET && *method == Method::HEAD) {
            return Ok((row, part));
        }
        others.push(row.method.as_str());
    }
    match others.is_empty() {
        true => Err(Miss::Path),
        false => Err(Miss::Method(others.join(", "))),
    }
}

/// Matches a path; returns what stands in the place of its brace.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<Option<&'a str>> {
    let Some((before, _)) = pattern.split_once('{') else {
        return (pattern == path).then_some(None);
    };
    let part = path.strip_prefix(before)?;
    (!part.is_empty() && !part.contains('/')).then_some(Some(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_by_method_and_path() {
        let call = |method, path| find(&method, path).map(|(row, part)| (row.call, part));
        assert_eq!(call(Method::GET, "/v1/pools"), Ok((Call::Pools, None)));
        assert_eq!(call(Method::HEAD, "/metrics"), Ok((Call::Metrics, None)));
        assert_eq!(
            call(Method::GET, "/v1/pools/app"),
            Ok((Call::Pool, Some("app")))
        );
        assert_eq!(
            call(Method::POST, "/v1/pools/app"),
            Ok((Call::ChangePool, Some("app")))
        );
        assert_eq!(
            call(Method::DELETE, "/v1/pools/app"),
            Err(Miss::Method("GET, POST".into()))
        );
        for path in ["/v1/pools/", "/v1/pools/app/x", "/v2", "//"] {
            assert_eq!(call(Method::GET, path), Err(Miss::Path), "{path}");
        }
    }

    #[test]
    fn nothing_is_changed_by_get() {
        for row in CALLS {
            assert!(
                row.kind != Kind::Change || row.method != Method::GET,
                "{}",
                row.path
            );
        }
    }
}
