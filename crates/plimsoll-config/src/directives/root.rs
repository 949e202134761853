//! What stands at the top level.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};

use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::{PoolDraft, Scope, Settings, SiteDraft};
use crate::model::ConnectionLimits;
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "site",
        within: &[Context::Root],
        usage: "site HOST... { ... }",
        default: "none: a configuration needs at least one",
        doc: "What is served for a set of hosts. A host is a name (`example.com`), all names below one \
              (`*.example.com`), an address, or `*` for every host that no other site of the listener names. A name \
              wins over a wildcard, a longer wildcard over a shorter one.",
        words: (1, usize::MAX),
        variables: false,
        block: Some(Context::Site),
        set: site,
    },
    Directive {
        name: "pool",
        within: &[Context::Root],
        usage: "pool NAME { ... }",
        default: "none",
        doc: "Servers that can stand in for each other, and how one of them is picked. Pools have a name space of \
              their own and may be written before or after the routes that use them.",
        words: (1, 1),
        variables: false,
        block: Some(Context::Pool),
        set: pool,
    },
    Directive {
        name: "defaults",
        within: &[Context::Root],
        usage: "defaults { ... }",
        default: "the defaults of each directive",
        doc: "What all sites and pools inherit, wherever they are written. A site or a pool that says something itself \
              overrides that one value and keeps the others.",
        words: (0, 0),
        variables: false,
        block: Some(Context::Defaults),
        set: defaults,
    },
    Directive {
        name: "workers",
        within: &[Context::Root],
        usage: "workers N|auto",
        default: "auto",
        doc: "How many worker threads serve traffic. `auto` is one for each core that the process may use. Workers \
              share nothing on the path of a request, so more of them than cores gain nothing.",
        words: (1, 1),
        variables: false,
        block: None,
        set: workers,
    },
    Directive {
        name: "geo",
        within: &[Context::Root],
        usage: "geo FILE",
        default: "none",
        doc: "A MaxMind file (`.mmdb`) with the countries of networks, for `allow country=` and `deny country=`. It is read again when it \
              changes; one that cannot be read changes nothing. An address that it does not have is in no country.",
        words: (1, 1),
        variables: false,
        block: None,
        set: geo,
    },
    Directive {
        name: "zone",
        within: &[Context::Root],
        usage: "zone NAME",
        default: "none",
        doc: "Where this node is: a rack, a data centre, a region. Of servers of one tier, those with the same `zone` are used \
              first, and those of other zones when none of them may be picked.",
        words: (1, 1),
        variables: false,
        block: None,
        set: zone,
    },
    Directive {
        name: "connection-limit",
        within: &[Context::Root],
        usage: "connection-limit [max=N] [per-client=N] [new-per-client=N/s|N/m|N/h]",
        default: "max is half of the descriptors that the process may have",
        doc: "How many connections clients may have, over all listeners. Above `max` none is accepted until one ends: clients \
              wait in the backlog of the system. A connection above `per-client`, or faster than `new-per-client` (with a burst of \
              as many), is closed at once. An IPv6 client counts by its /64. A flow of a `udp` service counts as a connection of its client. Put `max` below the limit of descriptors: each \
              client may need one more, to a server.",
        words: (1, 3),
        variables: false,
        block: None,
        set: connection_limit,
    },
];

fn geo(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    reader.once(stmt, &mut draft.geo, word.text.as_str().into());
}

fn zone(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    reader.once(stmt, &mut draft.zone, word.text.as_str().into());
}

fn connection_limit(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let mut limits = ConnectionLimits::default();
    let known = ["max", "per-client", "new-per-client"];
    reader.options(&stmt.words, &known, |reader, name, value| match name {
        "max" => {
            limits.max = reader
                .number(value, 1, 10_000_000)
                .and_then(NonZeroU32::new)
        }
        "per-client" => {
            limits.per_client = reader
                .number(value, 1, 10_000_000)
                .and_then(NonZeroU32::new);
        }
        _ => limits.new_per_client = reader.rate(value),
    });
    reader.once(stmt, &mut draft.connections, limits);
}

fn site(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let hosts = stmt
        .words
        .iter()
        .filter_map(|word| Some((reader.host(word.into())?, word.span)))
        .collect();
    let name = stmt
        .words
        .first()
        .map(|word| word.text.clone())
        .unwrap_or_default();
    let mut site = SiteDraft {
        name,
        hosts,
        listen: Vec::new(),
        settings: Settings::default(),
        steps: Vec::new(),
        step_spans: Vec::new(),
        step_pools: Vec::new(),
        monitor: None,
        max_requests: None,
        priority: None,
        routes: Vec::new(),
        span: stmt.span,
    };
    reader.apply(
        stmt.block.as_deref().unwrap_or_default(),
        Context::Site,
        &mut Scope::Site(&mut site),
    );
    draft.sites.push(site);
}

fn pool(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some(name)) = (scope, stmt.words.first()) else {
        return;
    };
    let first = draft.pool_names.get(&name.text).copied();
    draft
        .pool_names
        .entry(name.text.clone())
        .or_insert(stmt.span);
    if let Some(first) = first {
        let problem = Diagnostic::new(
            &codes::POOL_TWICE,
            stmt.span,
            format!("pool `{}` is written twice", name.text),
        );
        reader.problem(
            problem
                .related(first, "first here")
                .help("rename one of them"),
        );
    }
    if name.text.contains(':') {
        let message = format!("`{}` is not a name for a pool", name.text);
        let problem = Diagnostic::new(&codes::VALUE, name.span, message);
        reader.problem(problem.help("a colon makes it look like a server's host and port"));
    }
    let mut pool = PoolDraft {
        name: name.text.clone(),
        servers: Vec::new(),
        addresses: BTreeMap::new(),
        max_requests: None,
        tls: None,
        proxy_protocol: None,
        settings: Settings::default(),
        span: stmt.span,
    };
    reader.apply(
        stmt.block.as_deref().unwrap_or_default(),
        Context::Pool,
        &mut Scope::Pool(&mut pool),
    );
    draft.pools.push(pool);
}

fn defaults(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Root(draft) = scope else { return };
    let mut settings = Settings::default();
    reader.apply(
        stmt.block.as_deref().unwrap_or_default(),
        Context::Defaults,
        &mut Scope::Defaults(&mut settings),
    );
    reader.once(stmt, &mut draft.defaults, settings);
}

fn workers(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    let count = match word.text.as_str() {
        "auto" => None,
        _ => match reader.number::<u16>(word.into(), 1, 1024) {
            Some(count) => NonZeroU16::new(count),
            None => return,
        },
    };
    reader.once(stmt, &mut draft.workers, count);
}
