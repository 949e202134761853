//! `limit`: how much clients may ask for.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::pool::hash_key;
use crate::draft::Scope;
use crate::model::{Excess, HashKey, Limit, LimitBy, Limited, Step, Way};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "limit",
    within: &[Context::Site, Context::Route],
    usage: "limit N/s|N/m|N/h|concurrent=N|SIZE/s [burst=N|SIZE] [by=KEY|all|request] [action=refuse|drop|tarpit] \
            [way=down|up] [entries=N]",
    default: "burst as the rate's number, by=client-ip action=refuse way=down entries=65536",
    doc: "How many requests each value of KEY may make in a time, `burst` of them at once, or have under way at once with \
          `concurrent`. KEY is as in `balance`, or `all` for one limit over all requests; an IPv6 client counts by its /64, and \
          requests that lack what KEY names count as one. \
          Those of the site come before those of the route, in written order. What is above is refused with 429, \
          `Retry-After` and the `RateLimit` fields; `drop` closes the connection without an answer, `tarpit` answers ten seconds later. \
          A rate of bytes, `1MiB/s`, slows the bodies of answers down (`way=down`) or those of requests (`way=up`); \
          `by=request` is for each of them alone. All workers share \
          the count. The table holds `entries` keys and no more: with more active ones than that, the ones furthest from their \
          limit are forgotten.",
    words: (1, 6),
    variables: false,
    block: None,
    set: limit,
}];

/// Keys that are remembered.
const ENTRIES: u32 = 65_536;

/// The least and the most bytes a second.
const BYTES: (u64, u64) = (1024, 4 << 30);

fn limit(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some((first, options)) = stmt.words.split_first() else {
        return;
    };
    let Some(of) = limited(reader, first.into()) else {
        return;
    };
    let mut limit = Limit {
        of,
        by: LimitBy::Key(HashKey::ClientIp),
        action: Excess::Refuse,
        entries: ENTRIES,
    };
    let known: &[&str] = match limit.of {
        Limited::Rate { .. } => &["by", "action", "entries", "burst"],
        Limited::Concurrent(_) => &["by", "action", "entries"],
        Limited::Bytes { .. } => &["by", "way", "entries", "burst"],
    };
    reader.options(options, known, |reader, name, value| {
        option(reader, name, value, &mut limit);
    });
    if let Some(steps) = scope.steps() {
        steps.push(Step::Limit(limit));
    }
}

fn option(reader: &mut Reader<'_>, name: &str, value: Value<'_>, limit: &mut Limit) {
    let of = &mut limit.of;
    match (name, value.text, of) {
        ("burst", _, Limited::Bytes { burst, .. }) => {
            let size = reader.size_within(value, BYTES.0, BYTES.1);
            *burst = size
                .and_then(|size| u32::try_from(size).ok())
                .unwrap_or(*burst);
        }
        ("burst", _, Limited::Rate { burst, .. }) => {
            *burst = reader.number(value, 1, 100_000_000).unwrap_or(*burst);
        }
        ("by", "request", Limited::Bytes { .. }) => limit.by = LimitBy::Request,
        ("by", "all", _) => limit.by = LimitBy::All,
        ("by", ..) => {
            if let Some(key) = hash_key(reader, value) {
                limit.by = LimitBy::Key(key);
            }
        }
        ("entries", ..) => limit.entries = reader.number(value, 64, 1 << 26).unwrap_or(ENTRIES),
        ("action", "refuse", _) => limit.action = Excess::Refuse,
        ("action", "drop", _) => limit.action = Excess::Drop,
        ("action", "tarpit", _) => limit.action = Excess::Tarpit,
        ("way", "down", Limited::Bytes { way, .. }) => *way = Way::Down,
        ("way", "up", Limited::Bytes { way, .. }) => *way = Way::Up,
        ("way", other, _) => {
            let message = format!("`{other}` is no way of a body");
            let problem = Diagnostic::new(&codes::VALUE, value.span, message);
            reader.problem(problem.help("known: down (answers), up (requests)"));
        }
        (_, other, _) => {
            let message = format!("`{other}` is nothing to do with a request");
            let problem = Diagnostic::new(&codes::VALUE, value.span, message);
            reader.problem(problem.help("known: refuse, drop, tarpit"));
        }
    }
}

/// `20/s`, `100/m`, `concurrent=10`, `1MiB/s`.
fn limited(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Limited> {
    if let Some(text) = value.text.strip_prefix("concurrent=") {
        let count = reader.number(Value { text, ..value }, 1, 10_000_000)?;
        return Some(Limited::Concurrent(count));
    }
    let (amount, _) = value.text.split_once('/').unwrap_or((value.text, ""));
    if amount.ends_with('B') {
        return bytes(reader, value);
    }
    let (count, per) = reader.rate(value)?;
    Some(Limited::Rate {
        count,
        per,
        burst: count,
    })
}

fn bytes(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Limited> {
    let rate = reader.byte_rate(value)?;
    let in_range = (BYTES.0..BYTES.1).contains(&rate);
    let Some(rate) = u32::try_from(rate).ok().filter(|_| in_range) else {
        let message = format!("`{}` is not from 1KiB/s to less than 4GiB/s", value.text);
        reader.problem(Diagnostic::new(&codes::RANGE, value.span, message));
        return None;
    };
    Some(Limited::Bytes {
        rate,
        burst: rate,
        way: Way::Down,
    })
}
