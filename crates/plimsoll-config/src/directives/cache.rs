//! `cache`: answers that are kept, and given to others who ask for the same.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::draft::{CacheDraft, Scope, StaleDraft};
use crate::model::{CacheDisk, CacheKey, Parameters};
use crate::read::Reader;
use crate::syntax::Stmt;
use crate::units::size_text;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "cache",
        within: &[Context::Root],
        usage: "cache NAME { ... }",
        default: "none",
        doc: "A place where answers of servers are kept for the routes that name it. Whether an answer is kept, for how long and for whom, \
              its server says as HTTP has it (RFC 9111): in `Cache-Control`, `Expires` and `Vary`, and in `CDN-Cache-Control`, which comes before \
              both. What says nothing is not kept unless `ttl` or `heuristic` says so. Never kept are answers that set cookies, that are for \
              one client, that are parts, that end with their connection, and those to requests with `Authorization` unless they say that they \
              are for all. All workers share it; after a start it has what is on its `disk`, if it has one.",
        words: (1, 1),
        variables: false,
        block: Some(Context::Cache),
        set: cache,
    },
    Directive {
        name: "cache",
        within: &[Context::Route],
        usage: "cache NAME",
        default: "off",
        doc: "Answers from the cache NAME what is kept there, and keeps there what servers allow. The key is the scheme, the host with \
              its port, the path and the query, and apart from these the listener, the route and the pool: routes with other conditions never share an \
              answer. One missing answer is fetched once, however many ask for it; whoever asks while it comes gets what has come. `If-None-Match`, \
              `If-Modified-Since` and `Range` are answered from what is kept. What clients say in `Cache-Control` and `Pragma` to have \
              an answer fetched anew is ignored; `no-store` keeps the answer out, and `only-if-cached` is answered with 504 if there is none. A request that changes \
              what is at its URL, and succeeds, removes what is kept for it. `plimsoll cache purge` removes by URL, by the beginning of URLs, or \
              by a word that servers give in `Cache-Tag` or `Surrogate-Key`, which clients do not see. Rules of access and limits come first, for hits too. `Cache-Status` says what was done.",
        words: (1, 1),
        variables: false,
        block: None,
        set: of_route,
    },
    Directive {
        name: "memory",
        within: &[Context::Cache],
        usage: "memory SIZE",
        default: "64MiB",
        doc: "How much memory the cache takes at most, heads and keys included. When it is full, what is asked for least goes.",
        words: (1, 1),
        variables: false,
        block: None,
        set: memory,
    },
    Directive {
        name: "disk",
        within: &[Context::Cache],
        usage: "disk DIRECTORY SIZE",
        default: "none",
        doc: "Keeps answers in files as well, SIZE bytes of them at most, for when the memory has no more room for them, and for the next start. \
              An answer that is fresh for 10 s or more is written when it is stored, by a thread of its own; what the memory has not, but the disk, \
              is read into memory. Each file is under checksums, and no byte of it goes on that is not what was written. The files that came first and \
              were of no use since go first. The directory is made if it is missing, belongs to this cache alone, and nobody but its owner may write to it. \
              Keeping track takes about 200 bytes and the key of each file, up to a quarter of `memory` beside it; what has a key above 2 KiB or more than 64 tags stays in memory. A disk that is full, slow or broken is \
              as if it was not there: after five failures in a row it is left alone, and tried again now and then. `plimsoll_cache_disk_up` and \
              `plimsoll_cache_disk_errors_total` tell.",
        words: (2, 2),
        variables: false,
        block: None,
        set: disk,
    },
    Directive {
        name: "key",
        within: &[Context::Cache],
        usage: "key [query=sorted|off] [only=NAME,...] [without=NAME,...] [header=NAME,...] [cookie=NAME,...]",
        default: "the whole query as it comes, no field, no cookie",
        doc: "What tells one answer from another beside scheme, host, path and what its server says in `Vary`. `without` leaves parameters of the query out, as those that only \
              count visitors (`utm_*`), `only` all but these, `query=off` all; a NAME that ends in `*` stands for all that begin like it. `query=sorted` has the order of parameters not count. \
              `header` and `cookie` keep answers apart that servers tell apart without a word of `Vary`. Servers receive the whole request all the same: leave out nothing \
              that changes an answer, or whoever asks first decides what others get.",
        words: (1, 5),
        variables: false,
        block: None,
        set: key,
    },
    Directive {
        name: "object-size-max",
        within: &[Context::Cache],
        usage: "object-size-max SIZE",
        default: "1MiB, or an eighth of the memory where that is less",
        doc: "The longest body that is kept. It may have an eighth of the cache's memory.",
        words: (1, 1),
        variables: false,
        block: None,
        set: object_size_max,
    },
    Directive {
        name: "slice",
        within: &[Context::Cache],
        usage: "slice SIZE",
        default: "none: objects are kept whole",
        doc: "Keeps objects in slices of this size, for files that are large and asked for in parts, as video is. A server is asked for the slices that are wanted, \
              with `Range`, each is kept by itself, and answers are put together from them, whole or in part. All slices of an answer are of one \
              state of the object: servers say in `ETag` or `Last-Modified` which, and when it changes, the slices before are forgotten. What a server gives no parts of, \
              and what names no state, is kept as usual. A slice may have as much as `object-size-max` says, which does not count for the object then.",
        words: (1, 1),
        variables: false,
        block: None,
        set: slice,
    },
    Directive {
        name: "ttl",
        within: &[Context::Cache],
        usage: "ttl STATUS=DURATION...",
        default: "none: servers say it",
        doc: "For how long answers with these statuses are fresh that do not say it themselves. What they say comes first, `no-cache` \
              and `no-store` among it. Mind that a page for one person may say nothing, too: use it on routes where none can be.",
        words: (1, 32),
        variables: false,
        block: None,
        set: ttl,
    },
    Directive {
        name: "heuristic",
        within: &[Context::Cache],
        usage: "heuristic SHARE%|off",
        default: "off",
        doc: "Takes an answer that says nothing but when it was changed last to be fresh for this share of the time since then, a day at most. \
              RFC 9111 suggests 10%.",
        words: (1, 1),
        variables: false,
        block: None,
        set: heuristic,
    },
    Directive {
        name: "stale",
        within: &[Context::Cache],
        usage: "stale [while-revalidate=DURATION] [if-error=DURATION]",
        default: "none: servers say it",
        doc: "For how long answers that are no longer fresh serve, where they do not say it themselves (RFC 5861): `while-revalidate`, while \
              the server is asked behind the client's back; `if-error`, when no server can be reached or the answer is 500, 502, 503 or 504. \
              Answers with `must-revalidate`, `proxy-revalidate`, `s-maxage` or `no-cache` never do.",
        words: (1, 2),
        variables: false,
        block: None,
        set: stale,
    },
    Directive {
        name: "wait",
        within: &[Context::Cache],
        usage: "wait DURATION",
        default: "5s",
        doc: "How long a request waits for the head of an answer that is being fetched for another one, before it goes to a server itself.",
        words: (1, 1),
        variables: false,
        block: None,
        set: wait,
    },
];

/// Between these a cache may be large.
const MEMORY: (u64, u64) = (1 << 20, 1 << 40);

/// With smaller slices, asking for them costs more than they are worth.
const SLICE_MIN: u64 = 64 << 10;

/// The same on disk.
const DISK: (u64, u64) = (1 << 20, 1 << 50);

fn cache(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Root(draft), Some(name)) = (scope, stmt.words.first()) else {
        return;
    };
    let mut others = draft.caches.iter();
    if let Some(first) = others.find(|other| other.name == name.text) {
        let message = format!("cache `{}` is written twice", name.text);
        let problem = Diagnostic::new(&codes::CACHE_TWICE, stmt.span, message);
        let problem = problem.related(first.span, "first here");
        reader.problem(problem.help("rename one of them"));
    }
    let mut cache = CacheDraft::new(name.text.clone(), stmt.span);
    let block = stmt.block.as_deref().unwrap_or_default();
    reader.apply(block, Context::Cache, &mut Scope::Cache(&mut cache));
    check_object_size(reader, &cache);
    check_slice(reader, &cache);
    check_directory(reader, &cache, &draft.caches);
    draft.caches.push(cache);
}

/// An object has to fit into its share of the memory.
fn check_object_size(reader: &mut Reader<'_>, cache: &CacheDraft) {
    let Some((object, span)) = cache.object_max else {
        return;
    };
    if object > cache.memory() / 8 {
        let message = "an object may have an eighth of the memory of its cache";
        let problem = Diagnostic::new(&codes::RANGE, span, message);
        reader.problem(problem.help("give the cache more `memory`, or its objects less"));
    }
}

/// A slice is kept as an object is.
fn check_slice(reader: &mut Reader<'_>, cache: &CacheDraft) {
    let Some((slice, span)) = cache.slice else {
        return;
    };
    let most = cache.object_max();
    if slice > most {
        let message = format!("a slice may have what an object may: {}", size_text(most));
        let problem = Diagnostic::new(&codes::RANGE, span, message);
        reader.problem(problem.help("write a larger `object-size-max`, or smaller slices"));
    }
}

/// Two caches would remove each other's files.
fn check_directory(reader: &mut Reader<'_>, cache: &CacheDraft, others: &[CacheDraft]) {
    let Some((disk, span)) = &cache.disk else {
        return;
    };
    let mut others = others.iter().filter_map(|other| other.disk.as_ref());
    if let Some((_, first)) = others.find(|(other, _)| other.directory == disk.directory) {
        let message = format!("two caches have their files in `{}`", disk.directory);
        let problem = Diagnostic::new(&codes::CACHE_DIRECTORY, *span, message);
        let problem = problem.related(*first, "first here");
        reader.problem(problem.help("give each of them a directory of its own"));
    }
}

fn of_route(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    if let (Scope::Route(route), Some(name)) = (scope, stmt.words.first()) {
        reader.once(stmt, &mut route.cache, name.clone());
    }
}

fn memory(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Cache(cache), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    if let Some(size) = reader.size_within(word.into(), MEMORY.0, MEMORY.1) {
        reader.once(stmt, &mut cache.memory, size);
    }
}

fn disk(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Cache(cache), [directory, size]) = (scope, &*stmt.words) else {
        return;
    };
    if let Some(max) = reader.size_within(size.into(), DISK.0, DISK.1) {
        let directory = directory.text.as_str().into();
        reader.once(stmt, &mut cache.disk, CacheDisk { directory, max });
    }
}

fn key(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Cache(cache) = scope else { return };
    let known = ["query", "only", "without", "header", "cookie"];
    let (mut key, mut chosen) = (CacheKey::default(), 0);
    reader.options(&stmt.words, &known, |reader, name, value| {
        let listed = |reader: &mut Reader<'_>| names(reader, value);
        match name {
            "query" if value.text == "sorted" => key.is_sorted = true,
            "query" if value.text == "off" => {
                (key.query, chosen) = (Parameters::None, chosen + 1);
            }
            "query" => {
                let message = format!("`{}` is not a way to take a query", value.text);
                let problem = Diagnostic::new(&codes::VALUE, value.span, message);
                reader.problem(problem.help("write `query=sorted` or `query=off`"));
            }
            "only" => (key.query, chosen) = (Parameters::Only(listed(reader)), chosen + 1),
            "without" => (key.query, chosen) = (Parameters::Without(listed(reader)), chosen + 1),
            "header" => {
                key.headers = listed(reader)
                    .iter()
                    .map(|name| name.to_ascii_lowercase().into())
                    .collect();
                key.headers.sort_unstable();
                key.headers.dedup();
            }
            _ => key.cookies = listed(reader),
        }
    });
    if chosen > 1 {
        let message = "`query=off`, `only` and `without` say different things of one query";
        let problem = Diagnostic::new(&codes::VALUE, stmt.span, message);
        reader.problem(problem.help("keep one of them"));
    }
    reader.once(stmt, &mut cache.key, key);
}

/// The most names of one kind that belong to a key.
const NAMES_MAX: usize = 64;

/// Names in a list.
fn names(reader: &mut Reader<'_>, value: Value<'_>) -> Vec<Box<str>> {
    let is_name = |name: &str| {
        let is_one = |c: char| c.is_ascii_graphic() && !"&=;,\"".contains(c);
        !matches!(name, "" | "*") && name.chars().all(is_one)
    };
    let all: Vec<Box<str>> = value.text.split(',').map(Box::from).collect();
    if let Some(name) = all.iter().find(|name| !is_name(name)) {
        let message = format!("`{name}` is not a name");
        let problem = Diagnostic::new(&codes::VALUE, value.span, message);
        reader
            .problem(problem.help("write names with commas between them: `without=utm_*,fbclid`"));
    }
    if all.len() > NAMES_MAX {
        let message = format!("there are more than {NAMES_MAX} names");
        reader.problem(Diagnostic::new(&codes::RANGE, value.span, message));
    }
    all
}

fn slice(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Cache(cache), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    if let Some(size) = reader.size_within(word.into(), SLICE_MIN, MEMORY.1) {
        reader.once(stmt, &mut cache.slice, size);
    }
}

fn object_size_max(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Cache(cache), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    if let Some(size) = reader.size_within(word.into(), 1, MEMORY.1) {
        reader.once(stmt, &mut cache.object_max, size);
    }
}

fn ttl(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Cache(cache) = scope else { return };
    let is_kept = |status: &u16| (200..=599).contains(status) && ![206, 304].contains(status);
    let (mut words, mut names) = (Vec::new(), Vec::new());
    for word in &stmt.words {
        let (status, _) = word.text.split_once('=').unwrap_or((&word.text, ""));
        if status.parse().ok().filter(is_kept).is_some() {
            names.push(status);
            words.push(word.clone());
            continue;
        }
        let message = format!("`{status}` is not a status that is kept");
        let problem = Diagnostic::new(&codes::STATUS, word.span, message);
        reader.problem(problem.help("write it like `ttl 200=10m 404=1m`"));
    }
    let mut all = Vec::new();
    reader.options(&words, &names, |reader, status, value| {
        all.extend(status.parse().ok().zip(reader.duration(value)));
    });
    reader.once(stmt, &mut cache.ttl, all);
}

fn heuristic(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Cache(cache), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    let share = match word.text.as_str() {
        "off" => None,
        _ => reader.percent(word.into(), 1),
    };
    reader.once(stmt, &mut cache.heuristic, share);
}

fn stale(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let Scope::Cache(cache) = scope else { return };
    let known = ["while-revalidate", "if-error"];
    let mut stale = StaleDraft::default();
    reader.options(&stmt.words, &known, |reader, name, value| match name {
        "while-revalidate" => stale.while_revalidate = reader.duration(value),
        _ => stale.if_error = reader.duration(value),
    });
    reader.once(stmt, &mut cache.stale, stale);
}

fn wait(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Cache(cache), Some(word)) = (scope, stmt.words.first()) else {
        return;
    };
    if let Some(time) = reader.duration(word.into()) {
        reader.once(stmt, &mut cache.wait, time);
    }
}
