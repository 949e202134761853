//! What stands in a pool.

use std::num::NonZeroU32;

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::policy::once;
use crate::draft::{PoolDraft, Scope, ServerDraft};
use crate::model::{Balance, HashKey, Protocol};
use crate::read::Reader;
use crate::source::Span;
use crate::suggest::nearest;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[
    Directive {
        name: "server",
        within: &[Context::Pool],
        usage: "server HOST:PORT [weight=N] [max-connections=N] [backup|tier=N] [zone=NAME] [check-address=IP] [quic-id=HEX]",
        default: "none: a pool needs at least one",
        doc: "A server of the pool. `weight` is its share of the requests (0 to 65535, default 1; 0 takes nothing \
              new). `max-connections` bounds the requests it has at once, counted exactly over all workers. Servers \
              of a higher `tier` (0 to 9, default 0) are used only when none of a lower one may be picked; `backup` is \
              `tier=1`. With a `zone` at the top level, servers of the same `zone` come first in their tier. Its \
              checks go to `check-address`, where that is another one. `quic-id`, 1 to 15 bytes and as many for all servers of the pool, is what stands in the connection ids \
              that the server gives, behind their first byte (QUIC-LB, draft-ietf-quic-load-balancers, in plain text; any rotation but `0b111`): a `udp` service \
              with `quic` finds the server by it. A host name is resolved when the \
              configuration is loaded.",
        words: (1, 7),
        variables: false,
        block: None,
        set: server,
    },
    Directive {
        name: "balance",
        within: &[Context::Defaults, Context::Pool],
        usage: "balance ALGORITHM [KEY]",
        default: "round-robin",
        doc: "How a server is picked. `round-robin` takes turns by weight, smoothly; `random` draws by weight; \
              `two-choices` takes the less loaded of two random servers; `least-connections` the one with the fewest \
              requests for its weight; `least-time` the one with the lowest recent latency for its load; `first` the \
              first in written order that has room. In a tier of more than 64 servers, `least-connections` and \
              `least-time` take the best of five random ones. `hash KEY` and `maglev KEY` send equal keys to the same server, \
              on every node alike, and move few keys when a server leaves; `hash` bounds the load of each server. \
              KEY is one of `client-ip`, `host`, `path`, `uri`, `query:NAME`, `header:NAME`, `cookie:NAME`; all spellings of \
              one host, path or parameter are one.",
        words: (1, 2),
        variables: false,
        block: None,
        set: balance,
    },
    Directive {
        name: "subset",
        within: &[Context::Defaults, Context::Pool],
        usage: "subset N|off",
        default: "off",
        doc: "How many servers of each tier and zone this node uses, of many: so that each server has connections from some nodes \
              and not from all. Which they are follows from the name of this machine and those of the servers; when one leaves, \
              the others stay. The rest are used when none of them may be picked.",
        words: (1, 1),
        variables: false,
        block: None,
        set: subset,
    },
    Directive {
        name: "http",
        within: &[Context::Defaults, Context::Pool],
        usage: "http 1.1|2",
        default: "1.1",
        doc: "The version of HTTP that servers speak. With `2` each worker opens a connection to a server that carries up to 100 \
              requests at once, and another one when that is full; it is begun without asking, so all servers of the pool must \
              speak it. gRPC needs it.",
        words: (1, 1),
        variables: false,
        block: None,
        set: http,
    },
    Directive {
        name: "keep-alive",
        within: &[Context::Defaults, Context::Pool],
        usage: "keep-alive off | [max=N] [idle=DURATION]",
        default: "max=128 idle=30s",
        doc: "Idle connections to servers. `max` is how many each worker keeps for each server, `idle` how long one \
              may stay idle: keep it below what the servers allow. `off` closes each connection after its response.",
        words: (1, 2),
        variables: false,
        block: None,
        set: keep_alive,
    },
];

fn server(reader: &mut Reader<'_>, stmt: &Stmt, scope: Scope<'_>) {
    let (Scope::Pool(pool), Some((word, options))) = (scope, stmt.words.split_first()) else {
        return;
    };
    let address = reader.server_address(word.into());
    let (mut weight, mut max_connections, mut tier, mut zone) = (1, None, 0, None);
    let (mut check_address, mut quic_id) = (None, None);
    reader.options(
        options,
        &[
            "weight",
            "max-connections",
            "backup",
            "tier",
            "zone",
            "check-address",
            "quic-id",
        ],
        |reader, name, value| match name {
            "check-address" => check_address = reader.ip(value),
            "quic-id" => quic_id = self::quic_id(reader, value),
            "weight" => weight = reader.number(value, 0, 65_535).unwrap_or(1),
            "max-connections" => {
                max_connections = reader.number(value, 1, 1_000_000).and_then(NonZeroU32::new)
            }
            "zone" => zone = Some(value.text.into()),
            "tier" => tier = reader.number(value, 0, 9).unwrap_or(0),
            _ => tier = 1,
        },
    );
    let Some(address) = address else { return };
    let key = format!("{address:?}");
    let first = pool.addresses.get(&key).copied();
    pool.addresses.entry(key).or_insert(stmt.span);
    if let Some(first) = first {
        let message = format!("server `{}` stands in the pool twice", word.text);
        let problem = Diagnostic::new(&codes::SERVER_TWICE, stmt.span, message);
        reader.problem(
            problem
                .related(first, "first here")
                .help("to give it more requests, give it a weight"),
        );
    }
    check_quic_id(reader, stmt, pool, quic_id.as_deref());
    let name = word.text.clone();
    pool.servers.push(ServerDraft {
        name,
        address,
        weight,
        max_connections,
        tier,
        zone,
        check_address,
        quic_id,
        span: stmt.span,
    });
}

/// Bytes as hexadecimal digits. The draft leaves 15 of 20 to them.
fn quic_id(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Box<[u8]>> {
    let (pairs, rest) = value.text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = |[high, low]: &[u8; 2]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    let bytes = bytes.filter(|bytes| rest.is_empty() && (1..=15).contains(&bytes.len()));
    if bytes.is_none() {
        let message = format!("`{}` is not 1 to 15 bytes in hexadecimal", value.text);
        let problem = Diagnostic::new(&codes::VALUE, value.span, message);
        reader.problem(problem.help("write it like `quic-id=0a01`"));
    }
    bytes.map(Vec::into_boxed_slice)
}

/// Refuses ids among which one cannot be told from another.
fn check_quic_id(reader: &mut Reader<'_>, stmt: &Stmt, pool: &PoolDraft, own: Option<&[u8]>) {
    let others = pool.servers.iter();
    let others = others.filter_map(|other| Some((other.quic_id.as_deref()?, other.span)));
    let clash =
        |(id, _): &(&[u8], Span)| own.is_some_and(|own| own == *id || own.len() != id.len());
    let Some((_, span)) = others.into_iter().find(clash) else {
        return;
    };
    let message = "the `quic-id` is that of another server, or has another length";
    let problem = Diagnostic::new(&codes::VALUE, stmt.span, message);
    let problem = problem.related(span, "the other one");
    reader.problem(problem.help("give each server of the pool one of its own, all as long"));
}

const ALGORITHMS: &[&str] = &[
    "round-robin",
    "random",
    "two-choices",
    "least-connections",
    "least-time",
    "first",
    "hash",
    "maglev",
];

const KEYS: &[&str] = &[
    "client-ip",
    "ja4",
    "host",
    "path",
    "uri",
    "query:NAME",
    "header:NAME",
    "cookie:NAME",
];

fn balance(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some((word, rest)) = stmt.words.split_first() else {
        return;
    };
    let keyed = matches!(word.text.as_str(), "hash" | "maglev");
    let key = match (keyed, rest.first()) {
        (true, Some(key)) => match hash_key(reader, key.into()) {
            Some(key) => Some(key),
            None => return,
        },
        (true, None) | (false, Some(_)) => {
            return reader.usage(stmt, "balance ALGORITHM, or: balance hash|maglev KEY");
        }
        (false, None) => None,
    };
    let balance = match (word.text.as_str(), key) {
        ("round-robin", _) => Balance::RoundRobin,
        ("random", _) => Balance::Random,
        ("two-choices", _) => Balance::TwoChoices,
        ("least-connections", _) => Balance::LeastConnections,
        ("least-time", _) => Balance::LeastTime,
        ("first", _) => Balance::First,
        ("hash", Some(key)) => Balance::Hash(key),
        ("maglev", Some(key)) => Balance::Maglev(key),
        (other, _) => {
            let message = format!("`{other}` is not a way to balance");
            let mut problem = Diagnostic::new(&codes::VALUE, word.span, message);
            if let Some(near) = nearest(other, ALGORITHMS.iter().copied()) {
                problem = problem.label(format!("did you mean `{near}`?"));
            }
            return reader.problem(problem.help(format!("known: {}", ALGORITHMS.join(", "))));
        }
    };
    let Some(settings) = scope.settings() else {
        return;
    };
    if once(reader, stmt, settings.balance.is_some()) {
        settings.balance = Some(balance);
    }
}

pub(crate) fn hash_key(reader: &mut Reader<'_>, word: Value<'_>) -> Option<HashKey> {
    let (kind, name) = word.text.split_once(':').unwrap_or((word.text, ""));
    let key = match (kind, name) {
        ("client-ip", "") => Some(HashKey::ClientIp),
        ("ja4", "") => {
            reader.fingerprints = true;
            Some(HashKey::Fingerprint)
        }
        ("host", "") => Some(HashKey::Host),
        ("path", "") => Some(HashKey::Path),
        ("uri", "") => Some(HashKey::Uri),
        ("query", name) if !name.is_empty() => Some(HashKey::Query(name.into())),
        ("header", name) if !name.is_empty() => {
            Some(HashKey::Header(name.to_ascii_lowercase().into()))
        }
        ("cookie", name) if !name.is_empty() => Some(HashKey::Cookie(name.into())),
        _ => None,
    };
    if key.is_none() {
        let message = format!("`{}` is no key of a request", word.text);
        let problem = Diagnostic::new(&codes::VALUE, word.span, message);
        reader.problem(problem.help(format!("known: {}", KEYS.join(", "))));
    }
    key
}

fn keep_alive(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some(settings) = scope.settings() else {
        return;
    };
    if stmt.words.first().is_some_and(|word| word.text == "off") {
        settings.keep_max = Some(0);
        return;
    }
    reader.options(
        &stmt.words,
        &["max", "idle"],
        |reader, name, value| match name {
            "max" => settings.keep_max = reader.number(value, 1, 65_535).or(settings.keep_max),
            _ => settings.keep_idle = reader.duration(value).or(settings.keep_idle),
        },
    );
}

fn http(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), [word]) = (scope.settings(), &*stmt.words) else {
        return;
    };
    if once(reader, stmt, settings.protocol.is_some()) {
        let known = [Protocol::Http1, Protocol::Http2];
        settings.protocol = known.into_iter().find(|p| p.version() == word.text);
        if settings.protocol.is_none() {
            let message = format!("servers do not speak HTTP {}", word.text);
            let problem = Diagnostic::new(&codes::VALUE, word.span, message);
            reader.problem(problem.help("write `1.1` or `2`"));
        }
    }
}

fn subset(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let (Some(settings), Some(word)) = (scope.settings(), stmt.words.first()) else {
        return;
    };
    if once(reader, stmt, settings.subset.is_some()) {
        settings.subset = match word.text.as_str() {
            "off" => Some(None),
            _ => reader.number(word.into(), 1, 65_535).map(NonZeroU32::new),
        };
    }
}
