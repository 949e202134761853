//! The table of directives. One row drives parsing, checking, the reference manual and the schema.

use crate::directives::{
    access, acme, admin, answers, auth, buffer, cache, check, compress, cors, files, header,
    internal, limit, max_requests, named_match, opening, overload, policy, pool, priority,
    proxy_protocol, resolver, rewrite, root, route, server_tls, settings, site, socket, sticky,
    tcp, tls, traffic, trust, udp, user,
};
use crate::draft::Scope;
use crate::read::Reader;
use crate::syntax::Stmt;

/// A kind of block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Context {
    Root,
    Defaults,
    Site,
    Route,
    Tcp,
    Udp,
    Pool,
    Cache,
}

impl Context {
    /// How messages call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "the top level",
            Self::Defaults => "`defaults`",
            Self::Site => "`site`",
            Self::Route => "`route`",
            Self::Tcp => "`tcp`",
            Self::Udp => "`udp`",
            Self::Pool => "`pool`",
            Self::Cache => "`cache`",
        }
    }
}

/// One row.
pub(crate) struct Directive {
    pub(crate) name: &'static str,
    /// The blocks it may stand in.
    pub(crate) within: &'static [Context],
    /// How it is written.
    pub(crate) usage: &'static str,
    /// What holds when it is not written.
    pub(crate) default: &'static str,
    /// What it means: the reference manual.
    pub(crate) doc: &'static str,
    /// How many words it takes.
    pub(crate) words: (usize, usize),
    /// Whether its words may hold variables that are filled in for each request.
    pub(crate) variables: bool,
    /// What its block holds, if it has one.
    pub(crate) block: Option<Context>,
    /// Reads it into the draft.
    pub(crate) set: fn(&mut Reader<'_>, &Stmt, Scope<'_>),
}

/// All directives, by block and then by importance.
pub(crate) static TABLE: &[&[Directive]] = &[
    root::ROWS,
    admin::ROWS,
    user::ROWS,
    max_requests::ROWS,
    overload::ROWS,
    resolver::ROWS,
    acme::ROWS,
    named_match::ROWS,
    site::ROWS,
    tls::ROWS,
    proxy_protocol::ROWS,
    route::ROWS,
    files::ROWS,
    rewrite::ROWS,
    header::ROWS,
    buffer::ROWS,
    compress::ROWS,
    cache::ROWS,
    internal::ROWS,
    access::ROWS,
    auth::ROWS,
    cors::ROWS,
    limit::ROWS,
    traffic::ROWS,
    priority::ROWS,
    tcp::ROWS,
    udp::ROWS,
    opening::ROWS,
    socket::ROWS,
    pool::ROWS,
    server_tls::ROWS,
    proxy_protocol::POOL_ROWS,
    check::ROWS,
    policy::ROWS,
    sticky::ROWS,
    settings::ROWS,
    trust::ROWS,
    answers::ROWS,
];

/// All rows.
pub(crate) fn rows() -> impl Iterator<Item = &'static Directive> {
    TABLE.iter().copied().flatten()
}

/// The row for `name` in `context`.
pub(crate) fn find(name: &str, context: Context) -> Option<&'static Directive> {
    rows().find(|row| row.name == name && row.within.contains(&context))
}

/// Words of the language that this version does not have.
pub(crate) static NOT_YET: &[&str] = &[
    "cluster", "etcd", "forward", "hash-key", "mode", "otel", "redis", "tracing", "vary", "vip",
    "vrrp",
];

/// Words of other programs, and how the same is said here.
pub(crate) static ELSEWHERE: &[(&str, &str)] = &[
    ("backend", "write `pool NAME { server HOST:PORT }`"),
    ("bind", "write `listen ADDRESS` in the `site`"),
    ("frontend", "write `site HOST { route { proxy POOL } }`"),
    ("hsts", "write `security-headers`"),
    (
        "http2",
        "clients need no word for it; for servers write `http 2` in the `pool`",
    ),
    ("location", "write `route /path/* { … }`"),
    ("proxy_pass", "write `proxy POOL`"),
    ("reverse_proxy", "write `proxy POOL`"),
    ("server_name", "write the names behind `site`"),
    ("stream", "write `tcp ADDRESS { proxy POOL }`, or `udp`"),
    ("upstream", "write `pool NAME { server HOST:PORT }`"),
    (
        "websocket",
        "it needs no word: what clients ask for with `Upgrade` passes",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_documented_and_no_row_is_ambiguous() {
        for row in rows() {
            assert!(row.doc.len() > 40, "{} says too little", row.name);
            assert!(row.usage.starts_with(row.name), "{}", row.usage);
            assert!(
                !row.default.is_empty() && !row.within.is_empty(),
                "{}",
                row.name
            );
            assert!(row.words.0 <= row.words.1, "{}", row.name);
            for context in row.within {
                let same =
                    rows().filter(|other| other.name == row.name && other.within.contains(context));
                assert_eq!(same.count(), 1, "{} in {}", row.name, context.name());
            }
            assert!(
                !NOT_YET.contains(&row.name),
                "{} is in this version",
                row.name
            );
        }
    }
}
