//! `limit`: how much clients may ask for.

use crate::arguments::Value;
use crate::codes;
use crate::diagnostic::Diagnostic;
use crate::directive::{Context, Directive};
use crate::directives::pool::hash_key;
use crate::draft::Scope;
use crate::model::{Excess, HashKey, Limit, Limited};
use crate::read::Reader;
use crate::syntax::Stmt;

pub(crate) static ROWS: &[Directive] = &[Directive {
    name: "limit",
    within: &[Context::Site, Context::Route],
    usage: "limit N/s|N/m|N/h|concurrent=N [burst=N] [by=KEY|all] [action=refuse|drop|tarpit] [entries=N]",
    default: "burst as the rate's number, by=client-ip action=refuse entries=65536",
    doc: "How many requests each value of KEY may make in a time, `burst` of them at once, or have under way at once with \
          `concurrent`. KEY is as in `balance`, or `all` for one limit over all requests; an IPv6 client counts by its /64, and \
          requests that lack what KEY names count as one. \
          Those of the site come before those of the route, in written order. What is above is refused with 429, \
          `Retry-After` and the `RateLimit` fields; `drop` closes the connection without an answer, `tarpit` answers ten seconds later. All workers share \
          the count. The table holds `entries` keys and no more: with more active ones than that, the ones furthest from their \
          limit are forgotten.",
    words: (1, 5),
    block: None,
    set: limit,
}];

/// Keys that are remembered.
const ENTRIES: u32 = 65_536;

fn limit(reader: &mut Reader<'_>, stmt: &Stmt, mut scope: Scope<'_>) {
    let Some((first, options)) = stmt.words.split_first() else {
        return;
    };
    let Some(mut of) = limited(reader, first.into()) else {
        return;
    };
    let (mut by, mut action, mut entries) = (Some(HashKey::ClientIp), Excess::Refuse, ENTRIES);
    let known = ["burst", "by", "action", "entries"];
    reader.options(options, &known, |reader, name, value| match name {
        "burst" => set_burst(reader, value, &mut of),
        "by" if value.text == "all" => by = None,
        "by" => by = hash_key(reader, value).or_else(|| by.take()),
        "entries" => entries = reader.number(value, 64, 1 << 26).unwrap_or(ENTRIES),
        _ => match value.text {
            "refuse" => action = Excess::Refuse,
            "drop" => action = Excess::Drop,
            "tarpit" => action = Excess::Tarpit,
            other => {
                let message = format!("`{other}` is nothing to do with a request");
                let problem = Diagnostic::new(&codes::VALUE, value.span, message);
                reader.problem(problem.help("known: refuse, drop, tarpit"));
            }
        },
    });
    if let Some(rules) = scope.rules() {
        rules.push(Limit {
            of,
            by,
            action,
            entries,
        });
    }
}

fn set_burst(reader: &mut Reader<'_>, value: Value<'_>, of: &mut Limited) {
    match of {
        Limited::Rate { burst, .. } => {
            *burst = reader.number(value, 1, 100_000_000).unwrap_or(*burst)
        }
        Limited::Concurrent(_) => reader.problem(Diagnostic::new(
            &codes::OPTION,
            value.span,
            "`burst` belongs to a rate",
        )),
    }
}

/// `20/s`, `100/m`, `concurrent=10`.
fn limited(reader: &mut Reader<'_>, value: Value<'_>) -> Option<Limited> {
    if let Some(text) = value.text.strip_prefix("concurrent=") {
        let count = reader.number(Value { text, ..value }, 1, 10_000_000)?;
        return Some(Limited::Concurrent(count));
    }
    let (count, per) = reader.rate(value)?;
    Some(Limited::Rate {
        count,
        per,
        burst: count,
    })
}
